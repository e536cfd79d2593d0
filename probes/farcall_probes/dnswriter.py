"""Writes answers and bindings to the Redis cache from a thread of its own, within a fraction of a second of the answer.

The exporter may look an address up as soon as it sees the exchange, so nothing waits here for a full batch. While Redis
is away the newest answers are kept, up to a bound; what is given up is counted. When Redis lost its memory (another run ID)
`lost_memory` is set, and the loop hands over everything that it holds.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from farcall import journal
from farcall.cacheexpiry import Life
from farcall.dnscache import Answer, Binding, CacheUnavailableError, CacheWriter
from farcall.envelope import DNS_CACHE, Capability
from farcall_probes.cachelife import CacheLife
from farcall_probes.recall import Recall

T = TypeVar("T")

MAX_PENDING = 40_000  # answers; about 300 bytes apiece
MAX_PENDING_BINDINGS = 65_536  # as many as an agent can hold: its own, and those that it read back
MAX_WRITE = 2_000  # in one pipeline
CHECK_EVERY_S = 2.0  # whether Redis is still the same
BACKOFF_FIRST_S = 0.25
BACKOFF_LAST_S = 5.0
WITHOUT_CACHE = (
    "answers wait in memory; what is not written when the agent restarts has no name afterwards"
)


class DnsWriter:
    def __init__(
        self,
        connect: Callable[[], CacheWriter],
        *,
        ttl_s: int,
        held: bool = False,
        owner: str = "agent",
        recall: Recall | None = None,
        max_pending: int = MAX_PENDING,
        check_every_s: float = CHECK_EVERY_S,
    ) -> None:
        self._connect = connect
        self._writer: CacheWriter | None = None
        self._life = self._written_life = Life(ttl_s=ttl_s, held=held)
        self._following = CacheLife(owner, self._life, clock=time.monotonic)
        self._check_every_s = check_every_s
        self._answers: deque[Answer] = deque(maxlen=max_pending)
        self._bindings: deque[Binding] = deque(maxlen=MAX_PENDING_BINDINGS)
        self._recall = recall
        self._changed = threading.Condition()
        self._counters: Counter[str] = Counter()
        self._stop_at: float | None = None
        self._failures = 0
        self._trouble: CacheUnavailableError | None = None
        self._check_due = 0.0
        self.lost_memory = threading.Event()
        self._log = journal.get_log("dnswriter")
        self._thread = threading.Thread(target=self._run, name="dnswriter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def set_life(self, ttl_s: int, *, held: bool) -> None:
        """From the next write on; entries that are there already follow soon (cachelife.py)."""
        with self._changed:
            self._life = Life(ttl_s=ttl_s, held=held)
            self._changed.notify()

    def put(self, answers: Sequence[Answer], bindings: Sequence[Binding] = ()) -> None:
        """Never waits. When Redis is slower than the answers come, the oldest go."""
        with self._changed:
            self._counters["cache_answers_dropped"] += _overflow(self._answers, len(answers))
            self._counters["cache_bindings_dropped"] += _overflow(self._bindings, len(bindings))
            self._answers.extend(answers)
            self._bindings.extend(bindings)
            self._changed.notify()

    def take_recalled(self) -> list[Binding]:
        """Bindings of connections older than the agent, as they are read back from Redis."""
        return self._recall.take() if self._recall is not None else []

    def counters(self) -> dict[str, int]:
        recall = self._recall.counters if self._recall is not None else {}
        with self._changed:
            return {**self._counters, **self._following.counters, **recall}

    def capability(self) -> Capability:
        """Whether names survive this agent, and why not."""
        trouble = self._trouble
        if trouble is None:
            return Capability(name=DNS_CACHE, on=True)
        return Capability(name=DNS_CACHE, on=False, why=str(trouble), cost=WITHOUT_CACHE)

    def gauges(self) -> dict[str, float]:
        with self._changed:
            pending = len(self._answers) + len(self._bindings)
            return {
                "cache_pending": pending,
                "cache_available": float(self._failures == 0),
                "cache_follows_ttl": float(self._following.is_followed),
            }

    def stop(self, within_s: float) -> None:
        with self._changed:
            self._stop_at = time.monotonic() + within_s
            self._changed.notify()
        self._thread.join(within_s + 1.0)
        with self._changed:
            self._counters["cache_answers_dropped"] += len(self._answers)
            self._counters["cache_bindings_dropped"] += len(self._bindings)

    def _run(self) -> None:
        while self._wait():
            answers, bindings = self._take()
            try:
                self._write(answers, bindings)
                answers, bindings = [], []
                self._take_steps()
            except CacheUnavailableError as e:
                self._give_back(answers, bindings)
                self._failed(e)
            else:
                self._succeeded()

    def _wait(self) -> bool:
        """Until there is something to do; False when it is time to end."""
        with self._changed:
            while True:
                now = time.monotonic()
                pending = bool(self._answers or self._bindings)
                if self._stop_at is not None:
                    return pending and now < self._stop_at and self._failures == 0
                due_in_s = self._due_in_s(now)
                if pending or due_in_s <= 0:
                    return True
                self._changed.wait(due_in_s)

    def _due_in_s(self, now: float) -> float:
        if self._life != self._written_life:
            return 0.0
        if self._recall is not None and self._recall.is_due_again:
            return 0.0
        recalling_s = self._recall.due_in_s() if self._recall is not None else None
        steps = (self._following.due_in_s(), recalling_s)
        return min([self._check_due - now, *(s for s in steps if s is not None)])

    def _take(self) -> tuple[list[Answer], list[Binding]]:
        with self._changed:
            answers = [self._answers.popleft() for _ in range(min(len(self._answers), MAX_WRITE))]
            bindings = [
                self._bindings.popleft() for _ in range(min(len(self._bindings), MAX_WRITE))
            ]
        return answers, bindings

    def _give_back(self, answers: list[Answer], bindings: list[Binding]) -> None:
        """To the front, as they came; the bound holds: the oldest of them go first."""
        with self._changed:
            self._counters["cache_answers_dropped"] += _return(self._answers, answers)
            self._counters["cache_bindings_dropped"] += _return(self._bindings, bindings)

    def _take_steps(self) -> None:
        if self._writer is not None:
            self._following.step(self._writer)
            if self._recall is not None:
                self._recall.step(self._writer, self._written_life)

    def _write(self, answers: list[Answer], bindings: list[Binding]) -> None:
        if (
            self._life != self._written_life
        ):  # this thread alone writes: every entry from here on has the new life
            self._written_life = self._life
            self._following.want(self._life)
        if self._writer is None:
            self._writer = self._connect()
        if time.monotonic() >= self._check_due:
            if self._writer.has_lost_memory():
                self._log.warning("the DNS cache lost its memory; it is filled again")
                self._counters["cache_republished"] += 1
                self.lost_memory.set()
                if self._recall is not None:
                    self._recall.write_again()
            self._check_due = time.monotonic() + self._check_every_s
            # Older ones are due again anyway, so forgetting them changes nothing but memory.
            self._writer.forget_older_than(time.time() - self._written_life.ttl_s * 0.01)
        keys = self._writer.write(
            answers, bindings, ttl_s=self._written_life.ttl_s, now=time.time()
        )
        keys += self._write_told(self._writer)
        with self._changed:
            self._counters["cache_keys_written"] += keys

    def _write_told(self, writer: CacheWriter) -> int:
        """What was read back at start, to a cache that has lost it since; some at a time."""
        if self._recall is None or not self._recall.is_due_again:
            return 0
        now, ttl_s = time.time(), self._written_life.ttl_s
        keys = writer.write(self._recall.next_told(now, ttl_s), [], ttl_s=ttl_s, now=now)
        self._recall.wrote_told()
        return keys

    def _succeeded(self) -> None:
        if self._failures:
            self._log.info("the DNS cache is back", after_failures=self._failures)
        self._failures = 0
        self._trouble = None

    def _failed(self, trouble: CacheUnavailableError) -> None:
        self._failures += 1
        wait_s = min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 1, 10))
        with self._changed:
            self._counters["cache_failures"] += 1
            self._counters["cache_tls_failures"] += trouble.tls is not None
        is_news = self._trouble is None or _kind(trouble) != _kind(self._trouble)
        self._trouble = trouble
        if is_news or self._failures == 10 or self._failures % 100 == 0:
            self._log.warning(
                "the DNS cache cannot be written; answers are kept",
                fault=trouble.fault,
                why=str(trouble),
                retry_in_s=wait_s,
                failures=self._failures,
            )
        self._check_due = 0.0
        with self._changed:
            if self._stop_at is None:
                self._changed.wait_for(lambda: self._stop_at is not None, wait_s)


def _kind(trouble: CacheUnavailableError) -> tuple[str, str]:
    """Another one is news, though Redis has been away all the time."""
    return trouble.fault, trouble.tls.cause if trouble.tls else ""


def _overflow(queue: deque[T], more: int) -> int:
    return max(0, len(queue) + more - (queue.maxlen or 0))


def _return(queue: deque[T], items: list[T]) -> int:
    """Puts items before the others as far as there is room; the number of those that had none."""
    room = (queue.maxlen or 0) - len(queue)
    queue.extendleft(items[::-1][:room])
    return max(0, len(items) - room)
