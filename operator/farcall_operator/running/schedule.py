"""Which key is due when: the queue's rules without its waiting. No clock, no tasks; the caller says what time it is.

A key is in one place: ready, later, or running. What comes for a running key is remembered once and makes it ready again.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_BACKOFF_S = 1.0
LAST_BACKOFF_S = 300.0
JITTER = 0.2  # a fifth either way: keys that failed together do not come back together


@dataclass(slots=True)
class _Key:
    ready_since: float | None = None
    due_at: float | None = None
    running_since: float | None = None
    again_at: float | None = None  # something came while it ran
    is_urgent: bool = False  # of that
    failures: int = 0
    not_before: float = 0.0  # after a failure, whatever comes


@dataclass(slots=True)
class Schedule:
    pick: Callable[[], float] = random.random  # 0 to 1
    _keys: dict[str, _Key] = field(default_factory=dict)
    # In the order of arrival. What cannot wait goes first, or an edit would stand behind a thousand keys of a resync.
    _urgent: dict[str, None] = field(default_factory=dict)
    _calm: dict[str, None] = field(default_factory=dict)
    _later: list[tuple[float, str]] = field(
        default_factory=list
    )  # a heap; stale entries are skipped

    def add(self, key: str, now: float, delay_s: float = 0.0) -> None:
        """Something happened to `key`, which can wait for `delay_s` so that more of the kind comes together.

        A key that just failed waits out its first second all the same: what it did before it failed may be what happened.
        """
        state = self._keys.setdefault(key, _Key())
        at = max(now + delay_s, state.not_before)
        if state.running_since is not None:
            state.again_at = at if state.again_at is None else min(at, state.again_at)
            state.is_urgent |= delay_s == 0
        elif at > now:
            self._postpone(key, state, at)
        else:
            self._make_ready(key, state, now, self._urgent)

    def take(self, now: float) -> str | None:
        """The next key to work on, which counts as running until `finish`."""
        self._promote(now)
        ready = self._urgent or self._calm
        if not ready:
            return None
        key = next(iter(ready))
        del ready[key]
        state = self._keys[key]
        state.ready_since = None
        state.running_since = now
        return key

    def finish(
        self, key: str, now: float, *, again_in_s: float | None, failed: bool = False
    ) -> None:
        """`again_in_s` None: nothing to come back for. After a failure it is the least, and backoff decides beyond."""
        state = self._keys[key]
        state.running_since = None
        again_at, state.again_at = state.again_at, None
        ready = self._urgent if state.is_urgent else self._calm
        state.is_urgent = False
        if failed:
            wait_s = max(self._back_off(state.failures), again_in_s or 0.0)
            state.failures += 1
            state.not_before = now + min(wait_s, FIRST_BACKOFF_S)
            self._postpone(key, state, now + wait_s if again_at is None else state.not_before)
            return
        state.failures = 0
        if again_at is not None and again_at <= now:
            self._make_ready(key, state, now, ready)
        elif again_at is not None:
            self._postpone(key, state, again_at)
        elif again_in_s is not None:
            self._postpone(key, state, now + again_in_s)
        else:
            del self._keys[key]

    def next_due(self) -> float | None:
        """When `take` has something though nothing is added; None: never, or right now."""
        while self._later and self._is_stale(*self._later[0]):
            heapq.heappop(self._later)
        return self._later[0][0] if self._later and not self.depth else None

    @property
    def depth(self) -> int:
        return len(self._urgent) + len(self._calm)

    @property
    def running(self) -> int:
        return sum(1 for state in self._keys.values() if state.running_since is not None)

    def oldest_s(self, now: float) -> float:
        """For how long the first ready key has waited for a worker."""
        first = [next(iter(ready)) for ready in (self._urgent, self._calm) if ready]
        return max((now - (self._keys[key].ready_since or now) for key in first), default=0.0)

    def longest_s(self, now: float) -> float:
        """For how long the slowest running key has run."""
        started = [s.running_since for s in self._keys.values() if s.running_since is not None]
        return now - min(started) if started else 0.0

    def _make_ready(self, key: str, state: _Key, now: float, ready: dict[str, None]) -> None:
        if state.ready_since is None:
            state.ready_since = now
            state.due_at = None
            ready[key] = None
        elif ready is self._urgent and key in self._calm:
            del self._calm[key]
            ready[key] = None

    def _postpone(self, key: str, state: _Key, at: float) -> None:
        if state.ready_since is None and (state.due_at is None or at < state.due_at):
            state.due_at = at
            heapq.heappush(self._later, (at, key))

    def _promote(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            at, key = heapq.heappop(self._later)
            if not self._is_stale(at, key):
                self._make_ready(key, self._keys[key], now, self._calm)

    def _is_stale(self, at: float, key: str) -> bool:
        state = self._keys.get(key)
        return state is None or state.due_at != at

    def _back_off(self, failures: int) -> float:
        whole = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures, 16))
        return whole * (1 + JITTER * (2 * self.pick() - 1))
