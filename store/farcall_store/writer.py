"""What the exporter writes through: Arrow tables in, committed rows out. Implements `farcall.storeport.Writer`.

A write is one insert per table, each unrepeatable by a token made from the caller's: a retry after a broken
connection, or after the store was killed in between, adds only what is missing.
"""

import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc

from farcall.api import ComponentStatus
from farcall.rows import TABLES, TIME, TableName
from farcall.storeport import StoredEnd, StoredSpan, StoreRefusedError
from farcall_store.client import Client
from farcall_store.schema import TABLE_NAMES
from farcall_store.statuses import parse_status

_HIGH_WATER = pa.schema([pa.field("BootId", pa.string()), pa.field("Number", pa.uint64())])
_STATUS = pa.schema(
    [
        pa.field("Seen", TIME),
        pa.field("Kind", pa.string()),
        pa.field("Name", pa.string()),
        pa.field("Status", pa.string()),
    ]
)

_BOUNDS = pa.schema(
    [
        pa.field("TraceId", pa.string()),
        pa.field("Start", TIME),
        pa.field("End", TIME),
    ]
)
# What, beside its time, a row is recognised by; the first column has an index. Rows of the other tables may be there twice:
# readers take the last, or count to one.
_RECOGNISED: dict[TableName, tuple[str, ...]] = {
    "spans": ("SpanId", "IsServerSpan"),
    "dns_answers": ("Address", "ClientKey", "Question"),
    "connections": ("ConnectionId",),
}
# Of one batch and day. More than one, because a batch that is built anew may differ in what is sampled or was joined.
MAX_RECOGNISED = 500
MAX_FOUND = 10_000
DAY_NS = 86_400 * 10**9  # of UTC: a partition

_BETWEEN = (
    "Timestamp >= fromUnixTimestamp64Nano({since:Int64}) "
    "AND Timestamp <= fromUnixTimestamp64Nano({until:Int64})"
)
_OF_CONNECTIONS = (
    f"FROM sights WHERE {_BETWEEN} AND substring(JoinKey, 1, 16) IN {{identities:Array(String)}} "
)
_CLIENTS_ENDS = (
    "SELECT JoinKey AS key, toUnixTimestamp64Nano(Timestamp) AS start, Span AS text "
    f"{_OF_CONNECTIONS}AND State = 'client' ORDER BY text DESC LIMIT 1 BY key, start"
)
_SERVERS_ENDS = (
    "SELECT JoinKey AS key, min(toUnixTimestamp64Nano(Timestamp)) AS start, "
    "toString(anyIf(JSONExtractUInt(Span, 'bytes'), State = 'waiting')) AS text "
    f"{_OF_CONNECTIONS}AND State != 'client' GROUP BY JoinKey "
    "HAVING countIf(State IN ('keeping', 'kept')) > 0 AND countIf(State = 'joined') = 0"
)


