"""Both sights of a call become one span. Facts: the probes' section 17; 0 false joins in 510,000 with these rules.

The key is (first client byte, first server byte, the request's first byte) in TCP sequence space. Exact first, then
overlap of byte ranges on the same connection, else no join. A server's sight is looked for among the client's rows of
the same batch (numpy) and the clients' spans stored before; a client's row among the server's sights that wait.

`plan_joins` only reads the books; `apply_joins` changes them, once the plan's rows are built.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from farcall.mixing import Words, mix
from farcall_exporter.clients import (
    EXACT,
    NONE,
    OVERLAP,
    SKEW_NS,
    ClientBook,
    ClientSpan,
    find_client,
    is_nested,
    overlaps,
)
from farcall_exporter.columns import Codes, Mask
from farcall_exporter.exchanges import Exchanges
from farcall_exporter.ids import identity_words
from farcall_exporter.sides import Sides
from farcall_exporter.sights import Sight
from farcall_exporter.waiting import SightBook, Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJoin:
    """A server's sight (a row of this batch) that belongs to a span stored before."""

    span: ClientSpan
    row: int
    kind: int


@dataclass(slots=True, kw_only=True)
class JoinPlan:
    """Per row of the batch: `kinds` and `servers` of client's rows, `settled` of server's, `late` of client's."""

    kinds: npt.NDArray[np.int64]
    servers: Codes  # the server's row in this batch, -1 for none
    settled: Mask  # joined: it becomes no span of its own
    late: Mask  # the call already is a server-side span
    sights: dict[int, Sight] = field(default_factory=dict)  # client's row → waiting sight
    consumed: list[Sight] = field(default_factory=list)  # waiting sights that are joined now
    stored: list[StoredJoin] = field(default_factory=list)


class _Keys:
    """Identity and request number of each row, as words for numpy and as ints for the books."""

    def __init__(self, x: Exchanges) -> None:
        self.x = x
        self.identity = identity_words(
            x.isn_client.astype(np.uint64), x.isn_server.astype(np.uint64)
        )
        self.request: Words = x.request_seq.astype(np.uint64)
        self.end = x.start + x.duration

    def client(self, row: int) -> ClientSpan:
        return ClientSpan(
            request_seq=int(self.request[row]),
            request_bytes=int(self.x.request_span[row]),
            start_ns=int(self.x.start[row]),
            end_ns=int(self.end[row]),
            trace_id="",
            span_id="",
            is_unnamed=False,
            row=row,
        )


def plan_joins(x: Exchanges, sides: Sides, clients: ClientBook, waiting: Waiting) -> JoinPlan:
    keys = _Keys(x)
    plan = JoinPlan(
        kinds=np.zeros(x.count, np.int64),
        servers=np.full(x.count, -1, np.int64),
        settled=np.zeros(x.count, np.bool_),
        late=np.zeros(x.count, np.bool_),
    )
    client_rows = np.flatnonzero(sides.client_spans & x.has_identity)
    server_rows = np.flatnonzero(sides.server_sights & x.has_identity)
    _join_exact(plan, keys, client_rows, server_rows)
    _join_rest(plan, keys, client_rows, server_rows[~plan.settled[server_rows]], clients)
    _join_waiting(plan, keys, client_rows, waiting.sights)
    _mark_late(plan, keys, client_rows, waiting.kept)
    return plan


def _join_exact(plan: JoinPlan, keys: _Keys, client_rows: Codes, server_rows: Codes) -> None:
    """Equal keys within the batch. The words only find candidates; the keys themselves decide."""
    if not len(client_rows) or not len(server_rows):
        return
    words = mix(mix(keys.identity) ^ keys.request)
    order = np.argsort(words[client_rows], kind="stable")
    sorted_words = words[client_rows][order]
    at = np.searchsorted(sorted_words, words[server_rows])
    candidates = client_rows[order[np.minimum(at, len(order) - 1)]]
    starts = keys.x.start
    fits = (
        (keys.identity[candidates] == keys.identity[server_rows])
        & (keys.request[candidates] == keys.request[server_rows])
        & (starts[server_rows] >= starts[candidates] - SKEW_NS)
        & (starts[server_rows] <= keys.end[candidates] + SKEW_NS)
    )
    plan.servers[candidates[fits]] = server_rows[fits]
    plan.kinds[candidates[fits]] = EXACT
    plan.settled[server_rows[fits]] = True


