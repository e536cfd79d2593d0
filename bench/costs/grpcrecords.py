"""gRPC as the kernel ships it: records of calls with nine headers, a trace context and a timeout of their own among them.

HPACK by the PyPI package, so every connection has its real tables.
"""

from farcall_probes.capture import Drained
from support_agent import make_drained
from support_http2 import Talk, grpc_headers

_PATH = "/shop.Cart/AddItem"
_MIX = (
    0x9E3779B97F4A7C15F39CC0605CEDC834  # spreads a counter over all bits, as random IDs have them
)


def _make_headers(i: int) -> list[tuple[str, str]]:
    trace = f"00-{(i + 1) * _MIX % 2**128:032x}-{(i + 1) * _MIX % 2**64:016x}-01"
    return [
        *grpc_headers(_PATH),
        ("grpc-timeout", f"{900_000 + i % 99_991}u"),
        ("traceparent", trace),
    ]


class Rounds:
    """Drains of `calls` calls over 16 connections; each round goes on where the last one ended, as tables do."""

    def __init__(self, calls: int) -> None:
        self._talks = [Talk(conn_id=100 + i) for i in range(16)]
        self._calls, self._made = calls, 0

    def make(self) -> Drained:
        records = []
        for i in range(self._made, self._made + self._calls):
            talk, stream = self._talks[i % 16], 2 * (i // 16) + 1
            records += talk.ask(stream, _make_headers(i))
            records += talk.grpc_answer(stream) + talk.trailers(stream)
        self._made += self._calls
        return make_drained(large=records)
