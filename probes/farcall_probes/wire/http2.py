"""HTTP/2 frames (RFC 9113, 4.1 and 6): what the kernel side ships of a connection, one frame after the other.

    frame = length(24) type(8) flags(8) R(1) stream(31) payload

Frames of DATA, WINDOW_UPDATE and PING never arrive here: nothing in them says what was asked. What header blocks hold is
hpack.py's; which frames belong together is streams.py's.
"""

from typing import NamedTuple

from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
MAX_FRAME_BYTES = (
    1 << 14
)  # RFC 9113, 4.2: of header frames nobody sends more, whatever the settings allow

DATA = 0
HEADERS = 1
RST_STREAM = 3
SETTINGS = 4
PUSH_PROMISE = 5
GOAWAY = 7
CONTINUATION = 9
KNOWN_TYPES = 10

END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20

# RFC 9113, 7
ERRORS = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes  # as far as it was captured


def parse_frame(data: bytes, *, cut: bool = False) -> Frame | Truncated[Frame] | Outcome:
    """The frame that `data` begins with; what lies behind it is not looked at."""
    if len(data) < HEADER_BYTES:
        return NEED_MORE
    length = int.from_bytes(data[:3], "big")
    stream = int.from_bytes(data[5:9], "big") & 0x7FFFFFFF
    if data[3] >= KNOWN_TYPES or not fits(data[3], length, stream):
        return NOT_MINE
    frame = Frame(data[3], data[4], stream, data[HEADER_BYTES : HEADER_BYTES + length])
    if len(frame.payload) == length:
        return frame
    return Truncated(frame) if cut else NEED_MORE


def fits(kind: int, length: int, stream: int) -> bool:
    """Whether the length and the stream are ones that a frame of this type may have."""
    if kind in (SETTINGS, GOAWAY):
        return stream == 0 and (length % 6 == 0 if kind == SETTINGS else length >= 8)
    if kind == RST_STREAM:
        return stream != 0 and length == 4
    return stream != 0 or kind not in (DATA, HEADERS, PUSH_PROMISE, CONTINUATION)


def find_fragment(frame: Frame, *, cut: bool = False) -> bytes | None:
    """The piece of a header block in HEADERS, PUSH_PROMISE or CONTINUATION; None when its own lengths do not fit.

    `cut`: padding stands at the end, so whatever was captured of it is not taken off.
    """
    payload = frame.payload
    begin, end = 0, len(payload)
    if frame.kind != CONTINUATION and frame.flags & (PADDED | PRIORITY):
        if frame.flags & PADDED:
            if not payload:
                return None
            begin, end = 1, end if cut else end - payload[0]
        if frame.kind == HEADERS and frame.flags & PRIORITY:
            begin += 5
    if frame.kind == PUSH_PROMISE:
        begin += 4
    return payload[begin:end] if begin <= end else None


def name_error(code: int) -> str:
    """The name of an error code; of those that nobody has registered, one for all."""
    return ERRORS[code] if code < len(ERRORS) else "UNKNOWN_ERROR"


def find_error(frame: Frame) -> str | None:
    """The error of RST_STREAM or GOAWAY."""
    at = 4 if frame.kind == GOAWAY else 0
    code = frame.payload[at : at + 4]
    return name_error(int.from_bytes(code, "big")) if len(code) == 4 else None
