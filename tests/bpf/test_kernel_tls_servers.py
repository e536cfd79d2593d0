"""Real servers over TLS: what redis-cli, curl and nginx say to each other is read at both ends."""

from pathlib import Path

import pytest

from farcall_probes.events import PROTO_HTTP1, PROTO_REDIS, Flag
from farcall_probes.probes import KernelCapture
from support_http import running
from support_ports import find_free_port
from support_probes import Watch
from support_tlslib import find_own_libssl, make_certificate, probed

pytestmark = pytest.mark.bpf

NGINX = """\
daemon off; worker_processes 1; pid {d}/pid; error_log {d}/error.log;
events {{ worker_connections 64; }}
http {{ access_log off;
  client_body_temp_path {d}/a; proxy_temp_path {d}/b; fastcgi_temp_path {d}/c; uwsgi_temp_path {d}/d; scgi_temp_path {d}/e;
  server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
    location / {{ return 200 "hi"; }} }} }}
"""


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(tmp_path)


def test_redis_over_tls(
    capture: KernelCapture, watch: Watch, certificate: tuple[Path, Path]
) -> None:
    port = find_free_port()
    server = ["redis-server", "--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
    server += ["--tls-cert-file", str(certificate[0]), "--tls-key-file", str(certificate[1])]
    server += ["--tls-ca-cert-file", str(certificate[0]), "--save", ""]
    ask = ["redis-cli", "--tls", "--cacert", str(certificate[0]), "-h", "localhost"]
    ask += ["-p", str(port)]
    with probed(capture, find_own_libssl().path), running(server, [*ask, "ping"]):
        watch.restart()
        for i in range(5):
            watch.run([*ask, "set", f"key{i}", "value"])
        client, at_server = watch.sides(port)

    for side in (client, at_server):
        sets = [s for s in side if s.proto == PROTO_REDIS and b"set" in s.request]
        assert [s.response for s in sets] == [b"+OK\r\n"] * 5
        assert all(s.flags & Flag.TLS for s in sets)
    assert [s.key for s in client] == [s.key for s in at_server]


def test_nginx_over_tls(
    capture: KernelCapture, watch: Watch, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    port = find_free_port()
    cert, key = certificate
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(d=tmp_path, port=port, cert=cert, key=key))
    ask = ["curl", "-sf", "--cacert", str(cert)]
    urls = [f"https://localhost:{port}/{i}" for i in range(9)]
    with (
        probed(capture, find_own_libssl().path),
        running(["nginx", "-c", str(config)], [*ask, urls[0]]),
    ):
        watch.restart()
        watch.run([*ask, *urls])
        sides = watch.sides(port)

    for side in sides:
        http = [s for s in side if s.proto == PROTO_HTTP1]
        assert [s.path for s in http] == [f"/{i}" for i in range(9)]
        assert all(s.status == 200 and s.flags & Flag.TLS for s in http)
