"""AMQP 0-9-1 as RabbitMQ speaks it: methods, and the head of the message that follows some. The specification is "AMQP 0-9-1 Complete Protocol
Specification"; RabbitMQ's own methods and types of values are in its "Protocol Extensions" and "AMQP 0-9-1 Errata".

    frame   = type channel:2 length:4 payload 0xCE        type = 1 (method) | 2 (message's head) | 3 (its bytes) | 8 (heartbeat)
    method  = class:2 method:2 arguments
    head    = class:2 weight:2 size:8 flags:2 properties  of which the headers are the third
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from farcall_probes.wire import tracecontext
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated, text

METHOD, HEAD, BODY = 1, 2, 3
FRAME = 8  # type, channel, length; and the end
_BEGIN = 7  # without the end
_END = 0xCE
_LEAST_METHOD, _LEAST_HEAD = 12, 22
MAX_FRAME = 1 << 29
MAX_NAME = 255  # a short string

Kind = tuple[int, int]  # class and method
OPEN, CLOSE, CLOSE_CHANNEL = (10, 40), (10, 50), (20, 40)
PUBLISH, RETURN, DELIVER, NACK = (60, 40), (60, 50), (60, 60), (60, 120)
GET, GET_OK, GET_EMPTY, CONSUME = (60, 70), (60, 71), (60, 72), (60, 20)

# Name, arguments in their order, and of the octet of bits the one that says that no answer is wanted. Arguments: e exchange, r routing
# key, q queue, t consumer tag, x any other short string; k octet of bits, 2 4 8 so many bytes, c reply code, m class and method.
_METHODS: dict[Kind, tuple[str, str, int]] = {
    OPEN: ("connection.open", "", 0),
    CLOSE: ("connection.close", "cxm", 0),
    (20, 10): ("channel.open", "", 0),
    CLOSE_CHANNEL: ("channel.close", "cxm", 0),
    (40, 10): ("exchange.declare", "2exk", 16),
    (40, 20): ("exchange.delete", "2ek", 2),
    (40, 30): ("exchange.bind", "2exrk", 1),
    (40, 40): ("exchange.unbind", "2exrk", 1),
    (50, 10): ("queue.declare", "2qk", 16),
    (50, 11): ("queue.declare-ok", "q", 0),
    (50, 20): ("queue.bind", "2qerk", 1),
    (50, 30): ("queue.purge", "2qk", 1),
    (50, 40): ("queue.delete", "2qk", 4),
    (50, 50): ("queue.unbind", "2qer", 0),
    (60, 10): ("qos", "", 0),
    CONSUME: ("consume", "2qtk", 8),
    (60, 21): ("consume-ok", "t", 0),
    (60, 30): ("cancel", "tk", 1),
    PUBLISH: ("publish", "2er", 0),
    RETURN: ("return", "cxer", 0),
    DELIVER: ("deliver", "t8ker", 0),
    GET: ("get", "2q", 0),
    GET_OK: ("get-ok", "8ker", 0),
    GET_EMPTY: ("get-empty", "", 0),
    (60, 110): ("recover", "", 0),
    NACK: ("nack", "", 0),
    (85, 10): ("confirm.select", "k", 1),
    (90, 10): ("tx.select", "", 0),
    (90, 20): ("tx.commit", "", 0),
    (90, 30): ("tx.rollback", "", 0),
}
# What a client asks, and what answers it: the next number, but for these.
_ANSWERS: dict[Kind, tuple[Kind, ...]] = {(40, 40): ((40, 51),), GET: (GET_OK, GET_EMPTY)}
_ONE_WAY = frozenset((PUBLISH, RETURN, DELIVER, NACK))
ANSWERS: Mapping[Kind, tuple[Kind, ...]] = {
    kind: _ANSWERS.get(kind, ((kind[0], kind[1] + 1),))
    for kind in _METHODS
    if kind not in _ONE_WAY and kind[1] % 10 == 0
}
CARRIES = frozenset((PUBLISH, RETURN, DELIVER, GET_OK))  # a message follows

_OK = 200  # reply-success: who closes has nothing to complain of
_CODES = {
    311: "content-too-large",
    312: "no-route",
    313: "no-consumers",
    320: "connection-forced",
    402: "invalid-path",
    403: "access-refused",
    404: "not-found",
    405: "resource-locked",
    406: "precondition-failed",
    501: "frame-error",
    502: "syntax-error",
    503: "command-invalid",
    504: "channel-error",
    505: "unexpected-frame",
    506: "resource-error",
    530: "not-allowed",
    540: "not-implemented",
    541: "internal-error",
}
_HAS_TYPE, _HAS_ENCODING, _HAS_HEADERS = 1 << 15, 1 << 14, 1 << 13
# Bytes of a table's values; of those that are not here their length comes first.
_VALUE_BYTES = {b"t": 1, b"b": 1, b"B": 1, b"s": 2, b"u": 2, b"I": 4, b"i": 4, b"f": 4, b"D": 5}
_VALUE_BYTES |= {b"l": 8, b"L": 8, b"d": 8, b"T": 8, b"V": 0}
_LONG_VALUES = (b"S", b"x", b"F", b"A")


class Frame(NamedTuple):
    type: int
    channel: int
    bytes: int  # of all of it


class AmqpMethod(NamedTuple):
    kind: Kind
    name: str
    channel: int
    exchange: str | None = None
    routing_key: str | None = None
    queue: str | None = None
    tag: str | None = None
    is_answered: bool = True  # what a client asks so
    error: str | None = None
    failed: Kind | None = None  # the method that a close is about
    body_bytes: int | None = None  # of its message, where that has begun
    ids: tracecontext.Ids = tracecontext.NOBODY
    trace_format: int = tracecontext.W3C
    trace_state: str | None = None


def parse_frame(data: bytes) -> Frame | None:
    """The frame that `data` begins with, of which seven bytes must be there. None: none does."""
    size = int.from_bytes(data[3:_BEGIN], "big")
    if len(data) < _BEGIN or data[0] not in (METHOD, HEAD, BODY) or size > MAX_FRAME:
        return None
    return Frame(data[0], data[1] << 8 | data[2], size + FRAME)


def read_kind(data: bytes) -> Kind | None:
    """Class and method of the frame that `data` begins with, which is a method's."""
    if len(data) < _LEAST_METHOD - 1 or data[0] != METHOD:
        return None
    return data[7] << 8 | data[8], data[9] << 8 | data[10]


