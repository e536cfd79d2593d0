"""What the exporter's tests share: batches as an agent makes them, a writer in memory, a cache in memory."""

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from farcall.api import ComponentStatus
from farcall.arrowschemas import SCHEMAS, add_header
from farcall.dnscache import CacheEntry, CacheQuestion, CacheUnavailableError, NamedAt, canonical_ip
from farcall.effective import SelectionConfig
from farcall.exchange import BatchHeader, BatchKind, ExchangeFlag
from farcall.rows import TABLES, TableName
from farcall.storeport import StoredEnd, StoredSpan, StoreError
from farcall_exporter.context import Context, Settings
from farcall_exporter.counters import Counters
from farcall_exporter.decode import Decoded, decode_batch
from farcall_exporter.lookups import Lookups
from farcall_exporter.resolve import NamingRules
from farcall_exporter.sides import Cluster
from support_rows import holds_any, to_rows

BOOT = "0123456789abcdef0123456789abcdef"
OTHER_BOOT = "fedcba9876543210fedcba9876543210"
NS = 10**9
T0 = 1_800_000_000 * NS  # the time of the tests' calls
TTL_S = 3_600
WATCHED = int(ExchangeFlag.WATCHED)
IDENTITY = int(ExchangeFlag.IDENTITY)
CIDRS = ("10.244.0.0/16", "10.96.0.0/12")
Row = dict[str, Any]

_numbers = itertools.count(1)


def address(text: str) -> bytes:
    import ipaddress

    ip = ipaddress.ip_address(text)
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


def who(**changes: Any) -> Row:
    row: Row = {
        "client_key": "c:abc",
        "tgid": 4711,
        "executable": "python3",
        "service": "cart",
        "container_id": None,
        "pod_uid": None,
        "pod": None,
        "namespace": None,
        "container": None,
    }
    return {**row, **changes}


def dns_answer(client_key: str, time_ns: int) -> Row:
    return who(
        time=time_ns, resolver="10.96.0.10", question="pg.example.com", question_type="A", rcode=0, address="203.0.113.50",
        ttl_s=30, canonical_name=None, client_key=client_key,
    )  # fmt: skip


def exchange(**changes: Any) -> Row:
    """A client's HTTP call from inside to outside, unless changed; addresses as text."""
    row = who(
        start=T0,
        duration_ns=5_000_000,
        role=0,
        protocol="http",
        connection_id=7,
        sequence=0,
        flags=WATCHED,
        netns=4026531840,
        local_address="10.244.0.5",
        local_port=40_000,
        peer_address="203.0.113.10",
        peer_port=80,
        isn_client=0,
        isn_server=0,
        request_seq=0,
        request_bytes=120,
        response_bytes=300,
        operation="GET",
        target="/api/data",
        query=None,
        host=None,
        status=200,
        rpc_status=None,
        message=None,
        error=None,
        batch_size=None,
        user_agent=None,
        content_type=None,
        trace_id=None,
        parent_span_id=None,
        cause_connection_id=None,
        cause_sequence=None,
        connection_opened=T0 - NS,
        bound_name=None,
        bound_answered=None,
    )
    return {**row, **changes}


def redis_exchange(**changes: Any) -> Row:
    base = {
        "protocol": "redis",
        "operation": "GET",
        "target": "GET ?",
        "status": None,
        "peer_port": 6379,
    }
    return exchange(**{**base, **changes})


def seen_from_server(client: Row, **changes: Any) -> Row:
    """The other end's sight of a client's row: same identity, ends swapped, nested in time."""
    mirrored: Row = {
        "role": 1,
        "connection_id": client["connection_id"] + 1_000_000,
        "client_key": "c:server",
        "service": "inventory",
        "tgid": 99,
        "local_address": client["peer_address"],
        "local_port": client["peer_port"],
        "peer_address": client["local_address"],
        "peer_port": client["local_port"],
        "start": client["start"] + 100_000,
        "duration_ns": client["duration_ns"] - 1_000_000,
        "bound_name": None,
        "bound_answered": None,
    }
    return {**client, **mirrored, **changes}


