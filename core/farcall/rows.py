"""What is stored: Arrow schemas of the rows that writers hand to the store. Column names are the table's.

`SPANS` and `LOGS` are the OpenTelemetry collector's ClickHouse columns, so a collector can write to the same
tables. Rows are immutable; what becomes known later goes to the overlay tables (LINKS, JOINS, LATE_NAMES), which
the one reader applies. IDs are lower-case hex (32 and 16 digits), times Unix nanoseconds.
"""

from typing import Literal

import pyarrow as pa

TIME = pa.timestamp("ns", tz="UTC")
_WORD = pa.dictionary(pa.int32(), pa.string())
_MAP = pa.map_(pa.string(), pa.string())

SPANS = pa.schema(
    [
        pa.field("Timestamp", TIME, nullable=False),
        pa.field("TraceId", pa.string(), nullable=False),
        pa.field("SpanId", pa.string(), nullable=False),
        pa.field("ParentSpanId", pa.string(), nullable=False),  # "" for a root
        pa.field("TraceState", pa.string(), nullable=False),
        pa.field("SpanName", _WORD, nullable=False),
        pa.field(
            "SpanKind", _WORD, nullable=False
        ),  # Client | Server | Internal | Producer | Consumer | Unspecified
        pa.field(
            "ServiceName", _WORD, nullable=False
        ),  # whose span it is: the client on client-side spans
        pa.field("ResourceAttributes", _MAP, nullable=False),
        pa.field("ScopeName", _WORD, nullable=False),  # `farcall` on eBPF spans
        pa.field("ScopeVersion", _WORD, nullable=False),
        pa.field("SpanAttributes", _MAP, nullable=False),
        pa.field("Duration", pa.uint64(), nullable=False),  # ns
        pa.field("StatusCode", _WORD, nullable=False),  # Unset | Ok | Error
        pa.field("StatusMessage", pa.string(), nullable=False),
        pa.field("Source", _WORD, nullable=False),  # ebpf | otel
        pa.field(
            "DestinationLabel", _WORD, nullable=False
        ),  # farcall.destination.name, "" on otel spans
        pa.field("UnknownReason", _WORD, nullable=False),
        pa.field("IsServerSpan", pa.bool_(), nullable=False),  # metoro.is_server_span
        pa.field(
            "ConnectionId", pa.string(), nullable=False
        ),  # "<boot_id>:<connection_id>", "" on otel spans
        pa.field("Events.Timestamp", pa.list_(TIME), nullable=False),
        pa.field("Events.Name", pa.list_(pa.string()), nullable=False),
        pa.field("Events.Attributes", pa.list_(_MAP), nullable=False),
        pa.field("Links.TraceId", pa.list_(pa.string()), nullable=False),
        pa.field("Links.SpanId", pa.list_(pa.string()), nullable=False),
    ]
)

LOGS = pa.schema(
    [
        pa.field("Timestamp", TIME, nullable=False),
        pa.field("ObservedTimestamp", TIME, nullable=False),
        pa.field("TraceId", pa.string(), nullable=False),
        pa.field("SpanId", pa.string(), nullable=False),
        pa.field("TraceFlags", pa.uint8(), nullable=False),
        pa.field("SeverityText", _WORD, nullable=False),
        pa.field("SeverityNumber", pa.uint8(), nullable=False),
        pa.field("ServiceName", _WORD, nullable=False),
        pa.field("Body", pa.string(), nullable=False),
        pa.field("EventName", _WORD, nullable=False),
        pa.field("ResourceAttributes", _MAP, nullable=False),
        pa.field("ScopeName", _WORD, nullable=False),
        pa.field("LogAttributes", _MAP, nullable=False),
    ]
)

# eBPF span ↔ OpenTelemetry trace, by the traceparent that the request carried.
LINKS = pa.schema(
    [
        pa.field("Timestamp", TIME, nullable=False),  # of the eBPF span
        pa.field("EbpfTraceId", pa.string(), nullable=False),
        pa.field("EbpfSpanId", pa.string(), nullable=False),
        pa.field("OtelTraceId", pa.string(), nullable=False),
        pa.field("OtelSpanId", pa.string(), nullable=False),  # the OTel span that sent the request
        pa.field("Method", _WORD, nullable=False),  # traceparent | b3 | jaeger | cause
    ]
)

