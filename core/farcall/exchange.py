"""What leaves a node: the columns of the batches that agents post to the exporter. Arrow's own words for them: farcall.arrowschemas.

A batch is one Arrow IPC stream (lz4) of one kind. Its place in the agent's sequence and who sent it travel in the
schema's metadata (`BatchHeader`), so a batch on disk or in a bug report explains itself. Everything in the
columns is already parsed, bounded and masked; docs/what-leaves-a-node.md lists the columns from here.

Times are Unix nanoseconds (CLOCK_MONOTONIC plus the offset the agent measured), addresses 16 bytes (IPv4 mapped,
RFC 4291 2.5.5.2), strings bounded by `MAX_TEXT_BYTES`.
"""

from dataclasses import dataclass
from enum import IntFlag
from typing import Literal, NamedTuple

SCHEMA_VERSION = 1
BatchKind = Literal["exchanges", "dns", "connections"]
MAX_TEXT_BYTES = 2048
MAX_NUMBER = 2**63 - 1  # what a signed 64-bit column holds: sequence numbers and nanoseconds alike

# `time`: ns, UTC; `word`: few distinct values in a batch, a dictionary; `texts`: a list; `binary16`: an address, or an ID.
ColumnType = Literal[
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int32",
    "time",
    "word",
    "text",
    "texts",
    "binary8",
    "binary16",
]


class Column(NamedTuple):
    name: str
    type: ColumnType
    nullable: bool = True


class ExchangeFlag(IntFlag):
    """Column `flags`. The same bits as in probes/farcall_probes/bpf/events.h (a test compares)."""

    TLS = 1 << 0  # plaintext read at the TLS library
    PIPELINED = 1 << 1  # more than one request in the captured bytes
    CUT = 1 << 2  # the head did not fit; what is missing is unknown, not absent
    LATE = 1 << 3  # the connection is older than the agent
    IDENTITY = 1 << 4  # isn_client, isn_server and request_seq are valid (two sights agreed)
    HEAD = 1 << 5  # the head came in a record of its own
    NO_RESPONSE = 1 << 6  # no response byte; `error` says why
    CONNECTOR = 1 << 7  # this end called connect
    DNS_LOST = 1 << 8  # DNS records were lost on this node in this client's time
    WATCHED = 1 << 9  # this client was watched from its start: what it asked, we saw
    UNCONNECTED = 1 << 10  # connect failed: no other end ever saw it
    COPY = 1 << 11  # the row itself goes to another exporter; here it is only the cause of others
    TRACE_B3 = 1 << 12  # trace_id and parent_span_id were said by B3, not by traceparent
    TRACE_JAEGER = 1 << 13  # or by Jaeger's uber-trace-id


# The upper half of `flags`: of 2^16 exchanges like this one the agent left out so many, to stay below its CPU ceiling; 0: none.
LEFT_OUT_SHIFT = 16
LEFT_OUT_MASK = 0xFFFF << LEFT_OUT_SHIFT

# Who, where and which connection: the same columns in every kind.
_IDENTITY = (
    Column(
        "client_key", "word", nullable=False
    ),  # naming's client: c:<container id> or p:<node>:<tgid>:<start ticks>
    Column("tgid", "uint32", nullable=False),
    Column(
        "executable", "word", nullable=False
    ),  # file name of the executable, or the kernel's comm
    Column(
        "service", "word", nullable=False
    ),  # agent's best service name: OTEL_SERVICE_NAME, k8s container, executable
    Column("container_id", "word"),
    Column("pod_uid", "word"),
    Column("pod", "word"),
    Column("namespace", "word"),
    Column("container", "word"),
)
_ENDS = (
    Column("netns", "uint32", nullable=False),
    Column("local_address", "binary16", nullable=False),
    Column("local_port", "uint16", nullable=False),
    Column("peer_address", "binary16", nullable=False),
    Column("peer_port", "uint16", nullable=False),
)

