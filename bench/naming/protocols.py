"""What the clients say: whole messages of each protocol, as its own clients send them. Bytes as hex, as the clients' steps want them."""

import ssl

PORTS = {
    "redis": 6379,
    "postgresql": 5432,
    "mysql": 3306,
    "memcached": 11211,
    "tcp": 9000,
    "http": 8080,
    "tls": 8443,
    "https": 8443,
}

# PostgreSQL: length, protocol 3.0, user and database; simple query.
_PG_START = b"\0\3\0\0user\0postgres\0database\0postgres\0\0"
_PG_QUERY = b"SELECT 1\0"
# MySQL: CLIENT_PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, LONG_PASSWORD; 16 MiB; utf8mb4; no password.
_MY_LOGIN = b"\x01\x82\x08\x00\0\0\0\1\x2d" + bytes(23) + b"root\0\0mysql_native_password\0"
_MY_QUERY = b"\x03SELECT 1"
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
        "tcp": _UNKNOWN,
    }.get(protocol)
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


def _my_packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload
