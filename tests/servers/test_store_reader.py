"""What readers get out of a real store: overlays, linked traces, evidence, status."""

import time

import pytest

from farcall.api import ComponentStatus, Link, LogQuery, SpanQuery, Window
from farcall.storeport import QuerySyntaxError, Reader, StoreRefusedError, Writer
from support_store import (
    HOUR,
    SECOND,
    around,
    build_table,
    log_line,
    span,
    span_id,
    trace_id,
)

pytestmark = pytest.mark.servers

UNKNOWN = "Unknown External Service"


def test_a_span_comes_back_to_the_nanosecond(writer: Writer, reader: Reader, at: int) -> None:
    row = span(
        at, trace_id(at), span_id(at), ParentSpanId=span_id(7), SpanName="GET /x", SpanKind="Server",
        ServiceName="cart", Duration=2**40 + 1, StatusCode="Error", StatusMessage="500", Source="otel",
        IsServerSpan=True, SpanAttributes={"a": "1"}, ResourceAttributes={"r": "2"},
        **{"Links.TraceId": [trace_id(9)], "Links.SpanId": [span_id(8)]},
    )  # fmt: skip
    writer.write({"spans": build_table("spans", [row])}, token=f"{at}")

    found = reader.read_span(trace_id(at), span_id(at))

    assert found is not None
    assert (found.start_ns, found.duration_ns) == (str(at), str(2**40 + 1))
    assert (found.name, found.kind, found.service) == ("GET /x", "Server", "cart")
    assert (found.status, found.status_message, found.source) == ("Error", "500", "otel")
    assert (found.parent_span_id, found.is_server_span) == (span_id(7), True)
    assert (found.attributes, found.resource) == ({"a": "1"}, {"r": "2"})
    assert found.links == (Link(trace_id=trace_id(9), span_id=span_id(8)),)
    assert found.effective_trace_id == trace_id(at)


def test_a_late_reason_takes_the_place_of_the_one_that_was_stored(
    writer: Writer, reader: Reader, at: int
) -> None:
    """Of two spans of one trace; a name that comes after it counts more."""
    trace, one, two = trace_id(at), span_id(at), span_id(at + 1)
    unknown = {
        "farcall.destination.name": UNKNOWN,
        "farcall.unknown.reason": "cache_unavailable",
        "server.address": "1.2.3.4",
    }
    labels = {"DestinationLabel": UNKNOWN, "UnknownReason": "cache_unavailable"}
    rows = [span(at, trace, s, **labels, SpanAttributes=unknown) for s in (one, two)]
    writer.write({"spans": build_table("spans", rows)}, token=f"{at}")

    def lay(span_id: str, label: str, attributes: dict[str, str]) -> None:
        key = {"Timestamp": at, "TraceId": trace, "SpanId": span_id}
        late = {**key, "DestinationLabel": label, "Attributes": attributes}
        table = build_table("late_names", [late])
        writer.write({"late_names": table}, token=f"{span_id}{label}")

    query = SpanQuery(window=around(at))

    def hits(q: str) -> int:
        return len(reader.list_spans(SpanQuery(q=q, window=around(at))).items)

    def summary() -> tuple[int, tuple[str, ...]]:
        [found] = reader.list_traces(query).items
        return found.unknown, found.unknown_reasons

    lay(one, UNKNOWN, {"farcall.unknown.reason": "no_dns_seen"})
    found = {s.span_id: s for s in reader.list_spans(query).items}
    assert (found[one].unknown_reason, found[two].unknown_reason) == (
        "no_dns_seen",
        "cache_unavailable",
    )
    assert found[one].attributes == {**unknown, "farcall.unknown.reason": "no_dns_seen"}
    assert summary() == (2, ("cache_unavailable", "no_dns_seen"))
    assert [hits(q) for q in ("unknown:no_dns_seen", "unknown:cache_unavailable")] == [1, 1]
    assert [hits(q) for q in ("is:unknown", "unknown:*", f'destination:"{UNKNOWN}"')] == [2, 2, 2]
    assert [hits(q) for q in ("unknown:no_*", "-unknown:no_dns_seen")] == [1, 1]
    assert hits("farcall.unknown.reason:no_dns_seen server.address:1.2.3.4") == 1

    lay(one, "redis.example", {"farcall.destination.name": "redis.example"})
    found = {s.span_id: s for s in reader.list_spans(query).items}
    assert (found[one].destination, found[one].unknown_reason) == ("redis.example", "")
    assert summary() == (1, ("cache_unavailable",))
    assert [hits(q) for q in ("unknown:no_dns_seen", "is:unknown", "unknown:*")] == [0, 1, 1]
    assert [hits(q) for q in (f'destination:"{UNKNOWN}"', "destination:redis.example")] == [1, 1]