def _join_rest(
    plan: JoinPlan, keys: _Keys, client_rows: Codes, server_rows: Codes, clients: ClientBook
) -> None:
    """Server's rows without an equal key in the batch: by overlap here, by both rules among spans stored before."""
    if not len(server_rows):
        return
    here: defaultdict[int, list[ClientSpan]] = defaultdict(list)
    same = np.isin(keys.identity[client_rows], keys.identity[server_rows])
    for row in client_rows[same].tolist():
        here[int(keys.identity[row])].append(keys.client(row))
    for row in server_rows.tolist():
        identity = int(keys.identity[row])
        request_seq, request_bytes = int(keys.request[row]), int(keys.x.request_span[row])
        found = find_client(
            chain(here.get(identity, ()), clients.near(identity, request_seq, request_bytes)),
            request_seq=request_seq,
            request_bytes=request_bytes,
            start_ns=int(keys.x.start[row]),
        )
        if found is not None:
            _settle(plan, row, *found)


def _settle(plan: JoinPlan, row: int, span: ClientSpan, kind: int) -> None:
    plan.settled[row] = True
    if span.row < 0:
        plan.stored.append(StoredJoin(span=span, row=row, kind=kind))
    elif plan.servers[span.row] < 0:
        plan.servers[span.row] = row
        plan.kinds[span.row] = kind


def _join_waiting(plan: JoinPlan, keys: _Keys, client_rows: Codes, sights: SightBook) -> None:
    rows = _rows_of(keys, client_rows, sights)
    taken: set[str] = set()
    for kind in (EXACT, OVERLAP):
        for row in rows:
            client = keys.client(row)
            for sight in _near(sights, keys, row, client):
                if sight.key not in taken and _match(client, sight) == kind:
                    taken.add(sight.key)
                    plan.consumed.append(sight)
                    if plan.kinds[row] == NONE:
                        plan.kinds[row] = kind
                        plan.sights[row] = sight


def _mark_late(plan: JoinPlan, keys: _Keys, client_rows: Codes, kept: SightBook) -> None:
    for row in _rows_of(keys, client_rows, kept):
        client = keys.client(row)
        plan.late[row] = any(
            _match(client, sight) != NONE for sight in _near(kept, keys, row, client)
        )


def _near(book: SightBook, keys: _Keys, row: int, client: ClientSpan) -> Iterable[Sight]:
    return book.near(int(keys.identity[row]), client.request_seq, client.request_bytes)


def _rows_of(keys: _Keys, client_rows: Codes, sights: SightBook) -> list[int]:
    """Client's rows on a connection of which the book holds a sight."""
    if not len(sights) or not len(client_rows):
        return []
    known = np.array(sights.identities(), np.uint64)
    rows: list[int] = client_rows[np.isin(keys.identity[client_rows], known)].tolist()
    return rows


def _match(client: ClientSpan, sight: Sight) -> int:
    if not is_nested(client, sight.start_ns):
        return NONE
    if client.request_seq == sight.request_seq:
        return EXACT
    meets = overlaps(
        client.request_seq, client.request_bytes, sight.request_seq, sight.request_bytes
    )
    return OVERLAP if meets else NONE


def apply_joins(
    plan: JoinPlan,
    *,
    new_sights: Iterable[Sight],
    new_clients: Iterable[tuple[int, ClientSpan]],
    clients: ClientBook,
    waiting: Waiting,
    now: float,
) -> int:
    """Changes the books; the number of clients' spans that were given up for want of room."""
    for sight in plan.consumed:
        waiting.sights.remove(sight)
    for sight in new_sights:
        waiting.sights.add(sight, now)
    for identity, span in new_clients:
        clients.add(identity, span, now)
    return clients.forget(now)


def choose_open(plan: JoinPlan, x: Exchanges, rows: Codes) -> Codes:
    """Which of these clients' rows a later sight may still be joined to, as indices into `rows`.

    Not those whose server's sight already covers every byte of the request.
    """
    server = plan.servers[rows]
    covered = (server >= 0) & (x.request_span[server] >= x.request_span[rows])
    chosen = np.flatnonzero(~covered)
    return chosen[[rows[i] not in plan.sights for i in chosen]] if plan.sights else chosen


def list_clients(
    x: Exchanges,
    rows: Codes,
    *,
    trace_ids: list[str],
    span_ids: list[str],
    unnamed: Mask,
) -> list[tuple[int, ClientSpan]]:
    """With their connections' identities. All columns are as long as `rows`."""
    keys = _Keys(x)
    columns = zip(
        keys.identity[rows].tolist(),
        keys.request[rows].tolist(),
        x.request_span[rows].tolist(),
        x.start[rows].tolist(),
        keys.end[rows].tolist(),
        trace_ids,
        span_ids,
        unnamed.tolist(),
        strict=True,
    )
    return [(identity, ClientSpan(*values)) for identity, *values in columns]
