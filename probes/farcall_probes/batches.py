"""Rows of one batch, gathered over several drains and turned into Arrow once: a batch costs some 0.5 ms however small it is.

Numeric columns stay numpy; columns of few values become dictionaries by their owner (identity, connection), never row by row.
Monotonic times become Unix times here and nowhere else. Schemas: farcall.exchange.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from farcall.exchange import LEFT_OUT_MASK, BatchHeader, ExchangeFlag
from farcall_probes import arraysets, coded, columns, events, records
from farcall_probes.arrowstream import Batch, make_batch, render_stream
from farcall_probes.capture import Records
from farcall_probes.columns import Indices, Numbers, Values, Words
from farcall_probes.connections import Connections, Places
from farcall_probes.giveway import give_way
from farcall_probes.identity import Identity
from farcall_probes.readcolumns import Columns

PROTOCOLS = {
    events.PROTO_HTTP1: "http",
    events.PROTO_REDIS: "redis",
    events.PROTO_POSTGRES: "postgresql",
    events.PROTO_MYSQL: "mysql",
    events.PROTO_MEMCACHED: "memcached",
    events.PROTO_TCP: "tcp",
    events.PROTO_HTTP2: "http2",
    events.PROTO_GRPC: "grpc",
    events.PROTO_KAFKA: "kafka",
    events.PROTO_MONGODB: "mongodb",
    events.PROTO_CASSANDRA: "cassandra",
    events.PROTO_NATS: "nats",
    events.PROTO_AMQP: "amqp",
}
_WORDS = [*dict.fromkeys(PROTOCOLS.values()), "unknown"]
_PLACES = np.array(  # of each code's word; a code is one byte
    [_WORDS.index(PROTOCOLS.get(code, "unknown")) for code in range(256)], dtype=np.int32
)
T = TypeVar("T")
_FOLLOWED = (  # of others no request is followed to its last byte
    events.PROTO_HTTP1,
    events.PROTO_HTTP2,
    events.PROTO_GRPC,
    events.PROTO_REDIS,
    events.PROTO_POSTGRES,
    events.PROTO_MYSQL,
    events.PROTO_MEMCACHED,
    events.PROTO_KAFKA,
    events.PROTO_MONGODB,
    events.PROTO_CASSANDRA,
    events.PROTO_AMQP,
)
_IS_FOLLOWED = arraysets.mark(_FOLLOWED)
_IDENTITY_COLUMNS = (
    "client_key",
    "tgid",
    "executable",
    "service",
    "container_id",
    "pod_uid",
    "pod",
    "namespace",
    "container",
)


class DnsRow(NamedTuple):  # made once per address: a tuple costs a third of a frozen dataclass
    time_ns: int  # monotonic
    identity: Identity
    resolver: bytes
    question: str
    question_type: str
    rcode: int
    address: bytes | None
    ttl_s: int
    canonical_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    numbers: Records  # the fixed part of the records, as events.EXCHANGE
    places: Places  # of each row's connection
    ends_ns: npt.NDArray[np.uint64]  # of each response's last byte, monotonic
    texts: Columns


class ExchangeRows:
    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        self.rows = 0

    def add(
        self,
        block: Records,
        places: Places,
        texts: Columns,
    ) -> None:
        """`block` and its connections' places as the reader got them; the rows that it kept are taken."""
        if not len(texts.rows):
            return
        give_way()
        whole = len(texts.rows) == len(block)
        fixed = records.cut(block, events.EXCHANGE)
        numbers = records.pack(fixed) if whole else records.pick(fixed, texts.rows)
        give_way()
        if texts.request_bytes is not None:
            numbers["req_bytes"] = texts.request_bytes
        if texts.response_bytes is not None:
            numbers["resp_bytes"] = texts.response_bytes
        ends_ns = numbers["ts_resp_ns"] if texts.ended_ns is None else texts.ended_ns
        self._chunks.append(
            _Chunk(
                numbers=numbers,
                places=places if whole else places[texts.rows],
                ends_ns=ends_ns,
                texts=texts,
            )
        )
        self.rows += len(numbers)

    def take(
        self, connections: Connections, *, offset_ns: int, lost_dns: Callable[[Identity], bool]
    ) -> Batch | None:
        """All rows as one batch, and none are left; None when there are none."""
        if not self._chunks:
            return None
        chunks, self._chunks, self.rows = self._chunks, [], 0
        give_way()
        numbers = records.join([c.numbers for c in chunks])
        give_way()
        owners = _Owners(connections, np.concatenate([c.places for c in chunks]))
        give_way()
        ends_ns = np.concatenate([c.ends_ns for c in chunks])
        made = {
            **_numeric_columns(numbers, offset_ns),
            **_durations(numbers, ends_ns),
            **_text_columns([c.texts for c in chunks]),
            **owners.build_columns(offset_ns),
        }
        flags = np.concatenate([c.texts.flags for c in chunks]) | owners.find_marks(lost_dns)
        made["flags"] = columns.numbers(flags & np.uint32(sum(ExchangeFlag) | LEFT_OUT_MASK))
        return make_batch("exchanges", len(numbers), made)


