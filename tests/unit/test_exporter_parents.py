"""Which span is whose parent: never a guess, whichever order the rows come in."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcall_exporter.batches import build_batch
from farcall_exporter.context import Context
from support_exporter import (
    BOOT,
    IDENTITY,
    NS,
    OTHER_BOOT,
    T0,
    WATCHED,
    Row,
    decoded,
    exchange,
    identified,
    make_context,
    redis_exchange,
    seen_from_server,
    to_rows,
)

pytestmark = pytest.mark.unit

MS = 1_000_000


class Exporter:
    """Batches in, the rows written so far out."""

    def __init__(self) -> None:
        self.context: Context = make_context()
        self.spans: list[Row] = []
        self.links: list[Row] = []

    def take(self, *rows: Row, boot: str = BOOT) -> None:
        tables = build_batch(decoded(rows, boot=boot), self.context)
        self.spans += to_rows(tables["spans"]) if "spans" in tables else []
        self.links += to_rows(tables["links"]) if "links" in tables else []

    def to(self, address: str) -> Row:
        (span,) = [s for s in self.spans if s["SpanAttributes"]["network.peer.address"] == address]
        return span

    def parent_of(self, span: Row) -> str:
        """As readers see it: stored with the span, or tied later."""
        late = [k["OtelSpanId"] for k in self.links if k["Method"] == "cause" and k["EbpfSpanId"] == span["SpanId"]]  # fmt: skip
        return str(span["ParentSpanId"] or (late[0] if late else ""))


def call(number: int, start_ms: int, length_ms: int, **changes: Any) -> Row:
    """A client's call to 10.244.0.<number>, on connection <number>."""
    return identified(
        1_000 * number,
        number,
        number + 50,
        **{
            "connection_id": number,
            "start": T0 + start_ms * MS,
            "duration_ns": length_ms * MS,
            "peer_address": f"10.244.0.{number}",
            **changes,
        },
    )


def served(client: Row) -> Row:
    """Its server's sight; it is connection 1,000,000 more there."""
    return seen_from_server(client)


def caused_by(client: Row) -> Row:
    """What a row says that was sent while the server's thread was serving `client`."""
    return {
        "cause_connection_id": client["connection_id"] + 1_000_000,
        "cause_sequence": client["sequence"],
    }


FIRST = call(1, 0, 100)
SECOND = call(2, 10, 50, **caused_by(FIRST))
THIRD = call(3, 20, 10, **caused_by(SECOND))
OUTSIDE = exchange(
    role=1, flags=WATCHED | IDENTITY, isn_client=9, isn_server=10, connection_id=1_000_009,
    local_address="10.244.0.9", local_port=8080, peer_address="198.51.100.7", peer_port=50_000,
    start=T0 - 10 * MS, duration_ns=200 * MS,
)  # fmt: skip


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


def test_a_call_is_the_child_of_the_callers_span_through_as_many_services_as_there_are(
    exporter: Exporter,
) -> None:
    exporter.take(THIRD, served(THIRD), SECOND, served(SECOND), FIRST, served(FIRST))
    first, second, third = (exporter.to(f"10.244.0.{n}") for n in (1, 2, 3))

    assert first["ParentSpanId"] == ""
    assert second["ParentSpanId"] == first["SpanId"]
    assert third["ParentSpanId"] == second["SpanId"]
    assert {s["TraceId"] for s in (second, third)} == {first["TraceId"]}
    assert exporter.links == []


def test_a_call_made_for_an_outside_client_is_the_child_of_the_server_side_span(
    exporter: Exporter,
) -> None:
    child = call(2, 10, 5, cause_connection_id=1_000_009, cause_sequence=0)
    exporter.take(child, OUTSIDE)
    (server,) = [s for s in exporter.spans if s["IsServerSpan"]]

    assert exporter.to("10.244.0.2")["ParentSpanId"] == server["SpanId"]
    assert exporter.to("10.244.0.2")["TraceId"] == server["TraceId"]


def test_a_child_whose_parent_was_told_before_is_stored_with_it(exporter: Exporter) -> None:
    exporter.take(FIRST, served(FIRST))
    exporter.take(SECOND)
    first, second = exporter.to("10.244.0.1"), exporter.to("10.244.0.2")

    assert (second["ParentSpanId"], second["TraceId"]) == (first["SpanId"], first["TraceId"])


def test_a_child_whose_parent_is_told_later_is_tied_to_it(exporter: Exporter) -> None:
    exporter.take(SECOND)
    exporter.take(FIRST, served(FIRST))
    first, second = exporter.to("10.244.0.1"), exporter.to("10.244.0.2")

    assert second["ParentSpanId"] == ""
    (tie,) = exporter.links
    assert (tie["EbpfTraceId"], tie["EbpfSpanId"]) == (second["TraceId"], second["SpanId"])
    assert (tie["OtelTraceId"], tie["OtelSpanId"]) == (first["TraceId"], first["SpanId"])
    assert exporter.context.counters.read()["parents_late"] == 1
    exporter.take(served(FIRST))
    assert len(exporter.links) == 1


