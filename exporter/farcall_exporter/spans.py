"""Exchanges → rows of the spans table, column by column. No I/O, no decisions about names, sides or joins.

A span's name is `{method} {path}` for HTTP, with path segments that look like identifiers replaced by `{id}`: the semantic
conventions want a template of low cardinality, and without the application's router this is as near as one gets.
For databases it is the operation alone (`GET`, `SELECT`), for Kafka the operation and its topics, for NATS `publish` or `receive` and the
subject, whose words are replaced as a path's are, as are those of AMQP's destinations, for gRPC `{service}/{method}`. Errors follow the conventions too:
a client's span fails from status 400, a server's from 500; of gRPC's codes a server's fails from those that are its own fault.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from farcall.attributes import IS_SERVER_SPAN
from farcall.exchange import ExchangeFlag
from farcall.rows import SPANS
from farcall_exporter.cluster.destinations import Places
from farcall_exporter.columns import (
    Coded,
    Codes,
    Mask,
    build_map,
    choose,
    constant,
    group,
    numbers,
    overlay,
    spread,
    texts_array,
)
from farcall_exporter.exchanges import Exchanges
from farcall_exporter.links import Links
from farcall_exporter.sampling import render_states

Entries = list[tuple[str, Coded]]

SCOPE = "farcall"
HTTP_PROTOCOLS = frozenset({"http", "http2", "grpc"})
HTTP2 = {"http2": "http", "grpc": "http"}
# By number. A server's span fails only from those that say that the server has (semantic conventions, gRPC).
GRPC_CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED "
    "FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()
GRPC_SERVER_ERRORS = frozenset(
    "UNKNOWN DEADLINE_EXCEEDED UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS".split()
)
DB_SYSTEMS = {
    "redis": "redis",
    "postgresql": "postgresql",
    "mysql": "mysql",
    "memcached": "memcached",
    "mongodb": "mongodb",
    "cassandra": "cassandra",
}
MESSAGING_SYSTEMS = {"kafka": "kafka", "nats": "nats", "amqp": "rabbitmq"}
MESSAGING_TYPES = {
    "Produce": "send",
    "Fetch": "receive",
    "ShareFetch": "receive",
    "publish": "send",
    "receive": "receive",
    "deliver": "process",
    "get": "receive",
}
PLAIN_PROTOCOLS = frozenset({"tcp"})  # connections whose protocol nobody reads
# No answer of the database's own.
TRANSPORT_ERRORS = frozenset({"client_closed", "no_response", "reset", "timeout"})
MAX_NAME_SEGMENTS = 6
MAX_NAME_CHARACTERS = 100
# Digits, UUIDs, and long words with a digit in them: what no router spells out.
_IDENTIFIER = re.compile(r"^([0-9]+|(?=.*[0-9])[0-9a-fA-F-]{8,}|(?=.*[0-9])[^/]{20,})$")
_FLAG_WORDS = (
    (ExchangeFlag.CUT, "cut"),
    (ExchangeFlag.LATE, "late"),
    (ExchangeFlag.PIPELINED, "pipelined"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanParts:
    """What others decided about the rows; all columns are as long as `rows`."""

    rows: Codes  # of the batch
    own: Places  # whose end it is
    is_server: bool
    trace_id: pa.Array  # hex
    span_id: pa.Array
    parent: pa.Array  # hex, "" for roots
    destination: Coded
    server_address: Coded
    unknown_reason: Coded
    attributes: Entries  # farcall.destination.*, farcall.name.*, farcall.join, farcall.server.*


def build_spans(x: Exchanges, parts: SpanParts, *, version: str, links: Links) -> pa.Table:
    rows = parts.rows
    count = len(rows)
    is_http = x.protocol.take(rows).is_one_of(HTTP_PROTOCOLS)
    error_type = _error_types(x, rows, is_http, is_server=parts.is_server)
    has_failed = error_type.present
    entries = [
        *_ends(x, parts),
        *_request(x, rows, is_http),
        *_rpc(x, rows),
        *_database(x, rows),
        *_messaging(x, rows),
        *_plain(x, rows),
        ("error.type", error_type),
        *_times(x, rows),
        *([(IS_SERVER_SPAN, constant("true", count))] if parts.is_server else []),
        *parts.attributes,
        ("farcall.unknown.reason", parts.unknown_reason),
        ("farcall.link.tracestate", x.trace_state.take(rows).only(links.present[rows])),
        ("farcall.flags", _flag_words(x, rows)),
        ("farcall.connection.id", connection_ids(x.boot_id, x.ends.connection[rows])),
    ]
    columns = {
        "Timestamp": pa.array(x.start[rows]).cast(SPANS.field("Timestamp").type),
        "TraceId": parts.trace_id,
        "SpanId": parts.span_id,
        "ParentSpanId": parts.parent,
        "TraceState": render_states(x.ends.flags[rows], parts.trace_id, links.trace_id.take(rows)),
        "SpanName": _span_names(x, rows).to_words(),
        "SpanKind": constant("Server" if parts.is_server else "Client", count).to_words(),
        "ServiceName": x.owner.service.take(rows).to_words(),
        "ResourceAttributes": build_map(count, _resource(x, rows, parts.own)),
        "ScopeName": constant(SCOPE, count).to_words(),
        "ScopeVersion": constant(version, count).to_words(),
        "SpanAttributes": build_map(count, entries),
        "Duration": pa.array(x.duration[rows]).cast(pa.uint64()),
        "StatusCode": choose(("Unset", "Error"), has_failed).to_words(),
        "StatusMessage": x.message.take(rows).or_else("").to_strings(),
        "Source": constant("ebpf", count).to_words(),
        "DestinationLabel": parts.destination.to_words(),
        "UnknownReason": parts.unknown_reason.or_else("").to_words(),
        "IsServerSpan": pa.array(np.full(count, parts.is_server)),
        "ConnectionId": connection_ids(x.boot_id, x.ends.connection[rows]).to_strings(),
        **links.columns(rows),
    }
    return pa.Table.from_arrays([columns[name] for name in SPANS.names], schema=SPANS)


def connection_ids(boot_id: str, connections: Codes) -> Coded:
    return numbers(connections.astype(np.uint64)).renamed(lambda number: f"{boot_id}:{number}")


def _ends(x: Exchanges, parts: SpanParts) -> Entries:
    rows, ends = parts.rows, x.ends
    local, peer = ends.local.take(rows), ends.peer.take(rows)
    local_port, peer_port = numbers(ends.local_port[rows]), numbers(ends.peer_port[rows])
    is_v6 = np.array([":" in text for text in peer.texts()] or [False])[np.maximum(peer.codes, 0)]
    return [
        ("server.address", parts.server_address),
        ("server.port", local_port if parts.is_server else peer_port),
        *([("client.address", peer), ("client.port", peer_port)] if parts.is_server else []),
        ("network.peer.address", peer),
        ("network.peer.port", peer_port),
        ("network.local.address", local),
        ("network.local.port", local_port),
        ("network.type", choose(("ipv4", "ipv6"), is_v6)),
        ("network.transport", constant("tcp", len(rows))),
        ("network.protocol.name", x.protocol.take(rows).renamed(lambda p: HTTP2.get(p, p))),
        (
            "network.protocol.version",
            constant("2", len(rows)).only(x.protocol.take(rows).is_one_of(HTTP2)),
        ),
    ]


def _request(x: Exchanges, rows: Codes, is_http: Mask) -> Entries:
    has_tls = x.ends.has(ExchangeFlag.TLS)[rows]
    return [
        ("http.request.method", x.operation.take(rows).only(is_http)),
        ("http.response.status_code", numbers(x.status[rows], is_http & (x.status[rows] > 0))),
        ("url.path", x.target.take(rows).only(is_http)),
        ("url.query", x.query.take(rows).only(is_http)),
        ("url.scheme", choose(("http", "https"), has_tls).only(is_http)),
        ("user_agent.original", x.user_agent.take(rows).only(is_http)),
        ("http.request.header.content-type", x.content_type.take(rows).only(is_http)),
        ("http.request.size", numbers(x.request_bytes[rows], is_http)),
        ("http.response.size", numbers(x.response_bytes[rows], is_http)),
        (
            "farcall.pipeline.count",
            numbers(x.batch_size[rows], is_http & (x.batch_size[rows] > 1)),
        ),
    ]


def _times(x: Exchanges, rows: Codes) -> Entries:
    """Of calls whose request or response did not come at once."""
    request, first = x.request_duration[rows], x.first_byte[rows]
    return [
        ("farcall.request.duration_ns", numbers(request, request > 0)),
        ("farcall.response.first_byte_ns", numbers(first, first > 0)),
    ]


def _rpc(x: Exchanges, rows: Codes) -> Entries:
    is_grpc = x.protocol.take(rows).is_one_of(frozenset({"grpc"}))
    if not is_grpc.any():
        return []
    path = x.target.take(rows).only(is_grpc)
    return [
        ("rpc.system", constant("grpc", len(rows)).only(is_grpc)),
        ("rpc.service", path.renamed(lambda p: split_method(p)[0])),
        ("rpc.method", path.renamed(lambda p: split_method(p)[1])),
        ("rpc.grpc.status_code", x.rpc_status.take(rows).only(is_grpc)),
    ]


def split_method(path: str) -> tuple[str, str]:
    """`/package.Service/Method` → service and method (gRPC over HTTP/2: Path)."""
    service, _, method = path.removeprefix("/").rpartition("/")
    return service, method


def _database(x: Exchanges, rows: Codes) -> Entries:
    protocol = x.protocol.take(rows)
    is_database = protocol.is_one_of(frozenset(DB_SYSTEMS))
    if not is_database.any():
        return []
    error = x.error.take(rows)
    is_answer = is_database & ~error.is_one_of(TRANSPORT_ERRORS)
    size = x.batch_size[rows]
    return [
        ("db.system.name", protocol.only(is_database).renamed(lambda p: DB_SYSTEMS.get(p, p))),
        ("db.operation.name", x.operation.take(rows).only(is_database)),
        ("db.namespace", x.database.take(rows).only(is_database)),
        ("db.collection.name", x.collection.take(rows).only(is_database)),
        ("db.query.text", x.target.take(rows).only(is_database)),
        ("db.operation.batch.size", numbers(size, is_database & (size > 1))),
        ("db.response.status_code", error.only(is_answer)),
    ]


def _messaging(x: Exchanges, rows: Codes) -> Entries:
    protocol = x.protocol.take(rows)
    is_messaging = protocol.is_one_of(frozenset(MESSAGING_SYSTEMS))
    if not is_messaging.any():
        return []
    operation = x.operation.take(rows).only(is_messaging)
    moves = operation.is_one_of(MESSAGING_TYPES)
    is_alone = protocol.is_one_of(frozenset({"nats", "amqp"})) & moves  # one message each
    is_amqp = protocol.is_one_of(frozenset({"amqp"}))
    body = x.request_bytes[rows] + x.response_bytes[rows]
    return [
        (
            "messaging.system",
            protocol.only(is_messaging).renamed(lambda p: MESSAGING_SYSTEMS.get(p, p)),
        ),
        ("messaging.operation.name", operation),
        (
            "messaging.operation.type",
            operation.only(moves).renamed(lambda o: MESSAGING_TYPES.get(o, o)),
        ),
        ("messaging.destination.name", x.collection.take(rows).only(is_messaging)),
        ("messaging.consumer.group.name", x.group.take(rows).only(is_messaging)),
        ("messaging.message.body.size", numbers(body, is_alone)),
        ("messaging.rabbitmq.destination.routing_key", x.database.take(rows).only(is_amqp)),
    ]


def _plain(x: Exchanges, rows: Codes) -> Entries:
    is_plain = x.protocol.take(rows).is_one_of(PLAIN_PROTOCOLS)
    if not is_plain.any():
        return []
    return [
        ("farcall.tcp.client_bytes", numbers(x.request_bytes[rows], is_plain)),
        ("farcall.tcp.server_bytes", numbers(x.response_bytes[rows], is_plain)),
        ("tls.client.server_name", x.host.take(rows).only(is_plain)),
        ("farcall.tls.alpn", x.alpn.take(rows).only(is_plain)),
    ]


def _resource(x: Exchanges, rows: Codes, own: Places) -> Entries:
    """The node itself knows the names of most pods; the API server knows all, and their workloads."""
    owner = x.owner
    return [
        ("service.name", owner.service.take(rows)),
        (
            "k8s.namespace.name",
            overlay(own.texts(lambda i: i.namespace), owner.namespace.take(rows)),
        ),
        *own.workloads(),
        ("k8s.pod.name", overlay(own.texts(lambda i: i.pod), owner.pod.take(rows))),
        ("k8s.pod.uid", owner.pod_uid.take(rows)),
        ("k8s.container.name", owner.container.take(rows)),
        ("k8s.node.name", constant(x.node, len(rows))),
        ("container.id", owner.container_id.take(rows)),
        ("process.pid", numbers(owner.tgid[rows])),
        ("process.executable.name", owner.executable.take(rows)),
    ]


def _error_types(x: Exchanges, rows: Codes, is_http: Mask, *, is_server: bool) -> Coded:
    """Null where the call did not fail."""
    error = x.error.take(rows)
    status = x.status[rows]
    has_failed = is_http & (status >= (500 if is_server else 400))
    is_silent = x.ends.has(ExchangeFlag.NO_RESPONSE)[rows]
    by_status = numbers(status, has_failed)
    by_rpc = x.rpc_status.take(rows).renamed(name_grpc_status)
    fails = GRPC_SERVER_ERRORS if is_server else frozenset(GRPC_CODES[1:])
    by_rpc = by_rpc.only(by_rpc.is_one_of(fails))
    values = pa.concat_arrays(
        [error.values, by_status.values, by_rpc.values, texts_array(["no_response"])]
    )
    offset = len(error.values)
    codes = np.where(by_status.present, by_status.codes + offset, -1)
    codes = np.where(by_rpc.present, by_rpc.codes + offset + len(by_status.values), codes)
    codes = np.where(is_silent, len(values) - 1, codes)
    return Coded(values, np.where(error.present, error.codes, codes))


def name_grpc_status(code: str) -> str:
    return GRPC_CODES[int(code)] if code.isdigit() and int(code) < len(GRPC_CODES) else code


def _flag_words(x: Exchanges, rows: Codes) -> Coded:
    distinct, codes = np.unique(x.ends.flags[rows], return_inverse=True)
    return spread([flag_words(int(flags)) for flags in distinct], codes.astype(np.int64))


def flag_words(flags: int) -> str | None:
    return ",".join(word for flag, word in _FLAG_WORDS if flags & flag) or None


def _span_names(x: Exchanges, rows: Codes) -> Coded:
    protocol, operation, target = (c.take(rows) for c in (x.protocol, x.operation, x.target))
    last, groups = group(protocol.codes, operation.codes, target.codes)
    columns = [[*c.texts(), None] for c in (protocol, operation, target)]
    codes = [c.codes[last].tolist() for c in (protocol, operation, target)]
    names = [
        span_name(columns[0][p] or "", columns[1][o], columns[2][t])
        for p, o, t in zip(*codes, strict=True)
    ]
    return spread(names, groups)


@lru_cache(maxsize=16_384)
def span_name(protocol: str, operation: str | None, target: str | None) -> str:
    if protocol == "grpc":
        return (target or "").removeprefix("/")[:MAX_NAME_CHARACTERS] or protocol.upper()
    if protocol in ("nats", "amqp") and target:
        target = ":".join(mask_subject(part) for part in target.split(":"))
    if protocol in MESSAGING_SYSTEMS and operation and target:
        return f"{operation} {target}"[:MAX_NAME_CHARACTERS]
    if protocol not in HTTP_PROTOCOLS or not target:
        return operation or protocol.upper()
    return f"{operation or 'HTTP'} {mask_path(target)}"[:MAX_NAME_CHARACTERS]


def mask_subject(subject: str) -> str:
    """Where an answer is waited for is a subject of its own each time."""
    words = subject.split(".")
    if words[0] == "_INBOX":
        return "_INBOX.{id}"
    if words[0] == "amq" and words[-1].startswith("gen-"):  # a queue that RabbitMQ named
        return "amq.{id}"
    return ".".join("{id}" if _IDENTIFIER.match(word) else word for word in words)


def mask_path(path: str) -> str:
    segments = path.split("/")
    masked = ["{id}" if _IDENTIFIER.match(segment) else segment for segment in segments]
    if len(masked) > MAX_NAME_SEGMENTS + 1:
        masked = [*masked[: MAX_NAME_SEGMENTS + 1], "…"]
    return "/".join(masked)