class _Owners:
    """What rows have of their connections."""

    def __init__(self, connections: Connections, places: Places) -> None:
        rows = connections.rows
        self._opened_ns = rows["conn_open_ns"][places]
        self._watched = rows["watched"][places]
        used, which = _number(rows["identity"][places])
        self._identities = [connections.identities.values[at] for at in used.tolist()]
        self._identity = which.astype(np.int32)
        used, self._bound = _number(rows["bound"][places])
        self._bounds = [connections.bounds.values[at] for at in used.tolist()]

    def find_marks(self, lost_dns: Callable[[Identity], bool]) -> npt.NDArray[np.uint32]:
        marks = np.zeros(len(self._watched), dtype=np.uint32)
        marks[self._watched] = ExchangeFlag.WATCHED
        lost = np.array([lost_dns(i) for i in self._identities], dtype=np.bool_)
        marks[lost[self._identity]] |= np.uint32(ExchangeFlag.DNS_LOST)
        return marks

    def build_columns(self, offset_ns: int) -> dict[str, Values]:
        answered = [b.answered_ns if b else 0 for b in self._bounds]
        answered_ns = np.array(answered, dtype=np.uint64)[self._bound]
        return {
            **_identity_columns(self._identities, self._identity),
            "connection_opened": _maybe_times(self._opened_ns, offset_ns),
            "bound_name": columns.texts(self._each([b.name if b else None for b in self._bounds])),
            "bound_answered": _maybe_times(answered_ns, offset_ns),
        }

    def list_rivals(self) -> list[Sequence[str]]:
        return self._each([b.rivals if b else () for b in self._bounds])

    def _each(self, of_bounds: list[T]) -> list[T]:
        """Row by row."""
        if len(of_bounds) == 1:
            return of_bounds * len(self._bound)
        return [of_bounds[at] for at in self._bound.tolist()]


def _number(values: npt.NDArray[np.uint32]) -> tuple[Indices, npt.NDArray[np.intp]]:
    """Those that there are, in ascending order, and which of them each is. They are small numbers: nothing is sorted."""
    is_used = np.zeros(int(values.max(initial=0)) + 1, dtype=np.bool_)
    is_used[values] = True
    return np.flatnonzero(is_used).astype(np.int32), (np.cumsum(is_used) - 1)[values]


def _numeric_columns(numbers: Records, offset_ns: int) -> dict[str, Values]:
    without_cause = numbers["cause_conn_id"] == 0
    return {
        "start": _times(numbers["ts_req_ns"], offset_ns),
        "role": columns.numbers(numbers["role"]),
        "protocol": _protocols(numbers["proto"]),
        "connection_id": columns.numbers(numbers["conn_id"]),
        "sequence": columns.numbers(numbers["seq"]),
        "netns": columns.numbers(numbers["netns"]),
        "local_address": columns.numbers(numbers["laddr"]),
        "local_port": columns.numbers(numbers["lport"]),
        "peer_address": columns.numbers(numbers["raddr"]),
        "peer_port": columns.numbers(numbers["rport"]),
        "isn_client": columns.numbers(numbers["isn_client"]),
        "isn_server": columns.numbers(numbers["isn_server"]),
        "request_seq": columns.numbers(numbers["request_seq"]),
        "request_bytes": columns.numbers(numbers["req_bytes"]),
        "response_bytes": columns.numbers(numbers["resp_bytes"]),
        "cause_connection_id": columns.numbers(numbers["cause_conn_id"], without_cause),
        "cause_sequence": columns.numbers(numbers["cause_seq"], without_cause),
    }


def _durations(numbers: Records, ends_ns: npt.NDArray[np.uint64]) -> dict[str, Values]:
    """What is the same as the whole is not said twice."""
    begin, first = numbers["ts_req_ns"], numbers["ts_resp_ns"]
    asked_ns = numbers["asked_us"].astype(np.uint64) * np.uint64(1000)
    is_at_once = (asked_ns == 0) | ~_IS_FOLLOWED[numbers["proto"]]
    return {
        "duration_ns": columns.numbers(_since(begin, ends_ns)),
        "request_duration_ns": columns.numbers(asked_ns, is_at_once),
        "first_byte_ns": columns.numbers(_since(begin, first), ends_ns <= first),
    }


