"""Clients' ends in the store, for the exporters that have the servers': with several, the ends of a call may part.

A request that the server read in one piece with other bytes has another number at each end, so that no ID derived from the
key finds the other one: only the connection's ends with their byte ranges do (join). Each exporter stores those of its clients
that no server's sight has covered; who has the server's asks for the connection's.

Neither end waits for the other's exporter to answer, and yet at most one of them becomes a span: each says first in the store
what it is about to do (a server's sight `keeping`, a client's row that comes late its end), and looks for the other after that.
Two that do so in the same moment see each other; then it is the client's that is given up, and counted.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from farcall.rows import SIGHTS
from farcall.storeport import StoredEnd
from farcall_exporter.clients import SKEW_NS, ClientSpan, find_client, is_nested, overlaps
from farcall_exporter.columns import Codes, Mask, hex_ids
from farcall_exporter.exchanges import Exchanges
from farcall_exporter.ids import identity_words
from farcall_exporter.sights import IDENTITY_DIGITS, IDENTITY_KEY_DIGITS, Sight

# (identities as 16 digits, since, until, whether servers' ends are meant) → those that are stored
FindEnds = Callable[[Sequence[str], int, int, bool], list[StoredEnd]]
REACH_NS = 30 * 10**9  # a request may lie in its server's socket for so long
MAX_ASKED = 1_000  # connections in one question
CLIENT_MARK = "c"  # behind the key, which is the server's sight's as well


def build_client_ends(
    x: Exchanges, rows: Codes, *, trace_id: pa.Array, span_id: pa.Array, unnamed: Mask
) -> pa.Table:
    """Rows of `sights`; all columns are as long as `rows`. The text is "bytes end trace span unnamed"."""
    request = hex_ids(x.request_seq[rows].astype(np.uint64))  # 64 bits, of which 32 are the key's
    keys = pc.binary_join_element_wise(
        _identities(x, rows),
        pc.utf8_slice_codeunits(request, 8),
        CLIENT_MARK,
        "",
    )
    texts = pc.binary_join_element_wise(
        pa.array(x.request_span[rows]).cast(pa.string()),
        pa.array(x.start[rows] + x.duration[rows]).cast(pa.string()),
        trace_id.cast(pa.string()),
        span_id.cast(pa.string()),
        pa.array(unnamed.astype(np.uint8)).cast(pa.string()),
        " ",
    )
    times = pa.array(x.start[rows].astype(np.int64)).cast(SIGHTS.field("Timestamp").type)
    states = pa.DictionaryArray.from_arrays(np.zeros(len(rows), np.int32), ["client"])
    return pa.Table.from_arrays([times, keys, states, texts], schema=SIGHTS)


def find_clients(sights: Sequence[Sight], find: FindEnds) -> dict[str, tuple[ClientSpan, int]]:
    """By the sight's key, the client's span of its call and how it was found (clients). Raises StoreError."""
    asked = sorted((s for s in sights if s.identity is not None), key=lambda s: s.start_ns)
    found: dict[str, tuple[ClientSpan, int]] = {}
    for at in range(0, len(asked), MAX_ASKED):
        piece = asked[at : at + MAX_ASKED]
        since, until = piece[0].start_ns - REACH_NS, piece[-1].start_ns + SKEW_NS
        spans: dict[str, list[ClientSpan]] = {}
        for end in find(_list_identities(s.key for s in piece), since, until, False):
            spans.setdefault(end.key[:IDENTITY_DIGITS], []).append(_parse_client(end))
        for sight in piece:
            client = find_client(
                spans.get(sight.key[:IDENTITY_DIGITS], ()),
                request_seq=sight.request_seq,
                request_bytes=sight.request_bytes,
                start_ns=sight.start_ns,
            )
            if client is not None:
                found[sight.key] = client
    return found


def find_kept(x: Exchanges, rows: Codes, find: FindEnds) -> Mask:
    """Which of these client's rows are server-side spans, or are about to be. Raises StoreError."""
    kept = np.zeros(len(rows), np.bool_)
    identities = _identities(x, rows).to_pylist()
    for at in range(0, len(rows), MAX_ASKED):
        piece = range(at, min(at + MAX_ASKED, len(rows)))
        starts = x.start[rows[at : at + MAX_ASKED]]
        since, until = int(starts.min()) - SKEW_NS, int(starts.max()) + REACH_NS
        ends: dict[str, list[StoredEnd]] = {}
        for end in find(_list_identities(identities[i] for i in piece), since, until, True):
            ends.setdefault(end.key[:IDENTITY_DIGITS], []).append(end)
        for i in piece:
            if identities[i] in ends:
                client = _client_of(x, int(rows[i]))
                kept[i] = any(_is_of(client, end) for end in ends[identities[i]])
    return kept


def _identities(x: Exchanges, rows: Codes) -> pa.Array:
    client, server = (n[rows].astype(np.uint64) for n in (x.isn_client, x.isn_server))
    return hex_ids(identity_words(client, server))


def _list_identities(keys: Iterable[str]) -> list[str]:
    return sorted({key[:IDENTITY_DIGITS] for key in keys})


def _client_of(x: Exchanges, row: int) -> ClientSpan:
    start = int(x.start[row])
    return ClientSpan(
        request_seq=int(x.request_seq[row]),
        request_bytes=int(x.request_span[row]),
        start_ns=start,
        end_ns=start + int(x.duration[row]),
        trace_id="",
        span_id="",
        is_unnamed=False,
    )


def _is_of(client: ClientSpan, server: StoredEnd) -> bool:
    request_seq = _request_seq(server)
    return is_nested(client, server.start_ns) and (
        client.request_seq == request_seq
        or overlaps(client.request_seq, client.request_bytes, request_seq, int(server.text))
    )


def _parse_client(end: StoredEnd) -> ClientSpan:
    size, end_ns, trace_id, span_id, unnamed = end.text.split(" ")
    return ClientSpan(
        request_seq=_request_seq(end),
        request_bytes=int(size),
        start_ns=end.start_ns,
        end_ns=int(end_ns),
        trace_id=trace_id,
        span_id=span_id,
        is_unnamed=unnamed == "1",
    )


def _request_seq(end: StoredEnd) -> int:
    return int(end.key[IDENTITY_DIGITS:IDENTITY_KEY_DIGITS], 16)
