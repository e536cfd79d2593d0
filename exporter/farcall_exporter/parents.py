"""Which call was made for which: a client's row says which exchange its thread was serving, and becomes that one's child.

The parent is the span of the call that was served: the caller's, where the server's sight is joined to it, so that traces go
through services; else the one that the sight becomes. IDs are derived from the join key, so both are the same but for a
call whose ends lie in two buckets of time (ids). A request's own traceparent wins: such a row stays where that puts it.

Within a batch the trace is inherited, through as many calls as the batch holds; with several exporters never, because the
parent's span is another's to store, under the IDs of its own key: then ties say all. Between batches the parent's span is stored
with the child that comes later; where the child was stored first, a row of the links table ties its trace to its parent's
(`cause`), which every reader applies. A parent is never guessed: keys are compared whole, and the child must lie within.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from farcall.exchange import ExchangeFlag
from farcall.mixing import Words, mix
from farcall.rows import LINKS
from farcall_exporter.columns import Codes, Mask, texts_array
from farcall_exporter.exchanges import Exchanges
from farcall_exporter.join import JoinPlan
from farcall_exporter.sides import Sides

METHOD = "cause"
SERVED_BATCHES = (
    64  # of all agents; a child comes at most one drain of its agent's rings after its parent
)
CHILDREN_LIVE_S = 120.0  # as long as a call may still be served that its child's is told already
MAX_CHILDREN = 50_000  # about 15 MB
MAX_JUMPS = 16  # each doubles the depth: 65,536 calls, one within the other

ChildKey = tuple[str, int, int]  # boot, connection, exchange number of the served one
NOBODY = -1


@dataclass(frozen=True, slots=True)
class Child:
    """A span stored without its parent."""

    start_ns: int
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The served exchanges of one batch: sorted words to find them, and the spans that stand for them."""

    boot_id: str
    words: Words
    connection: npt.NDArray[np.int64]
    sequence: npt.NDArray[np.int64]
    start_ns: npt.NDArray[np.int64]
    end_ns: npt.NDArray[np.int64]
    trace_id: pa.Array
    span_id: pa.Array

    def find(self, connection: int, sequence: int, at_ns: int) -> tuple[str, str] | None:
        """(trace ID, span ID)"""
        row = int(self.rows_of(np.array([connection]), np.array([sequence]))[0])
        if row < 0 or not self.start_ns[row] <= at_ns <= self.end_ns[row]:
            return None
        return self.trace_id[row].as_py(), self.span_id[row].as_py()

    def rows_of(self, connection: Codes, sequence: Codes) -> Codes:
        """-1 where it holds none with these numbers."""
        if not len(self.words):
            return np.full(len(connection), NOBODY, np.int64)
        at = np.searchsorted(self.words, _words(connection, sequence))
        row = np.minimum(at, len(self.words) - 1)
        fits = (self.connection[row] == connection) & (self.sequence[row] == sequence)
        return np.where(fits, row, NOBODY)


