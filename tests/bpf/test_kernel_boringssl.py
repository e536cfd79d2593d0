"""BoringSSL that programs come with, found in their processes and read: Netty's, at both ends."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall_probes.events import PROTO_HTTP1, Flag
from farcall_probes.libraries import Libraries
from farcall_probes.probes import KernelCapture
from support_jvm import read_line, talking
from support_probes import Seen, Watch
from support_tlslib import libraries_of

pytestmark = pytest.mark.bpf

CONNECTIONS, EACH = 23, 5


@contextmanager
def netty(directory: Path, *words: str | Path) -> Iterator["subprocess.Popen[str]"]:
    directory.mkdir()
    with talking("netty", *words, folder=directory) as process:
        yield process


def check_probed(libraries: Libraries) -> None:
    """Netty deletes the file that it loads."""
    found = [x for x in libraries.list_libraries() if "tcnative" in x.path]
    assert [x.kind for x in found] == ["openssl"], libraries.refused
    assert [p.program for p in found[0].points] == ["uprobe__tls_write", "uprobe__boring_copy"]


def test_what_netty_says_over_its_own_boringssl_is_read_at_both_ends(
    capture: KernelCapture, watch: Watch, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """Connections that open at once on two threads, and go on one request after another."""
    with netty(tmp_path / "server", "serve", *certificate) as server:
        port = int(read_line(server))
        numbers = str(port), str(CONNECTIONS), str(EACH)
        with netty(tmp_path / "client", "ask", certificate[0], *numbers) as client:
            assert read_line(client) == "ready"
            with (
                libraries_of(
                    capture, tmp_path / "server", server.pid, only="tcnative"
                ) as of_server,
                libraries_of(
                    capture, tmp_path / "client", client.pid, only="tcnative"
                ) as of_client,
            ):
                check_probed(of_server)
                check_probed(of_client)
                watch.restart()
                assert client.stdin is not None
                client.stdin.write("go\n")
                client.stdin.flush()
                watch.drain_until(client)
                assert client.returncode == 0
                sides = watch.sides(port)

    http: list[list[Seen]] = [[s for s in side if s.proto == PROTO_HTTP1] for side in sides]
    for side in http:
        assert sorted(s.path for s in side) == sorted(f"/{i}" for i in range(CONNECTIONS * EACH))
        assert all(s.status == 200 and s.flags & Flag.TLS for s in side)
    assert {s.key: s.path for s in http[0]} == {s.key: s.path for s in http[1]}
    assert watch.count("tls") == 4 * CONNECTIONS * EACH
    assert watch.count("tls_unowned") == 0
