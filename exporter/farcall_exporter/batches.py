"""One decoded batch → the tables to commit. Resolve, sides, join, link; the only I/O are the look-ups.

The memory between batches changes here too, once the tables stand: a batch is built once, and a retry hands the same
tables over again (pipeline).
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from farcall.rows import TableName
from farcall.storeport import Writer
from farcall_exporter.clients import ClientSpan
from farcall_exporter.clientspans import build_client_spans, keep_unknown
from farcall_exporter.cluster.destinations import Places, find_own, find_places
from farcall_exporter.columns import Codes, Mask, code_column, hex_ids, integers
from farcall_exporter.context import Context
from farcall_exporter.decode import Decoded
from farcall_exporter.ends import build_client_ends, find_kept
from farcall_exporter.evidence import build_answers, build_connections
from farcall_exporter.exchanges import Ends, Exchanges, Owner
from farcall_exporter.ids import derive_ids, identity_words
from farcall_exporter.join import JoinPlan, apply_joins, choose_open, list_clients, plan_joins
from farcall_exporter.links import read_links
from farcall_exporter.naming import Named, name_rows
from farcall_exporter.parents import plan_parents, settle
from farcall_exporter.selection import keep_rows, mark_sample, select_spans
from farcall_exporter.serverspans import build_server_spans, build_stored_joins, build_waiting
from farcall_exporter.services import name_services
from farcall_exporter.sides import Sides, decide_sides
from farcall_exporter.sights import Sight, build_sight_rows, render_end
from farcall_exporter.stage import Stage

Tables = dict[TableName, pa.Table]


def build_batch(decoded: Decoded, context: Context) -> Tables:
    kind = decoded.header.kind
    if kind == "dns":
        owner = _own_callers(Owner.of(decoded.table), context)
        return drop_empty({"dns_answers": build_answers(decoded, owner=owner)})
    if kind == "connections":
        return drop_empty({"connections": _build_connections(decoded, context)})
    return _build_exchanges(Exchanges.of(decoded), context)


def drop_empty(tables: Tables) -> Tables:
    return {name: table for name, table in tables.items() if table.num_rows}


def _build_connections(decoded: Decoded, context: Context) -> pa.Table:
    table = decoded.table
    owner, ends = _own_callers(Owner.of(table), context), Ends.of(table, opened="opened")
    rules = context.settings.rules
    inside, rows = context.inside(ends.peer), np.arange(table.num_rows)
    named = name_rows(
        owner=owner,
        ends=ends,
        host=None,
        protocol=code_column(table, "protocol"),
        at_ns=integers(table, "time"),
        peer_inside=inside,
        rows=rows,
        rules=rules,
        lookups=context.lookups,
    )
    places = find_places(
        context.identities, ends, integers(table, "time"), rows, named.texts("server_address")
    )
    return build_connections(
        decoded,
        owner=owner,
        ends=ends,
        role=integers(table, "role"),
        named=named,
        places=places.only(inside),
        ttl_s=rules.ttl_s,
    )


def _own_callers(owner: Owner, context: Context) -> Owner:
    """Rows of those who asked or connected, whatever their role became."""
    callers = np.zeros(len(owner.tgid), np.int64)
    return name_services(owner, find_own(context.identities, owner, callers))


def _build_exchanges(x: Exchanges, context: Context) -> Tables:
    own = find_own(context.identities, x.owner, np.where(x.is_client, 0, x.ends.local_port))
    x = replace(x, owner=name_services(x.owner, own))
    sides = decide_sides(x, context.inside)
    plan = plan_joins(x, sides, context.clients, context.waiting)
    trace_id, span_id = _ids(x)
    if context.peers is not None:
        late_rows = _find_late(x, sides, plan, context)
        if len(late_rows):
            _mark_kept_elsewhere(x, late_rows, plan, trace_id, span_id, context.peers)
    links = read_links(x)
    parents = plan_parents(
        x,
        sides,
        plan,
        trace_id=trace_id,
        span_id=span_id,
        is_linked=links.present,
        book=context.causes,
        inherits=context.peers is None,
    )
    stage = Stage(
        x=x,
        sides=sides,
        plan=plan,
        links=links,
        trace_id=parents.trace_id,
        span_id=parents.span_id,
        parent=parents.parent,
        own=own,
    )
    client_rows = np.flatnonzero(sides.client_spans & ~plan.late)
    named = name_rows(
        owner=x.owner,
        ends=x.ends,
        host=x.host,
        protocol=x.protocol,
        at_ns=x.start,
        peer_inside=sides.peer_inside,
        rows=client_rows,
        rules=context.settings.rules,
        lookups=context.lookups,
        identities=x.connection_identities,
    )
    places = _places(stage, client_rows, named, context)
    client_spans, unnamed = build_client_spans(
        stage, client_rows, named, places, version=context.version
    )
    server_rows = np.flatnonzero(sides.server_spans)
    server_spans = build_server_spans(stage, server_rows, version=context.version)
    waiting_rows = np.flatnonzero(sides.server_sights & ~plan.settled)
    sights = build_waiting(
        stage,
        waiting_rows,
        version=context.version,
        run=context.run,
        came_ns=context.wall_ns(),
    )
    joins, late_names = build_stored_joins(stage)
    late_children = settle(parents, x, context.causes, context.clock())
    spans = join_tables(client_spans, server_spans)
    # A call whose span is not stored is remembered all the same: its server's sight must find it, and not become a span.
    chosen = select_spans(spans, context)
    linked_rows = np.concatenate([client_rows, server_rows])[chosen]
    open_clients = _open_clients(stage, client_rows, unnamed)
    tables: Tables = {
        "spans": mark_sample(keep_rows(spans, chosen), context.settings.selection),
        "links": join_tables(_link_rows(stage, linked_rows), parents.links(x, late_children)),
        "joins": joins,
        "late_names": late_names,
        "sights": build_sight_rows(sights, [(s, "joined") for s in plan.consumed]),
    }
    if context.peers is not None:
        tables["sights"] = join_tables(tables["sights"], open_clients.ends(x))
    _remember(stage, client_rows, named, open_clients, sights, context)
    _count(stage, named, places, context)
    context.counters.add("spans_written", len(linked_rows))
    context.counters.add("parents_same_batch", parents.found)
    context.counters.add("parents_late", len(late_children))
    context.counters.add("parents_unknown", context.causes.forget(context.clock()))
    return drop_empty(tables)


def _find_late(x: Exchanges, sides: Sides, plan: JoinPlan, context: Context) -> Codes:
    """Client's rows that come when their server's sight may have waited long enough: half of that, so that those of which
    nobody asks are stored before."""
    waited_ns = context.wall_ns() - int(context.settings.join_hold_s * 1e9 / 2)
    is_late = sides.joinable & x.has_identity & ~plan.late & (plan.servers < 0)
    rows = np.flatnonzero(is_late & (x.start + x.duration < waited_ns))
    return rows[[row not in plan.sights for row in rows.tolist()]] if plan.sights else rows


def _mark_kept_elsewhere(
    x: Exchanges, rows: Codes, plan: JoinPlan, trace_id: pa.Array, span_id: pa.Array, store: Writer
) -> None:
    """Another exporter may have kept the server's sight meanwhile. Said first, asked then (ends)."""
    chosen = pa.array(rows)
    ends = build_client_ends(
        x,
        rows,
        trace_id=trace_id.take(chosen),
        span_id=span_id.take(chosen),
        unnamed=np.zeros(len(rows), np.bool_),
    )
    told = hashlib.sha256("".join(ends.column("JoinKey").to_pylist()).encode()).hexdigest()
    store.write({"sights": ends}, token=f"ends:{x.boot_id}:{told}")
    plan.late[rows] = find_kept(x, rows, store.find_ends)


