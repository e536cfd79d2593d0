"""One connection of HTTP/2 as it is remembered: both directions' tables, and the requests in flight."""

from dataclasses import dataclass

from farcall_probes.streamrows import Stream
from farcall_probes.wire import hpack
from farcall_probes.wire.http2blocks import Direction

COUNTERS = (
    "http2_gaps",  # places where segments of a connection were lost
    "http2_streams_lost",  # requests given up there
    "http2_streams_dropped",  # more in flight than are remembered
    "http2_connections_dropped",  # more than are remembered
    "http2_unended",  # answered, and told of before their response had ended: too long, or its end was lost
    "http2_timeouts",  # requests whose answer has not begun for as long as the config allows, told of as such
    "http2_orphans",  # responses without a request seen
    "http2_unread",  # frames and header blocks that are none
    "http2_cut",  # header blocks that were not captured whole
    "http2_pushes",
    "http2_contexts_invalid",  # headers that name a trace, and are not as their format says
)


@dataclass(frozen=True, slots=True)
class Mark:
    """When a frame began, and the fixed part of its record."""

    ts_ns: int
    flags: int
    head: bytes
    size: int  # in bytes, its body as far as its record tells of it


class Session:
    """One connection."""

    __slots__ = ("has_grpc", "identity", "request", "response", "streams")

    def __init__(self, texts: hpack.Texts, *, complete: bool) -> None:
        self.request: Direction[Mark] = Direction(hpack.Decoder(complete=complete, texts=texts))
        self.response: Direction[Mark] = Direction(hpack.Decoder(complete=complete, texts=texts))
        self.streams: dict[int, Stream] = {}
        self.identity = b""
        self.has_grpc = False
