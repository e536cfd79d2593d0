"""Calls that are made on other threads, each with its result. Python's own executor brings `logging` along, and keeps 1 MB with it
for as long as the agent runs."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class Result(Generic[T]):
    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._done = Event()
        self._value: list[T] = []
        self._error: BaseException | None = None

    def make(self) -> None:
        try:
            self._value.append(self._call())
        except BaseException as e:
            self._error = e
        finally:
            self._done.set()

    def wait(self) -> T:
        """What the call returned; raises what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]


class Workers:
    """So many threads for as long as the block lasts; it ends when all calls have."""

    def __init__(self, count: int) -> None:
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(count)]

    def __enter__(self) -> "Workers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, call: Callable[[], T]) -> Result[T]:
        result = Result(call)
        self._waiting.put(result.make)
        return result

    def _work(self) -> None:
        while (make := self._waiting.get()) is not None:
            make()
