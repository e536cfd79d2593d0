"""Two programs for bench_exporter: a web server that answers at once, and a client that asks it so many times a second.

    visibleload.py serve PORT
    visibleload.py call PORT RATE SECONDS RUN     every MARK_EVERY-th request is for /marked/RUN/NUMBER

Raw HTTP on kept-open connections: what is measured is farcall, and two cores are all there is. Prints how many were marked.
"""

import socket
import sys
import threading
import time

CONNECTIONS = 8
MARK_EVERY = 50
TICK_S = 0.01
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


def serve(port: int) -> None:
    server = socket.create_server(("127.0.0.1", port))
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    """One request a read: the client sends none before it has its answer."""
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv(4096):
            connection.sendall(ANSWER)


def call(port: int, rate: int, seconds: float, run: str) -> int:
    """The number of marked requests. The pace is kept over the whole time, whatever one request takes."""
    links = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for link in links:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    began, sent, marked = time.monotonic(), 0, 0
    while (passed := time.monotonic() - began) < seconds:
        while sent < passed * rate:
            if sent % MARK_EVERY == 0:
                path, marked = f"/marked/{run}/{marked}", marked + 1
            else:
                path = f"/stock/{sent % 97}"
            link = links[sent % CONNECTIONS]
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n".encode())
            link.recv(4096)
            sent += 1
        time.sleep(TICK_S)
    return marked


def main() -> int:
    what, port = sys.argv[1], int(sys.argv[2])
    if what == "serve":
        serve(port)
    print(call(port, int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