def _since(begin: npt.NDArray[np.uint64], end: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    return np.where(end > begin, end - begin, np.uint64(0))


def _text_columns(texts: list[Columns]) -> dict[str, Values]:
    def joined(name: str) -> Sequence[Any]:
        return coded.join([getattr(t, name) for t in texts])

    def joined_or_null(name: str) -> Sequence[Any]:
        return coded.join([getattr(t, name) or [None] * len(t.rows) for t in texts])

    status = np.concatenate([t.status for t in texts])
    return {
        "operation": columns.words(joined("operation")),
        "target": columns.texts(joined("target")),
        "query": columns.texts(joined("query")),
        "host": columns.texts(joined("host")),
        "status": columns.numbers(status, status == 0),
        "error": columns.words(joined("error")),
        "rpc_status": columns.words(joined_or_null("rpc_status")),
        "message": columns.texts(joined_or_null("message")),
        "database": columns.words(joined_or_null("database")),
        "collection": columns.words(joined_or_null("collection")),
        "group": columns.words(joined_or_null("group")),
        "batch_size": columns.optional_numbers(joined("batch_size"), np.uint32),
        "alpn": columns.words(joined_or_null("alpn")),
        "user_agent": columns.words(joined("user_agent")),
        "content_type": columns.words(joined("content_type")),
        "trace_id": columns.join_fixed([t.trace_id for t in texts], 16),
        "parent_span_id": columns.join_fixed([t.parent_span_id for t in texts], 8),
        "trace_state": columns.texts(joined_or_null("trace_state")),
    }


def _identity_columns(identities: Sequence[Identity], owners: Indices) -> dict[str, Values]:
    made: dict[str, Values] = {}
    for name in _IDENTITY_COLUMNS:
        values = [getattr(i, name) for i in identities]
        if name == "tgid":
            made[name] = columns.numbers(np.array(values, dtype=np.uint32)[owners])
        else:
            made[name] = columns.words(values, owners)
    return made


def build_dns(rows: Sequence[DnsRow], *, offset_ns: int) -> Batch:
    owners = np.arange(len(rows), dtype=np.int32)
    times = np.array([r.time_ns for r in rows], dtype=np.uint64)
    made = {
        "time": _times(times, offset_ns),
        **_identity_columns([r.identity for r in rows], owners),
        "resolver": columns.fixed([r.resolver for r in rows], 16),
        "question": columns.texts([r.question for r in rows]),
        "question_type": columns.words([r.question_type for r in rows]),
        "rcode": columns.numbers(np.array([r.rcode for r in rows], dtype=np.uint8)),
        "address": columns.fixed([r.address for r in rows], 16),
        "ttl_s": columns.numbers(np.array([r.ttl_s for r in rows], dtype=np.uint32)),
        "canonical_name": columns.texts([r.canonical_name for r in rows]),
    }
    return make_batch("dns", len(rows), made)


def build_connections(
    connections: Connections,
    places: Places,
    *,
    offset_ns: int,
    lost_dns: Callable[[Identity], bool],
) -> Batch:
    rows = connections.rows[places]
    owners = _Owners(connections, places)
    of_owners = owners.build_columns(offset_ns)
    flags = (rows["flags"] | owners.find_marks(lost_dns)) & np.uint32(sum(ExchangeFlag))
    made = {
        "time": _times(rows["ts_req_ns"], offset_ns),
        "opened": of_owners.pop("connection_opened"),
        "connection_id": columns.numbers(rows["conn_id"]),
        "role": columns.numbers(rows["role"]),
        "protocol": _protocols(rows["proto"]),
        "flags": columns.numbers(flags),
        **of_owners,
        "netns": columns.numbers(rows["netns"]),
        "local_address": columns.numbers(rows["laddr"]),
        "local_port": columns.numbers(rows["lport"]),
        "peer_address": columns.numbers(rows["raddr"]),
        "peer_port": columns.numbers(rows["rport"]),
        "rivals": columns.lists_of_texts(owners.list_rivals()),
    }
    return make_batch("connections", len(rows), made)


def render_batch(batch: Batch, header: BatchHeader) -> bytes:
    """The Arrow IPC stream that is posted."""
    return render_stream(batch, header.metadata())


def _times(column: npt.NDArray[np.uint64], offset_ns: int) -> Numbers:
    return columns.numbers(column.astype(np.int64) + offset_ns)


def _maybe_times(column: npt.NDArray[np.uint64], offset_ns: int) -> Numbers:
    """0 is no time."""
    return columns.numbers(column.astype(np.int64) + offset_ns, column == 0)


def _protocols(codes: npt.NDArray[np.uint8]) -> Words:
    """Each word once: ClickHouse refuses a dictionary that holds one twice, and with it the batch."""
    return columns.words_of_codes(_PLACES[codes], _WORDS)
