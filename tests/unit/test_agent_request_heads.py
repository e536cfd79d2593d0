"""Request heads read all at once say what each says by itself, in whatever company."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.requestheads import HeadReader, Heads, parse_traceparents
from farcall_probes.wire import tracecontext
from farcall_probes.wire.http1 import HttpRequest, RequestParser
from farcall_probes.wire.outcomes import Outcome, Truncated
from farcall_probes.wire.tracecontext import parse_traceparent

pytestmark = pytest.mark.unit

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_LINES = st.sampled_from(
    [b"GET /a?b=1 HTTP/1.1", b"POST http://u:p@x.example.com/ HTTP/1.1", b"PUT /%d HTTP/1.0", b"no request", b""]
)  # fmt: skip
_HEADERS = st.lists(
    st.sampled_from(
        [b"Host: a.example.com", b"Host: u:p@b.example.c", b"Content-Length: 3", b"X-Request-Id: 1", b"X-Request-Id: 2",
         b"traceparent: " + TRACE, b"traceparent: " + TRACE.replace(b"4", b"5"), b"traceparent: " + TRACE.upper(),
         b"traceparent:" + TRACE, b"traceparent: " + TRACE.replace(b"4", b"g"), b"tracestate: a=1", b"tracestate: =",
         b"b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", b"b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-x",
         b"traceparent: 00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", b"traceparent: " + TRACE[:20] + b"\r\nHost: evil.example.com" + TRACE[45:]]
    ),
    max_size=5,
)  # fmt: skip
_BEHIND = st.sampled_from(
    [b"", b"", b"abc", b"GET / HTTP/1.1\r\n\r\n", b"abcGET / HTTP/1.1\r\n\r\n", b"G"]
)
_HEAD = st.builds(
    lambda line, headers, behind: b"\r\n".join([line, *headers, b"", behind]),
    _LINES, _HEADERS, _BEHIND,
)  # fmt: skip
_CAPTURED = st.builds(
    lambda head, cut: head[: len(head) - cut], _HEAD, st.sampled_from([0, 0, 0, 1, 5, 40])
)


def render(heads: Heads) -> list[tuple[object, ...]]:
    columns = zip(*heads[2:10], strict=True)
    rows = zip(heads.rows, columns, strict=True)
    return [
        (
            row,
            row in heads.cut,
            *values,
            heads.requests.get(at, 1),
            heads.formats.get(at, tracecontext.W3C),
            heads.states.get(at),
        )
        for at, (row, values) in enumerate(rows)
    ]


def read_alone(row: int, data: bytes) -> tuple[list[tuple[object, ...]], int]:
    parser = RequestParser()
    found = parser.parse(data, cut=True)
    if isinstance(found, Outcome):
        return [], parser.contexts_invalid
    request: HttpRequest = found.partial if isinstance(found, Truncated) else found
    *read, extra, requests, form, state = request
    assert extra == ()
    return [
        (row, isinstance(found, Truncated), *read, requests, form, state)
    ], parser.contexts_invalid


@given(st.lists(_CAPTURED, max_size=12))
def test_heads_read_at_once_say_what_each_says_alone(captured: list[bytes]) -> None:
    parser = RequestParser()
    reader = HeadReader(parser)
    alone = [read_alone(row, data) for row, data in enumerate(captured)]
    for times in (1, 2, 3, 4):
        assert render(reader.read(captured)) == [row for rows, _ in alone for row in rows]
        assert parser.contexts_invalid == times * sum(invalid for _, invalid in alone)


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.binary(max_size=60),
            st.text("0123456789abcdefA-g \r\n", min_size=55, max_size=57).map(str.encode),
        )
    )
)
def test_any_values_are_packed_as_the_parser_of_one_does(
    values: list[bytes | None],
) -> None:
    for heard in (values, [b" " + TRACE, *values], [b" " + TRACE, None, b" " + TRACE]):
        traces, spans, invalid = parse_traceparents(heard)
        alone = [parse_traceparent(v) if v is not None else (None, None) for v in heard]

        assert list(zip(traces, spans, strict=True)) == alone
        assert invalid == [
            at for at, v in enumerate(heard) if v is not None and alone[at][0] is None
        ]
