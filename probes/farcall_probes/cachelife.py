"""When this agent sees to it that entries of the DNS cache follow the time to live: after each change of it, and once at start.

Called by dnswriter's thread between its writes, so that no answer waits for more than one step. What a step does is
in farcall.cacheexpiry; here is only its time: soon after the change, together with the other agents, never all at once.
"""

import random
from collections import Counter
from collections.abc import Callable

from farcall.cacheexpiry import Life, Pass, Runner, is_followed, read_clock

# The change reaches agents within 90 s of one another (the kubelets' rounds); this spreads those that learn in the same second.
FIRST_LOOK_S = 1.0
LOOK_EVERY_S = 2.0  # while another agent goes through the entries
# A step of 500 keys takes 20 ms, nearly all of it in here (measured: 40 µs a key, 6 of them in Redis). Resting half as
# long leaves the loop its time; a million entries are through in a minute.
REST = 0.5


class CacheLife:
    def __init__(
        self,
        owner: str,
        life: Life,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._owner = owner
        self._clock = clock  # monotonic
        self._jitter = jitter
        self.counters: Counter[str] = (
            Counter(  # all there from the start: another thread copies them
                cache_expiry_passes=0, cache_expiries_followed=0, cache_entries_unread=0
            )
        )
        self._wanted: Life | None = None
        self._since: float | None = None
        self._pass: Pass | None = None
        self._given_up: Pass | None = None
        self._due = 0.0
        # At start a pass that anybody made for this life will do; entries that we write follow it from the first.
        self._want(life, since=0.0)

    @property
    def is_followed(self) -> bool:
        return self._wanted is None

    def want(self, life: Life) -> None:
        """Called when entries are written with this life from now on."""
        self._want(life, since=None)

    def _want(self, life: Life, *, since: float | None) -> None:
        self._wanted, self._since = life, since
        self._given_up, self._pass = self._pass, None
        self._due = self._clock() + FIRST_LOOK_S * self._jitter()

    def due_in_s(self) -> float | None:
        """When `step` wants to be called; None for never."""
        return None if self._wanted is None else max(0.0, self._due - self._clock())

    def step(self, cache: Runner) -> None:
        """One small step. Raises CacheUnavailableError; what was done then is done again."""
        if self._wanted is None or self._clock() < self._due:
            return
        if self._pass is None:
            self._look(cache, self._wanted)
        else:
            self._go_on(cache, self._pass)

    def _look(self, cache: Runner, wanted: Life) -> None:
        if self._since is None:
            self._since = read_clock(cache)
        if self._given_up is not None:
            self._given_up.release(cache)
            self._given_up = None
        if is_followed(cache, wanted, since=self._since):
            self._wanted = None
            return
        self._pass = Pass.begin(cache, wanted, self._owner)
        wait_s = 0.0 if self._pass is not None else LOOK_EVERY_S * (0.5 + self._jitter())
        self._due = self._clock() + wait_s

    def _go_on(self, cache: Runner, current: Pass) -> None:
        begun = self._clock()
        is_done = current.step(cache)
        ended = self._clock()
        self._due = ended + REST * (ended - begun)
        if is_done:
            self.counters["cache_expiry_passes"] += 1
            self.counters["cache_expiries_followed"] += current.followed
            self.counters["cache_entries_unread"] += current.unread
            self._wanted = self._pass = None
