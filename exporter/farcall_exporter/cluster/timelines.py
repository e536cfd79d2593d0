"""Who held an address, and when: addresses of pods are used again, so a span is asked at its own time.

An owner claims a key and releases it. Claims that overlap are not decided but told: whoever asks for a time in the overlap
gets both owners, and may only say what is true of either. Overlaps come from what cannot be known exactly: a pod's address
is freed before its deletion is seen, and given after its start; clocks of nodes differ. Times are Unix nanoseconds.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

OPEN = 2**63 - 1
SKEW_NS = 2 * 10**9  # clocks of two nodes, and of the exporter
MAX_CLAIMS = 400_000  # about 100 MB; a cluster of 100,000 pods has fewer

Owners = tuple[Hashable, ...]


@dataclass(slots=True)
class _Claim:
    owner: Hashable
    start_ns: int
    seen_ns: int
    end_ns: int = OPEN


@dataclass(frozen=True, slots=True)
class Segments:
    """`owners[i]` from `starts[i]` to `starts[i + 1]`; the first starts at 0, with nobody or somebody."""

    starts: tuple[int, ...]
    owners: tuple[Owners, ...]

    def at(self, time_ns: int) -> Owners:
        """For one time; a batch lays many segments out and searches once (destinations)."""
        found: Owners = ()
        for start, owners in zip(self.starts, self.owners, strict=True):
            if start > time_ns:
                break
            found = owners
        return found


class Timelines:
    def __init__(self) -> None:
        self._claims: dict[Hashable, list[_Claim]] = {}
        self._segments: dict[Hashable, Segments] = {}  # as far as they were asked for
        self._ended: deque[tuple[int, Hashable, Hashable]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: Hashable) -> bool:
        return key in self._claims

    def claim(self, key: Hashable, owner: Hashable, *, start_ns: int, seen_ns: int) -> bool:
        """False when there is no room. The same again changes nothing; after a release it opens the claim again."""
        claims = self._claims.get(key)
        for known in claims or ():
            if known.owner == owner:
                known.end_ns = OPEN
                self._segments.pop(key, None)
                return True
        if self._count >= MAX_CLAIMS:
            return False
        self._claims.setdefault(key, []).append(_Claim(owner, start_ns, seen_ns))
        self._segments.pop(key, None)
        self._count += 1
        return True

    def release(self, key: Hashable, owner: Hashable, *, end_ns: int) -> None:
        """`end_ns`: at this time it is certain that it holds the key no more."""
        for known in self._claims.get(key, ()):
            if known.owner == owner and known.end_ns == OPEN:
                known.end_ns = end_ns
                self._ended.append((end_ns, key, owner))
                self._segments.pop(key, None)

    def segments(self, key: Hashable) -> Segments | None:
        claims = self._claims.get(key)
        if claims is None:
            return None
        known = self._segments.get(key)
        if known is None:
            known = self._segments[key] = _build(claims)
        return known

    def forget(self, before_ns: int) -> None:
        """Drops claims that ended before, but those that were opened again."""
        while self._ended and self._ended[0][0] < before_ns:
            end_ns, key, owner = self._ended.popleft()
            claims = self._claims.get(key, [])
            left = [c for c in claims if c.owner != owner or c.end_ns != end_ns]
            self._count -= len(claims) - len(left)
            self._segments.pop(key, None)
            if left:
                self._claims[key] = left
            else:
                self._claims.pop(key, None)


def _build(claims: list[_Claim]) -> Segments:
    """Two open claims cannot both hold: the earlier one ended, at the latest when the later one was seen."""
    ordered = sorted(claims, key=lambda c: (c.start_ns, c.seen_ns))
    spans: list[tuple[int, int, Hashable]] = []
    for claim, following in zip(ordered, [*ordered[1:], None], strict=True):
        end_ns = claim.end_ns
        if end_ns == OPEN and following is not None:
            end_ns = following.seen_ns
        begin = max(claim.start_ns - SKEW_NS, 0)
        spans.append((begin, end_ns if end_ns == OPEN else end_ns + SKEW_NS, claim.owner))
    if len(spans) == 1:
        return _single(*spans[0])
    starts = sorted({0, *(b for b, _, _ in spans), *(e for _, e, _ in spans if e != OPEN)})
    owners = [tuple(owner for b, e, owner in spans if b <= start < e) for start in starts]
    return Segments(tuple(starts), tuple(owners))


def _single(begin: int, end: int, owner: Hashable) -> Segments:
    if end <= begin:  # two clocks disagree by more than is allowed for
        return Segments((0,), ((),))
    starts: list[int] = [begin]
    owners: list[Owners] = [(owner,)]
    if begin > 0:
        starts, owners = [0, begin], [(), (owner,)]
    if end != OPEN:
        starts, owners = [*starts, end], [*owners, ()]
    return Segments(tuple(starts), tuple(owners))
