"""NATS: the lines that carry a message, or an error. docs.nats.io, "Client Protocol"; headers are those of its ADR-4.

    PUB subject [reply] size CRLF payload CRLF            HPUB subject [reply] headers size CRLF headers payload CRLF
    MSG subject sid [reply] size CRLF payload CRLF        HMSG subject sid [reply] headers size CRLF headers payload CRLF
    -ERR 'text' CRLF                                      headers = "NATS/1.0" [status] CRLF *( name ":" value CRLF ) CRLF

A message is there when its line and headers are: nothing of a payload is read.
"""

import re
from typing import NamedTuple

from farcall_probes.wire import tracecontext
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated, text

MAX_LINE = 4096  # max_control_line of a server
MAX_SUBJECT = 255
MAX_PAYLOAD = 1 << 26  # max_payload is 64 MB at most
MAX_HEADERS = 65_536

_WORDS = {b"PUB": 1, b"HPUB": 1, b"MSG": 2, b"HMSG": 2}  # words before the optional reply subject
_SIZE = re.compile(rb"[0-9]{1,8}")
_PREFIXES = (b"PUB ", b"HPUB ", b"MSG ", b"HMSG ", b"-ERR")
_ERROR = re.compile(rb"-ERR[ \t]+'([A-Za-z][A-Za-z -]*?)(?: (?:for|to) (?:[A-Za-z]+ )*(.*))?'")
_HEADERS_BEGIN = re.compile(rb"NATS/1\.0[^\r\n]*\r\n")
_HEADER = re.compile(rb"([^:\r\n]+):[ \t]*([^\r\n]*)\r\n")


class NatsMessage(NamedTuple):
    is_published: bool  # by a client; else it was delivered to one
    subject: str
    has_reply: bool
    body_bytes: int  # without headers
    ids: tracecontext.Ids
    trace_format: int
    trace_state: str | None


class NatsError(NamedTuple):
    code: str  # `permissions_violation`
    subject: str | None


Found = NatsMessage | NatsError


def parse_message(data: bytes, *, cut: bool = False) -> Found | Truncated[Found] | Outcome:
    """The message or error that `data` begins with. Other lines (PING, SUB, INFO …) are NOT_MINE."""
    end = data.find(b"\r\n", 0, MAX_LINE + 2)
    if end < 0:
        return _unfinished(data, cut=cut)
    if data.startswith(b"-ERR"):
        return _read_error(data[:end])
    words = data[:end].split()
    known = _read_line(words)
    if known is None:
        return NOT_MINE
    header_bytes, size = known
    has_reply = len(words) - 2 - (header_bytes > 0) > _WORDS[words[0]]
    message = NatsMessage(
        words[0].endswith(b"PUB"),
        text(words[1], MAX_SUBJECT),
        has_reply,
        size - header_bytes,
        tracecontext.NOBODY,
        tracecontext.W3C,
        None,
    )
    if not header_bytes:
        return message
    headers = data[end + 2 : end + 2 + header_bytes]
    message = _add_context(message, headers)
    if len(headers) == header_bytes:
        return message
    return Truncated(message) if cut else NEED_MORE


def _read_line(words: list[bytes]) -> tuple[int, int] | None:
    """Bytes of the headers, and of headers and payload."""
    before = _WORDS.get(words[0]) if words else None
    if before is None:
        return None
    has_headers = words[0].startswith(b"H")
    fewest = 1 + before + 1 + has_headers
    if not fewest <= len(words) <= fewest + 1:
        return None
    numbers = words[-1 - has_headers :]
    if not all(_SIZE.fullmatch(n) for n in numbers):
        return None
    header_bytes, size = (int(numbers[0]) if has_headers else 0), int(numbers[-1])
    is_possible = header_bytes <= min(size, MAX_HEADERS) and size <= MAX_PAYLOAD
    return (header_bytes, size) if is_possible and bool(header_bytes) == has_headers else None


def _unfinished(data: bytes, *, cut: bool) -> Outcome:
    """A line without an end says no size: when nothing more comes, it is no message."""
    if cut:
        return NOT_MINE
    is_beginning = any(data.startswith(p) or p.startswith(data) for p in _PREFIXES)
    return NEED_MORE if is_beginning and len(data) <= MAX_LINE else NOT_MINE


def _read_error(line: bytes) -> NatsError | Outcome:
    match = _ERROR.fullmatch(line)
    if match is None:
        return NOT_MINE
    code = match[1].decode("ascii").strip().lower().replace(" - ", "_").replace(" ", "_")
    subject = match[2].strip(b"\"' ").split(b'"')[0] if match[2] else b""
    return NatsError(code[:64], text(subject, MAX_SUBJECT) or None)


def _add_context(message: NatsMessage, headers: bytes) -> NatsMessage:
    """Names of headers are compared without regard to case, though NATS itself regards it: propagators write them as they like."""
    begin = _HEADERS_BEGIN.match(headers)
    if begin is None:
        return message
    said: dict[bytes, bytes] = {}
    at = begin.end()
    while (line := _HEADER.match(headers, at)) is not None:
        name = line[1].strip().lower()
        if name in tracecontext.CARRIERS:
            said.setdefault(name, line[2])
        at = line.end()
    ids, form, state = tracecontext.read_carrier(said)
    return message._replace(ids=ids, trace_format=form, trace_state=state)
