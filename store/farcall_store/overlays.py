"""What became known after a span was stored, laid over it: joins, late names, links and the trace ID that logs carry.

Stored rows are immutable; every reader of spans goes through `Overlays`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from farcall.api import Link, Span
from farcall_store.client import Client
from farcall_store.paging import BOUND, WHOLE, bind, pad
from farcall_store.search import UNKNOWN_REASON

Row = Mapping[str, Any]
Key = tuple[str, str]  # trace ID and span ID

SPAN_COLUMNS = """
  toUnixTimestamp64Nano(Timestamp) AS start_ns, TraceId AS trace_id, SpanId AS span_id,
  ParentSpanId AS parent_span_id, SpanName AS name, SpanKind AS kind, Duration AS duration_ns,
  ServiceName AS service, StatusCode AS status, StatusMessage AS status_message, Source AS source,
  DestinationLabel AS destination, UnknownReason AS unknown_reason, IsServerSpan AS is_server_span,
  SpanAttributes AS attributes, ResourceAttributes AS resource,
  `Links.TraceId` AS link_trace_ids, `Links.SpanId` AS link_span_ids
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlays:
    links: dict[Key, list[Link]] = field(default_factory=dict)
    joins: dict[Key, dict[str, str]] = field(default_factory=dict)
    late: dict[Key, tuple[str, dict[str, str]]] = field(default_factory=dict)
    parents: dict[Key, str] = field(default_factory=dict)  # of the traces that have links
    causes: dict[Key, str] = field(default_factory=dict)  # parents that became known later

    def apply(self, row: Row) -> Span:
        key = (row["trace_id"], row["span_id"])
        attributes = {**row["attributes"], **self.joins.get(key, {})}
        destination, reason = row["destination"], row["unknown_reason"]
        late = self.late.get(key)
        if late is not None:
            attributes.pop(UNKNOWN_REASON, None)
            attributes |= late[1]
            destination, reason = late[0], late[1].get(UNKNOWN_REASON, "")
        effective = self.find_effective(key)
        return Span(
            trace_id=row["trace_id"],
            span_id=row["span_id"],
            parent_span_id=row["parent_span_id"] or self.causes.get(key, ""),
            name=row["name"],
            kind=row["kind"],
            start_ns=str(row["start_ns"]),
            duration_ns=str(row["duration_ns"]),
            service=row["service"],
            status=row["status"],
            status_message=row["status_message"],
            source=row["source"],
            destination=destination,
            unknown_reason=reason,
            is_server_span=bool(row["is_server_span"]),
            attributes=attributes,
            resource=dict(row["resource"]),
            links=self._links_of(row, key),
            effective_trace_id=effective.trace_id,
            effective_span_id=self._effective_span_id(key),
        )

    def find_effective(self, key: Key) -> Link:
        """Its own traceparent's, else its nearest linked ancestor's, else its own."""
        trace_id, span_id = key
        seen = set()
        while span_id and span_id not in seen:
            if links := self.links.get((trace_id, span_id)):
                return links[0]
            seen.add(span_id)
            span_id = self.parents.get((trace_id, span_id), "")
        return Link(trace_id=trace_id, span_id=key[1])

    def _effective_span_id(self, key: Key) -> str:
        links = self.links.get(key)
        return links[0].span_id if links and links[0].span_id else key[1]

    def _links_of(self, row: Row, key: Key) -> tuple[Link, ...]:
        stored = [
            Link(trace_id=trace_id, span_id=span_id)
            for trace_id, span_id in zip(row["link_trace_ids"], row["link_span_ids"], strict=True)
        ]
        return tuple(dict.fromkeys([*stored, *self.links.get(key, [])]))


def read_overlays(client: Client, rows: Iterable[Row]) -> Overlays:
    """Everything that lies over these rows."""
    rows = list(rows)
    if not rows:
        return Overlays()
    times = [row["start_ns"] for row in rows]
    traces = sorted({row["trace_id"] for row in rows})
    links: dict[Key, list[Link]] = {}
    causes: dict[Key, str] = {}
    joins: dict[Key, dict[str, str]] = {}
    late: dict[Key, tuple[str, dict[str, str]]] = {}
    for row in client.query(_READ, {**bind(pad(min(times), max(times))), "traces": traces}):
        key = (row["trace_id"], row["span_id"])
        if row["kind"] == "cause":
            causes.setdefault(key, row["second"])
        elif row["kind"] == "link":
            links.setdefault(key, []).append(Link(trace_id=row["first"], span_id=row["second"]))
        elif row["kind"] == "join":
            joins.setdefault(key, {}).update(row["attributes"])
        else:
            late[key] = (row["first"], row["attributes"])
    linked = sorted({trace_id for trace_id, _ in links})
    return Overlays(
        links=links, joins=joins, late=late, parents=_read_parents(client, linked), causes=causes
    )


# One round trip for all three tables; what was stored last wins, the oldest link comes first.
_READ = f"""
SELECT kind, trace_id, span_id, first, second, attributes FROM (
  SELECT if(Method = 'cause', 'cause', 'link') AS kind, EbpfTraceId AS trace_id, EbpfSpanId AS span_id, OtelTraceId AS first, OtelSpanId AS second,
    CAST(map() AS Map(LowCardinality(String), String)) AS attributes, min(Timestamp) AS at
  FROM trace_links WHERE {BOUND} AND EbpfTraceId IN {{traces:Array(String)}} GROUP BY ALL
  UNION ALL SELECT 'join', TraceId, SpanId, '', '', Attributes, Stored
  FROM span_joins WHERE {BOUND} AND TraceId IN {{traces:Array(String)}}
  UNION ALL SELECT 'late', TraceId, SpanId, DestinationLabel, '', Attributes, Stored
  FROM late_names WHERE {BOUND} AND TraceId IN {{traces:Array(String)}}
) ORDER BY at, first, second
"""


def _read_parents(client: Client, traces: list[str]) -> dict[Key, str]:
    """Who is whose parent in the traces that have links: an ancestor may be on another page."""
    if not traces:
        return {}
    window = read_trace_window(client, traces)
    rows = client.query(
        "SELECT TraceId AS trace_id, SpanId AS span_id, ParentSpanId AS parent FROM otel_traces "
        f"WHERE {BOUND} AND TraceId IN {{traces:Array(String)}} AND ParentSpanId != '' LIMIT 200000",
        {**window, "traces": traces},
    )
    return {(row["trace_id"], row["span_id"]): row["parent"] for row in rows}


def read_trace_window(client: Client, traces: list[str]) -> dict[str, int]:
    """Literal bounds of these traces, from the small look-up table; all time when it does not know them."""
    row = client.query(
        "SELECT count() AS found, toUnixTimestamp64Nano(min(Start)) AS first, toUnixTimestamp64Nano(max(End)) AS last "
        "FROM otel_traces_trace_id_ts WHERE TraceId IN {traces:Array(String)}",
        {"traces": traces},
    )[0]
    if not row["found"]:
        return bind(WHOLE)
    return bind(pad(row["first"], row["last"]))
