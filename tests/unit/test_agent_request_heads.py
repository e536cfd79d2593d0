"""Request heads read all at once say what each says by itself, in whatever company."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.requestheads import HeadReader, Heads, parse_traceparents
from farcall_probes.stencils import MIN_ROWS
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
        [b"Host: a.example.com", b"Host: u:p@b.example.c", b"Content-Length: 3", b"Content-Length: 2 ", b"Content-Length: x",
         b"Transfer-Encoding: chunked", b"User-Agent: curl/8.5", b"content-TYPE: a/b", b"X-Request-Id: 1", b"X-Request-Id: 2",
         b"traceparent: " + TRACE, b"traceparent: " + TRACE.replace(b"4", b"5"), b"traceparent: " + TRACE.upper(),
         b"traceparent:" + TRACE, b"traceparent: " + TRACE.replace(b"4", b"g"), b"tracestate: a=1", b"tracestate: =",
         b"b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", b"b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-x",
         b"traceparent: 00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", b"traceparent: " + TRACE[:20] + b"\r\nHost: evil.example.com" + TRACE[45:]]
    ),
    max_size=5,
)  # fmt: skip
_SEEDS = Path(__file__).resolve().parents[1] / "corpus/fuzz/http1"
_REAL = [
    seed.read_bytes()[2:] for seed in sorted(_SEEDS.iterdir())
]  # with a response's bytes behind them
_BEHIND = st.sampled_from(
    [b"", b"", b"abc", b"ab", b"GET / HTTP/1.1\r\n\r\n", b"abcGET / HTTP/1.1\r\n\r\n", b"G"]
)
_BYTES = [b"\n", b"\r", b"\r\n", b":", b" ", b"x", b"0", b"7", b"", b"\r\n\r\n"]
_HEAD = st.builds(
    lambda line, headers, behind: b"\r\n".join([line, *headers, b"", behind]),
    _LINES, _HEADERS, _BEHIND,
)  # fmt: skip
_CAPTURED = st.builds(
    lambda head, cut: head[: len(head) - cut],
    _HEAD | st.sampled_from(_REAL),
    st.sampled_from([0, 0, 0, 1, 5, 40]),
)


def make_block(captured: list[bytes]) -> Records:
    """Records of them; what is behind a head's end in its record may be anything."""
    block = np.zeros(len(captured), dtype=events.LARGE)
    block.view(np.uint8)[:] = ord("\n")
    block["flags"] = 0
    for record, data in zip(block, captured, strict=True):
        record["req"] = data.ljust(events.LARGE_REQ, b"\n")
        record["req_cap"] = len(data)
    return block


def render(heads: Heads) -> list[tuple[object, ...]]:
    found = []
    for at, row in enumerate(heads.rows.tolist()):
        method, path, query, authority = heads.lines[heads.line[at]]
        host, agent, kind, form, state = heads.words[heads.word[at]]
        ids = heads.ids[at].tobytes()
        trace, span = (ids[:16], ids[16:]) if heads.has_trace[at] else (None, None)
        words = (method, path, query, authority or host, agent, kind, trace, span)
        found.append((row, bool(heads.is_cut[at]), *words, heads.requests.get(at, 1), form, state))
    return found


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


def check(captured: list[bytes], given: dict[int, bytes]) -> None:
    parser = RequestParser()
    reader = HeadReader(parser)
    alone = [read_alone(row, given.get(row, data)) for row, data in enumerate(captured)]
    for times in (1, 2, 3, 4):
        found = reader.read(make_block(captured), given)
        assert render(found) == [row for rows, _ in alone for row in rows]
        assert parser.contexts_invalid == times * sum(invalid for _, invalid in alone)


@given(st.lists(_CAPTURED, max_size=12), st.dictionaries(st.integers(0, 11), _CAPTURED, max_size=2))
def test_heads_read_at_once_say_what_each_says_alone(
    captured: list[bytes], given: dict[int, bytes]
) -> None:
    check(captured, {row: data for row, data in given.items() if row < len(captured)})


