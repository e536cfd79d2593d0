"""Reads of spans and traces. Every span leaves through the overlays."""

import time
from collections.abc import Sequence
from typing import Any

from farcall.api import Span, SpanPage, SpanQuery, Trace, TracePage, TraceSummary, Window
from farcall_store.client import Client
from farcall_store.overlays import SPAN_COLUMNS, read_overlays, read_trace_window
from farcall_store.paging import (
    BOUND,
    bind,
    clamp,
    clamp_limit,
    decode_cursor,
    encode_cursor,
    split_newest_first,
    widen_newest_first,
)
from farcall_store.search import IS_UNKNOWN, LATE, LATE_REASON, compile_spans

MAX_LINKED_TRACES = 64  # traces shown as one; a hub that links thousands is cut, not followed
LINK_ROUNDS = (
    8  # from a trace to those linked with it, and on: calls deep, where each is a trace of its own
)


def list_spans(client: Client, query: SpanQuery) -> SpanPage:
    """Newest first."""
    predicate = compile_spans(query.q)
    window, limit = clamp(query.window), clamp_limit(query.limit)
    after, params = "", dict(predicate.params)
    if query.cursor:
        ns, trace_id, span_id = decode_cursor(query.cursor, (int, str, str))
        window = Window(from_ns=window.from_ns, to_ns=min(window.to_ns, int(ns) + 1))
        after = (
            " AND (toUnixTimestamp64Nano(Timestamp), TraceId, SpanId)"
            " < ({after_ns:Int64}, {after_trace:String}, {after_span:String})"
        )
        params |= {"after_ns": ns, "after_trace": trace_id, "after_span": span_id}
    rows: list[dict[str, Any]] = []
    for piece in split_newest_first(window):
        rows += client.query(
            f"SELECT {SPAN_COLUMNS} FROM otel_traces WHERE {BOUND} AND {predicate.sql}{after} "
            "ORDER BY Timestamp DESC, TraceId DESC, SpanId DESC LIMIT {rows:UInt32}",
            {**params, **bind(piece), "rows": limit + 1 - len(rows)},
        )
        if len(rows) > limit:
            break
    page = rows[:limit]
    overlays = read_overlays(client, page)
    return SpanPage(items=tuple(overlays.apply(row) for row in page), next=_next_span(rows, limit))


def _next_span(rows: list[dict[str, Any]], limit: int) -> str | None:
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    return encode_cursor([last["start_ns"], last["trace_id"], last["span_id"]])


def find_linked_traces(client: Client, trace_id: str) -> list[str]:
    """The trace itself first, then those that links connect with it, whichever way."""
    found = [trace_id]
    fresh = found
    for _ in range(LINK_ROUNDS):
        rows = client.query(
            "SELECT DISTINCT EbpfTraceId AS ebpf, OtelTraceId AS otel FROM trace_links "
            "WHERE EbpfTraceId IN {ids:Array(String)} OR OtelTraceId IN {ids:Array(String)} "
            "ORDER BY ebpf, otel LIMIT {most:UInt32}",
            {"ids": fresh, "most": MAX_LINKED_TRACES * 4},
        )
        linked = dict.fromkeys(row[end] for row in rows for end in ("otel", "ebpf"))
        fresh = [trace for trace in linked if trace not in found][: MAX_LINKED_TRACES - len(found)]
        if not fresh:
            break
        found += fresh
    return found


