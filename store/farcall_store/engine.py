"""The embedded engine: opening its folder, and handles that each run on a thread of their own.

One handle takes one statement at a time and a handle per thread runs in parallel, so every pool is a set of threads
with one handle each and one bounded queue before them. Nothing here decides who may say what (`gate` does).
The engine hangs in a forked child: this process must never fork once a folder is open.
"""

import fcntl
import importlib
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypeVar

from farcall_store.claimfiles import find_false_claims, forget_false_claims

DATABASE = "farcall"
T = TypeVar("T")

_CODE = re.compile(r"Code: (\d+)\.")
# To the engine parts below 5 MB are all alike: a merge takes the large one that there is every time with a few small ones, so
# that a row is written anew once for each few inserts until its part has grown. Twenty at once write each row half as often as
# ten, and no search feels some parts more. Its habit of leaving out what is small beside the rest after it has counted
# made merges of one large part and one insert of that: 41 rows rewritten for one that came, at 38 inserts a second.
MERGED_AT_ONCE = 20
# The engine looks at its memory 20 times a second; statements are held to their limits where they allocate.
MEMORY_EVERY_MS = 500
MAX_MESSAGE = 2_000  # characters of an engine error that leave the process


class EngineError(Exception):
    """The engine said no; `code` is ClickHouse's number, 0 when it gave none."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        match = _CODE.search(message)
        self.code = code if code is not None else int(match.group(1)) if match else 0
        super().__init__(message[:MAX_MESSAGE])


class EngineBusyError(Exception):
    """The queue before the handles is full."""


class FolderInUseError(Exception):
    """Another process owns the data folder."""


class Result(Protocol):
    def bytes(self) -> bytes: ...
    def rows_read(self) -> int: ...


class Connection(Protocol):
    """What is used of the engine's own connection object."""

    def query(self, query_str: str, format: str, *, params: Mapping[str, str] = ...) -> Result: ...
    def send_query(
        self, query_str: str, format: str, *, params: Mapping[str, str] = ...
    ) -> object: ...
    def streaming_fetch_result(self, streaming_result: object) -> Result | None: ...
    def streaming_cancel_query(self, streaming_result: object) -> None: ...
    def close(self) -> None: ...


def run(
    connection: Connection,
    sql: str,
    fmt: str = "TabSeparated",
    params: Mapping[str, str] | None = None,
) -> bytes:
    """One statement, its whole result. Raises EngineError."""
    try:
        return connection.query(sql, fmt, params=dict(params or {})).bytes()
    except RuntimeError as e:
        raise EngineError(str(e)) from e


def cleanse(connection: Connection) -> None:
    """Throws away what a failed statement left in its handle.

    The engine (26.5) keeps the rows that a statement had written before it failed, and puts them before the next
    answer of the same handle: somebody else's. It also lists the failed one as running until then.
    """
    for _ in range(MAX_CLEANSING):
        try:
            if connection.query("SELECT 1", "TabSeparated", params={}).bytes() == b"1\n":
                return
        except RuntimeError:
            continue
    # A handle that cannot be trusted must not answer anybody: the supervisor starts another process.
    os._exit(EXIT_DIRTY)


MAX_CLEANSING = 5  # the first one is enough, as far as was seen
EXIT_DIRTY = 71


