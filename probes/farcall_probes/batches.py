"""Rows of one batch, gathered over several drains and turned into Arrow once: a batch costs some 0.5 ms however small it is.

Numeric columns stay numpy; columns of few values become dictionaries by their owner (identity, connection), never row by row.
Monotonic times become Unix times here and nowhere else. Schemas: farcall.exchange.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from farcall import exchange
from farcall.exchange import BatchHeader, ExchangeFlag
from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.connections import Connection
from farcall_probes.identity import Identity
from farcall_probes.reading import Columns

PROTOCOLS = {events.PROTO_HTTP1: "http", events.PROTO_REDIS: "redis"}
_HEADER_FIELDS = list(events.EXCHANGE.names or ())
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
Indices = npt.NDArray[np.int32]


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
    connections: list[Connection]
    owners: npt.NDArray[np.intp]  # row → index in connections
    texts: Columns


class ExchangeRows:
    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        self.rows = 0

    def add(
        self,
        block: Records,
        connections: list[Connection],
        owners: npt.NDArray[np.intp],
        texts: Columns,
    ) -> None:
        """`block` and `owners` as the reader got them; the rows that it kept are taken."""
        if not len(texts.rows):
            return
        numbers = np.empty(len(texts.rows), dtype=events.EXCHANGE)
        whole = len(texts.rows) == len(block)
        # One strided copy of the fixed part: the first itemsize bytes of every record.
        fixed = np.ndarray(
            len(block), dtype=events.EXCHANGE, buffer=block, strides=(block.dtype.itemsize,)
        )
        numbers[:] = fixed if whole else fixed[texts.rows]
        self._chunks.append(
            _Chunk(
                numbers=numbers,
                connections=connections,
                owners=owners if whole else owners[texts.rows],
                texts=texts,
            )
        )
        self.rows += len(numbers)

    def take(
        self, *, offset_ns: int, lost_dns: Callable[[Connection], bool]
    ) -> pa.RecordBatch | None:
        """All rows as one batch, and none are left; None when there are none."""
        if not self._chunks:
            return None
        chunks, self._chunks, self.rows = self._chunks, [], 0
        numbers = np.concatenate([c.numbers for c in chunks])
        connections, owners = _merge_owners(chunks)
        columns = {
            **_numeric_columns(numbers, offset_ns),
            **_text_columns([c.texts for c in chunks]),
            **_connection_columns(connections, owners, offset_ns),
        }
        marks = np.array([_marks(c, lost_dns(c)) for c in connections], dtype=np.uint32)
        flags = np.concatenate([c.texts.flags for c in chunks])
        known = np.uint32(sum(ExchangeFlag))
        columns["flags"] = pa.array((flags | marks[owners]) & known)
        return _record_batch(exchange.EXCHANGES, columns)


def _marks(connection: Connection, dns_lost: bool) -> int:
    watched = ExchangeFlag.WATCHED if connection.watched else 0
    return watched | (ExchangeFlag.DNS_LOST if dns_lost else 0)


def _merge_owners(chunks: list[_Chunk]) -> tuple[list[Connection], Indices]:
    """The distinct connections of all chunks, and each row's index among them."""
    index: dict[int, int] = {}
    connections: list[Connection] = []
    owners: list[Indices] = []
    for chunk in chunks:
        places = np.empty(len(chunk.connections), dtype=np.int32)
        for at, connection in enumerate(chunk.connections):
            place = index.setdefault(id(connection), len(connections))
            if place == len(connections):
                connections.append(connection)
            places[at] = place
        owners.append(places[chunk.owners])
    return connections, np.concatenate(owners)


def _numeric_columns(numbers: Records, offset_ns: int) -> dict[str, pa.Array]:
    begin = numbers["ts_req_ns"]
    end = numbers["ts_resp_ns"]
    return {
        "start": _times(begin, offset_ns),
        "duration_ns": pa.array(np.where(end > begin, end - begin, np.uint64(0))),
        "role": pa.array(np.ascontiguousarray(numbers["role"])),
        "protocol": _words_of_codes(numbers["proto"]),
        "connection_id": _numbers(numbers["conn_id"]),
        "sequence": _numbers(numbers["seq"]),
        "netns": _numbers(numbers["netns"]),
        "local_address": _addresses(numbers["laddr"]),
        "local_port": _numbers(numbers["lport"]),
        "peer_address": _addresses(numbers["raddr"]),
        "peer_port": _numbers(numbers["rport"]),
        "isn_client": _numbers(numbers["isn_client"]),
        "isn_server": _numbers(numbers["isn_server"]),
        "request_seq": _numbers(numbers["request_seq"]),
        "request_bytes": _numbers(numbers["req_bytes"]),
        "response_bytes": _numbers(numbers["resp_bytes"]),
    }


def _text_columns(texts: list[Columns]) -> dict[str, pa.Array]:
    def joined(name: str) -> list[object]:
        return [value for t in texts for value in getattr(t, name)]

    status = np.concatenate([t.status for t in texts])
    return {
        "operation": _words(joined("operation")),
        "target": pa.array(joined("target"), pa.string()),
        "query": pa.array(joined("query"), pa.string()),
        "host": pa.array(joined("host"), pa.string()),
        "status": pa.array(status, pa.int32(), mask=status == 0),
        "error": _words(joined("error")),
        "batch_size": pa.array(joined("batch_size"), pa.uint32()),
        "user_agent": _words(joined("user_agent")),
        "content_type": _words(joined("content_type")),
        "trace_id": pa.array(joined("trace_id"), pa.binary(16)),
        "parent_span_id": pa.array(joined("parent_span_id"), pa.binary(8)),
    }


