"""Bytes that no write or read carried: files that the kernel sends by itself."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall_probes import events
from support_databases import wait_until_it_listens
from support_ports import find_free_port
from support_probes import Watch, read_sizes, receive

pytestmark = pytest.mark.bpf

MIB = 1024 * 1024
NGINX = """
worker_processes 1; daemon off; pid {d}/pid; error_log {d}/error;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; {more} client_max_body_size 8m; client_body_temp_path {d}/temp;
  proxy_temp_path {d}/temp; fastcgi_temp_path {d}/temp; uwsgi_temp_path {d}/temp; scgi_temp_path {d}/temp;
  server {{
    listen 127.0.0.1:{port}; root {d}/files;
    location /upload/ {{ root {d}/upload; dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""


@contextmanager
def running_nginx(folder: Path, more: str = "") -> Iterator[int]:
    port = find_free_port()
    for name in ("files", "upload", "temp"):
        (folder / name).mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / "files" / "big").write_bytes(b"b" * MIB)
    (folder / "conf").write_text("user root;" + NGINX.format(d=folder, port=port, more=more))
    server = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "conf"])
    try:
        wait_until_it_listens(port, server)
        yield port
    finally:
        server.terminate()
        server.wait(60)


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
