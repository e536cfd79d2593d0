"""Calls of the synchronous store from the asynchronous server: a few threads, a time limit, a bounded queue.

A call that is given up still occupies its thread until the store's own limit ends it. Hence the threads are counted
and few: slow queries make later ones wait or be refused, and can never pile up.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from farcall.storeport import Reader
from farcall_console.problems import TooBusyError, TooSlowError

THREADS = 4  # the embedded store answers four readers at a time
MAX_WAITING = 64  # beyond the running ones; a page asks for at most three things at once
TIME_LIMIT_S = 15.0  # the store's own limit is 10 s: its explanation should win

T = TypeVar("T")


class Reads:
    def __init__(self, reader: Reader, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._reader = reader
        self._time_limit_s = time_limit_s
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="read")
        self._pending = 0
        self._counting = threading.Lock()  # calls settle in the pool's threads

    async def call(self, read: Callable[[Reader], T]) -> T:
        """Runs `read` in a thread. Raises what it raises, TooSlowError or TooBusyError."""
        self._enter()
        future = self._pool.submit(read, self._reader)
        future.add_done_callback(lambda _: self._leave())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._time_limit_s)
        except TimeoutError as e:
            raise TooSlowError(self._time_limit_s) from e

    def _enter(self) -> None:
        with self._counting:
            if self._pending >= THREADS + MAX_WAITING:
                raise TooBusyError
            self._pending += 1

    def _leave(self) -> None:
        with self._counting:
            self._pending -= 1

    def close(self) -> None:
        """Does not wait for calls that are running: the process ends after this."""
        self._pool.shutdown(wait=False, cancel_futures=True)
