"""HTTP/1.x: the request head (RFC 9112, 3 and 5) and the status line (4). Bodies are skipped, never read.

    request-line = method SP request-target SP HTTP-version
    status-line  = HTTP-version SP status-code SP [ reason-phrase ]

Only the headers named here and those that the config allows are ever turned into text: no other can leave the
agent. Lines end with CR LF; bare LF, which a recipient MAY accept (2.2), is not: real clients do not send it.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from farcall_probes.wire import tracecontext
from farcall_probes.wire.http1shapes import Shapes, Words
from farcall_probes.wire.outcomes import MAX_TEXT, NEED_MORE, NOT_MINE, Outcome, Truncated, text

MAX_HOST = 262  # 255 of a name, a colon, 5 of a port, a spare dot
MAX_WORD = 256  # user agent, content type: dictionary columns, so few and short
MAX_PIPELINED = 64  # counted at most; the capture holds no more whole heads
MEMO_ENTRIES = 2048  # about 1 MB at ordinary lines

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\xff]+) HTTP/1\.[01]")
_LINE_BEGINNING = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32})(?: ([\x21-\xff]*))?")
_ABSOLUTE = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]{0,15}://([^/?#]*)(.*)", re.DOTALL)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?= |\r\n)")
_VERSIONS = frozenset((b"HTTP/1.1", b"HTTP/1.0"))
_STATE = b"\r\ntracestate:"
# Nearly every line, among many; another one matches as nothing.
_PLAIN_LINES = re.compile(
    r"^(?:(GET|POST|PUT|DELETE|HEAD|PATCH|OPTIONS) (/[!->@-~]*)(\?[!-~]*)? HTTP/1\.[01]|.*)$",
    re.MULTILINE,
)
_METHODS = {m.encode(): m for m in "GET POST PUT DELETE HEAD PATCH OPTIONS".split()}


class HttpRequest(NamedTuple):
    method: str
    path: str  # `/a/b`; `*` and CONNECT's authority as sent
    query: str | None  # behind the `?`, unmasked
    host: (
        str | None
    )  # Host, or an absolute target's authority, as sent but for a user and password: an IP literal stays one
    user_agent: str | None
    content_type: str | None
    trace_id: bytes | None
    parent_span_id: bytes | None
    extra: tuple[tuple[str, str], ...]  # headers that the config allows, in its order
    requests: int  # whole or begun requests in the bytes: more than 1 is a pipeline
    trace_format: int = tracecontext.W3C  # that the IDs were said in
    trace_state: str | None = None  # of a valid traceparent


# method, path, query, authority. A plain tuple: made once per record when targets differ.
Line = tuple[str, str, str | None, str | None]


# trace ID, parent span ID, the format of these two, tracestate
_Context = tuple[bytes | None, bytes | None, int, str | None]
_NO_CONTEXT: _Context = (None, None, tracecontext.W3C, None)
# The words, then the context.
_Headers = tuple[str | None, str | None, str | None, bytes | None, bytes | None, int, str | None]


class RequestParser:
    """Holds the allow-list and bounded memos (the same lines come again and again); otherwise pure."""

    def __init__(self, extra_headers: Iterable[str] = ()) -> None:
        self._extra = tuple((n, b"\r\n" + n.encode("ascii") + b":") for n in extra_headers)
        self.lines: dict[bytes, Line] = {}  # what read_line remembers
        self._words: dict[bytes, str] = {}
        self.shapes = Shapes()
        self.contexts_invalid = 0  # headers that name a trace, and are not as their format says

    def parse(
        self, data: bytes, *, cut: bool = False
    ) -> HttpRequest | Truncated[HttpRequest] | Outcome:
        """The first request head in `data`."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return self._parse_beginning(data, cut=cut)
        line_end = data.find(b"\r\n")
        line = self.read_line(data[:line_end])
        if line is None:
            return NOT_MINE
        block = data[line_end : end + 2]
        requests = 1
        if len(data) > end + 4:
            requests += self.count_behind(data, line_end, end)
        return self._build(line, block, requests)

    def _parse_beginning(
        self, data: bytes, *, cut: bool
    ) -> HttpRequest | Truncated[HttpRequest] | Outcome:
        """A head without its end: whole lines count, a header line that is cut is not guessed."""
        line_end = data.find(b"\r\n")
        line = self.read_line(data[:line_end]) if line_end >= 0 else _parse_line_beginning(data)
        if line is None:
            return NOT_MINE
        if not cut:
            return NEED_MORE
        whole_end = data.rfind(b"\r\n") + 2
        lines = data[line_end:whole_end] if line_end >= 0 else b""
        return Truncated(self._build(line, lines, 1))

    def _build(self, line: Line, block: bytes, requests: int) -> HttpRequest:
        method, path, query, authority = line
        host, agent, kind, trace_id, span_id, trace_format, state = self._read_headers(block)
        extra = self._read_extra(block) if self._extra else ()
        # tuple.__new__ by itself: half the cost of the named constructor, once per record.
        return tuple.__new__(
            HttpRequest,
            (
                method,
                path,
                query,
                authority or host,
                agent,
                kind,
                trace_id,
                span_id,
                extra,
                requests,
                trace_format,
                state,
            ),
        )

    def read_line(self, raw: bytes) -> Line | None:
        """Method, path, query, authority of a request line without its end; None for anything else."""
        line = self.lines.get(raw)
        return line if line is not None else self.learn_line(raw)

    def learn_line(self, raw: bytes) -> Line | None:
        """The same, of one that `lines` does not have."""
        line = _parse_line(raw)
        if line is not None:
            if len(self.lines) >= MEMO_ENTRIES:
                self.lines.clear()
            self.lines[raw] = line
        return line

    def _read_headers(self, block: bytes) -> _Headers:
        shape = self.shapes.find(block)
        if shape is None:
            lowered = block.lower()
            words = self._read_words(block, lowered)
            self.shapes.learn(block, words)
            return words + self._read_context(block, lowered)
        if shape.traceparent is not None:
            trace_id, span_id = tracecontext.parse_traceparent(block[shape.traceparent])
            if trace_id is not None:
                return (*shape.words, trace_id, span_id, tracecontext.W3C, None)
            lowered = block.lower()
            return self._read_words(block, lowered) + self._read_context(block, lowered)
        if not shape.contexts:
            return shape.words + _NO_CONTEXT
        lines = shape.cut_contexts(block)
        return shape.words + self._read_context(lines, lines.lower())

    def read_words(self, block: bytes) -> Words:
        """Of header lines, as they lie between two line ends."""
        return self._read_words(block, block.lower())

    def _read_words(self, block: bytes, lowered: bytes) -> Words:
        """`block` begins and ends with CR LF, so each line is found by CR LF and its name. Written out, not looped: it is hot."""
        host = agent = kind = None
        if (at := lowered.find(b"\r\nhost:")) >= 0:
            host = self._word(block[at + 7 : block.find(b"\r\n", at + 7)], MAX_HOST) or None
            if host and "@" in host:
                host = drop_user(host)
        if (at := lowered.find(b"\r\nuser-agent:")) >= 0:
            agent = self._word(block[at + 13 : block.find(b"\r\n", at + 13)], MAX_WORD)
        if (at := lowered.find(b"\r\ncontent-type:")) >= 0:
            kind = self._word(block[at + 15 : block.find(b"\r\n", at + 15)], MAX_WORD)
        return host, agent, kind

    def _read_context(self, block: bytes, lowered: bytes) -> _Context:
        trace_id = span_id = state = None
        trace_format = tracecontext.W3C
        if (at := lowered.find(b"\r\ntraceparent:")) >= 0:
            end = block.find(b"\r\n", at + 14)
            if lowered.find(b"\r\ntraceparent:", end) < 0:  # of two, neither can be believed
                trace_id, span_id = tracecontext.parse_traceparent(block[at + 14 : end])
            self.contexts_invalid += trace_id is None
            if trace_id is not None and (at := lowered.find(_STATE)) >= 0:
                state, is_invalid = read_state(_list_states(block, lowered, at))
                self.contexts_invalid += is_invalid
        if trace_id is None and (b"b3" in lowered or b"\r\nuber-trace-id:" in lowered):
            (trace_id, span_id), trace_format = self._read_other_context(block, lowered)
        return trace_id, span_id, trace_format, state

    def _read_other_context(self, block: bytes, lowered: bytes) -> tuple[tracecontext.Ids, int]:
        ids, form, is_invalid = tracecontext.choose(
            b3=_only(block, lowered, b"\r\nb3:"),
            b3_trace=_only(block, lowered, b"\r\nx-b3-traceid:"),
            b3_span=_only(block, lowered, b"\r\nx-b3-spanid:"),
            jaeger=_only(block, lowered, b"\r\nuber-trace-id:"),
        )
        self.contexts_invalid += is_invalid
        return ids, form

    def _read_extra(self, block: bytes) -> tuple[tuple[str, str], ...]:
        lowered = block.lower()
        found = ((name, _value(block, lowered, needle)) for name, needle in self._extra)
        return tuple((name, text(value, MAX_WORD)) for name, value in found if value is not None)

    def _word(self, raw: bytes, limit: int) -> str:
        """Text of a header's value, spaces around it taken off. The same values come again and again."""
        word = self._words.get(raw)
        if word is None:
            word = text(raw.strip(b" \t"), limit)
            if len(self._words) >= MEMO_ENTRIES:
                self._words.clear()
            if len(raw) <= MAX_WORD:  # below every limit, so the text is the same for all
                self._words[raw] = word
        return word

    def count_behind(self, data: bytes, line_end: int, end: int) -> int:
        """Further requests in the bytes behind the first head; the last one may have only begun."""
        for count in range(MAX_PIPELINED):
            body_bytes = _body_bytes(data[line_end : end + 2])
            offset = end + 4 + body_bytes
            if body_bytes < 0 or offset >= len(data):
                return count
            line_end = data.find(b"\r\n", offset)
            if line_end < 0:
                return count + (_parse_line_beginning(data[offset:]) is not None)
            if self.read_line(data[offset:line_end]) is None:
                return count
            end = data.find(b"\r\n\r\n", line_end)
            if end < 0:
                return count + 1
        return MAX_PIPELINED


