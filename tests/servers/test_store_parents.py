"""Parents that became known after their child was stored: the same in traces, in spans and in searches."""

import pytest

from farcall.api import SpanQuery
from farcall.storeport import Reader, Writer
from support_store import around, build_table, span, span_id, trace_id

pytestmark = pytest.mark.servers


def test_a_parent_that_became_known_later_is_the_spans_parent(
    writer: Writer, reader: Reader, at: int
) -> None:
    """Two traces, tied by the cause of one's root: one trace by either ID, and no link to OpenTelemetry."""
    above, below = trace_id(at), trace_id(at + 1)
    rows = [span(at, above, span_id(at)), span(at + 1, below, span_id(at + 1))]
    tie = {
        "Timestamp": at + 1, "EbpfTraceId": below, "EbpfSpanId": span_id(at + 1),
        "OtelTraceId": above, "OtelSpanId": span_id(at), "Method": "cause",
    }  # fmt: skip
    tables = {"spans": build_table("spans", rows), "links": build_table("links", [tie])}
    writer.write(tables, token=f"{at}")

    for asked in (above, below):
        trace = reader.read_trace(asked)
        assert trace is not None
        assert [s.parent_span_id for s in trace.spans] == ["", span_id(at)]
        assert [s.links for s in trace.spans] == [(), ()]
        assert trace.spans[1].effective_span_id == span_id(at + 1)
    linked = reader.list_spans(SpanQuery(window=around(at), q=f"is:linked trace:{above}"))
    assert linked.items == ()


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("is:root", {0}),
        ("-is:root", {1, 2}),
        ("parent:{0}", {1}),
        ("parent:{1}", {2}),
        ("-parent:{0}", {0, 2}),
        ("parent:{2}", set()),
        ("span:{0}", {0}),
    ],
)
def test_search_knows_parents_that_became_known_later(
    writer: Writer, reader: Reader, at: int, q: str, found: set[int]
) -> None:
    """The second span's parent came late, the third's with it. As the trace's page shows them."""
    above, below = trace_id(at), trace_id(at + 1)
    ids = [span_id(at + n) for n in range(3)]
    rows = [
        span(at, above, ids[0]),
        span(at + 1, below, ids[1]),
        span(at + 2, below, ids[2], ParentSpanId=ids[1]),
    ]
    tie = {
        "Timestamp": at + 1, "EbpfTraceId": below, "EbpfSpanId": ids[1],
        "OtelTraceId": above, "OtelSpanId": ids[0], "Method": "cause",
    }  # fmt: skip
    tables = {"spans": build_table("spans", rows), "links": build_table("links", [tie])}
    writer.write(tables, token=f"{at}")

    page = reader.list_spans(SpanQuery(window=around(at), q=q.format(*ids)))
    assert {s.span_id for s in page.items} == {ids[n] for n in found}


def test_a_chain_of_calls_that_are_traces_of_their_own_is_one_trace(
    writer: Writer, reader: Reader, at: int
) -> None:
    """As several exporters store them; seven calls deep, from whichever end it is asked for."""
    rows = [span(at + n, trace_id(at + n), span_id(at + n)) for n in range(7)]
    ties = [
        {
            "Timestamp": at + n, "EbpfTraceId": trace_id(at + n), "EbpfSpanId": span_id(at + n),
            "OtelTraceId": trace_id(at + n - 1), "OtelSpanId": span_id(at + n - 1), "Method": "cause",
        }
        for n in range(1, 7)
    ]  # fmt: skip
    tables = {"spans": build_table("spans", rows), "links": build_table("links", ties)}
    writer.write(tables, token=f"{at}")

    for asked in (0, 6):
        trace = reader.read_trace(trace_id(at + asked))
        assert trace is not None
        assert [s.parent_span_id for s in trace.spans] == ["", *(span_id(at + n) for n in range(6))]
