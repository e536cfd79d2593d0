"""The exporter's one worker: batches in, tables committed, answers out. Everything behind it is single-threaded.

HTTP handlers submit jobs to a bounded queue and wait for the answer; a full queue is a 503 at once. Between jobs
the worker does what time demands: keep sights whose client never came, ask again for names, say how it is.

A batch's tables are built once, and those of several agents are written as one (groups, gathering). When the store's answer is
lost, a retry hands over the very same inserts under the same tokens, because what was joined to what may have changed in
between and half of the first attempt may be stored. What the exporter before this one had under way when it was killed
nobody can hand over again: there the store is asked which rows it has (Writer.drop_stored, decision 009).
"""

import math
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from farcall.api import ComponentStatus
from farcall.exchange import BatchError, BatchHeader
from farcall.journal import get_log
from farcall.storeport import StoreError, StoreRefusedError, StoreUnavailableError, Writer
from farcall_exporter.asgi import Answer, not_now, problem
from farcall_exporter.batches import Tables, build_batch
from farcall_exporter.context import Context
from farcall_exporter.decode import Decoded, decode_batch
from farcall_exporter.gathering import Gathering, Pending
from farcall_exporter.groups import Group, Member
from farcall_exporter.marks import Marks
from farcall_exporter.statusbook import StatusBook

log = get_log("exporter")

MAX_JOBS = 64
MAX_QUEUED_BYTES = 128 * 1024 * 1024
MAX_ATTEMPTS = 256  # one for each agent whose batch is on its way a second time
GIVE_UP_AFTER = 3  # refusals of one batch by the store, or faults of ours, before it is given up
TICK_S = 0.25
STORE_PAUSE_S = 1.0  # after a failed write: answer 503 without trying
TROUBLE_AFTER_S = 10.0  # a store that is restarted is back before, and that is nobody's trouble

Job = Callable[[], Answer | Pending]
Task = Callable[[float], None]  # called between jobs with the time


class BusyError(Exception):
    """The queue is full."""


class StoreSilentError(StoreUnavailableError):
    """The store was not asked, because it did not answer a moment ago."""


