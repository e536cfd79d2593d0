"""gRPC for the benchmark: records as the kernel ships them, and a server and a client that write frames over real sockets.

Nine headers a request, with a trace context and a timeout of its own, as instrumented services send them; HPACK by the
PyPI package, so every connection has its real tables.
"""

import socket
import struct
import threading

from hpack import Encoder

from farcall_probes.capture import Drained
from farcall_probes.wire import http2
from support_agent import make_drained
from support_http2 import Talk, frame, grpc_headers

PATH = "/shop.Cart/AddItem"
MESSAGE = b"\0\0\0\0\x05hello"
HELLO = http2.PREFACE + frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 3, 1000))
ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0"), ("grpc-message", "")]
MIX = 0x9E3779B97F4A7C15F39CC0605CEDC834  # spreads a counter over all bits, as random IDs have them


def make_headers(i: int) -> list[tuple[str, str]]:
    trace = f"00-{(i + 1) * MIX % 2**128:032x}-{(i + 1) * MIX % 2**64:016x}-01"
    return [
        *grpc_headers(PATH),
        ("grpc-timeout", f"{900_000 + i % 99_991}u"),
        ("traceparent", trace),
    ]


class Rounds:
    """Drains of `calls` calls over 16 connections; each round goes on where the last one ended, as tables do."""

    def __init__(self, calls: int) -> None:
        self._talks = [Talk(conn_id=100 + i) for i in range(16)]
        self._calls, self._made = calls, 0

    def make(self) -> Drained:
        records = []
        for i in range(self._made, self._made + self._calls):
            talk, stream = self._talks[i % 16], 2 * (i // 16) + 1
            records += talk.ask(stream, make_headers(i))
            records += talk.grpc_answer(stream) + talk.trailers(stream)
        self._made += self._calls
        return make_drained(large=records)


def serve() -> None:
    """Answers each request at once; prints its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    encoder, data = Encoder(), b""
    connection.sendall(frame(http2.SETTINGS, 0, 0, b""))
    while received := connection.recv(4096):
        data += received
        if data.startswith(http2.PREFACE):
            data = data[len(http2.PREFACE) :]
        while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3], "big")):
            kind, stream = data[3], int.from_bytes(data[5:9], "big")
            data = data[end:]
            if kind == http2.HEADERS:
                head = frame(http2.HEADERS, 4, stream, encoder.encode(ANSWER))
                tail = frame(http2.HEADERS, 5, stream, encoder.encode(TRAILERS))
                connection.sendall(head + frame(http2.DATA, 0, stream, MESSAGE) + tail)


class Client:
    """One connection; `ask` is one call in one write."""

    def __init__(self, port: int) -> None:
        self._link = socket.create_connection(("127.0.0.1", port))
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link.sendall(HELLO)
        self._link.recv(4096)
        self._encoder, self._stream = Encoder(), -1

    def ask(self, i: int) -> None:
        self._stream += 2
        head = frame(http2.HEADERS, 4, self._stream, self._encoder.encode(make_headers(i)))
        self._link.sendall(head + frame(http2.DATA, 1, self._stream, MESSAGE))
        self._link.recv(4096)
