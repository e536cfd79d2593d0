"""Servers that need no program of their own: `web` answers every request with 200, `echo` gives every byte back reversed.

python webserver.py ADDRESS WEB_PORT [TLS_PORT CERTIFICATE ECHO_PORT]
"""

import contextlib
import socket
import socketserver
import ssl
import sys
import threading
from typing import Any


class Web(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while self.rfile.readline():
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(4096):
                self.request.sendall(data[::-1])


class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


class TlsServer(Server):
    tls: ssl.SSLContext

    def get_request(self) -> Any:
        link, client = super().get_request()
        link.settimeout(5)
        return self.tls.wrap_socket(link, server_side=True), client


def main() -> None:
    address, port, *more = sys.argv[1:]
    if ":" not in address:
        address = f"::ffff:{address}"
    servers: list[Server] = [Server((address, int(port)), Web)]
    if more:
        tls_port, certificate, echo_port = more
        secure = TlsServer((address, int(tls_port)), Web)
        secure.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.tls.load_cert_chain(certificate)
        servers += [secure, Server((address, int(echo_port)), Echo)]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