def test_the_callers_span_comes_from_another_node_later(exporter: Exporter) -> None:
    """The sight waits; its span's IDs are the ones that the caller's row then takes."""
    exporter.take(SECOND, served(FIRST))
    exporter.take(FIRST, boot=OTHER_BOOT)
    first, second = exporter.to("10.244.0.1"), exporter.to("10.244.0.2")

    assert (second["ParentSpanId"], second["TraceId"]) == (first["SpanId"], first["TraceId"])


def test_the_callers_span_came_from_another_node_before(exporter: Exporter) -> None:
    exporter.take(FIRST, boot=OTHER_BOOT)
    exporter.take(SECOND, served(FIRST))
    first, second = exporter.to("10.244.0.1"), exporter.to("10.244.0.2")

    assert (second["ParentSpanId"], second["TraceId"]) == (first["SpanId"], first["TraceId"])


def test_a_middle_call_that_comes_last_ties_both_traces(exporter: Exporter) -> None:
    """Its child was stored under the trace of its sight; it keeps that, and is tied to its own parent's."""
    exporter.take(THIRD, served(SECOND), boot=OTHER_BOOT)
    exporter.take(SECOND, FIRST, served(FIRST))
    first, second, third = (exporter.to(f"10.244.0.{n}") for n in (1, 2, 3))

    assert (third["ParentSpanId"], third["TraceId"]) == (second["SpanId"], second["TraceId"])
    assert second["ParentSpanId"] == first["SpanId"]
    (tie,) = exporter.links
    assert (tie["EbpfTraceId"], tie["OtelTraceId"]) == (second["TraceId"], first["TraceId"])


def test_a_traceparent_wins(exporter: Exporter) -> None:
    child = {**SECOND, "trace_id": b"\x01" * 16, "parent_span_id": b"\x02" * 8}
    exporter.take(child, FIRST, served(FIRST))

    assert exporter.to("10.244.0.2")["ParentSpanId"] == ""
    assert [link["Method"] for link in exporter.links] == ["traceparent"]


def test_an_exchange_of_another_agent_with_the_same_numbers_is_nobodys_parent(
    exporter: Exporter,
) -> None:
    exporter.take(served(FIRST), boot=OTHER_BOOT)
    exporter.take(SECOND)

    assert exporter.parent_of(exporter.to("10.244.0.2")) == ""


@pytest.mark.parametrize("start_ms", [-5, 150])
def test_a_call_beside_the_served_one_is_not_its_child(exporter: Exporter, start_ms: int) -> None:
    exporter.take({**SECOND, "start": T0 + start_ms * MS}, FIRST, served(FIRST))

    assert exporter.parent_of(exporter.to("10.244.0.2")) == ""


def test_a_sight_that_can_never_be_joined_is_nobodys_parent(exporter: Exporter) -> None:
    """Its call's span is the client's, which nobody can tell."""
    exporter.take(SECOND, {**served(FIRST), "flags": WATCHED})

    assert exporter.parent_of(exporter.to("10.244.0.2")) == ""


def test_calls_that_lie_within_each_other_stay_roots(exporter: Exporter) -> None:
    """No kernel says so; a hostile batch may."""
    one = call(1, 0, 100, **caused_by(call(2, 0, 100)))
    two = call(2, 0, 100, **caused_by(call(1, 0, 100)))
    below = call(3, 10, 5, **caused_by(one))
    early = [{**served(c), "start": T0 - NS, "duration_ns": 3 * NS} for c in (one, two)]
    exporter.take(one, two, below, *early)

    assert [s["ParentSpanId"] for s in exporter.spans] == ["", "", ""]


def test_children_that_wait_are_bounded(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farcall_exporter.parents.MAX_CHILDREN", 10)
    rows = [redis_exchange(connection_id=n, cause_connection_id=n, cause_sequence=0) for n in range(30)]  # fmt: skip
    exporter.take(*rows)

    assert len(exporter.context.causes) == 10
    assert exporter.context.counters.read()["parents_unknown"] == 20
    exporter.context.clock.now += 1_000  # type: ignore[attr-defined]
    exporter.take(exchange())
    assert len(exporter.context.causes) == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.permutations(range(6)))
def test_in_whatever_batches_the_rows_come_each_parent_is_right_and_none_is_missing(
    batch_of: list[int], order: list[int]
) -> None:
    rows = [FIRST, served(FIRST), SECOND, served(SECOND), THIRD, served(THIRD)]
    exporter = Exporter()
    for batch in range(4):
        chosen = [rows[i] for i in order if batch_of[i] == batch]
        if chosen:
            exporter.take(*chosen)
    first, second, third = (exporter.to(f"10.244.0.{n}") for n in (1, 2, 3))

    assert exporter.parent_of(first) == ""
    assert exporter.parent_of(second) == first["SpanId"]
    assert exporter.parent_of(third) == second["SpanId"]
    assert one_trace(exporter, [first, second, third])


def one_trace(exporter: Exporter, spans: list[Row]) -> bool:
    """Connected by their own IDs and by ties, as a reader collects them."""
    found = {spans[0]["TraceId"]}
    for _ in range(4):
        for link in exporter.links:
            if {link["EbpfTraceId"], link["OtelTraceId"]} & found:
                found |= {link["EbpfTraceId"], link["OtelTraceId"]}
    return all(span["TraceId"] in found for span in spans)
