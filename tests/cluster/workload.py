"""What runs in the pods of the cluster tests: `workload.py serve PORT [PEM]`, or `workload.py call URL…` for ever.

Standard library alone; the image is Debian's Python and Redis. `http://host:port/path/` gets the number of the round
appended, so that each call can be told from all others; `redis://host:port/key` sends GET key over a connection that is
kept. A name is looked up anew for each HTTP call, and once for a connection that is kept.
"""

import http.client
import http.server
import os
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

EVERY_S = float(os.environ.get("EVERY_S", "1"))
FOR_S = float(os.environ.get("FOR_S", "inf"))
TIMEOUT_S = 5


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.path} by {socket.gethostname()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # without a body

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(port: int, pem: str = "") -> None:
    """With certificate and key it is HTTPS."""
    server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler)
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        # A handshake in the thread that accepts would keep the others waiting.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    server.serve_forever()


def call_http(url: str, round_number: int) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    connection.request("GET", f"{parts.path}{round_number}")
    connection.getresponse().read()
    connection.close()


class Redis:
    def __init__(self) -> None:
        self._kept: dict[str, socket.socket] = {}

    def call(self, url: str) -> None:
        parts = urlsplit(url)
        try:
            if url not in self._kept:
                address = (parts.hostname or "", parts.port or 6379)
                self._kept[url] = socket.create_connection(address, TIMEOUT_S)
            key = parts.path.lstrip("/").encode()
            self._kept[url].sendall(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key))
            self._kept[url].recv(4096)
        except OSError:
            if kept := self._kept.pop(url, None):
                kept.close()
            raise


def call(urls: list[str]) -> None:
    redis = Redis()
    round_number, end = 0, time.monotonic() + FOR_S
    while time.monotonic() < end:
        round_number += 1
        for url in urls:
            try:
                if url.startswith("redis:"):
                    redis.call(url)
                else:
                    call_http(url, round_number)
                print(f"ok {url} {round_number}", flush=True)
            except OSError as e:
                print(f"failed {url} {round_number} {e}", flush=True)
        time.sleep(EVERY_S)
    print("done", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), *sys.argv[3:])
    call(sys.argv[2:])
