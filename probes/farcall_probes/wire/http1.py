"""HTTP/1.x: the request head (RFC 9112, 3 and 5) and the status line (4). Bodies are skipped, never read.

    request-line = method SP request-target SP HTTP-version
    status-line  = HTTP-version SP status-code SP [ reason-phrase ]

Only the headers named here and those that the config allows are ever turned into text: no other can leave the
agent. Lines end with CR LF; bare LF, which a recipient MAY accept (2.2), is not: real clients do not send it.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated, text

MAX_METHOD = 32  # the longest registered method, UPDATEREDIRECTREF, has 17
MAX_HOST = 262  # 255 of a name, a colon, 5 of a port, a spare dot
MAX_WORD = 256  # user agent, content type: dictionary columns, so few and short
MAX_PIPELINED = 64  # counted at most; the capture holds no more whole heads
MEMO_ENTRIES = 2048  # about 2 MB at ordinary head sizes

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\xff]+) HTTP/1\.[01]")
_LINE_BEGINNING = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32})(?: ([\x21-\xff]*))?")
_ABSOLUTE = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]{0,15}://([^/?#]*)(.*)", re.DOTALL)
# W3C Trace Context, 3.2: version 00 ends after the flags; a later version may go on after one more dash.
_TRACEPARENT = re.compile(
    rb"(?:00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}"
    rb"|(?!00|ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?)"
)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?= |\r\n)")
_ZERO_TRACE = bytes(16)
_ZERO_SPAN = bytes(8)


class HttpRequest(NamedTuple):
    method: str
    path: str  # `/a/b`; `*` and CONNECT's authority as sent
    query: str | None  # behind the `?`, unmasked
    host: (
        str | None
    )  # Host, or the authority of an absolute target, as sent: an IP literal stays one
    user_agent: str | None
    content_type: str | None
    trace_id: bytes | None
    parent_span_id: bytes | None
    extra: tuple[tuple[str, str], ...]  # headers that the config allows, in its order
    requests: int  # whole or begun requests in the bytes: more than 1 is a pipeline


class _Line(NamedTuple):
    method: str
    path: str
    query: str | None
    authority: str | None


class _Headers(NamedTuple):
    host: str | None
    user_agent: str | None
    content_type: str | None
    extra: tuple[tuple[str, str], ...]
    body_bytes: int  # -1: chunked or unreadable, so the next request's place is unknown


class RequestParser:
    """Holds the allow-list and two bounded memos (the same heads come again and again); otherwise pure."""

    def __init__(self, extra_headers: Iterable[str] = ()) -> None:
        self._extra = tuple((n, b"\r\n" + n.encode("ascii") + b":") for n in extra_headers)
        self._lines: dict[bytes, _Line | None] = {}
        self._headers: dict[bytes, _Headers] = {}

    def parse(
        self, data: bytes, *, cut: bool = False
    ) -> HttpRequest | Truncated[HttpRequest] | Outcome:
        """The first request head in `data`."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return self._parse_beginning(data, cut=cut)
        line_end = data.find(b"\r\n")
        line = self._line(data[:line_end])
        if line is None:
            return NOT_MINE
        headers, trace_id, span_id = self._read_headers(data[line_end : end + 2])
        requests = 1
        if len(data) > end + 4:
            requests += self._count_behind(data, end + 4, headers.body_bytes)
        return HttpRequest(
            line.method,
            line.path,
            line.query,
            line.authority or headers.host,
            headers.user_agent,
            headers.content_type,
            trace_id,
            span_id,
            headers.extra,
            requests,
        )

    def _parse_beginning(
        self, data: bytes, *, cut: bool
    ) -> HttpRequest | Truncated[HttpRequest] | Outcome:
        """A head without its end: whole lines count, a header line that is cut is not guessed."""
        line_end = data.find(b"\r\n")
        line = self._line(data[:line_end]) if line_end >= 0 else _parse_line_beginning(data)
        if line is None:
            return NOT_MINE
        if not cut:
            return NEED_MORE
        whole_end = data.rfind(b"\r\n") + 2
        lines = data[line_end:whole_end] if line_end >= 0 else b""
        headers, trace_id, span_id = self._read_headers(lines)
        return Truncated(
            HttpRequest(
                line.method,
                line.path,
                line.query,
                line.authority or headers.host,
                headers.user_agent,
                headers.content_type,
                trace_id,
                span_id,
                headers.extra,
                1,
            )
        )

    def _line(self, raw: bytes) -> _Line | None:
        try:
            return self._lines[raw]
        except KeyError:
            pass
        match = _REQUEST_LINE.fullmatch(raw)
        line = _split_target(match[1], match[2]) if match else None
        if len(self._lines) >= MEMO_ENTRIES:
            self._lines.clear()
        self._lines[raw] = line
        return line

    def _read_headers(self, block: bytes) -> tuple[_Headers, bytes | None, bytes | None]:
        """`block` begins and ends with CR LF. traceparent differs with each request: it is cut out of the memo's key."""
        lowered = block.lower()
        at = lowered.find(b"\r\ntraceparent:")
        if at < 0:
            return self._memo(block, lowered), None, None
        end = block.find(b"\r\n", at + 2)
        trace_id, span_id = parse_traceparent(block[at + 14 : end])
        if lowered.find(b"\r\ntraceparent:", end) >= 0:
            trace_id = span_id = None  # two of them: neither can be believed
        rest = self._memo(block[:at] + block[end:], lowered[:at] + lowered[end:])
        return rest, trace_id, span_id

    def _memo(self, block: bytes, lowered: bytes) -> _Headers:
        try:
            return self._headers[block]
        except KeyError:
            pass
        headers = self._parse_headers(block, lowered)
        if len(self._headers) >= MEMO_ENTRIES:
            self._headers.clear()
        if len(block) <= MAX_MEMO_KEY:
            self._headers[block] = headers
        return headers

    def _parse_headers(self, block: bytes, lowered: bytes) -> _Headers:
        host = _value(block, lowered, b"\r\nhost:")
        agent = _value(block, lowered, b"\r\nuser-agent:")
        kind = _value(block, lowered, b"\r\ncontent-type:")
        extra = tuple(
            (name, text(value, MAX_WORD))
            for name, needle in self._extra
            if (value := _value(block, lowered, needle)) is not None
        )
        return _Headers(
            host=text(host, MAX_HOST) or None if host is not None else None,
            user_agent=text(agent, MAX_WORD) if agent is not None else None,
            content_type=text(kind, MAX_WORD) if kind is not None else None,
            extra=extra,
            body_bytes=_body_bytes(block, lowered),
        )

    def _count_behind(self, data: bytes, offset: int, body_bytes: int) -> int:
        """Further requests in the bytes behind the first head; the last one may have only begun."""
        count = 0
        while 0 <= body_bytes and offset + body_bytes < len(data) and count < MAX_PIPELINED:
            offset += body_bytes
            line_end = data.find(b"\r\n", offset)
            if line_end < 0:
                line = _parse_line_beginning(data[offset:])
                return count + (line is not None)
            if self._line(data[offset:line_end]) is None:
                return count
            count += 1
            end = data.find(b"\r\n\r\n", line_end)
            if end < 0:
                return count
            block = data[line_end : end + 2]
            body_bytes = _body_bytes(block, block.lower())
            offset = end + 4
        return count


