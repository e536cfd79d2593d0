"""Records of one protocol → columns of text; here HTTP/1's. The hot loop: every line runs once per exchange.

The captured bytes are all there will ever be, so parsers are called with cut=True: what does not end is Truncated, and the
row is flagged CUT. A record that is no message of its protocol is dropped and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from farcall.exchange import ExchangeFlag
from farcall_probes import events, records
from farcall_probes.capture import Records
from farcall_probes.coded import Coded
from farcall_probes.columns import Numbers
from farcall_probes.databases import DatabaseReader
from farcall_probes.giveway import give_way
from farcall_probes.heads import Heads
from farcall_probes.masking import mask_query
from farcall_probes.multiplexed import MultiplexedReader
from farcall_probes.readcolumns import TRACE_FLAGS, Columns, Text, name_ends
from farcall_probes.requestheads import HeadReader
from farcall_probes.responses import Sizes, measure_responses
from farcall_probes.stencils import as_column, find_begins
from farcall_probes.windows import read_windows
from farcall_probes.wire.http1 import RequestParser

T = TypeVar("T")
_STATUS_BEGIN = np.uint64(int.from_bytes(b"HTTP/1.", "little"))
_BEGIN_MASK = np.uint64((1 << 56) - 1)
_STATUS_BYTES = 16  # to the end of the code, and to the end of a word


class Reader:
    def __init__(self, *, masking: bool, headers: Sequence[str], heads: Heads) -> None:
        self._masking = masking
        self._requests = RequestParser(headers)
        self._head_reader = HeadReader(self._requests)
        self._heads = heads
        self._queries: dict[str, str] = {}
        self._databases = DatabaseReader(masking=masking)
        self._multiplexed = MultiplexedReader(masking=masking)
        self._http_dropped = 0
        self.heads_missing = 0

    @property
    def dropped(self) -> dict[str, int]:
        """Records that were no message of their protocol after all, by protocol."""
        return {
            "http": self._http_dropped,
            **self._databases.dropped,
            **self._multiplexed.dropped,
        }

    def counters(self) -> dict[str, int]:
        dropped = self.dropped
        return {
            "http_unread_dropped": dropped["http"],
            "redis_unread_dropped": dropped["redis"],
            "postgresql_unread_dropped": dropped["postgresql"],
            "mysql_unread_dropped": dropped["mysql"],
            "memcached_unread_dropped": dropped["memcached"],
            "kafka_unread_dropped": dropped["kafka"],
            "mongodb_unread_dropped": dropped["mongodb"],
            "cassandra_unread_dropped": dropped["cassandra"],
            "nats_unread_dropped": dropped["nats"],
            "amqp_unread_dropped": dropped["amqp"],
            "heads_missing_lost": self.heads_missing,
            "http_contexts_invalid": self._requests.contexts_invalid,
        }

    def read(self, code: int, block: Records) -> Columns:
        """`code`: events.PROTO_*, the same for the whole block."""
        if code == events.PROTO_HTTP1:
            statuses = read_status(block)
            return self.read_http(block, measure_responses(block, statuses).sizes, statuses)
        if self._multiplexed.reads(code):
            return self._multiplexed.read(code, block)
        return self._databases.read(code, block)

    def read_ended(
        self, code: int, block: Records, sizes: Sizes, ended_ns: npt.NDArray[np.uint64]
    ) -> Columns:
        """Those that were held (rests.py), of one protocol."""
        if code == events.PROTO_HTTP1:
            return self.read_http(block, sizes, read_status(block), ended_ns)
        columns = self._databases.read(code, block)
        kept = columns.rows
        return replace(columns, response_bytes=sizes[kept], ended_ns=ended_ns[kept])

    def read_http(
        self,
        block: Records,
        sizes: Sizes,
        statuses: npt.NDArray[np.int32],
        ended_ns: npt.NDArray[np.uint64] | None = None,
    ) -> Columns:
        """HTTP/1 exchanges, of either stride. `sizes` and `statuses` of their responses; `ended_ns`: when those ended, where that was
        waited for."""
        give_way()
        heads = self._head_reader.read(block, self._take_heads(block))
        give_way()
        kept = heads.rows
        self._http_dropped += len(block) - len(kept)
        if len(kept) < len(block):
            block = records.pick(block, kept)
        flags = block["flags"] & ~np.uint32(ExchangeFlag.CUT)
        flags |= np.where(heads.is_cut, np.uint32(ExchangeFlag.CUT), np.uint32(0))
        give_way()
        requests = _count_requests(heads.requests, block)
        for at in requests:
            flags[at] |= np.uint32(ExchangeFlag.PIPELINED)
        give_way()
        method, path, query, authority = zip(*heads.lines, strict=True) if heads.lines else [()] * 4
        host, user_agent, content_type, form, state = (
            zip(*heads.words, strict=True) if heads.words else [()] * 5
        )
        if any(form):
            flags |= np.array([TRACE_FLAGS[each] for each in form], dtype=np.uint32)[heads.word]
        hosts: Text = Coded(host, heads.word)
        if any(authority):
            hosts = [a or h for a, h in zip(Coded(authority, heads.line), hosts, strict=True)]
        missing = None if heads.has_trace.all() else ~heads.has_trace
        return Columns(
            rows=kept,
            flags=flags,
            operation=Coded(method, heads.line),
            target=Coded(path, heads.line),
            query=Coded(self._mask(query), heads.line),
            host=hosts,
            status=statuses[kept],
            error=name_ends(block),
            response_bytes=sizes[kept],
            ended_ns=None if ended_ns is None else ended_ns[kept],
            batch_size=_scatter(requests, len(kept)),
            user_agent=Coded(user_agent, heads.word),
            content_type=Coded(content_type, heads.word),
            trace_id=Numbers(as_column(heads.ids[:, :16]), missing),
            parent_span_id=Numbers(as_column(heads.ids[:, 16:]), missing),
            trace_state=Coded(state, heads.word) if any(state) else None,
        )

    def _take_heads(self, block: Records) -> dict[int, bytes]:
        """Long heads that came in records of their own, by the row of their exchange."""
        found: dict[int, bytes] = {}
        for row in np.flatnonzero(block["flags"] & events.FLAG_HEAD).tolist():
            head = self._heads.take(
                int(block["conn_id"][row]), int(block["seq"][row]), int(block["role"][row])
            )
            if head is None:
                self.heads_missing += 1
            else:
                found[row] = head
        return found

    def mask_queries(self, columns: Columns) -> Columns:
        return replace(columns, query=self._mask(columns.query))

    def _mask(self, queries: Text) -> Text:
        if isinstance(queries, Coded):
            return Coded(self._mask(queries.names), queries.which)
        masked = {q: self._query(q) if q else q for q in set(queries)}
        return list(map(masked.__getitem__, queries))

    def _query(self, query: str) -> str:
        if not self._masking:
            return query
        masked = self._queries.get(query)
        if masked is None:
            masked = mask_query(query)
            if len(self._queries) >= 2048:
                self._queries.clear()
            self._queries[query] = masked
        return masked


def _count_requests(found: Mapping[int, int], block: Records) -> Mapping[int, int]:
    """Of pipelines, by place: those in the captured bytes, or what the kernel side counted behind them."""
    counted = block["commands"]
    places = np.flatnonzero(counted > 1).tolist()
    if not places:
        return found
    more = {at: max(int(counted[at]), found.get(at, 1)) for at in places}
    return {**found, **more}


def _scatter(values: Mapping[int, T], length: int) -> list[T | None]:
    """A column of that length which has these values at their places."""
    column: list[T | None] = [None] * length
    for at, value in values.items():
        column[at] = value
    return column


def read_status(block: Records) -> npt.NDArray[np.int32]:
    """HTTP status codes of a whole block at once; 0 where the response does not begin with a status line."""
    whole = np.ascontiguousarray(block)
    begins = find_begins(whole, "resp") - np.minimum(block["resp_more"], events.RESP_MORE)
    lines = read_windows(whole, begins, _STATUS_BYTES)
    hundreds, tens, ones = (lines[:, at] - np.uint8(ord("0")) for at in (9, 10, 11))
    valid = (
        (lines.view("<u8")[:, 0] & _BEGIN_MASK == _STATUS_BEGIN)
        & (lines[:, 8] == ord(" "))
        & (hundreds - np.uint8(1) <= 8)
        & (tens <= 9)
        & (ones <= 9)
        & (block["resp_cap"] >= 12)
    )
    codes = hundreds.astype(np.int32) * 100 + tens.astype(np.int32) * 10 + ones
    return np.where(valid, codes, 0).astype(np.int32)