def test_a_late_name_replaces_the_label_and_takes_the_reason_away(
    writer: Writer, reader: Reader, at: int
) -> None:
    trace, one = trace_id(at), span_id(at)
    unknown = {
        "farcall.destination.name": UNKNOWN,
        "farcall.unknown.reason": "no_dns_seen",
        "server.address": "1.2.3.4",
    }
    row = span(
        at,
        trace,
        one,
        DestinationLabel=UNKNOWN,
        UnknownReason="no_dns_seen",
        SpanAttributes=unknown,
    )
    writer.write({"spans": build_table("spans", [row])}, token=f"{at}")
    query = SpanQuery(window=around(at))
    before = reader.list_spans(query).items[0]
    assert (before.destination, before.unknown_reason) == (UNKNOWN, "no_dns_seen")
    assert reader.list_traces(query).items[0].unknown_reasons == ("no_dns_seen",)

    laid = {"farcall.destination.name": "redis.example", "server.address": "redis.example"}
    late = {
        "Timestamp": at,
        "TraceId": trace,
        "SpanId": one,
        "DestinationLabel": "redis.example",
        "Attributes": laid,
    }
    writer.write({"late_names": build_table("late_names", [late])}, token=f"late{at}")

    after = reader.list_spans(query).items[0]
    assert (after.destination, after.unknown_reason) == ("redis.example", "")
    assert after.attributes == laid
    summary = reader.list_traces(query).items[0]
    assert (summary.destination, summary.unknown, summary.unknown_reasons) == (
        "redis.example",
        0,
        (),
    )
    for q, hits in (
        ("destination:redis.example", 1),
        ("destination:redis*", 1),
        (f'destination:"{UNKNOWN}"', 0),
        ("unknown:*", 0),
        ("is:unknown", 0),
        ("server.address:redis.example", 1),
        ("server.address:1.2.3.4", 0),
        ("redis.example", 1),
        ("-destination:redis.example", 0),
    ):
        assert len(reader.list_spans(SpanQuery(q=q, window=around(at))).items) == hits, q


def test_a_join_lays_the_servers_sight_over_the_span(
    writer: Writer, reader: Reader, at: int
) -> None:
    trace, one = trace_id(at), span_id(at)
    laid = {"farcall.join": "exact", "farcall.server.duration_ns": "1200"}
    join = {"Timestamp": at, "TraceId": trace, "SpanId": one, "Attributes": laid}
    writer.write(
        {
            "spans": build_table("spans", [span(at, trace, one, SpanAttributes={"a": "1"})]),
            "joins": build_table("joins", [join]),
        },
        token=f"{at}",
    )

    found = reader.read_trace(trace)

    assert found is not None
    assert found.spans[0].attributes == {"a": "1", **laid}
    for q in ("farcall.join:exact", "farcall.server.duration_ns>1000", "farcall.join:*", "a:1"):
        assert len(reader.list_spans(SpanQuery(q=q, window=around(at))).items) == 1, q


def write_linked(writer: Writer, at: int) -> tuple[str, str]:
    """An OTel trace of two spans; an eBPF trace whose first span carried its traceparent, a child, and a grandchild."""
    otel, ebpf = trace_id(at), trace_id(at + 1)
    rows = [
        span(at, otel, span_id(at), Source="otel", SpanName="checkout"),
        span(at + 1, otel, span_id(at + 1), ParentSpanId=span_id(at), Source="otel"),
        span(at + 2, ebpf, span_id(at + 2), SpanName="GET /cart"),
        span(at + 3, ebpf, span_id(at + 3), ParentSpanId=span_id(at + 2)),
        span(at + 4, ebpf, span_id(at + 4), ParentSpanId=span_id(at + 3), StatusCode="Error"),
    ]
    link = {
        "Timestamp": at + 2,
        "EbpfTraceId": ebpf,
        "EbpfSpanId": span_id(at + 2),
        "OtelTraceId": otel,
        "OtelSpanId": span_id(at + 1),
        "Method": "traceparent",
    }
    tables = {"spans": build_table("spans", rows), "links": build_table("links", [link])}
    writer.write(tables, token=f"{at}")  # type: ignore[arg-type]
    return otel, ebpf


def test_a_linked_trace_is_one_trace_by_either_id(writer: Writer, reader: Reader, at: int) -> None:
    otel, ebpf = write_linked(writer, at)

    for asked in (otel, ebpf):
        trace = reader.read_trace(asked)
        assert trace is not None
        assert trace.trace_id == asked
        assert [one.span_id for one in trace.spans] == [span_id(at + n) for n in range(5)]
        assert trace.effective_trace_ids == (otel,)
        assert {one.effective_trace_id for one in trace.spans} == {otel}
        assert (trace.start_ns, trace.end_ns) == (str(at), str(at + 4 + 1_000_000))
        assert trace.spans[2].links == (Link(trace_id=otel, span_id=span_id(at + 1)),)
        assert trace.spans[2].effective_span_id == span_id(at + 1)
        assert trace.spans[3].effective_span_id == span_id(at + 3)


