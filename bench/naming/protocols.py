"""What the clients say: whole messages of each protocol, as its own clients send them. Bytes as hex, as the clients' steps want them."""

import ssl
import struct

from hpack import Encoder

PORTS = {
    "redis": 6379,
    "postgresql": 5432,
    "mysql": 3306,
    "memcached": 11211,
    "mongodb": 27017,
    "kafka": 9092,
    "tcp": 9000,
    "http": 8080,
    "http2": 8082,
    "grpc": 50051,
    "tls": 8443,
    "https": 8443,
    "https2": 8444,
}
GRPC_PATH = "/farcall.test.Echo/Unary"

# PostgreSQL: length, protocol 3.0, user and database; simple query.
_PG_START = b"\0\3\0\0user\0postgres\0database\0postgres\0\0"
_PG_QUERY = b"SELECT 1\0"
# MySQL: CLIENT_PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, LONG_PASSWORD; 16 MiB; utf8mb4; no password.
_MY_LOGIN = b"\x01\x82\x08\x00\0\0\0\1\x2d" + bytes(23) + b"root\0\0mysql_native_password\0"
_MY_QUERY = b"\x03SELECT 1"
# MongoDB: OP_MSG (2013) with one section of kind 0, the document {ping: 1, $db: "admin"}.
_MONGO_DOCUMENT = b"\x10ping\0\1\0\0\0\2$db\0\6\0\0\0admin\0\0"
# Kafka: Metadata (3), version 1, correlation 7, client "naming", all topics (a null array).
_KAFKA_METADATA = struct.pack("!hhih", 3, 1, 7, 6) + b"naming" + struct.pack("!i", -1)
# RFC 9113: the preface, then types and flags of frames.
_H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _END_STREAM, _END_HEADERS = 0, 1, 4, 1, 4
# No protocol that anybody knows: bytes without a meaning.
_UNKNOWN = b"\xd1\x07\xaa\x00farcall\xff\xfe\x01\x02" * 2


def send(data: bytes) -> str:
    return f"send {data.hex()}"


def build_greeting(protocol: str) -> list[str]:
    """Steps between connect and the first call."""
    if protocol == "postgresql":
        return [send((len(_PG_START) + 4).to_bytes(4, "big") + _PG_START), "read"]
    if protocol == "mysql":
        return ["read", send(_my_packet(1, _MY_LOGIN)), "read"]
    return []


def build_call(protocol: str, *, host: str = "", server_name: str = "") -> list[str]:
    """Steps of one call. `host`: of HTTP; `server_name`: of a ClientHello, "" for none."""
    data = {
        "redis": b"*2\r\n$3\r\nGET\r\n$4\r\ncart\r\n",
        "postgresql": b"Q" + (len(_PG_QUERY) + 4).to_bytes(4, "big") + _PG_QUERY,
        "mysql": _my_packet(0, _MY_QUERY),
        "memcached": b"get cart\r\n",
        "mongodb": _mongo_message(),
        "kafka": struct.pack("!i", len(_KAFKA_METADATA)) + _KAFKA_METADATA,
        "tcp": _UNKNOWN,
    }.get(protocol)
    if protocol in ("http2", "grpc"):
        return build_stream(host, is_grpc=protocol == "grpc")
    if protocol in ("http", "https"):
        data = build_request(host)
    if protocol == "tls":
        data = build_client_hello(server_name)
    if data is None:
        raise ValueError(f"no client speaks {protocol}")
    return [send(data), "read"]


def ends_with_close(protocol: str) -> bool:
    """Bytes that nobody reads are told of when their connection closes."""
    return protocol in ("tcp", "tls")


def build_request(host: str, *, method: str = "GET", target: str = "/items") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: naming\r\n\r\n".encode()


def build_client_hello(server_name: str) -> bytes:
    """The first flight of OpenSSL's own client. An address as server_name is put in by hand: no library sends one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    is_address = server_name.replace(".", "").isdigit()
    placeholder = "n" * len(server_name) if is_address else server_name
    link = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=placeholder or None)
    try:
        link.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = outgoing.read()
    return hello.replace(placeholder.encode(), server_name.encode(), 1) if is_address else hello


def build_stream(authority: str, *, is_grpc: bool) -> list[str]:
    """The first call of an HTTP/2 connection, and the wait for the frame that ends it: DATA, or gRPC's trailers."""
    headers = [
        (":method", "POST" if is_grpc else "GET"),
        (":scheme", "http"),
        (":path", GRPC_PATH if is_grpc else "/items?size=3"),
        (":authority", authority),
    ]
    if is_grpc:
        headers += [("content-type", "application/grpc"), ("te", "trailers")]
    ends = _END_HEADERS | (0 if is_grpc else _END_STREAM)
    first = _H2_PREFACE + _h2_frame(_SETTINGS, 0, 0, b"")
    first += _h2_frame(_HEADERS, ends, 1, Encoder().encode(headers))
    if is_grpc:  # a message of one byte: wait for no millisecond
        first += _h2_frame(_DATA, _END_STREAM, 1, b"\0\0\0\0\x010")
    last = (_HEADERS, _END_STREAM | _END_HEADERS) if is_grpc else (_DATA, _END_STREAM)
    return [send(first), f"until {struct.pack('!BBI', *last, 1).hex()}"]


def _h2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def _mongo_message() -> bytes:
    document = struct.pack("<i", len(_MONGO_DOCUMENT) + 4) + _MONGO_DOCUMENT
    body = struct.pack("<iiiiB", 7, 0, 2013, 0, 0) + document
    return struct.pack("<i", len(body) + 4) + body


def _my_packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload
