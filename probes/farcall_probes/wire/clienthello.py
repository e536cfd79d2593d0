"""The server name and the protocols that a TLS client asks for, from its first bytes (RFC 8446 4.1.2, RFC 6066 3, RFC 7301 3.1).

    record      = type(1) version(2) length(2)        handshake = type(1) length(3)
    ClientHello = version(2) random(32) session<1> ciphers<2> compression<1> extensions<2>

The rest of the connection cannot be read; the name is what a person would call its far end.
"""

from typing import NamedTuple

from farcall_probes.wire.cursor import Cursor, EndOfBytes
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated, text

MAX_NAME = 255
MAX_EXTENSIONS = 64
_HANDSHAKE, _CLIENT_HELLO = 0x16, 0x01
_SERVER_NAME, _ALPN = 0, 16
_HOST_NAME = 0


class ClientHello(NamedTuple):
    server_name: str | None
    alpn: tuple[str, ...]


def parse_client_hello(
    data: bytes, *, cut: bool = False
) -> ClientHello | Truncated[ClientHello] | Outcome:
    """From the start of a connection's first record. Extensions behind a cut are unknown."""
    if not data:
        return NOT_MINE if cut else NEED_MORE
    if not data.startswith(bytes((_HANDSHAKE, 3))[: len(data)]):
        return NOT_MINE
    name: str | None = None
    alpn: tuple[str, ...] = ()
    cursor = Cursor(data)
    try:
        cursor.take(5)
        if cursor.uint8() != _CLIENT_HELLO:
            return NOT_MINE
        cursor.take(3 + 2 + 32)
        cursor.take(cursor.uint8())
        cursor.take(cursor.uint16())
        cursor.take(cursor.uint8())
        left = cursor.uint16()
        for _ in range(MAX_EXTENSIONS):
            if left < 4:
                break
            kind, size = cursor.uint16(), cursor.uint16()
            content = cursor.take(size)
            left -= 4 + size
            if kind == _SERVER_NAME:
                name = _read_name(content)
            elif kind == _ALPN:
                alpn = _read_alpn(content)
    except EndOfBytes:
        return Truncated(ClientHello(name, alpn)) if cut else NEED_MORE
    return ClientHello(name, alpn)


def _read_name(content: bytes) -> str | None:
    cursor = Cursor(content)
    try:
        cursor.take(2)
        if cursor.uint8() != _HOST_NAME:
            return None
        raw = cursor.take(cursor.uint16())
    except EndOfBytes:
        return None
    return text(raw[:MAX_NAME]) or None


def _read_alpn(content: bytes) -> tuple[str, ...]:
    cursor = Cursor(content)
    found: list[str] = []
    try:
        cursor.take(2)
        while not cursor.at_end and len(found) < 8:
            found.append(text(cursor.take(cursor.uint8())))
    except EndOfBytes:
        pass
    return tuple(found)
