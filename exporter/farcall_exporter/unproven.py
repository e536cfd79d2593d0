"""Calls whose join cannot be proven, because one end could not read the connection's identity, or nobody remembers the client's:
still one span each.

Nothing is joined here; the rules of `join` stand. This only keeps a server's sight from becoming a second span of a call
that very probably has its client's: a call from the same address and port was seen in that time, or the sight has no
identity or a server outside, while the client's address belongs to a node whose agent reports. Such a sight is given up, and
counted.

Not by the server's address: through a Service the client knows another one. A port that calls two servers at the same time,
one of them unseen by the client's agent, would cost that one's sight; behind SNAT the client is not found.
"""

from collections import OrderedDict
from collections.abc import Iterable

from farcall_exporter.clients import SKEW_NS
from farcall_exporter.sights import Sight

MAX_CLIENTS = 50_000
MAX_CALLS = 64  # of one address and port


class UnprovenBook:
    """Clients' ends without an identity: `address port` → (start, end) of its last calls."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, list[tuple[int, int]]] = OrderedDict()

    def add(self, calls: Iterable[tuple[str, int, int]]) -> None:
        for client, start_ns, end_ns in calls:
            spans = self._calls.setdefault(client, [])
            spans.append((start_ns, end_ns))
            del spans[:-MAX_CALLS]
            self._calls.move_to_end(client)
        while len(self._calls) > MAX_CLIENTS:
            self._calls.popitem(last=False)

    def holds(self, sight: Sight) -> bool:
        return any(
            start - SKEW_NS <= sight.start_ns <= end + SKEW_NS
            for start, end in self._calls.get(sight.client, ())
        )