def test_a_span_on_another_page_still_counts_as_ancestor(
    writer: Writer, reader: Reader, at: int
) -> None:
    otel, ebpf = write_linked(writer, at)

    page = reader.list_spans(SpanQuery(window=around(at), limit=1))
    alone = reader.read_span(ebpf, span_id(at + 4))
    by_other = reader.read_span(otel, span_id(at + 4))

    assert page.items[0].effective_trace_id == otel
    assert alone is not None
    assert alone.effective_trace_id == otel
    assert by_other == alone


def test_the_list_shows_a_linked_trace_once(writer: Writer, reader: Reader, at: int) -> None:
    otel, _ = write_linked(writer, at)

    page = reader.list_traces(SpanQuery(window=around(at)))

    assert [summary.trace_id for summary in page.items] == [otel]
    summary = page.items[0]
    assert (summary.root_name, summary.spans, summary.errors) == ("checkout", 5, 1)
    assert summary.sources == ("ebpf", "otel")


def test_a_link_to_a_trace_that_is_not_stored_names_it_all_the_same(
    writer: Writer, reader: Reader, at: int
) -> None:
    missing, ebpf = trace_id(at), trace_id(at + 1)
    link = {
        "Timestamp": at, "EbpfTraceId": ebpf, "EbpfSpanId": span_id(at), "OtelTraceId": missing, "OtelSpanId": span_id(1),
    }  # fmt: skip
    writer.write(
        {
            "spans": build_table("spans", [span(at, ebpf, span_id(at))]),
            "links": build_table("links", [link]),
        },
        token=f"{at}",
    )

    listed = reader.list_traces(SpanQuery(window=around(at))).items
    trace = reader.read_trace(listed[0].trace_id)

    assert trace is not None
    assert [one.trace_id for one in trace.spans] == [ebpf]
    assert trace.effective_trace_ids == (missing,)


def test_an_unknown_trace_is_none(reader: Reader) -> None:
    assert reader.read_trace(trace_id(0xDEAD)) is None
    assert reader.read_span(trace_id(0xDEAD), span_id(1)) is None
    assert reader.read_trace("'; DROP TABLE otel_traces; --") is None


def test_a_trace_over_the_limit_says_so(writer: Writer, reader: Reader, at: int) -> None:
    rows = [span(at + n, trace_id(at), span_id(at + n)) for n in range(20)]
    writer.write({"spans": build_table("spans", rows)}, token=f"{at}")

    trace = reader.read_trace(trace_id(at), limit=5)

    assert trace is not None
    assert (len(trace.spans), trace.truncated, trace.total_spans) == (5, True, 20)


def test_logs_of_a_trace_and_of_a_span(writer: Writer, reader: Reader, at: int) -> None:
    otel, ebpf = write_linked(writer, at)
    lines = [
        log_line(at, "in the trace", TraceId=otel, SpanId=span_id(at)),
        log_line(at + 1, "in the span", TraceId=otel, SpanId=span_id(at + 1)),
        log_line(at + 2, "of nobody"),
        log_line(at + HOUR, "in the trace, later", TraceId=otel),
    ]
    writer.write({"logs": build_table("logs", lines)}, token=f"logs{at}")

    def bodies(**query: object) -> list[str]:
        return [line.body for line in reader.list_logs(LogQuery(**query)).items]  # type: ignore[arg-type]

    assert bodies(trace_ids=(otel,)) == ["in the trace, later", "in the span", "in the trace"]
    assert bodies(trace_ids=(otel, trace_id(1)), span_ids=(span_id(at + 1),)) == ["in the span"]
    assert bodies(trace_ids=(otel,), q="span") == ["in the span"]
    assert bodies(q=f"trace:{ebpf}", window=around(at)) == ["in the span", "in the trace"]
    assert bodies(q=f"span:{span_id(at + 2)}") == ["in the span"]
    histogram = reader.count_logs(
        LogQuery(trace_ids=(otel,), window=Window(from_ns=at, to_ns=at + 100)), buckets=10
    )
    assert (histogram.total, histogram.outside) == (2, 1)
    assert sum(sum(bucket.counts.values()) for bucket in histogram.buckets) == 2
    whole = reader.count_logs(LogQuery(trace_ids=(otel,)))
    assert (whole.total, whole.outside) == (3, 0)
    assert int(whole.from_ns) == at


