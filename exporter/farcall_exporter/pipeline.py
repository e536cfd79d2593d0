"""The exporter's one worker: batches in, tables committed, answers out. Everything behind it is single-threaded.

HTTP handlers submit jobs to a bounded queue and wait for the answer; a full queue is a 503 at once. Between jobs
the worker does what time demands: keep sights whose client never came, ask again for names, say how it is.

A batch's tables are built once. When the store's answer is lost, a retry hands over the very same tables under the
same token, because what was joined to what may have changed in between and half of the first attempt may be stored.
"""

import math
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from farcall.api import ComponentStatus
from farcall.exchange import BatchError, BatchHeader
from farcall.journal import get_log
from farcall.storeport import StoreError, StoreRefusedError, StoreUnavailableError, Writer
from farcall_exporter.asgi import Answer, not_now, problem
from farcall_exporter.batches import Tables, build_batch
from farcall_exporter.context import Context
from farcall_exporter.decode import decode_batch
from farcall_exporter.marks import Marks

log = get_log("exporter")

MAX_JOBS = 64
MAX_QUEUED_BYTES = 128 * 1024 * 1024
MAX_ATTEMPTS = 256  # one for each agent whose batch is on its way a second time
GIVE_UP_AFTER = 3  # refusals of one batch by the store, or faults of ours, before it is given up
TICK_S = 0.25
STORE_PAUSE_S = 1.0  # after a failed write: answer 503 without trying
TROUBLE_AFTER_S = 10.0  # a store that is restarted is back before, and that is nobody's trouble

Job = Callable[[], Answer]
Task = Callable[[float], None]  # called between jobs with the time


class BusyError(Exception):
    """The queue is full."""


class StoreSilentError(StoreUnavailableError):
    """The store was not asked, because it did not answer a moment ago."""


@dataclass(slots=True)
class _Attempt:
    tables: Tables | None = None
    failures: int = 0


