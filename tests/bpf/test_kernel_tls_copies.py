"""OpenSSL's plaintext is read where it is copied to the caller: each byte once, and as its own connection's."""

import ctypes
import socket
import ssl
import threading
from pathlib import Path

import pytest

from farcall_probes.elf import ElfFile
from farcall_probes.probes import KernelCapture
from farcall_probes.tlspoints import find_ssl_points
from support_probes import OK, Watch, make_request
from support_rests import pass_on, tell
from support_tlslib import (
    check_both_ends,
    find_own_libssl,
    open_tls_pair,
    probed,
    receive,
)

pytestmark = pytest.mark.bpf


@pytest.fixture(autouse=True)
def alone(capture: KernelCapture) -> None:
    capture.enable(only_own=True)


def test_of_the_machines_own_library_the_copies_are_probed() -> None:
    with open(find_own_libssl().path, "rb") as file:
        programs = {p.program for p in find_ssl_points(ElfFile(file.fileno()))}

    assert "uprobe__tls_copy" in programs


def test_parts_of_a_record_belong_to_its_connection_whatever_the_thread_reads_between(
    watch: Watch, capture: KernelCapture, certificate: tuple[Path, Path]
) -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + b"x" * 4000
    one, other = open_tls_pair(certificate), open_tls_pair(certificate)
    with probed(capture, find_own_libssl().path):
        for _ in range(3):
            pass_on(one.client, one.server, make_request("/one"))
            one.server.sendall(body)
            assert one.client.recv(100) == body[:100]
            other.exchange(make_request("/other"), OK)
            assert one.client.recv(1000) == body[100:1100]
            other.exchange(make_request("/other"), OK)
            assert receive(one.client, len(body) - 1100) == body[1100:]
    one.close()
    other.close()

    client, _ = tell(watch, one.port)
    assert [t.size for t in client] == [len(body)] * 3
    check_both_ends(watch, other.port, [make_request("/other")] * 6)
    assert watch.count("tls_unowned") == 0


class Library:
    """The calls of libssl that Python's own module does not make."""

    def __init__(self, path: str) -> None:
        self._calls = ctypes.CDLL(path)
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(self._calls, name).restype = ctypes.c_void_p
        call = self._calls.SSL_CTX_new
        self._context = ctypes.c_void_p(call(ctypes.c_void_p(self._calls.TLS_client_method())))

    def connect(self, fd: int) -> ctypes.c_void_p:
        connection = ctypes.c_void_p(self._calls.SSL_new(self._context))
        assert self._calls.SSL_set_fd(connection, fd) == 1
        assert self._calls.SSL_connect(connection) == 1
        return connection

    def write(self, connection: ctypes.c_void_p, data: bytes) -> None:
        assert self._calls.SSL_write(connection, data, len(data)) == len(data)

    def receive(self, connection: ctypes.c_void_p, how: str) -> bytes:
        buffer = ctypes.create_string_buffer(4096)
        n = getattr(self._calls, how)(connection, buffer, len(buffer))
        assert n > 0
        return buffer.raw[:n]


def test_what_is_only_peeked_at_is_counted_when_it_is_read(
    watch: Watch, capture: KernelCapture, certificate: tuple[Path, Path]
) -> None:
    requests = [make_request(f"/{i}") for i in range(5)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def serve(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with context.wrap_socket(accepted, server_side=True) as server:
            for request in requests:
                assert receive(server, len(request)) == request
                server.sendall(OK)
            server.recv(1)

    path = find_own_libssl().path
    library = Library(path)
    with probed(capture, path), socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        with socket.create_connection(listener.getsockname()) as client:
            port = client.getsockname()[1]
            connection = library.connect(client.fileno())
            for request in requests:
                library.write(connection, request)
                assert library.receive(connection, "SSL_peek") == OK
                assert library.receive(connection, "SSL_peek") == OK
                assert library.receive(connection, "SSL_read") == OK
        serving.join()

    check_both_ends(watch, port, requests)
    assert watch.count("tls") == 4 * len(requests)
    assert len(watch.rests(port)) == 0
