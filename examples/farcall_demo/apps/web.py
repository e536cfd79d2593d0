"""A small JSON service. Arguments: addresses to listen on, each address:port."""

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY_BYTES = 64 * 1024
WORK_S = 0.003  # so that a server's duration differs visibly from nothing


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(min(length, MAX_BODY_BYTES))
        self.answer()

    def answer(self) -> None:
        time.sleep(WORK_S)
        body = json.dumps({"path": self.path, "ok": True}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the demo's log is for what went wrong."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Without the standard one's reverse look-up of its own name: this process asks no DNS server."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = (
            str(self.server_address[0]),
            int(self.server_address[1]),
        )


def main(*listen: str) -> None:
    for text in listen:
        host, _, port = text.rpartition(":")
        server = Server((host, int(port)), Handler)
        threading.Thread(target=server.serve_forever, name=text).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
