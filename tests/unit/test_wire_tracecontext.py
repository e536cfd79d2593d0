"""Every way in which a request names its trace: which counts, what is invalid, and that nothing is guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.readcolumns import TRACE_FLAGS
from farcall_probes.wire import tracecontext
from farcall_probes.wire.http1 import HttpRequest, RequestParser
from farcall_probes.wire.tracecontext import B3, JAEGER, W3C

pytestmark = pytest.mark.unit

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
OTHER = "0af7651916cd43dd8448eb211c80319c"
W3C_LINE = f"traceparent: 00-{OTHER}-b7ad6b7169203331-01"
Read = tuple[str | None, str | None, int, int]  # trace, span, format, how many were invalid


def read(*lines: str) -> Read:
    parser = RequestParser()
    head = "\r\n".join(["GET / HTTP/1.1", "Host: a", *lines, "", ""])
    request = parser.parse(head.encode())
    assert isinstance(request, HttpRequest)
    ids = (v.hex() if v is not None else None for v in (request.trace_id, request.parent_span_id))
    return (*ids, request.trace_format, parser.contexts_invalid)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("lines", "form"),
    [
        ([f"b3: {TRACE}-{SPAN}-1-05e3ac9a4f6e3b90"], B3),
        ([f"B3:{TRACE}-{SPAN}-d"], B3),
        ([f"b3: {TRACE}-{SPAN}"], B3),
        ([f"X-B3-TraceId: {TRACE}", f"X-B3-SpanId: {SPAN}", "X-B3-Sampled: 1"], B3),
        ([f"x-b3-spanid: {SPAN}", f"x-b3-traceid: {TRACE.upper()}"], B3),
        ([f"uber-trace-id: {TRACE}:{SPAN}:0:1"], JAEGER),
        ([f"Uber-Trace-Id: {TRACE}%3A{SPAN}%3A0%3A01"], JAEGER),
        ([f"uber-trace-id: {TRACE}:f067aa0ba902b7::1"], JAEGER),
        (["b3: 1", f"uber-trace-id: {TRACE}:{SPAN}:0:1"], JAEGER),
    ],
)
def test_a_trace_is_read_in_each_format(lines: list[str], form: int) -> None:
    assert read(*lines) == (TRACE, SPAN, form, 0)


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f" \t00-{TRACE}-{SPAN}-01\t ", True),
        (f"00-{'1' * 32}-{'2' * 16}-01", True),  # without a letter
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"01-{TRACE}-{SPAN}-01-more", True),
        (f"00-{TRACE}-{SPAN}-01-", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-0A", False),
        (f"00-{TRACE}-{SPAN}-0g", False),
        (f"00-{TRACE[:31]}--{SPAN}-01", False),
        (f"00-{TRACE[1:]}-{SPAN}0-01", False),
        (f"00-{TRACE}-{SPAN}+01", False),
        (f"00-{'0' * 32}-{SPAN}-0a", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
    ],
)
def test_a_traceparent_is_valid_to_the_letter_or_not_at_all(value: str, is_valid: bool) -> None:
    trace, span = tracecontext.parse_traceparent(value.encode())

    assert (trace is not None, span is not None) == (is_valid, is_valid)


def test_ids_of_64_bits_are_filled_up_on_the_left() -> None:
    short = TRACE[16:]
    filled = "0" * 16 + short

    assert read(f"b3: {short}-{SPAN}-1")[0] == filled
    assert read(f"X-B3-TraceId: {short}", f"X-B3-SpanId: {SPAN}")[0] == filled
    assert read(f"uber-trace-id: {short.lstrip('0')}:{SPAN}:0:1")[0] == filled


@pytest.mark.parametrize(
    "others", [[f"b3: {TRACE}-{SPAN}-1"], [f"uber-trace-id: {TRACE}:{SPAN}:0:1", "b3: junk"]]
)
def test_traceparent_wins_wherever_it_stands(others: list[str]) -> None:
    expected = (OTHER, "b7ad6b7169203331", W3C, 0)

    assert read(W3C_LINE, *others) == expected
    assert read(*others, W3C_LINE) == expected


def test_b3_in_one_header_wins_over_several_and_both_over_jaeger() -> None:
    one, parts = f"b3: {TRACE}-{SPAN}", (f"X-B3-TraceId: {OTHER}", f"X-B3-SpanId: {SPAN}")
    jaeger = f"uber-trace-id: {'1' * 32}:{SPAN}:0:1"

    assert read(jaeger, *parts, one)[0] == TRACE
    assert read(jaeger, *parts)[0] == OTHER


@pytest.mark.parametrize(
    ("lines", "invalid"),
    [
        (["traceparent: 00-junk"], 1),
        ([f"b3: {TRACE}-{'0' * 16}-1"], 1),
        ([f"b3: {'0' * 32}-{SPAN}-1"], 1),
        ([f"b3: {TRACE[1:]}-{SPAN}-1"], 1),
        ([f"b3: {TRACE}-{SPAN}-yes"], 1),
        ([f"b3: {TRACE}-{SPAN}", f"b3: {OTHER}-{SPAN}"], 1),
        ([f"X-B3-TraceId: {TRACE}"], 1),
        ([f"X-B3-SpanId: {SPAN}"], 1),
        ([f"X-B3-TraceId: {TRACE}", "X-B3-SpanId: 12"], 1),
        ([f"uber-trace-id: {TRACE}:{SPAN}"], 1),
        ([f"uber-trace-id: 0:{SPAN}:0:1"], 1),
        ([f"uber-trace-id: {TRACE}0:{SPAN}:0:1"], 1),
        ([f"uber-trace-id: {'1' * 5_000}:{SPAN}:0:1"], 1),
        (["traceparent: 00-junk", "b3: junk"], 2),
        (["b3: 0"], 0),
        (["x-web3: 1"], 0),
    ],
)
def test_what_is_invalid_names_nothing_and_is_counted(lines: list[str], invalid: int) -> None:
    assert read(*lines) == (None, None, W3C, invalid)


def test_an_invalid_traceparent_leaves_the_word_to_the_next() -> None:
    assert read("traceparent: 00-junk", f"b3: {TRACE}-{SPAN}") == (TRACE, SPAN, B3, 1)


def test_a_header_that_is_cut_is_not_guessed() -> None:
    parser = RequestParser()
    outcome = parser.parse(f"GET / HTTP/1.1\r\nb3: {TRACE}-{SPAN}".encode(), cut=True)

    assert outcome.partial.trace_id is None  # type: ignore[union-attr]
    assert parser.contexts_invalid == 0


maybe = st.none() | st.binary(max_size=140) | st.from_regex(rb"\A[0-9a-f:%A-]{0,90}\Z")


@given(maybe, maybe, maybe, maybe)
def test_any_bytes_give_both_ids_or_neither(
    b3: bytes | None, trace: bytes | None, span: bytes | None, jaeger: bytes | None
) -> None:
    ids, form, _ = tracecontext.choose(b3=b3, b3_trace=trace, b3_span=span, jaeger=jaeger)

    assert form < len(TRACE_FLAGS)
    assert (ids[0] is None) == (ids[1] is None)
    assert ids[0] is None or (len(ids[0]), len(ids[1] or b"")) == (16, 8)


def read_state(*lines: str) -> tuple[str | None, int]:
    parser = RequestParser()
    request = parser.parse("\r\n".join(["GET / HTTP/1.1", "Host: a", *lines, "", ""]).encode())
    assert isinstance(request, HttpRequest)
    return request.trace_state, parser.contexts_invalid


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (["rojo=1 , \tcongo=2"], "rojo=1,congo=2"),
        (["rojo=1,,"], "rojo=1"),
        (["rojo=1", "congo=2"], "rojo=1,congo=2"),  # two headers are one list
        (["ot=th:c;rv:00112233445566"], "ot=th:c;rv:00112233445566"),
        (["1tenant@system=a b"], "1tenant@system=a b"),
        (["a=" + "v" * 256], "a=" + "v" * 256),
        (["a=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"], "a=?"),
        ([",".join(f"k{n}=1" for n in range(32))], ",".join(f"k{n}=1" for n in range(32))),
        # More than 512 characters: whole members, the first ones.
        ([",".join(f"k{n}={'v' * 98}" for n in range(9))], ",".join(f"k{n}={'v' * 98}" for n in range(5))),
        ([""], None),
    ],
)  # fmt: skip
def test_a_tracestate_is_kept_beside_its_traceparent(said: list[str], kept: str | None) -> None:
    assert read_state(W3C_LINE, *(f"Tracestate: {value}" for value in said)) == (kept, 0)


@pytest.mark.parametrize(
    "value",
    [
        "Rojo=1", "rojo", "=1", "rojo=", "rojo=1=2", "rojo=\x7f", "rojo=caf\u00e9", "rojo=1,rojo=2", "a=" + "v" * 257,
        "k" * 257 + "=1", "<script>=1", ",".join(f"k{n}=1" for n in range(33)), "a=1," * 3_000,
    ],
)  # fmt: skip
def test_a_tracestate_with_anything_invalid_counts_for_nothing(value: str) -> None:
    assert read_state(W3C_LINE, f"tracestate: {value}") == (None, 1)


def test_a_tracestate_without_a_valid_traceparent_is_not_read() -> None:
    assert read_state("tracestate: rojo=1") == (None, 0)
    assert read_state("tracestate: rojo=1", f"b3: {TRACE}-{SPAN}-1") == (None, 0)


@given(st.binary(max_size=600))
def test_no_bytes_of_a_tracestate_break_its_bounds(raw: bytes) -> None:
    state = tracecontext.parse_tracestate(raw)

    assert state is None or (len(state) <= tracecontext.MAX_STATE and state.isprintable())
    assert state is None or tracecontext.parse_tracestate(state.encode()) == state
