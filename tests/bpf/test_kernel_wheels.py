"""Copies of OpenSSL that come with Python packages: found in the process that uses them, and read like the system's."""

import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall_probes.events import PROTO_HTTP1, PROTO_HTTP2, PROTO_POSTGRES, Flag
from farcall_probes.probes import KernelCapture
from farcall_probes.wire.http2 import HEADERS
from support_ports import find_free_port
from support_postgres import USER, running_postgres
from support_probes import CLIENT, OK, SERVER, Watch
from support_segments import REQUEST, RESPONSE, Segment, list_segments
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
# Both ends; as many connections at once as calls, each with two.
GRPC = """
import sys, grpc
from concurrent.futures import ThreadPoolExecutor
certificate, key = (open(path, 'rb').read() for path in sys.argv[4:6])
server = grpc.server(ThreadPoolExecutor(8))
echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler('wheel.Echo', {'Say': echo})])
server.add_secure_port(f'127.0.0.1:{sys.argv[1]}', grpc.ssl_server_credentials([(key, certificate)]))
server.start()
print('ready', flush=True); sys.stdin.readline()
credentials = grpc.ssl_channel_credentials(certificate)
def call(number):
    with grpc.secure_channel(f'localhost:{sys.argv[1]}', credentials, [('grpc.use_local_subchannel_pool', 1)]) as channel:
        for turn in range(2):
            said = b'%d/%d' % (number, turn)
            assert channel.unary_unary('/wheel.Echo/Say')(said) == said
with ThreadPoolExecutor(int(sys.argv[2])) as pool:
    list(pool.map(call, range(int(sys.argv[2]))))
server.stop(0).wait()
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


def identify(segment: Segment) -> tuple[int, int]:
    """The connection, the same at both ends."""
    return int(segment.record["isn_client"]), int(segment.record["isn_server"])


@contextmanager
def found(
    capture: KernelCapture,
    watch: Watch,
    directory: Path,
    script: str,
    port: int,
    library: str,
    *more: str | Path,
) -> Iterator[int]:
    """The ID of a process that has done what `script` says, with the `library` that it loaded read meanwhile."""
    client = subprocess.Popen(
        [sys.executable, "-c", script, str(port), str(COUNT), USER, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdin is not None and client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        with libraries_of(capture, directory, client.pid, only=library) as libraries:
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


def test_the_boringssl_that_is_linked_into_grpcio_is_read_at_both_ends(
    capture: KernelCapture, watch: Watch, tmp_path: Path
) -> None:
    port = find_free_port()
    certificate = make_certificate(tmp_path)
    watch.restart()
    with found(capture, watch, tmp_path, GRPC, port, "_cython/cygrpc", *certificate):
        sides = [list_segments(watch, port, role=role) for role in (CLIENT, SERVER)]

    for kind in (REQUEST, RESPONSE):
        client, server = (
            [s for s in side if s.kind == kind and s.data[3] == HEADERS] for side in sides
        )
        # Each connection's first and second stream, each with its answer.
        for side in (client, server):
            streams = Counter(s.conn_id for s in side)
            assert sorted(streams.values()) == [2] * COUNT
            assert all(s.proto == PROTO_HTTP2 for s in side)
        assert set(map(identify, client)) == set(map(identify, server))
    assert watch.count("tls_unowned") == watch.count("segment_resync_lost") == 0


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
            client, _ = watch.sides(port)
        serving.join()

    assert [s.path for s in client] == [f"/{i}" for i in range(COUNT)]
    assert all(s.tgid == tgid and s.proto == PROTO_HTTP1 for s in client)
    assert all(s.status == 200 and s.flags & Flag.TLS for s in client)
    # The request, and the response in two parts, not where it is peeked at.
    assert watch.count("tls") == 3 * COUNT