class FolderLock:
    """The data folder belongs to one process; the lock goes with it, also after a kill."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(
            folder / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(self._descriptor)
            raise FolderInUseError(
                f"{folder} is in use by another farcall store; stop that one first, or give this one a folder of its own"
            ) from e

    def release(self) -> None:
        os.close(self._descriptor)


class Engine:
    """The opened folder. `connect` gives one more handle."""

    def __init__(self, folder: Path, *, memory_bytes: int) -> None:
        self._lock = FolderLock(folder)
        try:
            config = folder / "engine.xml"
            config.write_text(_render_config(memory_bytes), encoding="ascii")
            self._address = f"{folder / 'data'}?config-file={config}"
            self._module = _import_engine()
            self.amends = forget_false_claims(folder)
            self._keeper = self.connect()  # the engine closes with its last connection
            if find_false_claims(folder):
                # A power loss left parts without their bytes: opening the folder has put them aside.
                self._keeper.close()
                self.amends += forget_false_claims(folder)
                self._keeper = self.connect()
        except BaseException:
            self._lock.release()
            raise

    def connect(self, settings: Sequence[str] = ()) -> Connection:
        """A handle with these `SET` statements applied in order. Raises EngineError."""
        try:
            connection: Connection = self._module.connect(self._address)
        except RuntimeError as e:
            raise EngineError(str(e)) from e
        for statement in settings:
            run(connection, statement)
        return connection

    def close(self) -> None:
        self._keeper.close()
        self._lock.release()


def _import_engine() -> Any:
    """Imports late: half a second and 100 MB that only this process may pay."""
    os.environ["TZ"] = "UTC"  # the server's time zone is what clients read times in
    module: Any = importlib.import_module("chdb._chdb")
    module.set_signal_handlers_enabled(0)
    module.reset_signal_handlers()  # importing it has already opened and closed an engine once
    return module


def _render_config(memory_bytes: int) -> str:
    # Caches and pools of the size of a side process; the engine's defaults are those of a big dedicated server.
    return f"""<clickhouse>
  <max_server_memory_usage>{memory_bytes}</max_server_memory_usage>
  <mark_cache_size>{memory_bytes // 16}</mark_cache_size>
  <index_mark_cache_size>{memory_bytes // 32}</index_mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <background_pool_size>2</background_pool_size>
  <background_schedule_pool_size>4</background_schedule_pool_size>
  <max_thread_pool_size>256</max_thread_pool_size>
  <memory_worker_period_ms>{MEMORY_EVERY_MS}</memory_worker_period_ms>
  <merge_tree>
    <min_parts_to_merge_at_once>{MERGED_AT_ONCE}</min_parts_to_merge_at_once>
    <merge_selector_enable_heuristic_to_remove_small_parts_at_right>0</merge_selector_enable_heuristic_to_remove_small_parts_at_right>
  </merge_tree>
</clickhouse>
"""


class Pool:
    """`size` handles, each on its thread, behind one queue of at most `waiting` pieces of work."""

    def __init__(self, name: str, connections: Sequence[Connection], *, waiting: int) -> None:
        self.name = name
        self._queue: queue.Queue[Callable[[Connection], None] | None] = queue.Queue(waiting)
        self._closed = False
        self._threads = [
            threading.Thread(
                target=self._serve, args=(connection,), name=f"{name}-{n}", daemon=True
            )
            for n, connection in enumerate(connections)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Runs `work` on the next free handle. Raises EngineBusyError when too many wait already."""
        future: Future[T] = Future()

        def step(connection: Connection) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work(connection)
            except BaseException as e:  # whatever it is, it belongs to whoever waits
                cleanse(connection)
                future.set_exception(e)
            else:
                future.set_result(result)

        if self._closed:
            raise EngineBusyError("the store is stopping")
        try:
            self._queue.put_nowait(step)
        except queue.Full:
            raise EngineBusyError(f"too many statements wait for the {self.name} handles") from None
        return future

    def run(
        self,
        sql: str,
        params: Mapping[str, str] | None = None,
        *,
        fmt: str = "TabSeparated",
        timeout_s: float | None = 60.0,
    ) -> bytes:
        """`submit` and wait, for this process's own statements. Raises EngineError, TimeoutError."""
        return self.submit(lambda connection: run(connection, sql, fmt, params)).result(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Lets what runs and waits end, then ends the threads; False when one would not within the time."""
        self._closed = True
        for _ in self._threads:
            try:
                self._queue.put(None, timeout=timeout_s)
            except queue.Full:
                return False
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self, connection: Connection) -> None:
        while (step := self._queue.get()) is not None:
            step(connection)
        connection.close()
