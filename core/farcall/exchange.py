"""What leaves a node: the Arrow schemas of the batches that agents post to the exporter.

A batch is one Arrow IPC stream (lz4) of one kind. Its place in the agent's sequence and who sent it travel in the
schema's metadata (`BatchHeader`), so a batch on disk or in a bug report explains itself. Everything in the
columns is already parsed, bounded and masked; docs/what-leaves-a-node.md lists the columns from here.

Times are Unix nanoseconds (CLOCK_MONOTONIC plus the offset the agent measured), addresses 16 bytes (IPv4 mapped,
RFC 4291 2.5.5.2), strings bounded by `MAX_TEXT_BYTES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Literal

import pyarrow as pa

SCHEMA_VERSION = 1
BatchKind = Literal["exchanges", "dns", "connections"]
MAX_TEXT_BYTES = 2048
MAX_NUMBER = 2**63 - 1  # what a signed 64-bit column holds: sequence numbers and nanoseconds alike

ADDRESS = pa.binary(16)
TIME = pa.timestamp("ns", tz="UTC")
_WORD = pa.dictionary(pa.int32(), pa.string())  # few distinct values in a batch


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


# Who, where and which connection: the same columns in every kind.
_IDENTITY = [
    pa.field(
        "client_key", _WORD, nullable=False
    ),  # naming's client: c:<container id> or p:<node>:<tgid>:<start ticks>
    pa.field("tgid", pa.uint32(), nullable=False),
    pa.field(
        "executable", _WORD, nullable=False
    ),  # file name of the executable, or the kernel's comm
    pa.field(
        "service", _WORD, nullable=False
    ),  # agent's best service name: OTEL_SERVICE_NAME, k8s container, executable
    pa.field("container_id", _WORD),
    pa.field("pod_uid", _WORD),
    pa.field("pod", _WORD),
    pa.field("namespace", _WORD),
    pa.field("container", _WORD),
]

EXCHANGES = pa.schema(
    [
        pa.field("start", TIME, nullable=False),  # first request byte at this end
        pa.field(
            "duration_ns", pa.uint64(), nullable=False
        ),  # first request byte to first response byte
        pa.field(
            "role", pa.uint8(), nullable=False
        ),  # 0: this end sent the request (client), 1: it was asked (server)
        pa.field("protocol", _WORD, nullable=False),
        pa.field("connection_id", pa.uint64(), nullable=False),  # unique per agent boot
        pa.field(
            "sequence", pa.uint32(), nullable=False
        ),  # exchange number on this connection, from 0: gaps show losses
        pa.field("flags", pa.uint32(), nullable=False),
        *_IDENTITY,
        pa.field("netns", pa.uint32(), nullable=False),
        pa.field("local_address", ADDRESS, nullable=False),
        pa.field("local_port", pa.uint16(), nullable=False),
        pa.field("peer_address", ADDRESS, nullable=False),
        pa.field("peer_port", pa.uint16(), nullable=False),
        # Join key (docs/design: exact (I, q)); valid with ExchangeFlag.IDENTITY.
        pa.field(
            "isn_client", pa.uint32(), nullable=False
        ),  # TCP sequence number of the first client byte
        pa.field("isn_server", pa.uint32(), nullable=False),
        pa.field("request_seq", pa.uint32(), nullable=False),  # of this request's first byte
        pa.field("request_bytes", pa.uint64(), nullable=False),
        pa.field("response_bytes", pa.uint64(), nullable=False),
        # What was asked
        pa.field("operation", _WORD),  # HTTP method, Redis command
        pa.field("target", pa.string()),  # HTTP path, or the masked command
        pa.field("query", pa.string()),  # HTTP query, values masked
        pa.field(
            "host", pa.string()
        ),  # HTTP Host as sent, port included, bounded; an IP literal stays one
        pa.field("status", pa.int32()),  # HTTP status
        pa.field("rpc_status", _WORD),  # gRPC's status code, `0` to `16`; null: none was seen
        pa.field("message", pa.string()),  # grpc-message, bounded
        pa.field("database", _WORD),  # MongoDB's, or Cassandra's keyspace
        pa.field("collection", _WORD),  # MongoDB's, Cassandra's table, Kafka's topic or topics
        pa.field("group", _WORD),  # Kafka's consumer group
        pa.field(
            "error", _WORD
        ),  # protocol error code, or why there is no answer (probes: readcolumns.ENDS)
        pa.field("batch_size", pa.uint32()),  # commands of a pipeline
        pa.field("user_agent", _WORD),
        pa.field("content_type", _WORD),
        pa.field("trace_id", pa.binary(16)),  # of the request's traceparent (W3C Trace Context)
        pa.field("parent_span_id", pa.binary(8)),
        # The exchange that this one was sent for: the one server-side sight of the same agent boot with these numbers, whose
        # thread sent this request before it answered. Null: none, or not known for certain.
        pa.field("cause_connection_id", pa.uint64()),
        pa.field("cause_sequence", pa.uint32()),
        # Naming evidence that only the node has. The exporter decides.
        pa.field("connection_opened", TIME),  # null: older than the agent
        pa.field(
            "bound_name", pa.string()
        ),  # newest answer of this client before the connect that holds the address
        pa.field("bound_answered", TIME),
    ]
)

DNS_ANSWERS = pa.schema(
    [
        pa.field("time", TIME, nullable=False),  # when the client read the answer
        *_IDENTITY,
        pa.field("resolver", ADDRESS, nullable=False),
        pa.field(
            "question", pa.string(), nullable=False
        ),  # the name the client asked for, lower case, no final dot
        pa.field("question_type", _WORD, nullable=False),  # A, AAAA, HTTPS
        pa.field("rcode", pa.uint8(), nullable=False),
        pa.field("address", ADDRESS),  # one row per address; null for an answer without any
        pa.field(
            "ttl_s", pa.uint32(), nullable=False
        ),  # as the server said it; naming does not use it
        pa.field("canonical_name", pa.string()),  # end of the CNAME chain, when there was one
    ]
)

CONNECTIONS = pa.schema(
    [
        pa.field("time", TIME, nullable=False),  # when the agent first spoke of it
        pa.field("opened", TIME),  # null: older than the agent
        pa.field("connection_id", pa.uint64(), nullable=False),
        pa.field("role", pa.uint8(), nullable=False),
        pa.field("protocol", _WORD, nullable=False),
        pa.field("flags", pa.uint32(), nullable=False),
        *_IDENTITY,
        pa.field("netns", pa.uint32(), nullable=False),
        pa.field("local_address", ADDRESS, nullable=False),
        pa.field("local_port", pa.uint16(), nullable=False),
        pa.field("peer_address", ADDRESS, nullable=False),
        pa.field("peer_port", pa.uint16(), nullable=False),
        pa.field("bound_name", pa.string()),
        pa.field("bound_answered", TIME),
        pa.field(
            "rivals", pa.list_(pa.string())
        ),  # other names of this client for this address, at most 8
    ]
)

SCHEMAS: dict[BatchKind, pa.Schema] = {
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


def add_header(schema: pa.Schema, header: BatchHeader) -> pa.Schema:
    """`schema` with the header in its metadata."""
    return schema.with_metadata(
        {
            b"farcall.schema_version": str(header.schema_version).encode(),
            b"farcall.kind": header.kind.encode(),
            b"farcall.node": header.node.encode(),
            b"farcall.boot_id": header.boot_id.encode(),
            b"farcall.number": str(header.number).encode(),
            b"farcall.dns_watched_since_ns": str(header.dns_watched_since_ns).encode(),
            **({b"farcall.stream": header.stream.encode()} if header.stream else {}),
        }
    )


def read_header(schema: pa.Schema) -> BatchHeader:
    """The header of a received schema, its columns checked against ours. Raises BatchError."""
    metadata = schema.metadata or {}
    version = _read_number(metadata, "schema_version")
    if version != SCHEMA_VERSION:
        raise BatchError(
            f"the batch has schema version {version}; this exporter reads {SCHEMA_VERSION}: upgrade the older of the two"
        )
    header = BatchHeader(
        kind=_read_kind(metadata),
        node=_read_node(metadata),
        boot_id=_read_boot_id(metadata),
        number=_read_number(metadata, "number"),
        dns_watched_since_ns=_read_number(metadata, "dns_watched_since_ns"),
        stream=_read_stream(metadata),
        schema_version=version,
    )
    if header.number == 0:
        raise BatchError("farcall.number is 0; batches are counted from 1")
    expected = SCHEMAS[header.kind]
    if schema.remove_metadata() != expected:
        raise BatchError(
            f"the batch's columns differ from schema version {SCHEMA_VERSION}: {_first_difference(schema, expected)}"
        )
    return header


Metadata = Mapping[bytes, bytes]


def _read_text(metadata: Metadata, key: str, limit: int) -> str:
    value = metadata.get(f"farcall.{key}".encode())
    if value is None:
        raise BatchError(f"the batch has no farcall.{key} in its schema metadata")
    if len(value) > limit:
        raise BatchError(f"farcall.{key} is longer than {limit} bytes")
    try:
        return value.decode()
    except UnicodeDecodeError as e:
        raise BatchError(f"farcall.{key} is not UTF-8") from e


def _read_number(metadata: Metadata, key: str) -> int:
    value = _read_text(metadata, key, 20)
    if not value.isascii() or not value.isdigit():
        raise BatchError(f"farcall.{key} is not a number")
    if int(value) > MAX_NUMBER:
        raise BatchError(f"farcall.{key} is larger than {MAX_NUMBER}")
    return int(value)


def _read_kind(metadata: Metadata) -> BatchKind:
    kind = _read_text(metadata, "kind", 16)
    if kind not in SCHEMAS:
        raise BatchError(f"the batch is of kind {kind!r}; known are {', '.join(SCHEMAS)}")
    return kind


def _read_node(metadata: Metadata) -> str:
    node = _read_text(metadata, "node", 253)
    if not node or not node.isprintable():
        raise BatchError("farcall.node is empty or holds control characters")
    return node


def _read_boot_id(metadata: Metadata) -> str:
    boot_id = _read_text(metadata, "boot_id", 32)
    if len(boot_id) != 32 or any(c not in "0123456789abcdef" for c in boot_id):
        raise BatchError("farcall.boot_id is not 32 hex digits")
    return boot_id


def _read_stream(metadata: Metadata) -> str:
    if b"farcall.stream" not in metadata:
        return ""
    stream = _read_text(metadata, "stream", 16)
    if not stream or any(c not in "0123456789abcdef" for c in stream):
        raise BatchError("farcall.stream is not of hex digits")
    return stream


def _first_difference(given: pa.Schema, expected: pa.Schema) -> str:
    for index, field in enumerate(expected):
        if index >= len(given):
            return f"column {field.name} is missing"
        if given.field(index).remove_metadata() != field:
            return f"column {index} should be {field.name}: {field.type}"[:200]
    return f"{len(given) - len(expected)} columns too many"
