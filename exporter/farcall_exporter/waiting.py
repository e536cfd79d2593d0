"""Server's sights that wait for their client's, and the memory of those that were kept as spans. Bounded."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace

from farcall_exporter.ranges import Ranges
from farcall_exporter.sights import Sight

MAX_WAITING = 50_000  # about 2 kB each
MAX_KEPT = 200_000
KEPT_S = 600.0  # a client's batch that comes later than this is older than its agent's queue holds
MAX_HOLD_S = 30.0  # however lively the client's agent is


class SightBook:
    """Sights in order of arrival, and by their connection's identity."""

    def __init__(self) -> None:
        self._sights: OrderedDict[str, tuple[float, Sight]] = OrderedDict()
        self._ranges: Ranges[Sight] = Ranges()

    def __len__(self) -> int:
        return len(self._sights)

    def arrivals(self) -> list[tuple[float, Sight]]:
        """(when it came, sight), oldest first."""
        return list(self._sights.values())

    def identities(self) -> list[int]:
        return self._ranges.identities()

    def near(self, identity: int, request_seq: int, request_bytes: int) -> Iterable[Sight]:
        """Those of the connection that may have bytes of this request."""
        return self._ranges.near(identity, request_seq, request_bytes)

    def add(self, sight: Sight, now: float) -> None:
        self.remove(sight)
        self._sights[sight.key] = (now, sight)
        if sight.identity is not None:
            self._ranges.add(
                sight.identity, sight.key, sight.request_seq, sight.request_bytes, sight
            )

    def remove(self, sight: Sight) -> None:
        self._sights.pop(sight.key, None)
        if sight.identity is not None:
            self._ranges.remove(sight.identity, sight.key)

    def forget(self, now: float, *, life_s: float, limit: int) -> None:
        while self._sights:
            came, sight = next(iter(self._sights.values()))
            if len(self._sights) <= limit and now - came < life_s:
                return
            self.remove(sight)


class Waiting:
    def __init__(self) -> None:
        self.sights = SightBook()
        self.kept = SightBook()

    def take_due(
        self, now: float, *, hold_s: float, may_report: Callable[[Sight], bool]
    ) -> tuple[list[Sight], int]:
        """Removes the sights whose time is over; also how many of them left early for want of room.

        `may_report`: the client's agent lives and has not yet come past the sight's time.
        """
        due: list[Sight] = []
        expelled = 0
        excess = len(self.sights) - MAX_WAITING
        for came, sight in self.sights.arrivals():
            waited_s = now - came
            if len(due) >= excess:
                if waited_s < hold_s:
                    break
                if waited_s < MAX_HOLD_S and may_report(sight):
                    continue
            expelled += waited_s < hold_s
            due.append(sight)
        for sight in due:
            self.sights.remove(sight)
        self.kept.forget(now, life_s=KEPT_S, limit=MAX_KEPT)
        return due, expelled

    def remember_kept(self, sights: Iterable[Sight], now: float) -> None:
        for sight in sights:
            if sight.identity is not None:
                self.kept.add(replace(sight, text=""), now)
