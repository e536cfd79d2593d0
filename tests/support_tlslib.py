"""For tests of TLS: a certificate, this process' own libssl, and both ends of a TLS connection in this process."""

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from farcall_probes.capture import Attached
from farcall_probes.elf import ElfFile
from farcall_probes.events import PROTO_HTTP1, Flag
from farcall_probes.libraries import Libraries
from farcall_probes.mappings import MappedFile, parse_maps
from farcall_probes.probes import KernelCapture
from farcall_probes.tlspoints import Point, find_ssl_points
from support_probes import Watch


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """(certificate, key) for `localhost`."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {certificate}"
        " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    subprocess.run(
        command.split(),
        check=True,
        capture_output=True,
    )
    return certificate, key


def find_own_libssl() -> MappedFile:
    assert ssl.OPENSSL_VERSION
    files = parse_maps(Path("/proc/self/maps").read_bytes())
    return next(f for f in files if "/libssl" in f.path)


@contextmanager
def probed(capture: KernelCapture, path: str, *, at_copies: bool = True) -> Iterator[None]:
    """The file's TLS library is read meanwhile; at the functions that are called, where not `at_copies`."""
    assert capture.tls is not None
    fd = os.open(path, os.O_RDONLY)
    try:
        capture.tls.load()
        attached = capture.tls.attach(fd, find_ssl_points(ElfFile(fd), at_copies=at_copies))
    finally:
        os.close(fd)
    try:
        yield
    finally:
        attached.close()


@contextmanager
def libraries_of(
    capture: KernelCapture, directory: Path, tgid: int, *, only: str = ""
) -> Iterator[Libraries]:
    """Those of this one process, found as the agent finds them and read meanwhile; others of the machine are none of the test's.
    `only`: files with this in their name are read; of all others, which other processes may have too, nothing is counted."""
    assert capture.tls is not None
    capture.tls.load()
    attach = capture.tls.attach

    def attach_some(fd: int, points: Sequence[Point]) -> Attached:
        return attach(fd, points if only in os.readlink(f"/proc/self/fd/{fd}") else ())

    proc = directory / "proc"
    proc.mkdir()
    (proc / str(tgid)).symlink_to(f"/proc/{tgid}")
    libraries = Libraries(attach_some, proc=proc)
    try:
        while libraries.look():
            pass
        yield libraries
    finally:
        libraries.close()


@dataclass(frozen=True, slots=True)
class TlsPair:
    """`port`: the client's, which no two connections of a test share."""

    client: ssl.SSLSocket
    server: ssl.SSLSocket
    port: int

    def exchange(self, request: bytes, response: bytes) -> None:
        self.client.sendall(request)
        assert receive(self.server, len(request)) == request
        self.server.sendall(response)
        assert receive(self.client, len(response)) == response

    def close(self) -> None:
        self.client.close()
        self.server.close()


def receive(sock: ssl.SSLSocket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        assert piece, "the peer closed"
        data += piece
    return data


def open_tls_pair(
    certificate: tuple[Path, Path], version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> TlsPair:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(*certificate)
    server_side.maximum_version = version
    client_side = ssl.create_default_context(cafile=str(certificate[0]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    ends: list[ssl.SSLSocket] = []
    accepting = threading.Thread(
        target=lambda: ends.append(server_side.wrap_socket(accepted, server_side=True))
    )
    accepting.start()
    client = client_side.wrap_socket(plain, server_hostname="localhost")
    accepting.join()
    return TlsPair(client, ends[0], int(client.getsockname()[1]))


def check_both_ends(watch: Watch, port: int, requests: list[bytes]) -> None:
    client, server = ([s for s in side if s.proto == PROTO_HTTP1] for side in watch.sides(port))
    assert watch.count("large_lost") == 0
    for seen in (client, server):
        assert [s.request for s in seen] == [r[:696] for r in requests]
        assert [s.request_bytes for s in seen] == [len(r) for r in requests]
        assert [s.status for s in seen] == [200] * len(requests)
        assert [s.seq for s in seen] == list(range(len(requests)))
        assert all(s.flags & Flag.TLS and s.flags & Flag.IDENTITY for s in seen)
        assert all(s.ts_req_ns <= s.ts_resp_ns for s in seen)
    assert [s.key for s in client] == [s.key for s in server]
