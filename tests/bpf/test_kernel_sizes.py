"""Bytes that no write or read carried: files that the kernel sends by itself."""

import socket
import subprocess
from pathlib import Path

import pytest

from farcall_probes import events
from support_nginx import MIB, running_nginx
from support_probes import Watch, read_sizes, receive

pytestmark = pytest.mark.bpf


@pytest.mark.parametrize("more", ["", "tcp_nopush on;"])
def test_a_file_that_nginx_sends_counts_whole_at_both_ends(
    watch: Watch, tmp_path: Path, more: str
) -> None:
    with running_nginx(tmp_path, more) as port:
        watch.restart()
        url = f"http://127.0.0.1:{port}/big"
        form = "%{size_header} %{size_download}\n"
        ask = ["curl", "-sf", "-o", "/dev/null", "-w", form, url, "-o", "/dev/null", url]
        told = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.split()
        sides = watch.sides(port)

    whole = int(told[0]) + int(told[1])
    assert int(told[1]) == MIB
    for side in sides:
        assert [s.path for s in side] == ["/big", "/big"]
        assert read_sizes(side) == [whole, whole]


def test_a_file_that_a_client_sends_counts_whole(watch: Watch, tmp_path: Path) -> None:
    with running_nginx(tmp_path) as port:
        watch.restart()
        head = f"PUT /upload/a HTTP/1.1\r\nHost: a.test\r\nContent-Length: {MIB}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head)
            with (tmp_path / "files" / "big").open("rb") as file:
                assert client.sendfile(file) == MIB
            assert receive(client, 12) == b"HTTP/1.1 201"
        client_side, server_side = watch.sides(port)

    assert [s.request_bytes for s in client_side] == [len(head) + MIB]
    assert [s.request_bytes for s in server_side] == [len(head) + MIB]
    assert all(not s.flags & events.Flag.CUT for s in client_side + server_side)