def read_trace(client: Client, trace_id: str, *, limit: int) -> Trace | None:
    traces = find_linked_traces(client, trace_id)
    params = {**read_trace_window(client, traces), "traces": traces}
    where = f"FROM otel_traces WHERE {BOUND} AND TraceId IN {{traces:Array(String)}}"
    rows = client.query(
        f"SELECT {SPAN_COLUMNS} {where} ORDER BY Timestamp, SpanId LIMIT {{rows:UInt32}}",
        {**params, "rows": limit + 1},
    )
    if not rows:
        return None
    total = len(rows)
    if total > limit:
        total = int(client.query(f"SELECT count() AS n {where}", params)[0]["n"])
    page = rows[:limit]
    overlays = read_overlays(client, page)
    spans = tuple(overlays.apply(row) for row in page)
    return Trace(
        trace_id=trace_id,
        effective_trace_ids=tuple(dict.fromkeys(span.effective_trace_id for span in spans)),
        start_ns=spans[0].start_ns,
        end_ns=str(max(int(span.start_ns) + int(span.duration_ns) for span in spans)),
        spans=spans,
        truncated=len(rows) > limit,
        total_spans=total,
    )


def read_span(client: Client, trace_id: str, span_id: str) -> Span | None:
    """By its own trace's ID, or by that of a trace linked with it."""
    traces = find_linked_traces(client, trace_id)
    rows = client.query(
        f"SELECT {SPAN_COLUMNS} FROM otel_traces WHERE {BOUND} AND TraceId IN {{traces:Array(String)}} "
        "AND SpanId = {span:String} ORDER BY TraceId = {own:String} DESC LIMIT 1",
        {**read_trace_window(client, traces), "traces": traces, "span": span_id, "own": trace_id},
    )
    return read_overlays(client, rows).apply(rows[0]) if rows else None


def _render_list_traces(condition: str) -> str:
    """One row per logical trace: an eBPF trace that links to an OpenTelemetry trace is part of that one."""
    return (
        "SELECT if(linked.otel != '', linked.otel, spans.TraceId) AS trace_id, max(spans.ns) AS newest "
        "FROM (SELECT TraceId, toUnixTimestamp64Nano(Timestamp) AS ns FROM otel_traces "
        f"WHERE {BOUND} AND {condition}) AS spans "
        "LEFT JOIN (SELECT EbpfTraceId, argMin(OtelTraceId, Timestamp) AS otel FROM trace_links "
        f"WHERE {BOUND} GROUP BY EbpfTraceId) AS linked ON linked.EbpfTraceId = spans.TraceId "
        "GROUP BY trace_id HAVING (newest, trace_id) < ({before_ns:Int64}, {before_trace:String}) "
        "ORDER BY newest DESC, trace_id DESC LIMIT {rows:UInt32}"
    )


def list_traces(client: Client, query: SpanQuery) -> TracePage:
    """Newest first, by the newest matching span."""
    predicate = compile_spans(query.q)
    window, limit = clamp(query.window), clamp_limit(query.limit)
    before_ns, before_trace = (1 << 63) - 1, ""
    if query.cursor:
        ns, trace, to_ns = decode_cursor(query.cursor, (int, str, int))
        before_ns, before_trace = min(int(ns), before_ns), str(trace)
        # What arrives while somebody turns pages must not shift them.
        window = clamp(Window(from_ns=window.from_ns, to_ns=int(to_ns)))
    rows: list[dict[str, Any]] = []
    sql = _render_list_traces(predicate.sql)
    for piece in widen_newest_first(window, min(before_ns, time.time_ns())):
        rows = client.query(
            sql,
            {
                **predicate.params,
                **bind(piece),
                "before_ns": before_ns,
                "before_trace": before_trace,
                "rows": limit + 1,
            },
        )
        if len(rows) > limit:
            break
    page = rows[:limit]
    items = summarise_traces(client, [row["trace_id"] for row in page])
    following = None
    if len(rows) > limit:
        following = encode_cursor([page[-1]["newest"], page[-1]["trace_id"], window.to_ns])
    return TracePage(items=items, next=following)


