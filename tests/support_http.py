"""A server of the standard library for tests, and other programs that serve: each answers by the time the body runs."""

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def running_http(
    handler: type[BaseHTTPRequestHandler], tls: tuple[Path, Path] | None = None
) -> Iterator[int]:
    """The port; `tls`: (certificate, key)."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def running(command: Sequence[str], ask: Sequence[str]) -> Iterator[None]:
    """A server that `ask`, a program, has found to answer."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while subprocess.run(ask, capture_output=True, check=False).returncode:
            assert server.poll() is None, "the server ended"
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait()
