"""One connection of HTTP/2 as it is remembered: both directions' tables, and the requests in flight."""

from dataclasses import dataclass

from farcall_probes.streambodies import add_other
from farcall_probes.streamframes import Other
from farcall_probes.streamrows import Stream
from farcall_probes.wire import hpack, hpackfields
from farcall_probes.wire.hpackfields import Fields, Value
from farcall_probes.wire.http2blocks import Direction

GRPC = "application/grpc"
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

    def __init__(self, texts: hpackfields.Texts, *, complete: bool) -> None:
        self.request: Direction[Mark] = Direction(hpack.Decoder(complete=complete, texts=texts))
        self.response: Direction[Mark] = Direction(hpack.Decoder(complete=complete, texts=texts))
        self.streams: dict[int, Stream] = {}
        self.identity = b""
        self.has_grpc = False


def add_other_to(session: Session, number: int, other: Other, ts_ns: int) -> None:
    if number in session.streams:
        add_other(session.streams[number], other, ts_ns)


def judge_grpc(session: Session, stream: Stream, answer: Fields) -> bool:
    """By the content type of the request, else of the answer; where neither is known, as the connection's others."""
    kind = find_type(stream.fields, answer)
    if type(kind) is str:
        stream.is_grpc = kind.startswith(GRPC)
        session.has_grpc = session.has_grpc or stream.is_grpc
    else:
        unknown = stream.fields[hpackfields.UNKNOWN] and answer[hpackfields.UNKNOWN]
        stream.is_grpc = bool(unknown and session.has_grpc)
    return stream.is_grpc


def find_type(asked: Fields, answer: Fields) -> Value:
    kind = asked[hpackfields.CONTENT_TYPE]
    return answer[hpackfields.CONTENT_TYPE] if kind is None else kind