# A server's sight joined to a client's span that was stored before it.
JOINS = pa.schema(
    [
        pa.field("Timestamp", TIME, nullable=False),  # of the client's span
        pa.field("TraceId", pa.string(), nullable=False),
        pa.field("SpanId", pa.string(), nullable=False),
        pa.field(
            "Attributes", _MAP, nullable=False
        ),  # laid over the span's: farcall.join, farcall.server.*
    ]
)

# A name that became known after its span was stored.
LATE_NAMES = pa.schema(
    [
        pa.field("Timestamp", TIME, nullable=False),  # of the span
        pa.field("TraceId", pa.string(), nullable=False),
        pa.field("SpanId", pa.string(), nullable=False),
        pa.field("DestinationLabel", pa.string(), nullable=False),
        pa.field(
            "Attributes", _MAP, nullable=False
        ),  # laid over the span's; farcall.unknown.reason goes
    ]
)

# Server sights whose client is inside, until they are joined or become spans: survive an exporter's restart. With several
# exporters also clients' ends, so that whoever has the server's finds them.
SIGHTS = pa.schema(
    [
        pa.field("Timestamp", TIME, nullable=False),
        pa.field(
            "JoinKey", pa.string(), nullable=False
        ),  # hex of (isn_client, isn_server, request_seq); a client's ends with "c"
        pa.field("State", _WORD, nullable=False),  # waiting | keeping | joined | kept | client
        pa.field(
            "Span", pa.string(), nullable=False
        ),  # the span it would become, as JSON; "" from `keeping` on; of a client see farcall_exporter.ends
    ]
)

_WHO = [
    pa.field("ClientKey", _WORD, nullable=False),
    pa.field("Node", _WORD, nullable=False),
    pa.field("ServiceName", _WORD, nullable=False),
    pa.field("Executable", _WORD, nullable=False),
    pa.field("Pid", pa.uint32(), nullable=False),
    pa.field("ContainerId", _WORD, nullable=False),
    pa.field("Namespace", _WORD, nullable=False),
    pa.field("Pod", _WORD, nullable=False),
]

DNS_ANSWERS = pa.schema(
    [
        pa.field("Timestamp", TIME, nullable=False),
        *_WHO,
        pa.field("Resolver", pa.string(), nullable=False),
        pa.field("Question", pa.string(), nullable=False),
        pa.field("QuestionType", _WORD, nullable=False),
        pa.field("Rcode", pa.uint8(), nullable=False),
        pa.field("Address", pa.string(), nullable=False),  # "" for none
        pa.field("TtlSeconds", pa.uint32(), nullable=False),
        pa.field("CanonicalName", pa.string(), nullable=False),
    ]
)

CONNECTIONS = pa.schema(
    [
        pa.field("Timestamp", TIME, nullable=False),
        pa.field("ConnectionId", pa.string(), nullable=False),  # "<boot_id>:<connection_id>"
        pa.field("Opened", TIME),  # null: older than the agent
        pa.field("Role", _WORD, nullable=False),  # client | server
        pa.field("Protocol", _WORD, nullable=False),
        pa.field("Flags", pa.uint32(), nullable=False),
        *_WHO,
        pa.field("LocalAddress", pa.string(), nullable=False),
        pa.field("LocalPort", pa.uint16(), nullable=False),
        pa.field("PeerAddress", pa.string(), nullable=False),
        pa.field("PeerPort", pa.uint16(), nullable=False),
        pa.field("BoundName", pa.string(), nullable=False),
        pa.field("BoundAnswered", TIME),
        pa.field("Rivals", pa.list_(pa.string()), nullable=False),
        # The rule that named it, as the exporter decided then.
        pa.field("Label", pa.string(), nullable=False),
        pa.field("NameSource", _WORD, nullable=False),
        pa.field("UnknownReason", _WORD, nullable=False),
        pa.field("AnsweredAt", TIME),
        pa.field("TtlSeconds", pa.uint32(), nullable=False),  # the tier's, in force at that time
    ]
)

TableName = Literal[
    "spans", "logs", "links", "joins", "late_names", "sights", "dns_answers", "connections"
]
TABLES: dict[TableName, pa.Schema] = {
    "spans": SPANS,
    "logs": LOGS,
    "links": LINKS,
    "joins": JOINS,
    "late_names": LATE_NAMES,
    "sights": SIGHTS,
    "dns_answers": DNS_ANSWERS,
    "connections": CONNECTIONS,
}
