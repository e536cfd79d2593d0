"""A parser that has seen heads like this one reads in it what a parser that has seen none would read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire.http1 import RequestParser
from farcall_probes.wire.http1shapes import MAX_KEYS, Shapes

pytestmark = pytest.mark.unit

LINE = b"GET / HTTP/1.1"
WORDS = ("a.example.com", "curl/8.5", None)


def make_block(*lines: bytes) -> bytes:
    return b"\r\n" + b"\r\n".join((b"Host: a.example.com", b"User-Agent: curl/8.5", *lines, b""))


def learn(*blocks: bytes) -> Shapes:
    shapes = Shapes()
    for block in blocks:
        shapes.learn(block, WORDS)
    return shapes


# Values of one length, so that heads meet under one key; some hold what must not be believed.
_NAMES = st.sampled_from(
    [b"Host", b"hOST", b"user-agent", b"X-Request-Id", b"x-b3-traceid", b"x-b3-spanid", b"b3",
     b"traceparent", b"TraceParent", b"tracestate", b"uber-trace-id", b"Content-Type", b" host"]
)  # fmt: skip
_TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_VALUES = st.sampled_from(
    [_TRACE, _TRACE.replace(b"4", b"5"), _TRACE.replace(b"-", b"_"), b"x" * 55, b"y" * 55,
     b"z" * 30 + b"\r\nhost: " + b"e" * 17, b"z" * 30 + b"\r\nb3: " + b"0" * 19,
     b"q" * 54 + b"\r", b"\n" + b"q" * 54, b"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1".ljust(55),
     b"0" * 32, b"1" * 32, b"0" * 15 + b"1", b"1" * 16, b"b3=1,a=2", b"b3=2,a=1"]
)  # fmt: skip
_LINES = st.builds(lambda name, mark, value: name + mark + value, _NAMES, st.sampled_from([b": ", b":", b""]), _VALUES)  # fmt: skip
_FIRST = st.sampled_from([b"Host: a.example.com:8080", b"Host: b.example.com:8080"])


@given(st.lists(st.tuples(_FIRST, st.lists(_LINES, max_size=4)), min_size=2, max_size=8))
def test_what_was_seen_before_changes_nothing_that_is_read(
    heads: list[tuple[bytes, list[bytes]]],
) -> None:
    parser = RequestParser()
    invalid = 0
    for first, lines in [*heads, *heads, *heads]:
        data = b"\r\n".join((LINE, first, *lines, b"", b""))
        fresh = RequestParser()
        assert parser.parse(data, cut=True) == fresh.parse(data, cut=True)
        invalid += fresh.contexts_invalid
    assert parser.contexts_invalid == invalid


def test_blocks_that_differ_in_values_that_nobody_reads_have_one_shape() -> None:
    shapes = learn(make_block(b"X-Request-Id: 1234"), make_block(b"X-Request-Id: 5678"))

    shape = shapes.find(make_block(b"X-Request-Id: 9999"))
    assert shape is not None and shape.words == WORDS
    assert shapes.find(make_block(b"X-Request-Ix: 9999")) is None
    assert shapes.find(make_block(b"X-Request-Id: 99999")) is None


def test_a_trace_is_taken_out_even_where_it_was_the_same_twice() -> None:
    block = make_block(b"traceparent: " + _TRACE)
    shapes = learn(block, block)

    other = make_block(b"traceparent: " + _TRACE.replace(b"4", b"5"))
    shape = shapes.find(other)
    assert shape is not None and shape.traceparent is not None
    assert other[shape.traceparent].strip() == _TRACE.replace(b"4", b"5")


def test_a_value_with_a_line_in_it_has_no_shape() -> None:
    shapes = learn(make_block(b"X-Id: " + b"1" * 20), make_block(b"X-Id: " + b"2" * 20))

    assert shapes.find(make_block(b"X-Id: " + b"3" * 20)) is not None
    assert shapes.find(make_block(b"X-Id: 1\r\nHost: evil.co1")) is None


def test_another_host_is_another_shape() -> None:
    shapes = Shapes()
    for host in (b"1", b"2", b"1", b"2", b"1", b"2"):
        shapes.learn(make_block(b"X-Id: " + b"1" * 20, b"Host: " + host), (host.decode(), "", None))

    for host in (b"1", b"2"):
        shape = shapes.find(make_block(b"X-Id: " + b"1" * 20, b"Host: " + host))
        assert shape is not None and shape.words[0] == host.decode()


def test_what_comes_once_displaces_nothing_and_is_not_kept_for_ever() -> None:
    shapes = learn(make_block(b"X-Id: 1"), make_block(b"X-Id: 2"))

    for number in range(20 * MAX_KEYS):
        shapes.learn(b"\r\nX-First: %032x\r\nHost: a\r\n" % number, ("a", None, None))

    assert shapes.find(make_block(b"X-Id: 3")) is not None
    assert len(shapes) <= 2 * MAX_KEYS


def test_blocks_that_are_never_alike_are_not_compared_for_ever() -> None:
    shapes = Shapes()
    for number in range(1_000):
        shapes.learn(make_block(b"%032x: 1" % number), WORDS)
    before = len(shapes)

    again = make_block(b"%032x: 1" % 1_000)
    shapes.learn(again, WORDS)
    shapes.learn(again, WORDS)

    assert shapes.find(again) is None
    assert len(shapes) == before