class Pipeline:
    def __init__(self, writer: Writer, context: Context, *, tasks: Sequence[Task] = ()) -> None:
        self.writer = writer
        self.context = context
        self._marks = Marks(writer)
        self._tasks = list(tasks)
        self._attempts: OrderedDict[str, _Attempt] = OrderedDict()
        self._jobs: queue.Queue[tuple[Job, int, Future[Answer]]] = queue.Queue(MAX_JOBS)
        self._queued_bytes = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._store_silent_until = 0.0
        self._failing: tuple[float, str] | None = (
            None  # since when nothing was stored; why not, last
        )
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self.on_committed: Callable[[Tables], None] = _ignore

    # ---- called from other threads ----

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Finishes what is queued; False when that took too long."""
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def submit(self, job: Job, size: int) -> "Future[Answer]":
        """Raises BusyError."""
        future: Future[Answer] = Future()
        with self._lock:
            if self._stopping.is_set() or self._queued_bytes + size > MAX_QUEUED_BYTES:
                raise BusyError
            try:
                self._jobs.put_nowait((job, size, future))
            except queue.Full as e:
                raise BusyError from e
            self._queued_bytes += size
        return future

    @property
    def queued(self) -> int:
        return self._jobs.qsize()

    @property
    def store_trouble(self) -> str:
        """In the store's words, why it has taken nothing for a while; "" when it takes what comes."""
        failing = self._failing
        if failing is None or self.context.clock() - failing[0] < TROUBLE_AFTER_S:
            return ""
        return failing[1]

    def add_task(self, task: Task) -> None:
        self._tasks.append(task)

    # ---- the worker ----

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._jobs.empty()):
            try:
                job, size, future = self._jobs.get(timeout=TICK_S)
            except queue.Empty:
                self._run_tasks()
                continue
            with self._lock:
                self._queued_bytes -= size
            if future.set_running_or_notify_cancel():
                future.set_result(self._answer(job))
            self._run_tasks()
        self._write_marks(math.inf)

    def _answer(self, job: Job) -> Answer:
        try:
            return job()
        except StoreError as e:
            return self._store_failed(e)
        except Exception:
            self.context.counters.add("internal_errors", 1)
            log.exception("a request failed")
            return problem(500, "the exporter failed; its log says why")

    def _run_tasks(self) -> None:
        now = self.context.clock()
        self._write_marks(now)
        for task in self._tasks:
            try:
                task(now)
            except Exception:
                self.context.counters.add("internal_errors", 1)
                log.exception("a task failed", task=getattr(task, "__qualname__", "?"))

    # ---- jobs ----

    def take_batch(self, body: bytes) -> Answer:
        """The job of one batch: 200 once it is committed, or known to be."""
        try:
            decoded = decode_batch(body)
        except BatchError as e:
            self.context.counters.add("batches_refused", 1)
            return problem(400, str(e))
        header = decoded.header
        with self._asking_store():
            is_known = self._marks.is_known(header.sender, header.number)
        if is_known:
            self.context.counters.add("batches_repeated", 1)
            return OK
        token = f"{header.sender}:{header.number}"
        attempt = self._attempts.setdefault(token, _Attempt())
        try:
            if attempt.tables is None:
                attempt.tables = build_batch(decoded, self.context)
            self.commit(attempt.tables, token)
        except StoreUnavailableError as e:
            self._forget_attempts()
            return self._store_failed(e)
        except (
            Exception
        ) as e:  # a refusal, or a fault of ours: the same again may help, but not for ever
            return self._count_failure(token, attempt, e)
        del self._attempts[token]
        self._settle(header, decoded.table.num_rows)
        return OK

    def commit(self, tables: Tables, token: str) -> None:
        """Writes, and hands on what is written. Raises StoreError."""
        if tables:
            with self._asking_store():
                self.writer.write(tables, token=token)
            self._failing = None
            self.on_committed(tables)

    def write_status(self, status: ComponentStatus) -> None:
        """Raises StoreError."""
        self.writer.write_status(status)
        self._failing = None

    @contextmanager
    def _asking_store(self) -> Iterator[None]:
        """A store that did not answer is left alone for a moment: one that hangs must not hold the worker up again and again."""
        if self.context.clock() < self._store_silent_until:
            raise StoreSilentError("it did not answer a moment ago")
        try:
            yield
        except StoreUnavailableError:
            self._store_silent_until = self.context.clock() + STORE_PAUSE_S
            raise

    def _settle(self, header: BatchHeader, rows: int) -> None:
        self._marks.add(header.sender, header.number)
        self.context.counters.add("batches_committed", 1)
        self.context.counters.add("rows_received", rows)

    def _write_marks(self, now: float) -> None:
        if not self._marks.is_due(now):
            return
        try:
            with self._asking_store():
                self._marks.write(now)
        except StoreSilentError:
            return
        except StoreError as e:
            self.context.counters.add("high_water_failures", 1)
            log.warning("high-water marks not written", error=str(e))

    def _count_failure(self, token: str, attempt: _Attempt, error: Exception) -> Answer:
        attempt.failures += 1
        is_ours = not isinstance(error, StoreRefusedError)
        if is_ours:
            self.context.counters.add("internal_errors", 1)
            log.error("a batch failed", token=token, exc_info=error)
        if attempt.failures < GIVE_UP_AFTER:
            return self._turn_away("the store refused the batch" if not is_ours else "a fault")
        del self._attempts[token]
        self.context.counters.add("batches_given_up_lost", 1)
        log.error("a batch is given up", token=token, error=str(error))
        return problem(422, f"given up after {GIVE_UP_AFTER} attempts: {error}")

    def _forget_attempts(self) -> None:
        while len(self._attempts) > MAX_ATTEMPTS:
            self._attempts.popitem(last=False)

    def _store_failed(self, error: Exception) -> Answer:
        if not isinstance(error, StoreSilentError):  # at most one line a pause
            log.warning("store unavailable", error=str(error))
            since = self._failing[0] if self._failing else self.context.clock()
            self._failing = (since, str(error))
        return self._turn_away(f"the store is not available: {error}")

    def _turn_away(self, why: str) -> Answer:
        self.context.counters.add("batches_failed", 1)
        return not_now(why, retry_after_s=2)


OK = Answer(status=200, body=b"{}")


def _ignore(_tables: Tables) -> None:
    return None
