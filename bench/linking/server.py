"""An HTTP server of one shape; run as a program: server.py SHAPE PORT NEXT.

`GET /<run>/<place>/<shape>/<number>` is answered after a call to NEXT with the same path one place further, so that whoever
sees both calls knows that one was made for the other. NEXT 0: the last place. Meanwhile a thread (or a timer) of the same
process calls NEXT for nobody.
"""

import asyncio
import contextlib
import http.server
import os
import random
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

PLACES = ("front", "middle", "leaf")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
LOCAL = threading.local()
BACKLOG = 256


def further(path: str) -> str:
    _, run, place, *rest = path.split("/")
    return "/".join(["", run, PLACES[PLACES.index(place) + 1], *rest])


def call(path: str) -> None:
    """On this thread's own connection, which is kept."""
    if not hasattr(LOCAL, "connection"):
        LOCAL.connection = HTTPConnection("127.0.0.1", NEXT, timeout=60)
    LOCAL.connection.request("GET", path)
    LOCAL.connection.getresponse().read()


def serve(path: str) -> None:
    if NEXT:
        call(further(path))
        time.sleep(random.random() * 0.004)


def keep_calling() -> None:
    for number in range(10**9):
        call(f"/{RUN}/background/{SHAPE}/{PORT}-{number}")
        time.sleep(0.05)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "/background/" not in self.path:
            serve(self.path)
        self.wfile.write(HEAD)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that ended
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


class Threading(http.server.ThreadingHTTPServer):
    request_queue_size = BACKLOG


class Pooled(http.server.HTTPServer):
    """One thread accepts; a pool's threads read, work and answer."""

    request_queue_size = BACKLOG
    pool = ThreadPoolExecutor(16)

    def process_request(self, request: object, client_address: object) -> None:
        self.pool.submit(self._work, request, client_address)

    def _work(self, request: object, client_address: object) -> None:
        self.finish_request(request, client_address)  # type: ignore[arg-type]
        self.shutdown_request(request)  # type: ignore[arg-type]


class Forking(http.server.HTTPServer):
    request_queue_size = BACKLOG


def serve_threads() -> None:
    Threading(("127.0.0.1", PORT), Handler).serve_forever()


def serve_pool() -> None:
    Pooled(("127.0.0.1", PORT), Handler).serve_forever()


def serve_prefork() -> None:
    server = Forking(("127.0.0.1", PORT), Handler)
    for _ in range(3):
        if os.fork() == 0:
            break
    server.serve_forever()


def serve_handover() -> None:
    """The thread that accepts also reads the request; others do the work."""
    pool = ThreadPoolExecutor(16)

    def work(connection: socket.socket, path: str) -> None:
        serve(path)
        connection.sendall(HEAD)
        connection.close()

    with socket.create_server(("127.0.0.1", PORT), backlog=BACKLOG) as listener:
        while True:
            connection, _ = listener.accept()
            head = connection.recv(4096)
            if head:
                pool.submit(work, connection, head.split(b" ")[1].decode())
            else:
                connection.close()


def serve_asyncio() -> None:
    async def ask(path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", NEXT)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await reader.read(4096)
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.read(4096)):
            await asyncio.sleep(random.random() * 0.004)
            await ask(further(head.split(b" ")[1].decode()))
            writer.write(HEAD)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", PORT, backlog=BACKLOG)
        await server.serve_forever()

    asyncio.run(run())


SHAPES = {
    "threads": serve_threads,
    "pool": serve_pool,
    "prefork": serve_prefork,
    "handover": serve_handover,
    "asyncio": serve_asyncio,
}

if __name__ == "__main__":
    SHAPE, PORT, NEXT, RUN = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    if NEXT and SHAPE not in ("prefork", "asyncio"):
        threading.Thread(target=keep_calling, daemon=True).start()
    SHAPES[SHAPE]()
