"""Clients' spans that a server's sight may still be joined to, by the connection's identity. Bounded in time and number."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from farcall_exporter.ranges import Ranges

REMEMBER_S = 60.0
MAX_CLIENTS = 200_000  # about 150 MB at most; beyond it the oldest are given up, and counted
SKEW_NS = 2 * 10**9  # clocks of two nodes; within one the sights nest
SEQUENCES = 1 << 32
NONE, EXACT, OVERLAP = 0, 1, 2  # how a server's sight was found
KIND_WORDS = ("none", "exact", "overlap")


@dataclass(frozen=True, slots=True)
class ClientSpan:
    request_seq: int
    request_bytes: int
    start_ns: int
    end_ns: int
    trace_id: str
    span_id: str
    is_unnamed: bool  # its label is the bare address, or the client's word: the server's service name says more
    row: int = -1  # in the batch at hand, -1 once stored


class ClientBook:
    def __init__(self) -> None:
        self._ranges: Ranges[ClientSpan] = Ranges()
        self._order: deque[tuple[float, int, int]] = deque()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, identity: int, span: ClientSpan, now: float) -> None:
        self._ranges.add(identity, span.request_seq, span.request_seq, span.request_bytes, span)
        self._order.append((now, identity, span.request_seq))

    def near(self, identity: int, request_seq: int, request_bytes: int) -> Iterable[ClientSpan]:
        """Those of the connection that may have bytes of this request."""
        return self._ranges.near(identity, request_seq, request_bytes)

    def forget(self, now: float) -> int:
        """Drops what is too old; the number of those dropped only for want of room."""
        crowded = 0
        while self._order and (
            len(self._order) > MAX_CLIENTS or now - self._order[0][0] > REMEMBER_S
        ):
            crowded += now - self._order[0][0] <= REMEMBER_S
            _, identity, seq = self._order.popleft()
            self._ranges.remove(identity, seq)
        return crowded


def is_nested(client: ClientSpan, start_ns: int) -> bool:
    """The server's sight begins within the client's, clocks allowed for: one connection repeats its numbers every 4 GiB."""
    return client.start_ns - SKEW_NS <= start_ns <= client.end_ns + SKEW_NS


def overlaps(first: int, first_bytes: int, second: int, second_bytes: int) -> bool:
    """Do two byte ranges of a TCP stream meet? Modulo 2^32; an empty range counts as one byte."""
    return (second - first) % SEQUENCES < max(first_bytes, 1) or (first - second) % SEQUENCES < max(
        second_bytes, 1
    )


def find_client(
    spans: Iterable[ClientSpan], *, request_seq: int, request_bytes: int, start_ns: int
) -> tuple[ClientSpan, int] | None:
    """The client's span of a server's sight on the same connection: exact first, else by overlap, else none."""
    best: ClientSpan | None = None
    for span in spans:
        if not is_nested(span, start_ns):
            continue
        if span.request_seq == request_seq:
            return span, EXACT
        if overlaps(span.request_seq, span.request_bytes, request_seq, request_bytes) and (
            best is None or span.start_ns < best.start_ns
        ):
            best = span
    return (best, OVERLAP) if best is not None else None