class Pipeline:
    def __init__(self, writer: Writer, context: Context, *, tasks: Sequence[Task] = ()) -> None:
        self.writer = writer
        self.context = context
        self._marks = Marks(writer)
        self._tasks = list(tasks)
        self._statuses = StatusBook(writer)
        self._gathering = Gathering(is_alone=context.peers is not None, clock=time.monotonic)
        self._unsettled: tuple[Group, list[Pending]] | None = None  # may be stored, or half of it
        self._attempts: OrderedDict[str, Pending] = OrderedDict()  # built, and not stored
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
                job, size, future = self._jobs.get(timeout=self._wait_s())
            except queue.Empty:
                if self._gathering.wait_s() == 0:
                    self._commit_gathered()
                self._run_tasks()
                continue
            with self._lock:
                self._queued_bytes -= size
            if future.set_running_or_notify_cancel():
                self._begin(job, future)
            if self._gathering.is_full or (self._jobs.empty() and self._gathering.wait_s() == 0):
                self._commit_gathered()
            self._run_tasks()
        self._commit_gathered()
        self._write_marks(math.inf)
        self._write_statuses(math.inf)

    def _wait_s(self) -> float:
        wait_s = self._gathering.wait_s()
        return TICK_S if wait_s is None or self._stopping.is_set() else min(TICK_S, wait_s)

    def _begin(self, job: Job, future: "Future[Answer]") -> None:
        try:
            found = job()
        except Exception as e:
            found = self._answer_failure(e)
        if isinstance(found, Pending):
            found.answer = future
            self._gathering.add(found)
        else:
            future.set_result(found)

    def _answer_failure(self, error: Exception) -> Answer:
        if isinstance(error, StoreError):
            return self._store_failed(error)
        self.context.counters.add("internal_errors", 1)
        log.error("a request failed", exc_info=error)
        return problem(500, "the exporter failed; its log says why")

    def _run_tasks(self) -> None:
        now = self.context.clock()
        self._write_marks(now)
        self._write_statuses(now)
        for task in self._tasks:
            try:
                task(now)
            except Exception:
                self.context.counters.add("internal_errors", 1)
                log.exception("a task failed", task=getattr(task, "__qualname__", "?"))

    # ---- jobs ----

    def take_batch(self, body: bytes) -> Answer:
        """One batch, by itself: 200 once it is committed, or known to be. The worker's jobs are `build_batch`."""
        answer: Future[Answer] = Future()
        self._begin(lambda: self.build_batch(body), answer)
        self._commit_gathered()
        return answer.result()

    def build_batch(self, body: bytes) -> Answer | Pending:
        """The job of one batch: its rows, ready to be written with others'. Raises StoreError."""
        try:
            decoded = decode_batch(body)
        except BatchError as e:
            self.context.counters.add("batches_refused", 1)
            return problem(400, str(e))
        header = decoded.header
        token = f"{header.sender}:{header.number}"
        if self._gathering.holds(token):  # its sender waits no longer for the first answer
            self._commit_gathered()
        self._settle_unsettled()
        with self._asking_store():
            is_known = self._marks.is_known(header.sender, header.number)
        if is_known:
            self.context.counters.add("batches_repeated", 1)
            return OK
        pending = self._attempts.setdefault(
            token, Pending(header, Member(token, {}, decoded.table.num_rows))
        )
        try:
            self._build(decoded, pending)
        except StoreError:
            self._forget_attempts()
            raise
        except Exception as e:  # a fault of ours: the same again may help, but not for ever
            return self._count_failure(pending, e)
        return pending

    def _build(self, decoded: Decoded, pending: Pending) -> None:
        member = pending.member
        if not pending.is_built:
            member.left = build_batch(decoded, self.context)
            pending.is_built = True
        if pending.is_new and self._may_be_stored(pending.header):
            with self._asking_store():
                member.left = self.writer.drop_stored(member.left)
        pending.is_new = False

    def _may_be_stored(self, header: BatchHeader) -> bool:
        """The one batch that its sender may have handed to the exporter before this one. With several exporters each
        batch is an insert of its own, which the store knows by its token."""
        return self.context.peers is None and not self._marks.has_met(header.sender)

    def _commit_gathered(self) -> None:
        """Writes them as one and answers each."""
        taken = self._gathering.take()
        try:
            self._settle_unsettled()
            if taken:
                self._write_group(Group([p.member for p in taken], self._hand_on), taken)
        except Exception as e:
            self._forget_attempts()
            answer = self._answer_failure(e)
            if isinstance(e, StoreError):
                self.context.counters.add("batches_failed", len(taken) - 1)  # beside the one
            for pending in taken:
                _answer(pending, answer)

    def _settle_unsettled(self) -> None:
        """Nothing new is written before what became of the last is known. Raises StoreUnavailableError."""
        if self._unsettled is not None:
            group, taken = self._unsettled
            self._write_group(group, taken)

    def _write_group(self, group: Group, taken: list[Pending]) -> None:
        with self._asking_store():
            self._unsettled = (group, taken)
            group.write(self.writer)
        self._unsettled = None
        self.context.counters.add("commits", 1)
        self.context.counters.add("commits_split", group.splits)
        for pending in taken:
            refused = pending.member.refused
            _answer(pending, self._refuse(pending) if refused else self._settle(pending))

    def _hand_on(self, tables: Tables) -> None:
        self._failing = None
        self.on_committed(tables)

    def commit(self, tables: Tables, token: str) -> None:
        """Writes, and hands on what is written. Raises StoreError."""
        if tables:
            with self._asking_store():
                self.writer.write(tables, token=token)
            self._hand_on(tables)

    def write_status(self, status: ComponentStatus) -> None:
        """Soon, with those of others."""
        self.context.counters.add("status_failures", not self._statuses.add(status))

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

    def _settle(self, pending: Pending) -> Answer:
        self._attempts.pop(pending.member.token, None)
        self._marks.add(pending.header.sender, pending.header.number)
        self.context.counters.add("batches_committed", 1)
        self.context.counters.add("rows_received", pending.member.rows)
        return OK

    def _refuse(self, pending: Pending) -> Answer:
        error, pending.member.refused = pending.member.refused, None
        assert error is not None
        return self._count_failure(pending, error)

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

    def _write_statuses(self, now: float) -> None:
        if not self._statuses.is_due(now):
            return
        try:
            with self._asking_store():
                self._statuses.write(now)
            self._failing = None
        except StoreSilentError:
            return
        except StoreError as e:
            self.context.counters.add("status_failures", 1)
            log.warning("statuses not written", error=str(e))

    def _count_failure(self, pending: Pending, error: Exception) -> Answer:
        token = pending.member.token
        pending.failures += 1
        is_ours = not isinstance(error, StoreRefusedError)
        if is_ours:
            self.context.counters.add("internal_errors", 1)
            log.error("a batch failed", token=token, exc_info=error)
        if pending.failures < GIVE_UP_AFTER:
            return self._turn_away("the store refused the batch" if not is_ours else "a fault")
        self._attempts.pop(token, None)
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


def _answer(pending: Pending, answer: Answer) -> None:
    if pending.answer is not None:
        pending.answer.set_result(answer)
        pending.answer = None


def _ignore(_tables: Tables) -> None:
    return None