def read_state(raw: bytes) -> tuple[str | None, bool]:
    """What a tracestate says, and whether it says something that is none."""
    state = tracecontext.parse_tracestate(raw)
    return state, state is None and bool(raw.strip(b" \t,"))


def _list_states(block: bytes, lowered: bytes, at: int) -> bytes:
    """It may be spread over several headers (RFC 9110, 5.3)."""
    found: list[bytes] = []
    while at >= 0 and len(found) <= tracecontext.MAX_MEMBERS:
        end = block.find(b"\r\n", at + len(_STATE))
        found.append(block[at + len(_STATE) : end])
        at = lowered.find(_STATE, end)
    return b",".join(found)


def _only(block: bytes, lowered: bytes, needle: bytes) -> bytes | None:
    """The header's value; None where it is not there, and an empty one, which no format allows, where it is there twice."""
    at = lowered.find(needle)
    if at < 0:
        return None
    end = block.find(b"\r\n", at + len(needle))
    return block[at + len(needle) : end] if lowered.find(needle, end) < 0 else b""


def drop_user(host: str) -> str:
    """`user:password@host:port` → `host:port` (RFC 3986, 3.2.1): none belongs into a Host, and some clients send it."""
    return host.rpartition("@")[2]


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


def _parse_line_beginning(data: bytes) -> Line | None:
    match = _LINE_BEGINNING.match(data)
    if match is None:
        return None
    rest = data[match.end() :]
    if match[2] is None:
        return (match[1].decode("ascii"), "", None, None) if not rest else None
    if not b" HTTP/1.1\r".startswith(rest) and not b" HTTP/1.0\r".startswith(rest):
        return None
    return _split_target(match[1].decode("ascii"), match[2])


