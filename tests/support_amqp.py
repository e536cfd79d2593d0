"""AMQP's frames for tests, as the specification has them."""

import struct

PROTOCOL = b"AMQP\0\0\x09\x01"
HEARTBEAT = b"\x08\0\0\0\0\0\0\xce"


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(class_: int, number: int, arguments: bytes = b"", *, channel: int = 1) -> bytes:
    return frame(1, channel, struct.pack(">HH", class_, number) + arguments)


def short(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


def table(values: dict[str, tuple[bytes, bytes]]) -> bytes:
    """By name the value's type and bytes."""
    data = b"".join(short(name) + kind + value for name, (kind, value) in values.items())
    return struct.pack(">I", len(data)) + data


def long_text(text: str) -> tuple[bytes, bytes]:
    return b"S", struct.pack(">I", len(text)) + text.encode()


def content(size: int, headers: bytes = b"", *, channel: int = 1) -> bytes:
    """The head of a message; `headers`: a table."""
    flags = 0x8000 | (0x2000 if headers else 0)
    payload = struct.pack(">HHQH", 60, 0, size, flags) + short("text/plain") + headers
    return frame(2, channel, payload)


def message(data: bytes, headers: bytes = b"", *, channel: int = 1, cut: int = 0) -> bytes:
    """Its head, and its bytes in frames of `cut`."""
    step = cut or len(data) or 1
    bodies = [frame(3, channel, data[at : at + step]) for at in range(0, len(data), step)]
    return content(len(data), headers, channel=channel) + b"".join(bodies)


def publish(exchange: str, key: str, *, channel: int = 1) -> bytes:
    arguments = b"\0\0" + short(exchange) + short(key) + b"\0"
    return method(60, 40, arguments, channel=channel)


def deliver(tag: str, exchange: str, key: str, *, channel: int = 1) -> bytes:
    arguments = short(tag) + struct.pack(">QB", 7, 0) + short(exchange) + short(key)
    return method(60, 60, arguments, channel=channel)


def declare(queue: str, bits: int = 0, *, channel: int = 1) -> bytes:
    return method(50, 10, b"\0\0" + short(queue) + bytes((bits,)) + table({}), channel=channel)


def declared(queue: str, *, channel: int = 1) -> bytes:
    return method(50, 11, short(queue) + bytes(8), channel=channel)


def get(queue: str, *, channel: int = 1) -> bytes:
    return method(60, 70, b"\0\0" + short(queue) + b"\0", channel=channel)


def get_ok(exchange: str, key: str, *, channel: int = 1) -> bytes:
    arguments = struct.pack(">QB", 7, 0) + short(exchange) + short(key) + bytes(4)
    return method(60, 71, arguments, channel=channel)


def consume(queue: str, tag: str, *, channel: int = 1) -> bytes:
    arguments = b"\0\0" + short(queue) + short(tag) + b"\0" + table({})
    return method(60, 20, arguments, channel=channel)


def close(code: int, failed: tuple[int, int], *, channel: int = 1) -> bytes:
    """Of channel 0 the connection."""
    arguments = struct.pack(">H", code) + short("why") + struct.pack(">HH", *failed)
    return method(20 if channel else 10, 40 if channel else 50, arguments, channel=channel)


def start_ok(password: str) -> bytes:
    said = struct.pack(">I", len(password) + 6) + b"\0guest\0" + password.encode()
    return method(10, 11, table({}) + short("PLAIN") + said + short("en_US"), channel=0)
