"""What the kernel side tells of bodies behind a stream's HEADERS → the stream. And how streams end otherwise than whole."""

from farcall_probes.streamframes import Bodies, Other
from farcall_probes.streamrows import Stream
from farcall_probes.wire import hpackfields

RESET = "reset"


def add_other(stream: Stream, other: Other, ts_ns: int) -> None:
    """Of the request, by an answer's record."""
    stream.ask(other.bytes, ts_ns - other.ago_us * 1000 if other.ago_us else 0)


def add_reset(stream: Stream, own: int, other: Other, ts_ns: int, *, is_request: bool) -> None:
    """By the record of RST_STREAM, whose direction's bytes are `own`."""
    asked, answered = (own, other.bytes) if is_request else (other.bytes, own)
    stream.answer_bytes += answered
    if asked or other.ago_us:
        add_other(stream, Other(asked, other.ago_us), ts_ns)


def add_bodies(streams: dict[int, Stream], bodies: Bodies, ts_ns: int) -> None:
    """By the record of the connection's close."""
    requests, answers = bodies
    for number, size, end_us in requests:
        if number in streams:
            ago_us = ts_ns // 1000 - end_us & 0xFFFFFFFF if end_us else 0
            add_other(streams[number], Other(size, ago_us), ts_ns)
    for number, size, _ in answers:
        if number in streams:
            streams[number].answer_bytes += size


def is_tunnel(stream: Stream) -> bool:
    """What follows the answer to CONNECT is no body (RFC 9113, 8.5)."""
    return stream.fields[hpackfields.METHOD] == "CONNECT"


def name_reset(error: str) -> str:
    return RESET if error == "NO_ERROR" else error