class StoreWriter:
    def __init__(self, url: str, *, password: str, user: str = "writer") -> None:
        self._client = Client(url, user=user, password=password)
        self._is_fenced = False

    def write(self, tables: dict[TableName, pa.Table], *, token: str) -> None:
        for name, table in tables.items():
            if table.num_rows:
                self._insert(TABLE_NAMES[name], conform(name, table), token=token)

    def drop_stored(self, tables: dict[TableName, pa.Table]) -> dict[TableName, pa.Table]:
        if not self._is_fenced:
            # The one writing handle takes inserts in their order: none of before this is still to come.
            self._insert("ingest_high_water", _HIGH_WATER.empty_table(), token="fence")
            self._is_fenced = True
        return {name: self._drop_stored_days(name, table) for name, table in tables.items()}

    def _drop_stored_days(self, name: TableName, table: pa.Table) -> pa.Table:
        """An insert is whole or not there, for each day: a few rows of one tell of all."""
        if name not in _RECOGNISED:
            return table
        # Not as dates: those need the zones' files, which a small image may lack.
        days = pc.divide(table.column("Timestamp").cast(pa.int64()), DAY_NS)
        for day in pc.unique(days).to_pylist():
            is_of_day = pc.equal(days, day)
            rows = table.filter(is_of_day)
            if rows.num_rows and self._is_stored(name, rows):
                if name == "spans":
                    self._insert_bounds(rows)
                table = table.filter(pc.invert(is_of_day))
                days = days.filter(pc.invert(is_of_day))
        return table

    def _is_stored(self, name: TableName, rows: pa.Table) -> bool:
        columns = _RECOGNISED[name]
        probe = rows.select(["Timestamp", *columns]).slice(0, MAX_RECOGNISED)
        probe = probe.set_column(0, "Timestamp", probe.column("Timestamp").cast(pa.int64()))
        ours = {tuple(row.values()) for row in probe.to_pylist()}
        times = [key[0] for key in ours]
        found = self._client.query(
            f"SELECT toUnixTimestamp64Nano(Timestamp) AS at, {', '.join(columns)} FROM {TABLE_NAMES[name]} "
            f"WHERE {_BETWEEN} AND {columns[0]} IN {{first:Array(String)}} LIMIT {MAX_FOUND}",
            {"since": min(times), "until": max(times), "first": sorted({key[1] for key in ours})},
        )
        return any(tuple(row.values()) in ours for row in found)

    def _insert_bounds(self, spans: pa.Table) -> None:
        """What the view makes of spans: a store that was killed in between has these without it."""
        bounds = spans.group_by("TraceId").aggregate([("Timestamp", "min"), ("Timestamp", "max")])
        columns = [bounds.column(c) for c in ("TraceId", "Timestamp_min", "Timestamp_max")]
        rows = pa.Table.from_arrays(columns, schema=_BOUNDS)
        token = " ".join(("bounds", *rows.column("TraceId").to_pylist()))
        self._insert("otel_traces_trace_id_ts", rows, token=token)

    def read_high_water(self, boot_id: str) -> int:
        rows = self._client.query(
            "SELECT max(Number) AS number FROM ingest_high_water WHERE BootId = {boot:String}",
            {"boot": boot_id},
        )
        return int(rows[0]["number"]) if rows else 0

    def set_high_water(self, numbers: Mapping[str, int]) -> None:
        rows = {"BootId": list(numbers), "Number": list(numbers.values())}
        token = json.dumps(numbers, sort_keys=True)
        self._insert("ingest_high_water", pa.table(rows, schema=_HIGH_WATER), token=token)

    def write_status(self, status: ComponentStatus) -> None:
        self.write_statuses([status])

    def write_statuses(self, statuses: Sequence[ComponentStatus]) -> None:
        rows = {
            "Seen": [int(status.seen_ns) for status in statuses],
            "Kind": [status.kind for status in statuses],
            "Name": [status.name for status in statuses],
            "Status": [json.dumps(asdict(status)) for status in statuses],
        }
        token = " ".join(f"{status.kind}:{status.name}:{status.seen_ns}" for status in statuses)
        self._insert("component_status", pa.table(rows, schema=_STATUS), token=token)

    def read_statuses(self, *, kind: str, since_ns: int, limit: int) -> list[ComponentStatus]:
        rows = self._client.query(
            "SELECT argMax(Status, Seen) AS status FROM component_status WHERE Kind = {kind:String} "
            "AND Seen >= fromUnixTimestamp64Nano({since:Int64}) GROUP BY Name ORDER BY Name LIMIT {limit:UInt32}",
            {"kind": kind, "since": since_ns, "limit": limit},
        )
        now_ns = time.time_ns()
        return [parse_status(row["status"], now_ns) for row in rows]

    def read_waiting_sights(self, *, since_ns: int) -> list[tuple[str, str]]:
        rows = self._client.query(
            "SELECT JoinKey AS key, anyIf(Span, State = 'waiting') AS span FROM sights "
            "WHERE Timestamp >= fromUnixTimestamp64Nano({since:Int64}) "
            "GROUP BY JoinKey HAVING countIf(State = 'waiting') > 0 AND countIf(State IN ('joined', 'kept')) = 0 ORDER BY min(Timestamp)",
            {"since": since_ns},
        )
        return [(row["key"], row["span"]) for row in rows]

    def find_spans(
        self, span_ids: Sequence[str], since_ns: int, until_ns: int, is_server: bool
    ) -> list[StoredSpan]:
        rows = self._client.query(
            "SELECT toUnixTimestamp64Nano(Timestamp) AS start, TraceId AS trace, SpanId AS span FROM otel_traces "
            f"WHERE {_BETWEEN} "
            "AND SpanId IN {ids:Array(String)} AND IsServerSpan = {is_server:Bool} LIMIT 1 BY SpanId",
            {"since": since_ns, "until": until_ns, "ids": list(span_ids), "is_server": is_server},
        )
        return [StoredSpan(int(row["start"]), row["trace"], row["span"]) for row in rows]

    def find_ends(
        self, identities: Sequence[str], since_ns: int, until_ns: int, is_server: bool
    ) -> list[StoredEnd]:
        rows = self._client.query(
            _SERVERS_ENDS if is_server else _CLIENTS_ENDS,
            {"since": since_ns, "until": until_ns, "identities": list(identities)},
        )
        return [StoredEnd(row["key"], int(row["start"]), row["text"]) for row in rows]

    def close(self) -> None:
        self._client.close()

    def _insert(self, table: str, rows: pa.Table, *, token: str) -> None:
        # Hashed: a caller's token may hold anything, ours is 40 hexadecimal digits.
        own = hashlib.sha256(f"{token}\n{table}".encode()).hexdigest()[:40]
        self._client.insert(table, rows.schema.names, _serialise(rows), token=own)


def conform(name: TableName, table: pa.Table) -> pa.Table:
    """The table in its declared schema. Raises StoreRefusedError."""
    schema = TABLES[name]
    if table.schema.equals(schema):
        return table
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, ValueError) as e:
        raise StoreRefusedError(
            f"{name}: the rows are not in the schema of farcall.rows: {e}"
        ) from e


def _serialise(table: pa.Table) -> bytes:
    # One record batch: one block in the engine, which is what its token covers.
    whole = table.unify_dictionaries().combine_chunks()
    sink = io.BytesIO()
    with ipc.new_stream(sink, whole.schema) as stream:
        stream.write_table(whole, max_chunksize=max(1, whole.num_rows))
    return sink.getvalue()