@given(st.lists(_CAPTURED, min_size=1, max_size=5), st.data())
def test_of_many_heads_each_says_what_it_says_alone(
    kinds: list[bytes], data: st.DataObject
) -> None:
    """So many that those of one length are read together, and then each with some of its bytes changed."""
    heads = [kind for kind in kinds for _ in range(2 * MIN_ROWS)]
    places = st.tuples(st.integers(0, len(heads) - 1), st.integers(0, 400), st.sampled_from(_BYTES))
    for row, at, byte in data.draw(st.lists(places, max_size=60)):
        head = heads[row]
        heads[row] = head[:at] + byte + head[at + 1 :] if at < len(head) else head
    given = data.draw(st.dictionaries(st.integers(0, len(heads) - 1), _CAPTURED, max_size=2))
    check(data.draw(st.permutations(heads)), given)


_ID = b"X-Request-Id: 0123456789abcdef\r\n"
_PLAIN = b"GET /a?b=1 HTTP/1.1\r\nHost: a.example.com\r\nUser-Agent: curl/8.5\r\n" + _ID
_POST = b"POST /a HTTP/1.1\r\nHost: a.example.com:8080\r\nContent-Type: text/plain\r\n"


@pytest.mark.parametrize(
    "head",
    [
        _PLAIN + b"\r\n",
        b"GET / HTTP/1.1\r\nX-Id: 1234Host: b.example.com\r\nX: 1234User-Agent: x\r\n" + _PLAIN[21:] + b"\r\n",
        _PLAIN + b"traceparent: " + TRACE + b"\r\n\r\n",
        _PLAIN + b"traceparent: " + TRACE + b"\r\ntracestate: a=1\r\nb3: 0\r\n\r\n",
        _PLAIN + (b"Traceparent: " + TRACE + b"\r\n") * 2 + b"\r\n",
        _PLAIN + b"X-B3-TraceId: 4bf92f3577b34da6a3ce929d0e0e4736\r\nX-B3-SpanId: 00f067aa0ba902b7\r\n\r\n",
        _PLAIN + b"tracestate: =\r\nTraceparent: " + TRACE + b"\r\n\r\n",
        _POST + b"Content-Length:  10 \r\n\r\n0123456789",
        _POST + b"Content-Length: 10\r\nContent-Length: 99\r\n\r\n012",
        _POST + b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234",
        _POST + b"Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
        _POST + _ID + b"\r\nGET / HTTP/1.1\r\nHost: b.example.com\r\n\r\n",
    ],
)  # fmt: skip
def test_of_heads_that_differ_in_a_byte_each_says_what_it_says_alone(head: bytes) -> None:
    """In each of their bytes: wherever a line might end, or a number have another digit."""
    parser = RequestParser()
    reader = HeadReader(parser)
    for _ in range(3):
        reader.read(make_block([head] * MIN_ROWS), {})
    parser.contexts_invalid = 0
    changed = [head[:at] + byte + head[at + 1 :] for at in range(len(head)) for byte in _BYTES]
    for end in (b"\r\n", b"\r\n\r\n"):
        changed += [head[:at] + end + head[at + len(end) :] for at in range(len(head))]
    changed += [head[:end] for end in range(len(head))]
    alone = [read_alone(row, data) for row, data in enumerate(changed)]
    assert render(reader.read(make_block(changed), {})) == [
        row for rows, _ in alone for row in rows
    ]
    assert parser.contexts_invalid == sum(invalid for _, invalid in alone)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.text("0123456789abcdefA-g \r\n", min_size=55, max_size=57).map(str.encode),
        )
    )
)
def test_any_values_are_packed_as_the_parser_of_one_does(values: list[bytes]) -> None:
    for heard in (values, [b" " + TRACE, *values], [b" " + TRACE, b" " + TRACE]):
        ids, is_valid = parse_traceparents(heard)
        alone = [parse_traceparent(value) for value in heard]

        assert is_valid.tolist() == [trace is not None for trace, _ in alone]
        packed = [(trace or bytes(16)) + (span or bytes(8)) for trace, span in alone]
        assert [row.tobytes() for row in ids] == packed
