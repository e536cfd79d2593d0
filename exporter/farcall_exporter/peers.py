"""Clients' spans that an exporter before this one stored, asked of the store by ID: for server's sights that come after a restart.

Span IDs are derived from the join key, so both ends know what to ask for. Where one end's clock or queue puts it into the next
bucket of time (ids), the neighbour is asked for too.
"""

from collections.abc import Callable, Sequence

import numpy as np

from farcall.storeport import StoredSpan
from farcall_exporter.clients import EXACT, SKEW_NS, ClientSpan
from farcall_exporter.columns import hex_ids
from farcall_exporter.ends import REACH_NS
from farcall_exporter.ids import derive_call_spans
from farcall_exporter.sights import Sight

# (span IDs, since, until, whether server-side spans are meant) → those that are stored
FindSpans = Callable[[Sequence[str], int, int, bool], list[StoredSpan]]
MAX_ASKED = 500  # sights in one question, two or three IDs each


def find_clients_of(sights: Sequence[Sight], find: FindSpans) -> dict[str, tuple[ClientSpan, int]]:
    """By the sight's key, the client's span of its call and how it was found (clients). Raises StoreError."""
    asked = sorted((s for s in sights if s.identity is not None), key=lambda s: s.start_ns)
    found: dict[str, tuple[ClientSpan, int]] = {}
    for at in range(0, len(asked), MAX_ASKED):
        piece = asked[at : at + MAX_ASKED]
        names = _list_ids(piece)
        since, until = piece[0].start_ns - REACH_NS, piece[-1].start_ns + SKEW_NS
        spans = find(sorted({name for ids in names for name in ids}), since, until, False)
        known = {span.span_id: span for span in spans}
        for sight, ids in zip(piece, names, strict=True):
            for name in ids:
                if name in known and _is_near(sight, known[name]):
                    found[sight.key] = _client_of(sight, known[name]), EXACT
                    break
    return found


def _list_ids(sights: Sequence[Sight]) -> list[tuple[str, ...]]:
    """The IDs that a client's span of each may have, the likeliest first."""
    identities = np.array([s.identity for s in sights], np.uint64)
    requests = np.array([s.request_seq for s in sights], np.uint64)
    starts = np.array([s.start_ns for s in sights], np.uint64)
    edges = (starts, starts - np.uint64(REACH_NS), starts + np.uint64(SKEW_NS))
    columns = [hex_ids(derive_call_spans(identities, requests, at)).to_pylist() for at in edges]
    return list(zip(*columns, strict=True))


def _is_near(sight: Sight, span: StoredSpan) -> bool:
    return sight.start_ns - REACH_NS <= span.start_ns <= sight.start_ns + SKEW_NS


def _client_of(sight: Sight, span: StoredSpan) -> ClientSpan:
    return ClientSpan(
        request_seq=sight.request_seq,
        request_bytes=sight.request_bytes,
        start_ns=span.start_ns,
        end_ns=span.start_ns,
        trace_id=span.trace_id,
        span_id=span.span_id,
        is_unnamed=False,  # not known any more
    )