def _parse_line(raw: bytes) -> Line | None:
    words = raw.split(b" ")
    if len(words) == 3 and words[2] in _VERSIONS and words[1][:1] == b"/":
        method, target = _METHODS.get(words[0]), words[1]
        if method is not None:  # nearly every line: no pattern is asked
            if target.isascii() and len(target) <= MAX_TEXT:
                plain = target.decode("ascii")
                if plain.isprintable():
                    found, mark, rest = plain.partition("?")
                    return method, found, rest if mark else None, None
            path, mark_byte, query = target.partition(b"?")
            return method, text(path), text(query) if mark_byte else None, None
    match = _REQUEST_LINE.fullmatch(raw)
    return _split_target(match[1].decode("ascii"), match[2]) if match else None


def parse_lines(raws: Sequence[bytes]) -> list[Line | None]:
    """The same of many request lines, none of them longer than MAX_TEXT. In one go: a call for each costs twice as much."""
    joined = b"\n".join(raws)
    if joined.count(b"\n") >= len(raws):
        return [_parse_line(raw) for raw in raws]
    found = _PLAIN_LINES.findall(joined.decode("latin-1"))
    return [
        (method, path, query[1:] if query else None, None) if method else _parse_line(raw)
        for raw, (method, path, query) in zip(raws, found, strict=True)
    ]


def _split_target(method: str, target: bytes) -> Line:
    """RFC 9112, 3.2: origin, absolute, authority (CONNECT) and asterisk form."""
    authority: bytes | None = None
    if method == "CONNECT":
        authority = target = target.rpartition(b"@")[2]
    elif target[:1] != b"/" and (absolute := _ABSOLUTE.fullmatch(target)) is not None:
        authority, target = absolute[1].rpartition(b"@")[2], absolute[2] or b"/"
        if target[:1] == b"?":  # RFC 3986, 6.2.3: an empty path is /
            target = b"/" + target
    path, mark, query = target.partition(b"?")
    return (
        method,
        text(path),
        text(query) if mark else None,
        text(authority, MAX_HOST) or None if authority is not None else None,
    )


def _value(block: bytes, lowered: bytes, needle: bytes) -> bytes | None:
    at = lowered.find(needle)
    if at < 0:
        return None
    begin = at + len(needle)
    end = block.find(b"\r\n", begin)
    return block[begin:end].strip(b" \t") if end >= 0 else None


def _body_bytes(block: bytes) -> int:
    """Length of the body behind a head; -1 when it is not said in a way that we can follow."""
    lowered = block.lower()
    if lowered.find(b"\r\ntransfer-encoding:") >= 0:
        return -1
    length = _value(block, lowered, b"\r\ncontent-length:")
    if length is None:
        return 0
    return int(length) if length.isdigit() and len(length) <= 15 else -1
