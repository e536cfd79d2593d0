"""Servers of several shapes, of HTTP and of MongoDB's protocol, that ask a Redis (and a PostgreSQL) for each request; run as a program, one shape a process.

`/n` asks for the key `n` and sends `select 'n'`: so whoever sees both sides knows which request each question was for.
Meanwhile a timer or a thread of the same process asks for `background`, which is for nobody.
"""

import asyncio
import http.server
import os
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
LOCAL = threading.local()


def redis_command(key: str) -> bytes:
    return f"*2\r\n$3\r\nGET\r\n${len(key)}\r\n{key}\r\n".encode()


def message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">I", len(content) + 4) + content


class Database:
    """As much of a driver as takes to send a query (PostgreSQL 3.0 protocol, trusted)."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.sendall(message(b"", struct.pack(">I", 196608) + b"user\0postgres\0\0"))
        self._read()

    def query(self, text: str) -> None:
        self._sock.sendall(message(b"Q", text.encode() + b"\0"))
        self._read()

    def _read(self) -> None:
        data = b""
        while not data.endswith(b"Z\0\0\0\x05I"):
            data += self._sock.recv(65536)


class Backends:
    """One connection per thread to each."""

    def __init__(self, redis_port: int, postgres_port: int) -> None:
        self._redis = socket.create_connection(("127.0.0.1", redis_port), timeout=30)
        self._database = Database(postgres_port) if postgres_port else None

    def ask(self, key: str) -> None:
        self._redis.sendall(redis_command(key))
        self._redis.recv(4096)
        time.sleep(random.random() * 0.004)
        if self._database is not None:
            self._database.query(f"select '{key}'")


def ask(key: str) -> None:
    if not hasattr(LOCAL, "backends"):
        LOCAL.backends = Backends(REDIS, POSTGRES)
    LOCAL.backends.ask(key)


def keep_asking() -> None:
    while True:
        ask("background")
        time.sleep(0.002)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        ask(self.path[1:])
        self.wfile.write(HEAD)

    def log_message(self, *_: object) -> None:
        pass


class Pooled(http.server.HTTPServer):
    """Accepts in one thread; a pool's threads read, work and answer."""

    request_queue_size = 128
    pool = ThreadPoolExecutor(8)

    def process_request(self, request: object, client_address: object) -> None:
        self.pool.submit(self._work, request, client_address)

    def _work(self, request: object, client_address: object) -> None:
        self.finish_request(request, client_address)  # type: ignore[arg-type]
        self.shutdown_request(request)  # type: ignore[arg-type]


class Threading(http.server.ThreadingHTTPServer):
    request_queue_size = 128


class Forking(http.server.HTTPServer):
    request_queue_size = 128


def listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", PORT), backlog=128)


def serve_threads() -> None:
    threading.Thread(target=keep_asking, daemon=True).start()
    Threading(("127.0.0.1", PORT), Handler).serve_forever()


def serve_pool() -> None:
    threading.Thread(target=keep_asking, daemon=True).start()
    Pooled(("127.0.0.1", PORT), Handler).serve_forever()


def serve_prefork() -> None:
    server = Forking(("127.0.0.1", PORT), Handler)
    for _ in range(4):
        if os.fork() == 0:
            break
    server.serve_forever()


def serve_handover() -> None:
    """The thread that accepts also reads the request, and others do the work."""
    threading.Thread(target=keep_asking, daemon=True).start()
    pool = ThreadPoolExecutor(8)

    def work(connection: socket.socket, key: str) -> None:
        ask(key)
        connection.sendall(HEAD)
        connection.close()

    with listen() as listener:
        while True:
            connection, _ = listener.accept()
            head = connection.recv(4096)
            if head:  # not of a client that only looks whether somebody listens
                pool.submit(work, connection, head.split(b" ")[1][1:].decode())


def serve_asyncio() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_read, to_write = await asyncio.open_connection("127.0.0.1", REDIS)
        while head := (await reader.read(4096)):
            for _ in range(3):
                await asyncio.sleep(random.random() * 0.004)
                to_write.write(redis_command(head.split(b" ")[1][1:].decode()))
                await to_read.readline()
            writer.write(HEAD)
        to_write.close()
        writer.close()

    async def keep_asking_too() -> None:
        to_read, to_write = await asyncio.open_connection("127.0.0.1", REDIS)
        while True:
            to_write.write(redis_command("background"))
            await to_read.readline()
            await asyncio.sleep(0.001)

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_asking_too())
            server = await asyncio.start_server(handle, "127.0.0.1", PORT, backlog=128)
            tasks.create_task(server.serve_forever())

    asyncio.run(run())


def read_exactly(connection: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        piece = connection.recv(n - len(data))
        if not piece:
            return b""
        data += piece
    return data


def read_question(connection: socket.socket) -> tuple[int, str] | None:
    """A message of MongoDB's protocol: its number, and what is asked for in it (`GET n;`), if anything."""
    head = read_exactly(connection, 16)
    if not head:
        return None
    length, number, _, _ = struct.unpack("<iiii", head)
    body = read_exactly(connection, length - 16)
    return number, body.split(b"GET ")[1].split(b";")[0].decode()


def answer_mongodb(connection: socket.socket, number: int) -> None:
    document = b"\x11\0\0\0\x01ok\0" + struct.pack("<d", 1) + b"\0"
    body = struct.pack("<iB", 0, 0) + document
    connection.sendall(struct.pack("<iiii", 16 + len(body), 1, number, 2013) + body)


def serve_mongodb(handle: Callable[[socket.socket, int, str], object]) -> None:
    """A thread for each connection reads its messages, one by one."""
    threading.Thread(target=keep_asking, daemon=True).start()

    def serve(connection: socket.socket) -> None:
        with connection:
            while question := read_question(connection):
                handle(connection, *question)

    with listen() as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def serve_mongodb_threads() -> None:
    def handle(connection: socket.socket, number: int, key: str) -> None:
        ask(key)
        answer_mongodb(connection, number)

    serve_mongodb(handle)


def serve_mongodb_handover() -> None:
    """Others do the work, and clients have several messages in flight."""
    pool = ThreadPoolExecutor(8)

    def work(connection: socket.socket, number: int, key: str) -> None:
        ask(key)
        answer_mongodb(connection, number)

    serve_mongodb(lambda *question: pool.submit(work, *question))


SHAPES = {
    "mongodb-threads": serve_mongodb_threads,
    "mongodb-handover": serve_mongodb_handover,
    "threads": serve_threads,
    "pool": serve_pool,
    "prefork": serve_prefork,
    "handover": serve_handover,
    "asyncio": serve_asyncio,
}

if __name__ == "__main__":
    PORT, REDIS, POSTGRES = (int(word) for word in sys.argv[2:5])
    SHAPES[sys.argv[1]]()