def _places(stage: Stage, rows: Codes, named: Named, context: Context) -> Places:
    """What is inside has the cluster's own names, whatever a request says."""
    asked = named.texts("server_address")
    found = find_places(context.identities, stage.x.ends, stage.x.start, rows, asked)
    return found.only(stage.sides.peer_inside[rows])


def _ids(x: Exchanges) -> tuple[pa.Array, pa.Array]:
    words = {
        name: getattr(x, name).astype(np.uint64)
        for name in ("isn_client", "isn_server", "request_seq", "start", "sequence", "role")
    }
    ids = derive_ids(
        has_identity=x.has_identity,
        identity=identity_words(words["isn_client"], words["isn_server"]),
        request_seq=words["request_seq"],
        start_ns=words["start"],
        boot_id=x.boot_id,
        connection=x.ends.connection.astype(np.uint64),
        sequence=words["sequence"],
        role=words["role"],
    )
    return hex_ids(ids.trace_high, ids.trace_low), hex_ids(ids.span)


def _link_rows(stage: Stage, rows: Codes) -> pa.Table:
    chosen = pa.array(rows)
    return stage.links.table(stage.x, rows, stage.trace_id.take(chosen), stage.span_id.take(chosen))


def join_tables(first: pa.Table, second: pa.Table) -> pa.Table:
    if not second.num_rows:
        return first
    if not first.num_rows:
        return second
    return pa.concat_tables([first, second]).unify_dictionaries().combine_chunks()