MAX_MEMO_KEY = (
    1024  # longer header blocks hold tokens and cookies: they hardly repeat, and cost memory
)


def parse_traceparent(raw: bytes) -> tuple[bytes | None, bytes | None]:
    """(trace ID, span ID), or two Nones for anything that the recommendation calls invalid."""
    match = _TRACEPARENT.fullmatch(raw.strip(b" \t"))
    if match is None:
        return None, None
    trace_id = bytes.fromhex((match[1] or match[3]).decode("ascii"))
    span_id = bytes.fromhex((match[2] or match[4]).decode("ascii"))
    if trace_id == _ZERO_TRACE or span_id == _ZERO_SPAN:
        return None, None
    return trace_id, span_id


def parse_status(data: bytes, *, cut: bool = False) -> int | Truncated[None] | Outcome:
    """The status code of a response's first bytes."""
    match = _STATUS_LINE.match(data)
    if match is not None:
        return int(match[1])
    if len(data) < _STATUS_BYTES and _is_status_beginning(data):
        return Truncated(None) if cut else NEED_MORE
    return NOT_MINE


_STATUS_BYTES = 14  # `HTTP/1.1 200` and what must follow it


def _is_status_beginning(data: bytes) -> bool:
    # Filled up with a harmless tail, a proper beginning becomes a proper line.
    return any(
        _STATUS_LINE.match(data + tail[len(data) :]) is not None
        for tail in (b"HTTP/1.1 200\r\n", b"HTTP/1.1 200 \r")
    )


def _parse_line_beginning(data: bytes) -> _Line | None:
    match = _LINE_BEGINNING.match(data)
    if match is None:
        return None
    rest = data[match.end() :]
    if match[2] is None:
        return _Line(text(match[1], MAX_METHOD), "", None, None) if not rest else None
    if not b" HTTP/1.1\r".startswith(rest) and not b" HTTP/1.0\r".startswith(rest):
        return None
    return _split_target(match[1], match[2])


def _split_target(method: bytes, target: bytes) -> _Line:
    """RFC 9112, 3.2: origin, absolute, authority (CONNECT) and asterisk form."""
    authority: bytes | None = None
    if method == b"CONNECT":
        authority = target
    elif target[:1] != b"/" and (absolute := _ABSOLUTE.fullmatch(target)) is not None:
        authority, target = absolute[1].rpartition(b"@")[2], absolute[2] or b"/"
        if target[:1] == b"?":  # RFC 3986, 6.2.3: an empty path is /
            target = b"/" + target
    path, mark, query = target.partition(b"?")
    return _Line(
        method=text(method, MAX_METHOD),
        path=text(path),
        query=text(query) if mark else None,
        authority=text(authority, MAX_HOST) or None if authority is not None else None,
    )


def _value(block: bytes, lowered: bytes, needle: bytes) -> bytes | None:
    at = lowered.find(needle)
    if at < 0:
        return None
    begin = at + len(needle)
    end = block.find(b"\r\n", begin)
    return block[begin:end].strip(b" \t") if end >= 0 else None


def _body_bytes(block: bytes, lowered: bytes) -> int:
    if lowered.find(b"\r\ntransfer-encoding:") >= 0:
        return -1
    length = _value(block, lowered, b"\r\ncontent-length:")
    if length is None:
        return 0
    return int(length) if length.isdigit() and len(length) <= 15 else -1