def _connection_columns(
    connections: list[Connection], owners: Indices, offset_ns: int
) -> dict[str, pa.Array]:
    bounds = [c.bound for c in connections]
    names = pa.array([b.name if b else None for b in bounds], pa.string())
    place = pa.array(owners)
    return {
        **_identity_columns([c.identity for c in connections], owners),
        "connection_opened": _maybe_times(
            [c.sight.conn_open_ns or None for c in connections], offset_ns
        ).take(place),
        "bound_name": names.take(place),
        "bound_answered": _maybe_times(
            [b.answered_ns if b else None for b in bounds], offset_ns
        ).take(place),
    }


def _identity_columns(identities: Sequence[Identity], owners: Indices) -> dict[str, pa.Array]:
    columns = {}
    for name in _IDENTITY_COLUMNS:
        values = [getattr(i, name) for i in identities]
        if name == "tgid":
            columns[name] = pa.array(np.array(values, dtype=np.uint32)[owners])
        else:
            columns[name] = _spread(values, owners)
    return columns


def build_dns(rows: Sequence[DnsRow], *, offset_ns: int) -> pa.RecordBatch:
    owners = np.arange(len(rows), dtype=np.int32)
    times = np.array([r.time_ns for r in rows], dtype=np.uint64)
    columns = {
        "time": _times(times, offset_ns),
        **_identity_columns([r.identity for r in rows], owners),
        "resolver": pa.array([r.resolver for r in rows], pa.binary(16)),
        "question": pa.array([r.question for r in rows], pa.string()),
        "question_type": _words([r.question_type for r in rows]),
        "rcode": pa.array([r.rcode for r in rows], pa.uint8()),
        "address": pa.array([r.address for r in rows], pa.binary(16)),
        "ttl_s": pa.array([r.ttl_s for r in rows], pa.uint32()),
        "canonical_name": pa.array([r.canonical_name for r in rows], pa.string()),
    }
    return _record_batch(exchange.DNS_ANSWERS, columns)


def build_connections(
    connections: Sequence[Connection],
    *,
    offset_ns: int,
    lost_dns: Callable[[Connection], bool],
) -> pa.RecordBatch:
    sights = [c.sight for c in connections]
    owners = np.arange(len(connections), dtype=np.int32)
    spoken = np.array([s.ts_req_ns for s in sights], dtype=np.uint64)
    of_connection = _connection_columns(list(connections), owners, offset_ns)
    columns = {
        "time": _times(spoken, offset_ns),
        "opened": of_connection.pop("connection_opened"),
        "connection_id": pa.array([s.conn_id for s in sights], pa.uint64()),
        "role": pa.array([s.role for s in sights], pa.uint8()),
        "protocol": _words_of_codes(np.array([s.proto for s in sights], dtype=np.uint8)),
        "flags": pa.array(
            [(c.sight.flags | _marks(c, lost_dns(c))) & sum(ExchangeFlag) for c in connections],
            pa.uint32(),
        ),
        **of_connection,
        "netns": pa.array([s.netns for s in sights], pa.uint32()),
        "local_address": pa.array([s.laddr for s in sights], pa.binary(16)),
        "local_port": pa.array([s.lport for s in sights], pa.uint16()),
        "peer_address": pa.array([s.raddr for s in sights], pa.binary(16)),
        "peer_port": pa.array([s.rport for s in sights], pa.uint16()),
        "rivals": pa.array(
            [list(c.bound.rivals) if c.bound else [] for c in connections], pa.list_(pa.string())
        ),
    }
    return _record_batch(exchange.CONNECTIONS, columns)


def render_batch(batch: pa.RecordBatch, header: BatchHeader) -> bytes:
    """The Arrow IPC stream that is posted."""
    sink = pa.BufferOutputStream()
    schema = exchange.add_header(batch.schema, header)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    return bytes(sink.getvalue())


def _record_batch(schema: pa.Schema, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([columns[f.name] for f in schema], schema=schema)


def _numbers(column: npt.NDArray[np.generic]) -> pa.Array:
    return pa.array(np.ascontiguousarray(column))


def _times(column: npt.NDArray[np.uint64], offset_ns: int) -> pa.Array:
    return pa.array(column.astype(np.int64) + offset_ns).view(exchange.TIME)


def _maybe_times(values: Iterable[int | None], offset_ns: int) -> pa.Array:
    return pa.array([v + offset_ns if v is not None else None for v in values], exchange.TIME)


def _addresses(column: npt.NDArray[np.void]) -> pa.Array:
    data = pa.py_buffer(np.ascontiguousarray(column))
    return pa.FixedSizeBinaryArray.from_buffers(exchange.ADDRESS, len(column), [None, data])


def _words(values: Sequence[object]) -> pa.Array:
    return pa.array(values, pa.string()).dictionary_encode()


def _words_of_codes(codes: npt.NDArray[np.uint8]) -> pa.Array:
    names = [PROTOCOLS.get(code, "unknown") for code in range(max(PROTOCOLS) + 1)]
    places = np.minimum(codes, len(names) - 1).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(places), pa.array(names, pa.string()))


def _spread(values: Sequence[str | None], owners: Indices) -> pa.Array:
    """One word per owner → a dictionary column with one index per row."""
    encoded = _words(values)
    return pa.DictionaryArray.from_arrays(
        encoded.indices.take(pa.array(owners)), encoded.dictionary
    )
