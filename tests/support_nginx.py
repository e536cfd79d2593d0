"""A real nginx of Debian's that serves and takes files, on a free port of loopback."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support_databases import wait_until_it_listens
from support_ports import find_free_port

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
