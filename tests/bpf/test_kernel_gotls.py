"""HTTPS of Go programs: crypto/tls is read in whole and in stripped files, over HTTP/1 and HTTP/2, at both ends."""

import os
import subprocess
from pathlib import Path

import pytest

from farcall_probes.elf import ElfFile
from farcall_probes.events import PROTO_HTTP1, PROTO_HTTP2, SEGMENT_REQUEST, Flag
from farcall_probes.golang import find_go_points
from farcall_probes.probes import KernelCapture
from support_gotls import build_go
from support_probes import CLIENT, SERVER, Watch

pytestmark = pytest.mark.bpf

COUNT = 23


@pytest.fixture(scope="module", params=["whole", "stripped"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_go(tmp_path_factory.mktemp("go"), stripped=request.param == "stripped")


def exchange(
    capture: KernelCapture,
    watch: Watch,
    program: Path,
    certificate: tuple[Path, Path],
    protocol: str,
) -> int:
    """COUNT requests from one process to another; the server's port."""
    assert capture.tls is not None
    capture.tls.load()
    fd = os.open(program, os.O_RDONLY)
    attached = capture.tls.attach(fd, find_go_points(ElfFile(fd)))
    os.close(fd)
    server = subprocess.Popen(
        [program, "serve", *certificate, protocol], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        watch.run([program, "ask", certificate[0], str(port), str(COUNT), protocol])
    finally:
        server.kill()
        server.communicate()
        attached.close()
    assert watch.count("large_lost") == 0
    return port


def test_every_request_is_seen_at_both_ends_with_one_key(
    capture: KernelCapture, watch: Watch, program: Path, certificate: tuple[Path, Path]
) -> None:
    client, server = watch.sides(exchange(capture, watch, program, certificate, "h1"))

    for side in (client, server):
        assert [s.proto for s in side] == [PROTO_HTTP1] * COUNT
        assert [s.path for s in side] == [f"/{i}" for i in range(COUNT)]
        assert [s.status for s in side] == [200] * COUNT
        assert all(s.flags & Flag.TLS and s.flags & Flag.IDENTITY for s in side)
    assert [s.key for s in client] == [s.key for s in server]


def test_http2_inside_tls_is_followed_frame_by_frame(
    capture: KernelCapture, watch: Watch, program: Path, certificate: tuple[Path, Path]
) -> None:
    segments = watch.segments(exchange(capture, watch, program, certificate, "h2"))

    asked: dict[int, list[int]] = {CLIENT: [], SERVER: []}  # places of the HEADERS frames that ask
    for record in segments:
        assert int(record["proto"]) == PROTO_HTTP2
        assert int(record["flags"]) & Flag.TLS
        if int(record["segment"]) == SEGMENT_REQUEST and bytes(record["req"])[3] == 1:
            asked[int(record["role"])].append(int(record["request_seq"]))
    assert len(asked[CLIENT]) == COUNT
    # Those that are read together with a record before them are off by its overhead, within 64 bytes; so rows of HTTP/2 inside TLS
    # have the stream for their place (streamrows.py). Nothing but a connection's first few comes so.
    assert asked[CLIENT][4:] == asked[SERVER][4:]
    assert all(abs(a - b) < 64 for a, b in zip(asked[CLIENT], asked[SERVER], strict=True))