def test_evidence_is_read_back(writer: Writer, reader: Reader, at: int) -> None:
    answers = [
        {"Timestamp": at + n, "ClientKey": client, "Question": f"q{n}.example", "Address": "203.0.113.9", "ServiceName": "s"}
        for n, client in enumerate(["c1", "c2", "c1"])
    ]  # fmt: skip
    connection = {
        "Timestamp": at, "ConnectionId": f"boot:{at}", "Opened": None, "Rivals": ["a", "b"], "Label": "q.example",
        "AnsweredAt": at - 5, "TtlSeconds": 3600, "PeerPort": 6379,
    }  # fmt: skip
    newer = {**connection, "Timestamp": at + 9, "Label": "newer"}
    writer.write(
        {
            "dns_answers": build_table("dns_answers", answers),  # type: ignore[arg-type]
            "connections": build_table("connections", [newer, connection]),
        },
        token=f"{at}",
    )

    everybody = reader.read_answers(address="203.0.113.9", client_key=None, window=around(at))
    own = reader.read_answers(address="203.0.113.9", client_key="c1", window=around(at), limit=1)
    found = reader.read_connection(f"boot:{at}")

    assert [answer.question for answer in everybody] == ["q2.example", "q1.example", "q0.example"]
    assert [(answer.client, answer.time_ns) for answer in own] == [("c1", str(at + 2))]
    assert found is not None
    assert (found["Label"], found["Opened"], found["AnsweredAt"]) == ("newer", "", str(at - 5))
    assert (found["Rivals"], found["PeerPort"]) == ('["a", "b"]', "6379")
    assert reader.read_connection("nothing") is None


def test_sights_wait_until_they_are_settled(writer: Writer, at: int) -> None:
    def sight(key: str, state: str, said: str) -> dict[str, object]:
        return {"Timestamp": at, "JoinKey": key, "State": state, "Span": said}

    rows = [
        sight(f"{at}-1", "waiting", "{1}"),
        sight(f"{at}-2", "waiting", "{2}"),
        sight(f"{at}-3", "waiting", "{3}"),
    ]
    writer.write({"sights": build_table("sights", rows)}, token=f"{at}")
    settled = [sight(f"{at}-1", "joined", ""), sight(f"{at}-3", "kept", "")]
    writer.write({"sights": build_table("sights", settled)}, token=f"settled{at}")

    assert writer.read_waiting_sights(since_ns=at) == [(f"{at}-2", "{2}")]
    assert (f"{at}-2", "{2}") not in writer.read_waiting_sights(since_ns=at + 1)


def test_the_high_water_never_falls(writer: Writer) -> None:
    for number in (3, 9, 5, 9):
        writer.set_high_water({"boot-1": number, "boot-2": 10 - number})

    assert writer.read_high_water("boot-1") == 9
    assert writer.read_high_water("boot-2") == 7
    assert writer.read_high_water("boot-3") == 0


def test_a_component_is_alive_while_it_speaks(writer: Writer, reader: Reader) -> None:
    now = time.time_ns()
    for name, seen in (("fresh", now), ("stale", now - 31 * SECOND), ("fresh", now - 60 * SECOND)):
        status = ComponentStatus(
            kind="agent", name=name, version="1", seen_ns=str(seen), started_ns="1", config_generation=3, alive=False,
            capabilities=({"name": "tls", "on": "false", "why": "no 'x'\t", "cost": "y"},), counters={"a": "1"}, gauges={"b": 2.5},
        )  # fmt: skip
        writer.write_status(status)

    found = {status.name: status for status in reader.read_statuses() if status.kind == "agent"}

    assert {name: status.alive for name, status in found.items()} == {"fresh": True, "stale": False}
    assert found["fresh"].seen_ns == str(now)
    assert found["fresh"].capabilities[0]["why"] == "no 'x'\t"


def test_rows_of_another_schema_are_refused(writer: Writer) -> None:
    table = build_table("logs", [log_line(1, "x")]).drop_columns(["Body"])

    with pytest.raises(StoreRefusedError):
        writer.write({"logs": table}, token="x")


def test_a_regex_that_is_none_is_the_querys_fault(reader: Reader) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        reader.list_logs(LogQuery(q="a /ok/ /(/"))

    assert caught.value.position == 7


def test_a_thousand_ids_travel_as_well(writer: Writer, reader: Reader, at: int) -> None:
    """Longer than a URL may be."""
    ids = tuple(trace_id(at + n) for n in range(1_000))
    writer.write(
        {"logs": build_table("logs", [log_line(at, "found", TraceId=ids[-1])])}, token=f"{at}"
    )

    assert [line.body for line in reader.list_logs(LogQuery(trace_ids=ids)).items] == ["found"]
