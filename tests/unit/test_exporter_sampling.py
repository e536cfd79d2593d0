"""For how many calls a span stands: what agents leave out and what the sample leaves out are one number in the tracestate."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.effective import SelectionConfig
from farcall.exchange import LEFT_OUT_SHIFT
from farcall_exporter.batches import build_batch
from farcall_exporter.otlpout import build_request
from farcall_exporter.sampling import VALUES, read_threshold, render_state
from support_exporter import FakeWriter, Row, decoded, exchange, make_context

pytestmark = pytest.mark.unit

PARTS = st.integers(0, VALUES - 1)
STATE = re.compile(r"ot=th:([0-9a-f]{1,14});rv:([0-9a-f]{14})")


def read(state: str) -> tuple[int, int]:
    """Threshold and random number, as the specification reads them."""
    match = STATE.fullmatch(state)
    assert match is not None, state
    return int(match[1].ljust(14, "0"), 16), int(match[2], 16)


def store(rows: list[Row], config: SelectionConfig | None = None) -> list[Row]:
    writer = FakeWriter()
    context = make_context(selection=config or SelectionConfig())
    writer.write(build_batch(decoded(rows, "exchanges"), context), token="t")
    return writer.rows("spans")


def calls(count: int, left_out: int = 0, **changes: object) -> list[Row]:
    """`left_out` of 65,536, as agents say it."""
    base = exchange()["flags"] | left_out << LEFT_OUT_SHIFT
    return [
        exchange(connection_id=n, isn_client=n * 7_919, isn_server=n, **{"flags": base, **changes})
        for n in range(1, count + 1)
    ]


def count_calls(spans: list[Row]) -> float:
    states = [span["TraceState"] for span in spans]
    return sum(VALUES / (VALUES - read(s)[0]) if s else 1.0 for s in states)


def test_where_nothing_is_left_out_a_span_says_nothing() -> None:
    assert {span["TraceState"] for span in store(calls(3))} == {""}


def test_a_call_of_which_four_in_five_are_left_out_stands_for_five() -> None:
    (span,) = store(calls(1, left_out=52_429))

    assert read(span["TraceState"])[0] == 52_429 << 40
    assert count_calls([span]) == pytest.approx(5, rel=1e-4)


def test_what_a_sample_keeps_stands_for_all_of_them() -> None:
    spans = store(calls(4_000), SelectionConfig(percent=25))

    assert {VALUES / (VALUES - read(s["TraceState"])[0]) for s in spans} == {4.0}
    assert count_calls(spans) == pytest.approx(4_000, rel=0.1)


def test_both_together_are_one_number() -> None:
    spans = store(calls(4_000, left_out=32_768), SelectionConfig(percent=25))

    assert {VALUES / (VALUES - read(s["TraceState"])[0]) for s in spans} == {8.0}


def test_failed_and_slow_calls_stand_for_themselves() -> None:
    config = SelectionConfig(percent=1, slower_than_s=0.2)

    for spans in (store(calls(5, status=503), config), store(calls(5, duration_ns=10**9), config)):
        assert [span["TraceState"] for span in spans] == [""] * 5


def test_calls_of_one_trace_have_one_random_number() -> None:
    trace = {"trace_id": b"\xaa" * 16, "parent_span_id": b"\x01" * 8}
    states = {s["TraceState"] for s in store(calls(20, left_out=6_000, **trace))}

    assert len(states) == 1


@given(by_agent=PARTS, by_trace=PARTS, randomness=PARTS)
def test_what_passed_both_passes_the_one_and_what_did_not_does_not(
    by_agent: int, by_trace: int, randomness: int
) -> None:
    """As far as whole numbers go: one in 2^56 may be off."""
    state = render_state(by_agent, by_trace, randomness)
    if not state:
        assert by_agent == 0 and by_trace == 0
        return
    threshold, number = read(state)
    assert threshold == read_threshold(state) < VALUES
    assert by_agent <= number < VALUES
    if randomness >= by_trace:
        assert number >= threshold
    else:
        assert number <= threshold


def test_it_is_sent_on_by_otlp() -> None:
    writer = FakeWriter()
    tables = build_batch(decoded(calls(2, left_out=32_768), "exchanges"), make_context())
    writer.write(tables, token="t")
    request = build_request(tables["spans"])

    spans = request.resource_spans[0].scope_spans[0].spans
    assert [read(s.trace_state)[0] for s in spans] == [1 << 55] * 2
