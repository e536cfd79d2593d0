"""The benchmark's own server and clients for HTTP/1 and Redis, one request after the other at a fixed rate."""

import socket
import threading
import time
from collections.abc import Callable

import grpcload

CONNECTIONS = 16
HEAD = (
    b"GET /api/v1/items/%d?page=%d&q=abc HTTP/1.1\r\nHost: api.example.com:8080\r\n"
    b"User-Agent: python-requests/2.31\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
    b"Connection: keep-alive\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyzabcdefghijklmnop\r\n"
    b"X-Request-Id: %032x\r\ntraceparent: 00-%032x-%016x-01\r\n\r\n"
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


def serve_http() -> None:
    """A keep-alive server that answers each head at once; prints its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer_http, args=(connection,), daemon=True).start()


def answer_http(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while connection.recv(4096):
        connection.sendall(ANSWER)


def load(port: int, kind: str, rate: int, seconds: float) -> None:
    """Open loop at `rate`, one request after the other over a few connections; prints how many it made."""
    if kind == "grpc":
        ask = [grpcload.Client(port).ask for _ in range(CONNECTIONS)]
    else:
        ask = [make_asker(port, kind) for _ in range(CONNECTIONS)]
    begin = time.monotonic()
    count = int(rate * seconds)
    for i in range(count):
        wait_s = begin + i / rate - time.monotonic()
        if wait_s > 0.0005:
            time.sleep(wait_s)
        ask[i % CONNECTIONS](i)
    print(count, flush=True)


def make_asker(port: int, kind: str) -> Callable[[int], None]:
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(i: int) -> None:
        link.sendall(make_request(kind, i))
        link.recv(4096)

    return ask


def make_request(kind: str, i: int) -> bytes:
    if kind == "http":
        return HEAD % (i % 500, i % 7, i, i + 1, i + 1)
    key = b"session:%d" % (i % 1000)
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$10\r\n0123456789\r\n" % (len(key), key)