def count_message(data: bytes, begun: int) -> int | None:
    """How many bytes of a message are still to come, when `begun` bytes began with this method and what followed it; None: so much that its
    head has not come."""
    at = int.from_bytes(data[3:_BEGIN], "big") + FRAME
    if len(data) < at + 19 or data[at] != HEAD:
        return None
    head = int.from_bytes(data[at + 3 : at + _BEGIN], "big") + FRAME
    there = begun - at - head - FRAME
    return int.from_bytes(data[at + 11 : at + 19], "big") - max(there, 0)


def read_size(data: bytes) -> int:
    """Of the message whose head's frame `data` begins with."""
    return int.from_bytes(data[11:19], "big")


def parse_method(data: bytes, *, cut: bool = False) -> AmqpMethod | Truncated[AmqpMethod] | Outcome:
    """The method that `data` begins with, and the head of the message behind it. Frames that are none, and methods that say nothing of a
    call, are NOT_MINE."""
    if len(data) < _LEAST_METHOD - 1:
        is_beginning = not cut and data[:1] in (b"", b"\1")
        return NEED_MORE if is_beginning else NOT_MINE
    frame, kind = parse_frame(data), read_kind(data)
    if frame is None or kind is None or frame.bytes < _LEAST_METHOD:
        return NOT_MINE
    known = _METHODS.get(kind)
    answers = known is None and any(kind in found for found in ANSWERS.values())
    if known is None and not answers:
        return NOT_MINE
    if len(data) >= frame.bytes and data[frame.bytes - 1] != _END:
        return NOT_MINE
    name, shape, unanswered = known or ("ok", "", 0)
    arguments = data[11 : frame.bytes - 1]
    try:
        method = _read(kind, name, frame.channel, arguments, shape, unanswered)
    except IndexError:
        if len(data) >= frame.bytes:
            return NOT_MINE  # it ends before its arguments do
        method = AmqpMethod(kind, name, frame.channel)
        return Truncated(method) if cut else NEED_MORE
    is_whole = len(data) >= frame.bytes
    if is_whole and kind in CARRIES:
        method, is_whole = _add_head(method, data[frame.bytes :])
    return method if is_whole else Truncated(method) if cut else NEED_MORE


def _read(
    kind: Kind, name: str, channel: int, data: bytes, shape: str, unanswered: int
) -> AmqpMethod:
    """Raises IndexError where the arguments do not end."""
    said: dict[str, str] = {}
    code, bits, at = 0, 0, 0
    failed = None
    for letter in shape:
        if letter in "248":
            at += int(letter)
        elif letter == "k":
            bits = data[at]
            at += 1
        elif letter == "c":
            code = data[at] << 8 | data[at + 1]
            at += 2
        elif letter == "m":
            failed = (data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3])
        else:
            raw, at = _take_short(data, at)
            said[letter] = text(raw, MAX_NAME)
    error = _CODES.get(code, str(code)) if code and code != _OK else None
    return AmqpMethod(
        kind,
        name,
        channel,
        said.get("e"),
        said.get("r"),
        said.get("q"),
        said.get("t"),
        not bits & unanswered,
        "nack" if kind == NACK else error,
        failed,
    )


def _take_short(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 1 + data[at]
    if end > len(data):
        raise IndexError
    return data[at + 1 : end], end


def _add_head(method: AmqpMethod, data: bytes) -> tuple[AmqpMethod, bool]:
    """And whether all of the head is there."""
    frame = parse_frame(data)
    if frame is None or frame.type != HEAD or len(data) < _LEAST_HEAD - 1:
        return method, False
    method = method._replace(body_bytes=read_size(data))
    properties = data[_LEAST_HEAD - 1 : frame.bytes - 1]
    flags = data[19] << 8 | data[20]
    is_whole = len(data) >= frame.bytes
    try:
        at = 0
        for flag in (_HAS_TYPE, _HAS_ENCODING):
            if flags & flag:
                _, at = _take_short(properties, at)
    except IndexError:
        return method, is_whole
    if not flags & _HAS_HEADERS:
        return method, is_whole
    size = int.from_bytes(properties[at : at + 4], "big")
    said = dict(_iterate_texts(properties[at + 4 : at + 4 + size]))
    ids, form, state = tracecontext.read_carrier(said)
    return method._replace(ids=ids, trace_format=form, trace_state=state), is_whole


def _iterate_texts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names in lower case and values of a table's texts, as far as it can be read. Propagators write names as they like."""
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        kind = data[name_end : name_end + 1]
        begin = name_end + 1
        if kind in _LONG_VALUES:
            begin += 4
            end = begin + int.from_bytes(data[begin - 4 : begin], "big")
        elif kind in _VALUE_BYTES:
            end = begin + _VALUE_BYTES[kind]
        else:
            return
        if end > len(data):
            return
        if kind in (b"S", b"x"):
            yield data[at + 1 : name_end].lower(), data[begin:end]
        at = end
