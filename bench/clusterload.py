"""What runs in the pods of `make bench-cluster`: `clusterload.py serve`, or `clusterload.py call HTTP REDIS RATE` for ever.

Standard library alone, and as little of it as possible: what the load takes is taken from what it measures. The caller sends
RATE requests a second, one after the other, four of five by HTTP/1 and the fifth as a Redis command, and says once a second
how many it has made. Connections are kept for 50 requests, then opened anew by name, as those of clients with a pool are.
"""

import selectors
import socket
import sys
import time

HTTP_PORT, REDIS_PORT = 8080, 6379
CONNECTIONS = 8  # of each kind
KEPT_FOR = 50
PATIENCE_S = 5.0
ANSWERS = {
    HTTP_PORT: b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok",
    REDIS_PORT: b"+OK\r\n",
}
HEAD = (
    b"GET /api/v1/items/%d?page=%d&q=abc HTTP/1.1\r\nHost: %b:8080\r\n"
    b"User-Agent: python-requests/2.31\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
    b"Connection: keep-alive\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyzabcdefghijklmnop\r\n"
    b"X-Request-Id: %032x\r\n\r\n"
)


def serve() -> None:
    """Each request comes in one piece, because its sender waits for the answer: what is read is answered."""
    with selectors.EpollSelector() as waiting:
        for port in ANSWERS:
            listener = socket.create_server(("", port), backlog=64)
            waiting.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.data is None:
                    accept(waiting, key.fileobj)  # type: ignore[arg-type]
                else:
                    answer(waiting, key.fileobj, key.data)  # type: ignore[arg-type]


def accept(waiting: selectors.BaseSelector, listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting.register(connection, selectors.EVENT_READ, ANSWERS[listener.getsockname()[1]])


def answer(waiting: selectors.BaseSelector, connection: socket.socket, said: bytes) -> None:
    try:
        if connection.recv(4096):
            connection.sendall(said)
            return
    except OSError:
        pass
    waiting.unregister(connection)
    connection.close()


class Link:
    """A connection that is opened anew now and then."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._connection: socket.socket | None = None
        self._left = 0

    def ask(self, request: bytes) -> None:
        try:
            if self._left == 0 or self._connection is None:
                self.close()
                self._connection = socket.create_connection(self._address, PATIENCE_S)
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._left = KEPT_FOR
            self._left -= 1
            self._connection.sendall(request)
            if not self._connection.recv(4096):
                raise ConnectionError("closed")
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def call(http_host: str, redis_host: str, rate: int) -> None:
    http = [Link(http_host, HTTP_PORT) for _ in range(CONNECTIONS)]
    redis = [Link(redis_host, REDIS_PORT) for _ in range(CONNECTIONS)]
    made = failed = number = 0
    begin = said = time.monotonic()
    while True:
        number += 1
        try:
            if number % 5:
                http[number % CONNECTIONS].ask(make_head(http_host, number))
            else:
                redis[number // 5 % CONNECTIONS].ask(make_command(number))
            made += 1
        except OSError:
            failed += 1
        now = time.monotonic()
        if now - said >= 1.0:
            print(f"{time.time_ns()} {made} {failed}", flush=True)
            said = now
        due = begin + number / rate
        if due > now:
            time.sleep(due - now)
        elif now - due > 1.0:  # what was missed is not made up for
            begin += now - due


def make_head(host: str, number: int) -> bytes:
    return HEAD % (number % 500, number % 7, host.encode(), number)


def make_command(number: int) -> bytes:
    key = b"session:%d" % (number % 1000)
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$10\r\n0123456789\r\n" % (len(key), key)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    call(sys.argv[2], sys.argv[3], int(sys.argv[4]))
