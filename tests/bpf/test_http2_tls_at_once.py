"""Calls of HTTP/2 inside TLS that are made at once: a server takes many records from its socket in one read, and both ends of
each call have one key nevertheless."""

import os
from pathlib import Path

import pytest

from farcall_probes.elf import ElfFile
from farcall_probes.golang import find_go_points
from support_http2_live import build_peer, free_port, serving, watching
from support_tlslib import make_certificate

pytestmark = pytest.mark.bpf

COUNT = 23


def test_calls_made_at_once_have_one_key_at_both_ends(tmp_path: Path) -> None:
    peer, port = build_peer(), free_port()
    pem = tmp_path / "server.pem"
    pem.write_text("".join(path.read_text() for path in make_certificate(tmp_path)))
    with watching(tmp_path) as live:
        assert live.capture.tls is not None
        live.capture.tls.load()
        fd = os.open(peer, os.O_RDONLY)
        attached = live.capture.tls.attach(fd, find_go_points(ElfFile(fd)))
        os.close(fd)
        try:
            address = "127.0.0.1:0"
            with serving(peer, "serve", address, address, f"127.0.0.1:{port}", pem):
                url = f"https://127.0.0.1:{port}/at-once?ms=20"
                assert len(live.run(peer, "get", url, str(COUNT))) == COUNT
                client, server = live.take(port, COUNT)
        finally:
            attached.close()

    keys = [
        sorted((row["isn_client"], row["isn_server"], row["request_seq"]) for row in end)
        for end in (client, server)
    ]
    assert len(set(keys[0])) == COUNT
    assert keys[0] == keys[1]
    assert {row["target"] for row in client + server} == {"/at-once"}