class CauseBook:
    """Memory between batches, bounded: exchanges served lately, and children whose parent was not told yet."""

    def __init__(self) -> None:
        self._served: deque[Served] = deque(maxlen=SERVED_BATCHES)
        self._children: OrderedDict[ChildKey, tuple[float, list[Child]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(
        self, boot_id: str, connection: int, sequence: int, at_ns: int
    ) -> tuple[str, str] | None:
        """(trace ID, span ID) of an exchange that was served in a batch before."""
        for served in reversed(self._served):
            if served.boot_id == boot_id and (found := served.find(connection, sequence, at_ns)):
                return found
        return None

    def remember(self, served: Served) -> None:
        if len(served.words):
            self._served.append(served)

    def wait(self, key: ChildKey, child: Child, now: float) -> None:
        children = self._children.setdefault(key, (now, []))[1]
        children.append(child)
        self._count += 1

    def take(self, served: Served) -> list[tuple[Child, str, str]]:
        """(child, parent's trace ID, parent's span ID) of those that waited for an exchange of `served`."""
        found: list[tuple[Child, str, str]] = []
        keys = [key for key in self._children if key[0] == served.boot_id]
        if not keys:
            return found
        numbers = np.array([key[1:] for key in keys], np.int64)
        known = served.rows_of(numbers[:, 0], numbers[:, 1])
        for key in (keys[i] for i in np.flatnonzero(known >= 0).tolist()):
            children = self._children[key][1]
            parents = [(c, served.find(key[1], key[2], c.start_ns)) for c in children]
            if any(parent for _, parent in parents):
                found += [(child, *parent) for child, parent in parents if parent]
                self._count -= len(self._children.pop(key)[1])
        return found

    def forget(self, now: float) -> int:
        """Gives up children that waited too long, or are too many; their number."""
        before = self._count
        while self._children:
            since, children = next(iter(self._children.values()))
            if self._count <= MAX_CHILDREN and now - since < CHILDREN_LIVE_S:
                break
            self._children.popitem(last=False)
            self._count -= len(children)
        return before - self._count


@dataclass(frozen=True, slots=True, kw_only=True)
class Parents:
    """Of a whole batch. `trace_id` and `span_id` are final; `parent` is "" for roots."""

    trace_id: pa.Array
    span_id: pa.Array
    parent: pa.Array
    served: Served
    waiting: list[tuple[ChildKey, int]]  # (its parent's key, row)
    ties: list[tuple[int, str, str]]  # row, trace and span of its parent, which has another trace
    found: int

    def links(self, x: Exchanges, late: list[tuple[Child, str, str]]) -> pa.Table:
        """Rows of the links table, where child and parent have different traces."""
        rows = [
            *((self.child(x, row), trace, span) for row, trace, span in self.ties),
            *((child, trace, span) for child, trace, span in late),
        ]
        values = [(c.start_ns, c.trace_id, c.span_id, t, s, METHOD) for c, t, s in rows]
        columns = list(zip(*values, strict=True)) or [()] * len(LINKS)
        arrays = [pa.array(list(v), f.type) for v, f in zip(columns, LINKS, strict=True)]
        return pa.Table.from_arrays(arrays, schema=LINKS)

    def child(self, x: Exchanges, row: int) -> Child:
        return Child(int(x.start[row]), self.trace_id[row].as_py(), self.span_id[row].as_py())


def plan_parents(
    x: Exchanges,
    sides: Sides,
    plan: JoinPlan,
    *,
    trace_id: pa.Array,
    span_id: pa.Array,
    is_linked: Mask,
    book: CauseBook,
    inherits: bool = True,
) -> Parents:
    """Reads the book and changes nothing; see `settle`. `is_linked` rows carry a traceparent."""
    adopted = {row: (s.trace_id, s.span_id) for row, s in plan.sights.items() if s.span_id}
    trace_id = _replace(trace_id, {row: trace for row, (trace, _) in adopted.items()})
    span_id = _replace(span_id, {row: span for row, (_, span) in adopted.items()})
    stands_for, stored = _stand_for(x, sides, plan)
    children = np.flatnonzero(sides.client_spans & ~plan.late & x.has_cause & ~is_linked)
    served_row = _find_served(x, children)
    parent_row = np.full(x.count, NOBODY, np.int64)
    parent_row[children] = np.where(served_row >= 0, stands_for[served_row], NOBODY)
    outer: dict[int, tuple[str, str]] = {}  # parents that are no row of this batch
    waiting: list[tuple[ChildKey, int]] = []
    for row, served in zip(children.tolist(), served_row.tolist(), strict=True):
        if served >= 0:
            if served in stored:
                outer[row] = stored[served]
            continue
        key = (x.boot_id, int(x.cause_connection[row]), int(x.cause_sequence[row]))
        known = book.find(*key, int(x.start[row]))
        if known is not None:
            outer[row] = known
        else:
            waiting.append((key, row))
    fixed = np.array(sorted(adopted), np.int64) if inherits else np.arange(x.count)
    top = _find_tops(parent_row, fixed)
    free = outer.items() if inherits else ()
    outer_traces = {row: trace for row, (trace, _) in free if row not in adopted}
    trace_id = _replace(trace_id, outer_traces).take(pa.array(top))
    parent = span_id.take(pa.array(parent_row, mask=parent_row < 0)).fill_null("")
    parent = _replace(parent, {row: span for row, (_, span) in outer.items()})
    ties = []
    for row in adopted if inherits else children.tolist():
        at = int(parent_row[row])
        of = outer.get(row) or ((trace_id[at].as_py(), span_id[at].as_py()) if at >= 0 else None)
        if of is not None and of[0] != trace_id[row].as_py():
            ties.append((row, *of))
    return Parents(
        trace_id=trace_id,
        span_id=span_id,
        parent=parent,
        served=_list_served(x, stands_for, stored, trace_id, span_id),
        waiting=waiting,
        ties=ties,
        found=int((parent_row >= 0).sum()) + len(outer),
    )


def settle(
    parents: Parents, x: Exchanges, book: CauseBook, now: float
) -> list[tuple[Child, str, str]]:
    """Moves the memory on; gives the children stored before whose parent has come, with its trace and span."""
    late = book.take(parents.served) if len(book) else []
    book.remember(parents.served)
    for key, row in parents.waiting:
        book.wait(key, parents.child(x, row), now)
    return late


def _stand_for(
    x: Exchanges, sides: Sides, plan: JoinPlan
) -> tuple[Codes, dict[int, tuple[str, str]]]:
    """For each server's row the row of the span that stands for its call, -1 for none; those of spans stored before apart.

    A sight without identity may be given up for its client's span, which then nobody can tell: it is nobody's parent.
    """
    stands_for = np.full(x.count + 1, NOBODY, np.int64)  # the last answers for -1
    is_sight = sides.server_sights | x.ends.has(ExchangeFlag.COPY)
    is_itself = sides.server_spans | (is_sight & ~plan.settled & x.has_identity)
    itself = np.flatnonzero(is_itself)
    stands_for[itself] = itself
    clients = np.flatnonzero((plan.servers >= 0) & ~plan.late)
    stands_for[plan.servers[clients]] = clients
    return stands_for, {j.row: (j.span.trace_id, j.span.span_id) for j in plan.stored}


def _find_served(x: Exchanges, children: Codes) -> Codes:
    """The server's row that each child was made for, -1 where this batch has none: the key whole, the child within its time."""
    servers = np.flatnonzero(~x.is_client)
    if not len(servers) or not len(children):
        return np.full(len(children), NOBODY, np.int64)
    words = _words(x.ends.connection[servers], x.sequence[servers])
    order = np.argsort(words, kind="stable")
    wanted = _words(x.cause_connection[children], x.cause_sequence[children])
    at = np.minimum(np.searchsorted(words[order], wanted), len(order) - 1)
    candidates = servers[order[at]]
    fits = (
        (x.ends.connection[candidates] == x.cause_connection[children])
        & (x.sequence[candidates] == x.cause_sequence[children])
        & (x.start[candidates] <= x.start[children])
        & (x.start[children] <= x.start[candidates] + x.duration[candidates])
    )
    return np.where(fits, candidates, NOBODY)


def _find_tops(parent_row: Codes, fixed: Codes) -> Codes:
    """The row whose trace each row has: its ancestors' first. `fixed` rows keep their own, which was told before.

    No call lies within itself; where numbers on the wire say so all the same, the rows stay roots.
    """
    itself = np.arange(len(parent_row))
    top = np.where(parent_row >= 0, parent_row, itself)
    top[fixed] = fixed
    for _ in range(MAX_JUMPS):
        further = top[top]
        if (further == top).all():
            break
        top = further
    is_fixed = np.zeros(len(top), np.bool_)
    is_fixed[fixed] = True
    is_endless = (parent_row[top] >= 0) & ~is_fixed[top]
    parent_row[is_endless] = NOBODY
    return np.where(is_endless, itself, top)


def _list_served(
    x: Exchanges,
    stands_for: Codes,
    stored: dict[int, tuple[str, str]],
    trace_id: pa.Array,
    span_id: pa.Array,
) -> Served:
    servers = np.flatnonzero(~x.is_client)
    rows = servers[(stands_for[servers] >= 0) | np.isin(servers, list(stored))]
    words = _words(x.ends.connection[rows], x.sequence[rows])
    order = np.argsort(words, kind="stable")
    rows = rows[order]
    stands = pa.array(np.where(stands_for[rows] >= 0, stands_for[rows], rows))
    places = {i: stored[row] for i, row in enumerate(rows.tolist()) if row in stored}
    return Served(
        boot_id=x.boot_id,
        words=words[order],
        connection=x.ends.connection[rows],
        sequence=x.sequence[rows],
        start_ns=x.start[rows],
        end_ns=x.start[rows] + x.duration[rows],
        trace_id=_replace(trace_id.take(stands), {i: t for i, (t, _) in places.items()}),
        span_id=_replace(span_id.take(stands), {i: s for i, (_, s) in places.items()}),
    )


def _words(connection: Codes, sequence: Codes) -> Words:
    return mix(mix(connection.astype(np.uint64)) ^ sequence.astype(np.uint64))


def _replace(texts: pa.Array, changes: dict[int, str]) -> pa.Array:
    """`texts` with single rows changed."""
    if not changes:
        return texts
    mask = np.zeros(len(texts), np.bool_)
    rows = sorted(changes)
    mask[rows] = True
    return pc.replace_with_mask(texts, pa.array(mask), texts_array([changes[r] for r in rows]))
