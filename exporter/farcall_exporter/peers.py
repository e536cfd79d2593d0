"""What other exporters have stored of the same calls, asked of the store: with several, the ends of a call may part.

Agents send both ends of a connection to one exporter (farcall_probes.routing), so this is for the moments when their number
changes, and for who was restarted. Span IDs are derived from the join key, so both ends know what to ask for. Where one
end's clock or queue puts it into the next bucket of time (ids), the neighbour is asked for too.
"""

from collections.abc import Callable, Sequence

import numpy as np

from farcall.mixing import Words
from farcall.storeport import StoredSpan
from farcall_exporter.clients import SKEW_NS
from farcall_exporter.columns import Codes, Mask, hex_ids
from farcall_exporter.exchanges import Exchanges
from farcall_exporter.ids import derive_call_spans, identity_words
from farcall_exporter.sights import Sight

# (span IDs, since, until, whether server-side spans are meant) → those that are stored
FindSpans = Callable[[Sequence[str], int, int, bool], list[StoredSpan]]
REACH_NS = 30 * 10**9  # a request may lie in its server's socket for so long
MAX_ASKED = 1_000  # IDs in one question


def find_clients_of(sights: Sequence[Sight], find: FindSpans) -> dict[str, StoredSpan]:
    """By the sight's own span ID, the client's span of its call. Raises StoreError."""
    asked = [s for s in sights if s.identity is not None]
    if not asked:
        return {}
    starts = np.array([s.start_ns for s in asked], np.uint64)
    identities = np.array([s.identity for s in asked], np.uint64)
    requests = np.array([s.request_seq for s in asked], np.uint64)
    found = _find(identities, requests, starts, before=REACH_NS, after=SKEW_NS, find=find)
    return {s.span_id: span for s, span in zip(asked, found, strict=True) if span is not None}


def find_kept(x: Exchanges, rows: Codes, find: FindSpans) -> Mask:
    """Which of these client's rows already are server-side spans. Raises StoreError."""
    identities = identity_words(
        x.isn_client[rows].astype(np.uint64), x.isn_server[rows].astype(np.uint64)
    )
    found = _find(
        identities,
        x.request_seq[rows].astype(np.uint64),
        x.start[rows].astype(np.uint64),
        before=SKEW_NS,
        after=REACH_NS,
        find=lambda ids, since, until, _: find(ids, since, until, True),
    )
    return np.array([span is not None for span in found], np.bool_)


def _find(
    identities: Words,
    requests: Words,
    starts: Words,
    *,
    before: int,
    after: int,
    find: FindSpans,
) -> list[StoredSpan | None]:
    """For each call the stored span whose start lies in [start - before, start + after]."""
    edges = (starts, starts - np.uint64(before), starts + np.uint64(after))
    candidates = [hex_ids(derive_call_spans(identities, requests, at)).to_pylist() for at in edges]
    found: list[StoredSpan | None] = []
    for begin in range(0, len(starts), MAX_ASKED // 2):
        piece = slice(begin, begin + MAX_ASKED // 2)
        ids = sorted({i for column in candidates for i in column[piece]})
        since, until = int(starts[piece].min()) - before, int(starts[piece].max()) + after
        known = {span.span_id: span for span in find(ids, since, until, False)}
        columns = (starts[piece].tolist(), *(column[piece] for column in candidates))
        for start, *names in zip(*columns, strict=True):
            spans = (known[name] for name in names if name in known)
            fits = (s for s in spans if start - before <= s.start_ns <= start + after)
            found.append(next(fits, None))
    return found
