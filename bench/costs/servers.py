"""The servers that are asked: nginx, redis-server, PostgreSQL, and the generator's own for gRPC. On free ports of loopback."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from costs.generator import build
from costs.processes import (
    SERVER_CPU,
    read_cpu_ns,
    read_family,
    read_family_cpu_ns,
    running,
    wait_for,
)
from support_ports import find_free_port
from support_postgres import running_postgres

_NGINX = """\
daemon off; worker_processes 1; worker_rlimit_nofile 40000; pid {d}/pid; error_log {d}/error.log;
events {{ worker_connections 20000; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
  client_body_temp_path {d}/a; proxy_temp_path {d}/b; fastcgi_temp_path {d}/c; uwsgi_temp_path {d}/d; scgi_temp_path {d}/e;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "hi"; }} }} }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    port: int
    cpu_ns: Callable[[], int]  # on-CPU time so far of what answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    nginx: Server
    redis: Server
    postgres: Server
    grpc: Server


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def running_nginx(place: Path) -> Iterator[Server]:
    port = find_free_port()
    config = place / "nginx.conf"
    config.write_text(_NGINX.format(d=place, port=port))
    with running(["nginx", "-c", config], cpu=SERVER_CPU) as master:
        wait_for("nginx", lambda: can_connect(port) and len(read_family(master.pid)) > 1)
        worker = read_family(master.pid)[1]
        yield Server(port=port, cpu_ns=partial(read_cpu_ns, worker))


@contextmanager
def running_redis(place: Path) -> Iterator[Server]:
    port = find_free_port()
    argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir"]
    with running([*argv, place], cpu=SERVER_CPU) as server:
        wait_for("redis-server", lambda: can_connect(port))
        yield Server(port=port, cpu_ns=partial(read_cpu_ns, server.pid))


@contextmanager
def _running_postgres() -> Iterator[Server]:
    with running_postgres() as server:
        lines = server.run("psql", "-Atc", "SELECT pg_read_file('postmaster.pid')")
        yield Server(port=server.port, cpu_ns=partial(read_family_cpu_ns, int(lines.split()[0])))


@contextmanager
def _running_grpc() -> Iterator[Server]:
    with running([build(), "serve-grpc", "--cpu", str(SERVER_CPU)]) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield Server(port=port, cpu_ns=partial(read_cpu_ns, server.pid))


@contextmanager
def running_servers(place: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(
            nginx=stack.enter_context(running_nginx(place)),
            redis=stack.enter_context(running_redis(place)),
            postgres=stack.enter_context(_running_postgres()),
            grpc=stack.enter_context(_running_grpc()),
        )
