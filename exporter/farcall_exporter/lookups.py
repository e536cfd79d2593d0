"""Redis' answers for a batch: one round trip for what is not known locally, and an honest word when it is down.

The local cache lives for seconds: it saves round trips, it is no second source of truth. Every use of a name checks
the name's own age (resolve), so nothing here can outlive the tier's TTL.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from farcall import journal
from farcall.cachefaults import CacheFault
from farcall.dnscache import CacheEntry, CacheQuestion, CacheUnavailableError
from farcall_exporter.counters import Counters
from farcall_exporter.resolve import CacheView

log = journal.get_log("exporter")

FRESH_S = 3.0  # an agent's write is seen within this time
STALE_S = 300.0  # while Redis is down, what it said before still counts, as far as the names' own ages allow
RETRY_AFTER_S = 1.0  # a dead Redis costs one time limit a second, not one a batch
# After an outage what Redis does not know is not the last word: agents try again within 5 s, notice within 2 s more that it
# came back empty, and then write all that they hold.
SETTLED_AFTER_S = 15.0
MAX_ENTRIES = 65_536  # about 40 MB at four names each


class Cache(Protocol):
    def read(self, questions: Sequence[CacheQuestion]) -> list[CacheEntry]: ...


class Lookups:
    def __init__(self, cache: Cache, counters: Counters, *, clock: Callable[[], float]) -> None:
        self._cache = cache
        self._counters = counters
        self._clock = clock  # monotonic
        self._known: dict[CacheQuestion, tuple[float, CacheEntry]] = {}
        self._silent_until = 0.0
        self._fault: CacheFault | None = None
        self._answers_since = -math.inf
        self.trouble = ""  # why Redis cannot be asked, for people; "" while it can

    def read(self, questions: Sequence[CacheQuestion]) -> list[CacheView]:
        """A view for each question, in order. Never raises for a cache that is down: the views say so."""
        now = self._clock()
        asked = [q for q in dict.fromkeys(questions) if not self._is_known(q, now, FRESH_S)]
        self._counters.add("cache_questions", len(set(questions)))
        if asked:
            self._ask(asked, now)
        return [self._view(question, now) for question in questions]

    @property
    def is_settled(self) -> bool:
        """Whether Redis has answered for long enough that agents have written what they kept while it did not."""
        return self._fault is None and self._clock() - self._answers_since >= SETTLED_AFTER_S

    def _is_known(self, question: CacheQuestion, now: float, life_s: float) -> bool:
        known = self._known.get(question)
        return known is not None and now - known[0] < life_s

    def _ask(self, questions: list[CacheQuestion], now: float) -> None:
        if now < self._silent_until:
            return
        try:
            entries = self._cache.read(questions)
        except CacheUnavailableError as e:
            self._silent_until = self._clock() + RETRY_AFTER_S
            self._counters.add("cache_failures", 1)
            self._counters.add("cache_tls_failures", e.tls is not None)
            if e.fault != self._fault:
                log.warning("the DNS cache cannot be asked", fault=e.fault, why=str(e))
            self._fault, self.trouble = e.fault, str(e)
            return
        if self._fault is not None:
            self._answers_since = now
            log.info("the DNS cache is back")
        self._fault, self.trouble = None, ""
        self._counters.add("cache_reads", len(questions))
        self._make_room(len(questions))
        self._known.update(zip(questions, ((now, entry) for entry in entries), strict=True))

    def _make_room(self, wanted: int) -> None:
        """The oldest go first: a dict keeps the order of insertion."""
        excess = len(self._known) + wanted - MAX_ENTRIES
        for question in list(self._known)[: max(excess, 0)]:
            del self._known[question]

    def _view(self, question: CacheQuestion, now: float) -> CacheView:
        known = self._known.get(question)
        if known is None:
            return CacheView(is_current=False)
        age_s = now - known[0]
        if age_s < FRESH_S:
            return CacheView(entry=known[1])
        return CacheView(entry=known[1] if age_s < STALE_S else None, is_current=False)
