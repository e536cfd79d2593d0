"""Both ends of one exchange have one key over loopback, a cable, and a service's address, whatever addresses each end sees."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from farcall_probes.events import Flag
from farcall_probes.probes import KernelCapture
from support_http import running
from support_nat import (
    CLIENT_ADDRESS,
    SERVER_ADDRESS,
    SERVER_GATEWAY,
    SERVICE_ADDRESS,
    Way,
    World,
    open_world,
)
from support_ports import find_free_port
from support_postgres import USER, running_postgres
from support_probes import Seen, Watch
from support_tlslib import find_own_libssl, make_certificate, probed

pytestmark = pytest.mark.bpf

COUNT = 500
# What each end sees as its own address and as its peer's.
ADDRESSES = {
    "loopback": (("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")),
    "veth": ((SERVER_GATEWAY, SERVER_ADDRESS), (SERVER_ADDRESS, SERVER_GATEWAY)),
    "nat": ((CLIENT_ADDRESS, SERVICE_ADDRESS), (SERVER_ADDRESS, SERVER_GATEWAY)),
}
# Two requests on each connection; connections are reset, so that 20 ports serve them all one after the other.
HTTP_CLIENT = """
import socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for i in range(0, count, 2):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
        sock.bind(("", 40_000 + i // 2 % 20))
        sock.connect((host, port))
        for n in (i, i + 1):
            sock.sendall(f"GET /question-{n}. HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n".encode())
            assert sock.recv(4096).endswith(b"hi")
"""
NGINX = """\
daemon off; worker_processes 1; pid {d}/pid; error_log {d}/error.log;
events {{ worker_connections 64; }}
http {{ access_log off; keepalive_requests 100000;
  client_body_temp_path {d}/a; proxy_temp_path {d}/b; fastcgi_temp_path {d}/c; uwsgi_temp_path {d}/d; scgi_temp_path {d}/e;
  server {{ listen {port} {tls}; location / {{ return 200 "hi"; }} }} }}
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


@pytest.fixture
def ports(world: World) -> tuple[int, int]:
    """(the server's, the service's)"""
    port, service_port = find_free_port(), find_free_port()
    world.offer(service_port, port)
    return port, service_port


def serving(world: World, port: int, *command: str) -> AbstractContextManager[None]:
    """A server of the server's namespace, from when it listens."""
    listening = f"import socket; socket.create_connection(('127.0.0.1', {port})).close()"
    wrap = world.server.wrap
    return running(wrap(*command), wrap(sys.executable, "-c", listening))


def run_nginx(
    world: World, port: int, directory: Path, tls: str = ""
) -> AbstractContextManager[None]:
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(d=directory, port=port, tls=tls))
    return serving(world, port, "nginx", "-c", str(config))


def call(watch: Watch, way: Way, words: Sequence[str], text: str = "") -> None:
    """Runs a client; the rings are drained meanwhile."""
    client = subprocess.Popen(
        way.namespace.wrap(*words),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PGSSLMODE": "disable"},
        text=True,
    )
    assert client.stdin is not None
    client.stdin.write(text)
    client.stdin.close()
    watch.drain_until(client)
    assert client.returncode == 0


def addresses_of(seen: Seen) -> tuple[str, str]:
    own, peer = (bytes(seen.record[name])[12:] for name in ("laddr", "raddr"))
    return socket.inet_ntoa(own), socket.inet_ntoa(peer)


def check(watch: Watch, ports: tuple[int, int], way: str, flags: Flag = Flag.IDENTITY) -> None:
    """Every question was seen at both ends and its keys are equal there, and no other question has them."""
    keys: list[dict[int, tuple[int, int, int]]] = []
    for side, addresses in zip(watch.sides(*ports), ADDRESSES[way], strict=True):
        asked = [(m, s) for s in side if (m := re.search(rb"question-(\d+)\.", s.request))]
        assert {addresses_of(s) for _, s in asked} == {addresses}
        assert all(s.flags & flags == flags for _, s in asked)
        keys.append({int(m[1]): s.key for m, s in asked})
        assert len(keys[-1]) == len(asked) == len({s.key for _, s in asked})
    client, server = keys
    both = client.keys() & server.keys()
    assert 2 * COUNT - len(client) - len(server) <= watch.count_lost()
    assert both and all(client[n] == server[n] for n in both)


@pytest.mark.parametrize("way", ADDRESSES)
def test_http_has_one_key(
    watch: Watch, world: World, ports: tuple[int, int], tmp_path: Path, way: str
) -> None:
    to = world.find_way(way, port=ports[0], service_port=ports[1])
    words = [sys.executable, "-c", HTTP_CLIENT, to.address, str(to.port), str(COUNT)]
    with run_nginx(world, ports[0], tmp_path):
        call(watch, to, words)

    check(watch, ports, way)


@pytest.mark.parametrize("way", ADDRESSES)
def test_https_has_one_key(
    capture: KernelCapture,
    watch: Watch,
    world: World,
    ports: tuple[int, int],
    tmp_path: Path,
    way: str,
) -> None:
    to = world.find_way(way, port=ports[0], service_port=ports[1])
    certificate, key = make_certificate(tmp_path)
    tls = f"ssl; ssl_certificate {certificate}; ssl_certificate_key {key}"
    url = f"https://{to.address}:{to.port}/question-[0-{COUNT - 1}]."
    with probed(capture, find_own_libssl().path), run_nginx(world, ports[0], tmp_path, tls):
        call(watch, to, ["curl", "-sfk", url])

    check(watch, ports, way, Flag.IDENTITY | Flag.TLS)


@pytest.mark.parametrize("way", ADDRESSES)
def test_redis_has_one_key(
    watch: Watch, world: World, ports: tuple[int, int], tmp_path: Path, way: str
) -> None:
    to = world.find_way(way, port=ports[0], service_port=ports[1])
    server = f"redis-server --port {ports[0]} --bind 0.0.0.0 --protected-mode no --dir {tmp_path}"
    asked = "".join(f"set question-{n}. x\n" for n in range(COUNT))
    with serving(world, ports[0], *server.split(), "--save", ""):
        call(watch, to, ["redis-cli", "-h", to.address, "-p", str(to.port)], asked)

    check(watch, ports, way)


@pytest.mark.parametrize("way", ADDRESSES)
def test_postgresql_has_one_key(watch: Watch, world: World, way: str) -> None:
    asked = "".join(f"select 'question-{n}.';\n" for n in range(COUNT))
    with running_postgres(within=world.server.wrap()) as server:
        ports = server.port, find_free_port()
        world.offer(ports[1], ports[0])
        to = world.find_way(way, port=ports[0], service_port=ports[1])
        words = [str(server.binaries / "psql"), "-h", to.address, "-p", str(to.port), "-U", USER]
        call(watch, to, [*words, "-d", USER], asked)

    check(watch, ports, way)
