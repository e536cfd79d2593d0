"""Copies of OpenSSL that come with Python packages: found in the process that uses them, and read like the system's."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall_probes.events import PROTO_HTTP1, PROTO_POSTGRES, Flag
from farcall_probes.probes import KernelCapture
from support_postgres import USER, running_postgres
from support_probes import OK, Watch
from support_tlslib import libraries_of, make_certificate

pytestmark = pytest.mark.bpf

COUNT = 23
# Both wait with what they are to do until they are told that their library was found.
PSYCOPG = """
import sys, psycopg
assert psycopg.pq.__impl__ == 'binary'
print('ready', flush=True); sys.stdin.readline()
with psycopg.connect(f'host=127.0.0.1 port={sys.argv[1]} user={sys.argv[3]} sslmode=require') as connection:
    assert connection.pgconn.ssl_in_use
    for i in range(int(sys.argv[2])):
        connection.execute('SELECT %s::int AS wheel', (i,), prepare=False).fetchone()
"""
PYOPENSSL = """
import socket, sys
from OpenSSL import SSL
print('ready', flush=True); sys.stdin.readline()
connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), socket.create_connection(('127.0.0.1', int(sys.argv[1]))))
connection.set_connect_state()
for i in range(int(sys.argv[2])):
    connection.sendall(f'GET /{i} HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n'.encode())
    whole = connection.recv(4096, socket.MSG_PEEK)
    assert whole.startswith(b'HTTP/1.1 200')
    assert connection.recv(20) + connection.recv(4096) == whole
"""


@contextmanager
def found(
    capture: KernelCapture, watch: Watch, directory: Path, script: str, port: int, library: str
) -> Iterator[int]:
    """The ID of a process that has done what `script` says, with the `library` that it loaded read meanwhile."""
    client = subprocess.Popen(
        [sys.executable, "-c", script, str(port), str(COUNT), USER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdin is not None and client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        with libraries_of(capture, directory, client.pid) as libraries:
            probed = [x for x in libraries.list_libraries() if library in x.path]
            assert [x.kind for x in probed] == ["openssl"], libraries.refused
            assert not any(x.is_dear for x in probed)
            client.stdin.write("go\n")
            client.stdin.flush()
            watch.drain_until(client)
            assert client.returncode == 0
            yield client.pid
    finally:
        client.kill()
        client.communicate()


def test_psycopgs_own_libssl_gives_the_statements_inside_of_tls(
    capture: KernelCapture, watch: Watch, tmp_path: Path
) -> None:
    with running_postgres(make_certificate(tmp_path)) as server:
        watch.restart()
        with found(
            capture, watch, tmp_path, PSYCOPG, server.port, "psycopg_binary.libs/libssl"
        ) as tgid:
            sides = watch.sides(server.port)
    client = [s for s in sides[0] if s.tgid == tgid and s.proto == PROTO_POSTGRES]
    statements = [s for s in client if b"AS wheel" in s.request]

    assert len(statements) == COUNT
    assert all(s.flags & Flag.TLS and s.response for s in statements)


def test_the_openssl_that_is_linked_into_cryptography_is_read(
    capture: KernelCapture, watch: Watch, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])

        def serve() -> None:
            accepted, _ = listener.accept()
            with context.wrap_socket(accepted, server_side=True) as connection:
                while connection.recv(4096):
                    connection.sendall(OK)

        serving = threading.Thread(target=serve)
        serving.start()
        with found(capture, watch, tmp_path, PYOPENSSL, port, "_rust.abi3.so") as tgid:
            client, server = watch.sides(port)
        serving.join()

    assert [s.path for s in client] == [f"/{i}" for i in range(COUNT)]
    assert all(s.tgid == tgid and s.proto == PROTO_HTTP1 for s in client)
    assert all(s.status == 200 and s.flags & Flag.TLS for s in client)
    # The request, and the response in two parts, not where it is peeked at; of the server, where its library is read too, two.
    assert watch.count("tls") == 3 * COUNT + 2 * len(server)