def identified(seq: int = 1_000, client: int = 11, server: int = 22, **changes: Any) -> Row:
    """An inside-to-inside client's row whose connection's identity is known."""
    base = {
        "flags": WATCHED | IDENTITY,
        "isn_client": client,
        "isn_server": server,
        "request_seq": seq,
        "peer_address": "10.244.0.15",
        "peer_port": 8080,
    }
    return exchange(**{**base, **changes})


def asked_for(served: Row) -> Row:
    """A request on another connection that was sent while `served` was."""
    return identified(
        seq=9,
        client=5,
        server=6,
        start=served["start"] + 1_000,
        cause_connection_id=served["connection_id"],
        cause_sequence=served["sequence"],
    )


_ADDRESSES = ("local_address", "peer_address", "resolver", "address")


def to_table(kind: BatchKind, rows: Sequence[Row]) -> pa.Table:
    plain = [
        {k: address(v) if k in _ADDRESSES and isinstance(v, str) else v for k, v in row.items()}
        for row in rows
    ]
    return pa.Table.from_pylist(plain, schema=SCHEMAS[kind])


def to_bytes(table: pa.Table, header: BatchHeader, *, compression: str | None = "lz4") -> bytes:
    schema = add_header(table.schema, header)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, schema, options=options) as stream:
        stream.write_table(table.replace_schema_metadata(schema.metadata))
    body: bytes = sink.getvalue().to_pybytes()
    return body


def header(
    kind: BatchKind = "exchanges",
    *,
    number: int | None = None,
    boot: str = BOOT,
    stream: str = "",
) -> BatchHeader:
    return BatchHeader(
        kind=kind,
        node="node-1",
        boot_id=boot,
        number=next(_numbers) if number is None else number,
        dns_watched_since_ns=0,
        stream=stream,
    )


def batch(
    rows: Sequence[Row],
    kind: BatchKind = "exchanges",
    *,
    number: int | None = None,
    boot: str = BOOT,
    stream: str = "",
) -> bytes:
    head = header(kind, number=number, boot=boot, stream=stream)
    return to_bytes(to_table(kind, rows), head)


def decoded(rows: Sequence[Row], kind: BatchKind = "exchanges", *, boot: str = BOOT) -> Decoded:
    return decode_batch(batch(rows, kind, boot=boot))


class Clock:
    """Monotonic seconds that move when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class FakeCache:
    """Redis' answers as a dict from (client, ip) and ip; `down` makes it unreachable."""

    def __init__(self) -> None:
        self.mine: dict[tuple[str, str], list[NamedAt]] = {}
        self.cluster: dict[str, list[NamedAt]] = {}
        self.tombstones: dict[tuple[str, str], list[NamedAt]] = {}
        self.bindings: dict[tuple[str, str, str], NamedAt] = {}
        self.down = False
        self.reads: list[int] = []

    def read(self, questions: Sequence[CacheQuestion]) -> list[CacheEntry]:
        self.reads.append(len(questions))
        if self.down:
            raise CacheUnavailableError("down")
        return [self._entry(q) for q in questions]

    def _entry(self, q: CacheQuestion) -> CacheEntry:
        key = (q.client_key, canonical_ip(q.ip))
        return CacheEntry(
            binding=self.bindings.get((q.client_key, q.local, q.peer)),
            client_names=tuple(self.mine.get(key, ())),
            cluster_names=tuple(self.cluster.get(key[1], ())),
            tombstones=tuple(self.tombstones.get(key, ())),
        )