@dataclass(frozen=True, slots=True)
class _OpenClients:
    """Clients' spans that a later sight may still be joined to; all columns are of one length."""

    rows: Codes
    trace_id: pa.Array
    span_id: pa.Array
    unnamed: Mask

    def ends(self, x: Exchanges) -> pa.Table:
        return build_client_ends(
            x, self.rows, trace_id=self.trace_id, span_id=self.span_id, unnamed=self.unnamed
        )

    def spans(self, x: Exchanges) -> list[tuple[int, ClientSpan]]:
        return list_clients(
            x,
            self.rows,
            trace_ids=self.trace_id.to_pylist(),
            span_ids=self.span_id.to_pylist(),
            unnamed=self.unnamed,
        )


def _open_clients(stage: Stage, client_rows: Codes, unnamed: Mask) -> _OpenClients:
    x = stage.x
    joinable = np.flatnonzero(stage.sides.joinable[client_rows] & x.has_identity[client_rows])
    chosen = joinable[choose_open(stage.plan, x, client_rows[joinable])]
    rows = client_rows[chosen]
    taken = pa.array(rows)
    return _OpenClients(
        rows, stage.trace_id.take(taken), stage.span_id.take(taken), unnamed[chosen]
    )


def _remember(
    stage: Stage,
    client_rows: Codes,
    named: Named,
    open_clients: _OpenClients,
    sights: list[Sight],
    context: Context,
) -> None:
    """Moves the memory between batches on: what waits, what may still be joined, what may still be named."""
    x, now = stage.x, context.clock()
    forgotten = apply_joins(
        stage.plan,
        new_sights=sights,
        new_clients=open_clients.spans(x),
        clients=context.clients,
        waiting=context.waiting,
        now=now,
    )
    context.counters.add("clients_forgotten", forgotten)
    context.unproven.add(_unproven(x, client_rows[stage.sides.joinable[client_rows]]))
    keep_unknown(stage, client_rows, named, context.late, now)
    context.counters.add("late_forgotten", context.late.forget(now))
    reported = int((x.start + x.duration).max()) if x.count else 0
    context.agents.hear(x.boot_id, now, node=x.node, reported_ns=reported)
    context.agents.learn_addresses(x.boot_id, x.ends.local.texts())


def _unproven(x: Exchanges, rows: Codes) -> list[tuple[str, int, int]]:
    """Clients' ends without an identity: what UnprovenBook keeps."""
    chosen = rows[~x.has_identity[rows]]
    addresses = x.ends.local.texts()
    return [
        (
            render_end(addresses[x.ends.local.codes[row]], int(x.ends.local_port[row])),
            int(x.start[row]),
            int(x.start[row] + x.duration[row]),
        )
        for row in chosen.tolist()
    ]


def _count(stage: Stage, named: Named, places: Places, context: Context) -> None:
    plan, add = stage.plan, context.counters.add
    by_overlap = int((plan.kinds == 2).sum()) + sum(j.kind == 2 for j in plan.stored)
    is_unknown = np.array([d.reason is not None for d in named.decisions] or [False], np.bool_)
    add("spans_unknown", int(is_unknown[named.groups].sum()))
    add("kubernetes_named", int(places.certain.sum()))
    add("outside_client_sights", int(stage.sides.dropped.sum()))
    add("client_sights_late_lost", int(plan.late.sum()))
    add("joins_same_batch", int((plan.servers >= 0).sum()))
    add("joins_waiting", len(plan.consumed))
    add("joins_stored", len(plan.stored))
    add("joins_overlap", by_overlap)