EXCHANGES = (
    Column("start", "time", nullable=False),  # first request byte at this end
    # First request byte to last response byte; to the first one of protocols and responses whose last is not known.
    Column("duration_ns", "uint64", nullable=False),
    Column("request_duration_ns", "uint64"),  # to the last request byte; null: it came in one call
    Column("first_byte_ns", "uint64"),  # to the first response byte; null: as duration_ns
    Column(
        "role", "uint8", nullable=False
    ),  # 0: this end sent the request (client), 1: it was asked (server)
    Column("protocol", "word", nullable=False),
    Column("connection_id", "uint64", nullable=False),  # unique per agent boot
    Column(
        "sequence", "uint32", nullable=False
    ),  # exchange number on this connection, from 0: gaps show losses, or that it was forgotten for others meanwhile
    Column("flags", "uint32", nullable=False),
    *_IDENTITY,
    *_ENDS,
    # Join key (docs/design: exact (I, q)); valid with ExchangeFlag.IDENTITY.
    Column("isn_client", "uint32", nullable=False),  # TCP sequence number of the first client byte
    Column("isn_server", "uint32", nullable=False),
    Column(
        "request_seq", "uint32", nullable=False
    ),  # of this request's first byte; HTTP/2 inside TLS: by its stream
    Column("request_bytes", "uint64", nullable=False),
    Column("response_bytes", "uint64", nullable=False),
    # What was asked
    Column("operation", "word"),  # HTTP method, Redis command
    Column("target", "text"),  # HTTP path, or the masked command
    Column("query", "text"),  # HTTP query, values masked
    Column("host", "text"),  # HTTP Host as sent, port included, bounded; an IP literal stays one
    Column("status", "int32"),  # HTTP status
    Column("rpc_status", "word"),  # gRPC's status code, `0` to `16`; null: none was seen
    Column("message", "text"),  # grpc-message, bounded
    Column("database", "word"),  # MongoDB's, Cassandra's keyspace, AMQP's routing key
    # MongoDB's, Cassandra's table, Kafka's topics, NATS' subject, AMQP's exchange, routing key and queue
    Column("collection", "word"),
    Column("group", "word"),  # Kafka's consumer group
    Column(
        "error", "word"
    ),  # protocol error code, or why there is no answer (probes: readcolumns.ENDS)
    Column("batch_size", "uint32"),  # commands of a pipeline
    Column("alpn", "word"),  # `tcp`: what a TLS client offered, in its order
    Column("user_agent", "word"),
    Column("content_type", "word"),
    Column("trace_id", "binary16"),  # of the request's traceparent (W3C Trace Context)
    Column("parent_span_id", "binary8"),
    Column("trace_state", "text"),  # tracestate, as it was beside that traceparent, bounded
    # The exchange that this one was sent for: the one server-side sight of the same agent boot with these numbers, whose
    # thread sent this request before it answered. Null: none, or not known for certain.
    Column("cause_connection_id", "uint64"),
    Column("cause_sequence", "uint32"),
    # Naming evidence that only the node has. The exporter decides.
    Column("connection_opened", "time"),  # null: older than the agent
    Column(
        "bound_name", "text"
    ),  # newest answer of this client before the connect that holds the address
    Column("bound_answered", "time"),
)

DNS_ANSWERS = (
    Column("time", "time", nullable=False),  # when the client read the answer
    *_IDENTITY,
    Column("resolver", "binary16", nullable=False),
    Column(
        "question", "text", nullable=False
    ),  # the name the client asked for, lower case, no final dot
    Column("question_type", "word", nullable=False),  # A, AAAA, HTTPS
    Column("rcode", "uint8", nullable=False),
    Column("address", "binary16"),  # one row per address; null for an answer without any
    Column("ttl_s", "uint32", nullable=False),  # as the server said it; naming does not use it
    Column("canonical_name", "text"),  # end of the CNAME chain, when there was one
)

CONNECTIONS = (
    Column("time", "time", nullable=False),  # when the agent first spoke of it
    Column("opened", "time"),  # null: older than the agent
    Column("connection_id", "uint64", nullable=False),
    Column("role", "uint8", nullable=False),
    Column("protocol", "word", nullable=False),
    Column("flags", "uint32", nullable=False),
    *_IDENTITY,
    *_ENDS,
    Column("bound_name", "text"),
    Column("bound_answered", "time"),
    Column("rivals", "texts"),  # other names of this client for this address, at most 8
)

COLUMNS: dict[BatchKind, tuple[Column, ...]] = {
    "exchanges": EXCHANGES,
    "dns": DNS_ANSWERS,
    "connections": CONNECTIONS,
}


class BatchError(ValueError):
    """The bytes are not a batch of ours; the message says what is wrong, and is answered with a 4xx."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHeader:
    """Who sent the batch and where it stands. (boot_id, stream, number) is the key that makes retries harmless."""

    kind: BatchKind
    node: str
    boot_id: str  # 32 hex digits, new at each start of the agent
    number: int  # from 1, across all kinds
    dns_watched_since_ns: int  # Unix ns: since when this agent sees DNS answers
    stream: str = ""  # with several exporters each gets numbers of its own: up to 16 hex digits
    schema_version: int = SCHEMA_VERSION

    @property
    def sender(self) -> str:
        """What the numbers count in."""
        return f"{self.boot_id}:{self.stream}" if self.stream else self.boot_id

    def metadata(self) -> dict[bytes, bytes]:
        """As it stands in the schema's metadata."""
        return {
            b"farcall.schema_version": str(self.schema_version).encode(),
            b"farcall.kind": self.kind.encode(),
            b"farcall.node": self.node.encode(),
            b"farcall.boot_id": self.boot_id.encode(),
            b"farcall.number": str(self.number).encode(),
            b"farcall.dns_watched_since_ns": str(self.dns_watched_since_ns).encode(),
            **({b"farcall.stream": self.stream.encode()} if self.stream else {}),
        }
