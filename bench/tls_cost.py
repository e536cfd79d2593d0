"""What reading TLS costs a server: on-CPU time per HTTPS request, with farcall's probes and without, taking turns.

Servers are nginx (OpenSSL), a Go program and Node.js (with an OpenSSL of its own, which fills buffers), on a CPU of their own.
"With" is everything: system calls, uprobes, records. The other end's cost is not in it, nor may its pace be: a Go server whose
client is 10 µs slower uses 4 µs more of its own, without any probes, for it looks for work longer before it sleeps. So they are
asked by two loads that know no pace of the client's:

busy: several connections, as fast as they are answered. The server always has work; what is added is work.
paced: one connection, a request every 500 µs. The server sleeps before each, wakes on a cold CPU, and its own work costs three
times as much as when it is busy; so does ours.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from costs.processes import (
    CLIENT_CPU,
    SERVER_CPU,
    BenchError,
    read_cpu_ns,
    read_family,
    running,
    wait_for,
)
from costs.servers import can_connect
from farcall_probes.elf import ElfFile
from farcall_probes.libraries import find_points
from farcall_probes.probes import KernelCapture, open_probes
from support_gotls import build_go
from support_ports import find_free_port
from support_tlslib import find_own_libssl, make_certificate

_NGINX = """\
daemon off; worker_processes 1; pid {d}/pid; error_log {d}/error.log;
events {{ worker_connections 64; }}
http {{ access_log off; keepalive_requests 1000000;
  client_body_temp_path {d}/a; proxy_temp_path {d}/b; fastcgi_temp_path {d}/c; uwsgi_temp_path {d}/d; scgi_temp_path {d}/e;
  server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
    location / {{ return 200 "hi"; }} }} }}
"""

_NODE = """\
const https = require('https'), fs = require('fs'), [cert, key] = process.argv.slice(2);
const s = https.createServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key)}, (q, r) => r.end('hi'));
s.listen(0, '127.0.0.1', () => console.log(s.address().port));
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    connections: int
    requests: int
    every_us: int


_BUSY = _Load(connections=8, requests=20_000, every_us=0)
_PACED = _Load(connections=1, requests=2_000, every_us=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    library: Path  # the file that is probed
    port: int
    cpu_ns: Callable[[], int]


def measure_tls(quick: bool) -> dict[str, list[float]]:
    """Metric → µs added per request, of each calm round."""
    rounds = 4 if quick else 10
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        certificate = make_certificate(place)
        program = build_go(place / "go")
        servers = {
            "openssl": partial(_nginx, place),
            "go": partial(_go, program),
            "node": partial(_node, place),
        }
        for name, start in servers.items():
            with start(certificate) as server:
                busy, paced = _compare(server, program, rounds)
            found[f"tls_us_{name}"] = busy
            found[f"tls_us_{name}, paced"] = paced
    return found


def _compare(server: _Server, program: Path, rounds: int) -> list[list[float]]:
    """Of each of both loads."""
    loads = (_BUSY, _PACED)
    bare: dict[_Load, list[float]] = {load: [] for load in loads}
    probed: dict[_Load, list[float]] = {load: [] for load in loads}
    _ask(server, program, _BUSY, None)
    for _ in range(rounds):
        for load in loads:
            bare[load].append(_ask(server, program, load, None))
        with _probed(server.library) as capture:
            for load in loads:
                probed[load].append(_ask(server, program, load, capture))
    # Others on the machine only ever add: the calm half of each kind is compared, rank by rank.
    calm = max(1, rounds // 2)
    return [
        [p - b for p, b in zip(sorted(probed[load])[:calm], sorted(bare[load])[:calm], strict=True)]
        for load in loads
    ]


def _ask(server: _Server, program: Path, load: _Load, capture: KernelCapture | None) -> float:
    """µs of the server's CPU per request."""
    numbers = (server.port, load.connections, load.requests, load.every_us)
    argv = [program, "load", *map(str, numbers)]
    before = server.cpu_ns()
    counted = capture.read_counters() if capture else {}
    with running(argv, cpu=CLIENT_CPU) as client:
        while client.poll() is None:
            if capture:
                capture.drain()
            time.sleep(0.01)
    if client.returncode:
        raise BenchError(f"tls: the load ended with {client.returncode}")
    took = server.cpu_ns() - before
    if (
        capture
        and capture.read_counters()["kernel_tls"] - counted["kernel_tls"] < 2 * load.requests
    ):
        raise BenchError("tls: the probes do not see every request")
    return took / 1_000 / load.requests


@contextmanager
def _probed(library: Path) -> Iterator[KernelCapture]:
    capture = open_probes()
    try:
        assert capture.tls is not None
        capture.tls.load()
        fd = os.open(library, os.O_RDONLY)
        found = find_points(ElfFile(fd))
        assert found is not None
        attached = capture.tls.attach(fd, found[1])
        os.close(fd)
        yield capture
        attached.close()
    finally:
        capture.close()


@contextmanager
def _nginx(place: Path, certificate: tuple[Path, Path]) -> Iterator[_Server]:
    port = find_free_port()
    config = place / "nginx.conf"
    cert, key = certificate
    config.write_text(_NGINX.format(d=place, port=port, cert=cert, key=key))
    with running(["nginx", "-c", config], cpu=SERVER_CPU) as master:
        wait_for("nginx", lambda: can_connect(port) and len(read_family(master.pid)) > 1)
        worker = read_family(master.pid)[1]
        yield _Server(
            library=Path(find_own_libssl().path), port=port, cpu_ns=partial(read_cpu_ns, worker)
        )


@contextmanager
def _go(program: Path, certificate: tuple[Path, Path]) -> Iterator[_Server]:
    with running([program, "serve", *certificate, "h1"], cpu=SERVER_CPU) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield _Server(library=program, port=port, cpu_ns=partial(read_cpu_ns, server.pid))


@contextmanager
def _node(place: Path, certificate: tuple[Path, Path]) -> Iterator[_Server]:
    script = place / "server.js"
    script.write_text(_NODE)
    library = Path(shutil.which("node") or "node").resolve()
    with running([library, script, *certificate], cpu=SERVER_CPU) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield _Server(library=library, port=port, cpu_ns=partial(read_cpu_ns, server.pid))