def summarise_traces(client: Client, traces: list[str]) -> tuple[TraceSummary, ...]:
    """One line per trace, in the given order, with the spans of linked eBPF traces counted in."""
    if not traces:
        return ()
    part_of = {trace: trace for trace in traces}
    for row in client.query(
        "SELECT EbpfTraceId AS ebpf, argMin(OtelTraceId, Timestamp) AS otel FROM trace_links "
        "WHERE OtelTraceId IN {ids:Array(String)} GROUP BY EbpfTraceId LIMIT 10000",
        {"ids": traces},
    ):
        part_of.setdefault(row["ebpf"], row["otel"])
    members = sorted(part_of)
    window = read_trace_window(client, members)
    groups = client.query(_SUMMARISE, {**window, "ids": members})
    _add_late_reasons(client, window, groups)
    labels = _read_late_labels(client, window, [row["root"][3] for row in groups])
    by_trace: dict[str, list[dict[str, Any]]] = {}
    for row in groups:
        by_trace.setdefault(part_of[row["trace_id"]], []).append(row)
    return tuple(
        _merge_summary(trace, by_trace[trace], labels) for trace in traces if trace in by_trace
    )


_SUMMARISE = f"""
SELECT TraceId AS trace_id, count() AS spans, countIf(StatusCode = 'Error') AS errors,
  min(toUnixTimestamp64Nano(Timestamp)) AS first, max(toUnixTimestamp64Nano(Timestamp) + Duration) AS last,
  groupUniqArray(Source) AS sources,
  countIf({IS_UNKNOWN}) AS unknown,
  groupUniqArrayIf(UnknownReason, {IS_UNKNOWN} AND SpanId NOT IN ({LATE})) AS unknown_reasons,
  argMin((SpanName, ServiceName, DestinationLabel, SpanId), (ParentSpanId != '', Timestamp, SpanId)) AS root,
  min((ParentSpanId != '', toUnixTimestamp64Nano(Timestamp))) AS rank
FROM otel_traces WHERE {BOUND} AND TraceId IN {{ids:Array(String)}} GROUP BY TraceId
"""


_LATE_REASONS = f"""
SELECT TraceId AS trace_id, groupUniqArray(reason) AS reasons FROM (
  SELECT TraceId, SpanId, argMax({LATE_REASON}, Stored) AS reason
  FROM late_names WHERE {BOUND} AND TraceId IN {{ids:Array(String)}} GROUP BY TraceId, SpanId
) WHERE reason != '' GROUP BY TraceId
"""


def _add_late_reasons(
    client: Client, window: dict[str, int], groups: Sequence[dict[str, Any]]
) -> None:
    """Reasons that were corrected after their spans were stored."""
    asked = {row["trace_id"]: row for row in groups if row["unknown"]}
    if asked:
        for late in client.query(_LATE_REASONS, {**window, "ids": sorted(asked)}):
            if late["trace_id"] in asked:
                asked[late["trace_id"]]["unknown_reasons"] += late["reasons"]


def _read_late_labels(client: Client, window: dict[str, int], spans: list[str]) -> dict[str, str]:
    rows = client.query(
        "SELECT SpanId AS span_id, argMax(DestinationLabel, Stored) AS label FROM late_names "
        f"WHERE {BOUND} AND SpanId IN {{ids:Array(String)}} GROUP BY SpanId",
        {**window, "ids": spans},
    )
    return {row["span_id"]: row["label"] for row in rows}


def _merge_summary(
    trace: str, groups: list[dict[str, Any]], labels: dict[str, str]
) -> TraceSummary:
    name, service, destination, span_id = min(groups, key=lambda row: row["rank"])["root"]
    first = min(row["first"] for row in groups)
    return TraceSummary(
        trace_id=trace,
        root_name=name,
        root_service=service,
        destination=labels.get(span_id, destination),
        start_ns=str(first),
        duration_ns=str(max(row["last"] for row in groups) - first),
        spans=sum(row["spans"] for row in groups),
        errors=sum(row["errors"] for row in groups),
        sources=_collect(groups, "sources"),
        unknown=sum(row["unknown"] for row in groups),
        unknown_reasons=_collect(groups, "unknown_reasons"),
    )


def _collect(groups: list[dict[str, Any]], column: str) -> tuple[str, ...]:
    return tuple(sorted({value for row in groups for value in row[column]}))
