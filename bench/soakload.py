"""The mixed load of the probes' soak: each part is a process that asks at a fixed pace until it is ended.

python bench/soakload.py serve PART      prints the port
python bench/soakload.py PART PORT RATE [CERTIFICATE]
"""

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from hpack import Encoder

from farcall_probes.wire import http2
from support_http2 import frame, grpc_headers
from support_tlslib import make_certificate

HEAD = (
    b"GET /api/v1/items/%d?page=%d&q=abc HTTP/1.1\r\nHost: api.example.com:8080\r\n"
    b"User-Agent: python-requests/2.31\r\nAccept: */*\r\nX-Request-Id: %032x\r\n"
    b"traceparent: 00-%032x-%016x-01\r\n\r\n"
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
CONNECTIONS = 8
Ask = Callable[[int], None]


def serve(answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
    """Each connection on a thread of its own; prints the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listener.getsockname()[1], flush=True)
    while True:
        link, _ = listener.accept()
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wrapped = context.wrap_socket(link, server_side=True) if context else link
        threading.Thread(target=answer, args=(wrapped,), daemon=True).start()


def answer_http(link: socket.socket) -> None:
    with link, suppress(ConnectionError):
        while link.recv(4096):
            link.sendall(ANSWER)


def answer_grpc(link: socket.socket) -> None:
    encoder, data = Encoder(), b""
    link.sendall(frame(http2.SETTINGS, 0, 0, b""))
    while received := link.recv(4096):
        data += received
        if data.startswith(http2.PREFACE):
            data = data[len(http2.PREFACE) :]
        while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3], "big")):
            kind, stream = data[3], int.from_bytes(data[5:9], "big")
            data = data[end:]
            if kind == http2.HEADERS:
                head = [(":status", "200"), ("content-type", "application/grpc")]
                tail = [("grpc-status", "0"), ("grpc-message", "")]
                link.sendall(
                    frame(http2.HEADERS, 4, stream, encoder.encode(head))
                    + frame(http2.DATA, 0, stream, b"\0\0\0\0\x05hello")
                    + frame(http2.HEADERS, 5, stream, encoder.encode(tail))
                )


def make_context(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(directory))
    return context


def ask_with(make: Callable[[int], bytes]) -> Callable[[int], Ask]:
    """A request of one connection, which stays open."""

    def open_link(port: int) -> Ask:
        link = socket.create_connection(("127.0.0.1", port))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask(i: int) -> None:
            link.sendall(make(i))
            assert link.recv(4096)

        return ask

    return open_link


def make_command(i: int) -> bytes:
    key = b"session:%d" % (i % 1000)
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$10\r\n0123456789\r\n" % (len(key), key)


def ask_grpc(port: int) -> Ask:
    link = socket.create_connection(("127.0.0.1", port))
    link.sendall(http2.PREFACE + frame(http2.SETTINGS, 0, 0, b""))
    link.recv(4096)
    encoder, stream = Encoder(), -1

    def ask(i: int) -> None:
        nonlocal stream
        stream += 2
        headers = [
            *grpc_headers("/shop.Cart/AddItem"),
            ("grpc-timeout", f"{900_000 + i % 99_991}u"),
        ]
        head = frame(http2.HEADERS, 4, stream, encoder.encode(headers))
        link.sendall(head + frame(http2.DATA, 1, stream, b"\0\0\0\0\x05hello"))
        assert link.recv(4096)

    return ask


def make_head(i: int) -> bytes:
    return HEAD % (i % 500, i % 7, i, i + 1, i + 1)


def ask_once(port: int) -> Ask:
    """A connection for each request."""

    def ask(i: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.sendall(make_head(i))
            assert link.recv(4096) == ANSWER

    return ask


def ask_https(port: int) -> Ask:
    """A session for every fiftieth request."""
    context = ssl._create_unverified_context()
    links: list[ssl.SSLSocket] = []

    def ask(i: int) -> None:
        if i % 50 == 0:
            while links:
                links.pop().close()
            links.append(context.wrap_socket(socket.create_connection(("127.0.0.1", port))))
        links[0].sendall(make_head(i))
        assert links[0].recv(4096) == ANSWER

    return ask


def ask_from_processes(port: int) -> Ask:
    """A program for each request, which ends behind it."""
    script = f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /process/%s HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n' $0 >&3; read -r -u 3"

    def ask(i: int) -> None:
        subprocess.run(["bash", "-c", script, str(i)], check=True)

    return ask


def several(open_link: Callable[[int], Ask]) -> Callable[[int], Ask]:
    """Over a few connections in turn."""

    def open_links(port: int) -> Ask:
        asks = [open_link(port) for _ in range(CONNECTIONS)]
        return lambda i: asks[i % CONNECTIONS](i)

    return open_links


PARTS: dict[str, Callable[[int], Ask]] = {
    "http": several(ask_with(make_head)),
    "redis": several(ask_with(make_command)),
    "grpc": several(ask_grpc),
    "https": ask_https,
    "churn": ask_once,
    "processes": ask_from_processes,
}


def run(ask: Ask, rate: float) -> None:
    began, made = time.monotonic(), 0
    while True:
        ask(made)
        made += 1
        wait_s = began + made / rate - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        else:
            began = time.monotonic() - made / rate  # a stall is not caught up with


def main() -> None:
    first, second, *rest = sys.argv[1:]
    if first != "serve":
        run(PARTS[first](int(second)), float(rest[0]))
    elif second == "grpc":
        serve(answer_grpc)
    else:
        serve(answer_http, make_context(Path(rest[0])) if second == "https" else None)


if __name__ == "__main__":
    main()
