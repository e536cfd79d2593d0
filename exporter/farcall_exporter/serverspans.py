"""Server-side spans: of callers from outside at once, of those inside only when no client's sight came."""

import numpy as np
import pyarrow as pa

from farcall.names import DestinationKind, NameSource
from farcall.rows import JOINS, LINKS
from farcall_exporter.clients import KIND_WORDS
from farcall_exporter.columns import Coded, Codes, choose, constant, overlay, spread
from farcall_exporter.exchanges import Exchanges
from farcall_exporter.hosts import parse_host_name
from farcall_exporter.join import StoredJoin
from farcall_exporter.late import late_names_table, name_by_server
from farcall_exporter.sights import Sight, join_key, parse_sight, render_sights
from farcall_exporter.spans import Entries, SpanParts, build_spans
from farcall_exporter.stage import Stage


def build_server_spans(
    stage: Stage, rows: Codes, *, version: str, extra: Entries | None = None
) -> pa.Table:
    """The destination of a server-side span is the service itself."""
    x, own = stage.x, stage.own.take(rows)
    service = overlay(x.owner.service.take(rows), own.texts(lambda identity: identity.label))
    is_workload = x.owner.pod.take(rows).present | x.owner.container.take(rows).present
    parts = SpanParts(
        rows=rows,
        own=own,
        is_server=True,
        trace_id=stage.trace_id.take(pa.array(rows)),
        span_id=stage.span_id.take(pa.array(rows)),
        parent=stage.parent.take(pa.array(rows)),
        destination=service,
        server_address=_asked_for(x, rows),
        unknown_reason=Coded(pa.array([], pa.string()), np.full(len(rows), -1)),
        attributes=[
            ("farcall.destination.name", service),
            ("farcall.destination.kind", constant(DestinationKind.SERVICE, len(rows))),
            ("farcall.name.source", constant(NameSource.KUBERNETES, len(rows)).only(is_workload)),
            ("k8s.service.name", own.texts(lambda identity: identity.service)),
            *(extra or []),
        ],
    )
    return build_spans(x, parts, version=version, links=stage.links)


def _asked_for(x: Exchanges, rows: Codes) -> Coded:
    """The name the caller used, else the address it reached."""
    hosts, locals_ = [*x.host.texts(), None], [*x.ends.local.texts(), ""]
    names = [parse_host_name(host) for host in hosts]
    columns = zip(x.host.codes[rows].tolist(), x.ends.local.codes[rows].tolist(), strict=True)
    texts = [names[host] or locals_[local] for host, local in columns]
    return spread(texts, np.arange(len(rows)))


def build_waiting(
    stage: Stage, rows: Codes, *, version: str, run: str, came_ns: int
) -> list[Sight]:
    """Sights as they wait, of this exporter's run. What they would become is settled now, so that nothing has to be recomputed later."""
    if not len(rows):
        return []
    x = stage.x
    extra: Entries = [("farcall.join", choose(KIND_WORDS, np.zeros(len(rows), np.int64)))]
    spans = build_server_spans(stage, rows, version=version, extra=extra)
    texts = render_sights(spans, x.request_span[rows].tolist(), run=run, came_ns=came_ns)
    keys = [
        join_key((client << 32) | server, seq) if has_identity else f"-{trace}"
        for client, server, seq, has_identity, trace in zip(
            x.isn_client[rows].tolist(),
            x.isn_server[rows].tolist(),
            x.request_seq[rows].tolist(),
            x.has_identity[rows].tolist(),
            spans.column("TraceId").to_pylist(),
            strict=True,
        )
    ]
    return [parse_sight(k, t, boot_id=x.boot_id) for k, t in zip(keys, texts, strict=True)]


def build_stored_joins(stage: Stage) -> tuple[pa.Table, pa.Table]:
    """Overlay rows for clients' spans stored before: what the server saw, and its name where there was only an address."""
    stored = stage.plan.stored
    attributes = [_server_facts(stage.x, join) for join in stored]
    columns = [
        [join.span.start_ns for join in stored],
        [join.span.trace_id for join in stored],
        [join.span.span_id for join in stored],
        attributes,
    ]
    joins = pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, JOINS, strict=True)], schema=JOINS
    )
    late = [
        (
            join.span.start_ns,
            join.span.trace_id,
            join.span.span_id,
            facts["farcall.server.service.name"],
            name_by_server(facts["farcall.server.service.name"]),
        )
        for join, facts in zip(stored, map(dict, attributes), strict=True)
        if join.span.is_unnamed
    ]
    return joins, late_names_table(late)


def _server_facts(x: Exchanges, join: StoredJoin) -> list[tuple[str, str]]:
    row = join.row
    facts = [
        ("farcall.join", KIND_WORDS[join.kind]),
        ("farcall.server.duration_ns", str(int(x.duration[row]))),
        ("farcall.server.service.name", x.owner.service.texts()[int(x.owner.service.codes[row])]),
    ]
    pod = int(x.owner.pod.codes[row])
    if pod >= 0:
        facts.append(("farcall.server.pod.name", x.owner.pod.texts()[pod]))
    return facts


def build_kept_links(spans: pa.Table) -> pa.Table:
    """Rows of the links table for kept sights, from the links that their spans carry."""
    columns = [
        spans.column(n).to_pylist() for n in ("TraceId", "SpanId", "Links.TraceId", "Links.SpanId")
    ]
    times = spans.column("Timestamp").cast(pa.int64()).to_pylist()
    rows = [
        (time, trace, span, other_trace, other_span, "traceparent")
        for time, trace, span, traces, others in zip(times, *columns, strict=True)
        for other_trace, other_span in zip(traces, others, strict=True)
    ]
    values = list(zip(*rows, strict=True)) if rows else [()] * len(LINKS)
    return pa.Table.from_arrays(
        [pa.array(list(v), f.type) for v, f in zip(values, LINKS, strict=True)], schema=LINKS
    )
