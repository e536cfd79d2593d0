"""Rows of the store's tables for the console's tests, named by words: IDs are made from the names.

Written through the store's real writer, as an exporter would; nothing here knows SQL.
"""

import hashlib
from dataclasses import dataclass, field

import pyarrow as pa

from farcall.rows import TABLES, TableName


def trace_id(name: str) -> str:
    return hashlib.sha256(f"trace {name}".encode()).hexdigest()[:32]


def span_id(name: str) -> str:
    return hashlib.sha256(f"span {name}".encode()).hexdigest()[:16]


@dataclass
class Rows:
    """Collects rows by table; `tables()` makes Arrow of them."""

    by_table: dict[TableName, list[dict[str, object]]] = field(default_factory=dict)

    def add(self, table: TableName, **columns: object) -> None:
        row = {f.name: _blank(f) for f in TABLES[table]}
        unknown = set(columns) - set(row)
        assert not unknown, f"{table} has no column {unknown}"
        self.by_table.setdefault(table, []).append({**row, **columns})

    def tables(self) -> dict[TableName, pa.Table]:
        return {name: _table(name, rows) for name, rows in self.by_table.items()}

    def span(
        self,
        trace: str,
        name: str,
        *,
        at: int,
        took: int,
        service: str,
        operation: str,
        parent: str = "",
        destination: str = "",
        reason: str = "",
        source: str = "ebpf",
        kind: str = "Client",
        status: str = "Unset",
        message: str = "",
        server: bool = False,
        attributes: dict[str, str] | None = None,
    ) -> None:
        own = dict(attributes or {})
        connection = ""
        if source == "ebpf":
            connection = f"boot-1:{int(span_id(name)[:6], 16)}"
            own["farcall.connection.id"] = connection
            if destination:
                own["farcall.destination.name"] = destination
            if reason:
                own["farcall.unknown.reason"] = reason
            if server:
                own["metoro.is_server_span"] = "true"
        self.add(
            "spans",
            Timestamp=at,
            TraceId=trace_id(trace),
            SpanId=span_id(name),
            ParentSpanId=span_id(parent) if parent else "",
            SpanName=operation,
            SpanKind=kind,
            ServiceName=service,
            ResourceAttributes={
                "service.name": service,
                "k8s.namespace.name": "shop",
                "k8s.node.name": "node-1",
            },
            ScopeName="farcall" if source == "ebpf" else "shop",
            ScopeVersion="0.1.0",
            SpanAttributes=own,
            Duration=took,
            StatusCode=status,
            StatusMessage=message,
            Source=source,
            DestinationLabel=destination,
            UnknownReason=reason,
            IsServerSpan=server,
            ConnectionId=connection,
        )

    def link(self, ebpf: str, ebpf_trace: str, otel: str, otel_trace: str, *, at: int) -> None:
        self.add(
            "links",
            Timestamp=at,
            EbpfTraceId=trace_id(ebpf_trace),
            EbpfSpanId=span_id(ebpf),
            OtelTraceId=trace_id(otel_trace),
            OtelSpanId=span_id(otel),
            Method="traceparent",
        )

    def log(
        self,
        body: str,
        *,
        at: int,
        service: str,
        trace: str = "",
        span: str = "",
        severity: str = "INFO",
        attributes: dict[str, str] | None = None,
    ) -> None:
        self.add(
            "logs",
            Timestamp=at,
            ObservedTimestamp=at,
            TraceId=trace_id(trace) if trace else "",
            SpanId=span_id(span) if span else "",
            SeverityText=severity,
            SeverityNumber={"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17}[severity],
            ServiceName=service,
            Body=body,
            ResourceAttributes={"service.name": service},
            ScopeName="shop",
            LogAttributes=dict(attributes or {}),
        )

    def answer(self, name: str, address: str, *, at: int, client: str, service: str) -> None:
        self.add(
            "dns_answers",
            Timestamp=at,
            ClientKey=client,
            Node="node-1",
            ServiceName=service,
            Executable="python3",
            Pid=4711,
            Namespace="shop",
            Pod=f"{service}-7d9c",
            Resolver="10.96.0.10",
            Question=name,
            QuestionType="A",
            Address=address,
            TtlSeconds=60,
        )

    def connection(
        self,
        span: str,
        *,
        opened: int | None,
        client: str,
        service: str,
        peer: str,
        port: int,
        label: str,
        source: str = "",
        reason: str = "",
        answered: int | None = None,
    ) -> None:
        self.add(
            "connections",
            Timestamp=opened or 0,
            ConnectionId=f"boot-1:{int(span_id(span)[:6], 16)}",
            Opened=opened,
            Role="client",
            Protocol="redis",
            ClientKey=client,
            Node="node-1",
            ServiceName=service,
            Executable="python3",
            Pid=4711,
            Namespace="shop",
            Pod=f"{service}-7d9c",
            LocalAddress="10.244.0.5",
            LocalPort=49152,
            PeerAddress=peer,
            PeerPort=port,
            Label=label,
            NameSource=source,
            UnknownReason=reason,
            AnsweredAt=answered,
            TtlSeconds=3_600,
        )


def peer(
    address: str, port: int, protocol: str, *, source: str = "", confidence: str = "", **more: str
) -> dict[str, str]:
    named = {"farcall.name.source": source, "farcall.name.confidence": confidence}
    return {
        "network.peer.address": address,
        "network.peer.port": str(port),
        "network.protocol.name": protocol,
        **{key: value for key, value in named.items() if value},
        **more,
    }


def _blank(column: pa.Field) -> object:
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return ""
    if pa.types.is_map(kind):
        return {}
    if pa.types.is_list(kind):
        return []
    if pa.types.is_boolean(kind):
        return False
    return None if column.nullable else 0


def _table(name: TableName, rows: list[dict[str, object]]) -> pa.Table:
    schema = TABLES[name]
    columns = []
    for column in schema:
        values = [row[column.name] for row in rows]
        if pa.types.is_map(column.type):
            values = [list(value.items()) for value in values]  # type: ignore[attr-defined]
        columns.append(pa.array(values, type=column.type))
    return pa.Table.from_arrays(columns, schema=schema)