@dataclass
class FakeWriter:
    """Keeps what is written, once per token and table; raises what it is told to."""

    tables: dict[TableName, list[pa.Table]] = field(default_factory=dict)
    tokens: set[tuple[str, str]] = field(default_factory=set)
    marks: dict[str, int] = field(default_factory=dict)
    statuses: list[ComponentStatus] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)
    fail_with: list[StoreError] = field(default_factory=list)
    fail_after_write: list[StoreError] = field(default_factory=list)
    writes: int = 0

    def write(self, tables: Mapping[TableName, pa.Table], *, token: str) -> None:
        self.writes += 1
        if self.fail_with:
            raise self.fail_with.pop(0)
        for name, table in tables.items():
            assert table.schema.equals(TABLES[name]), (name, table.schema)
            table.validate(full=True)
            if (token, name) not in self.tokens:
                self.tokens.add((token, name))
                self.tables.setdefault(name, []).append(table)
        if self.fail_after_write:
            raise self.fail_after_write.pop(0)

    def drop_stored(self, tables: dict[TableName, pa.Table]) -> dict[TableName, pa.Table]:
        """A table as a whole, when a row of it is there: tests' batches are of one day."""
        return {
            name: table.slice(0, 0) if holds_any(self.rows(name), name, table) else table
            for name, table in tables.items()
        }

    def read_high_water(self, boot_id: str) -> int:
        return self.marks.get(boot_id, 0)

    def set_high_water(self, numbers: Mapping[str, int]) -> None:
        for boot_id, number in numbers.items():
            self.marks[boot_id] = max(number, self.marks.get(boot_id, 0))

    def write_status(self, status: ComponentStatus) -> None:
        self.statuses.append(status)

    def write_statuses(self, statuses: Sequence[ComponentStatus]) -> None:
        self.statuses.extend(statuses)

    def read_statuses(self, *, kind: str, since_ns: int, limit: int) -> list[ComponentStatus]:
        newest = {s.name: s for s in self.statuses if s.kind == kind and int(s.seen_ns) >= since_ns}
        return list(newest.values())[:limit]

    def read_waiting_sights(self, *, since_ns: int) -> list[tuple[str, str]]:
        return self.waiting

    def find_spans(
        self, span_ids: Sequence[str], since_ns: int, until_ns: int, is_server: bool
    ) -> list[StoredSpan]:
        if self.fail_with:
            raise self.fail_with.pop(0)
        return [
            StoredSpan(row["Timestamp"], row["TraceId"], row["SpanId"])
            for row in self.rows("spans")
            if row["SpanId"] in span_ids
            and row["IsServerSpan"] == is_server
            and since_ns <= row["Timestamp"] <= until_ns
        ]

    def find_ends(
        self, identities: Sequence[str], since_ns: int, until_ns: int, is_server: bool
    ) -> list[StoredEnd]:
        if self.fail_with:
            raise self.fail_with.pop(0)
        rows = [
            row
            for row in self.rows("sights")
            if row["JoinKey"][:16] in identities and since_ns <= row["Timestamp"] <= until_ns
        ]
        if not is_server:
            return [
                StoredEnd(row["JoinKey"], row["Timestamp"], row["Span"])
                for row in rows
                if row["State"] == "client"
            ]
        states: dict[str, set[str]] = {}
        for row in rows:
            states.setdefault(row["JoinKey"], set()).add(row["State"])
        return [
            StoredEnd(row["JoinKey"], row["Timestamp"], str(json.loads(row["Span"])["bytes"]))
            for row in rows
            if row["State"] == "waiting"
            and states[row["JoinKey"]] & {"keeping", "kept"}
            and "joined" not in states[row["JoinKey"]]
        ]

    def rows(self, name: TableName) -> list[Row]:
        return [row for table in self.tables.get(name, []) for row in to_rows(table)]

    def waiting_sights(self) -> list[tuple[str, str]]:
        """As a real store would answer after a restart."""
        texts: dict[str, str] = {}
        for row in self.rows("sights"):
            if row["State"] == "waiting":
                texts.setdefault(row["JoinKey"], row["Span"])
            elif row["State"] in ("joined", "kept"):
                texts[row["JoinKey"]] = ""
        return [(key, text) for key, text in texts.items() if text]


def make_context(
    *,
    cache: FakeCache | None = None,
    clock: Clock | None = None,
    ttl_s: int = TTL_S,
    hold: bool = False,
    cidrs: Sequence[str] = CIDRS,
    join_hold_s: float = 5.0,
    selection: SelectionConfig | None = None,
) -> Context:
    clock = clock or Clock()
    counters = Counters()
    return Context(
        settings=Settings(
            rules=NamingRules(ttl_s=ttl_s, hold_while_connected=hold),
            cluster=Cluster(tuple(cidrs)),
            join_hold_s=join_hold_s,
            generation=1,
            selection=selection or SelectionConfig(),
        ),
        counters=counters,
        lookups=Lookups(cache or FakeCache(), counters, clock=clock),
        clock=clock,
        version="test",
    )


def wait_until(condition: Any, within_s: float = 60.0) -> Any:
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
