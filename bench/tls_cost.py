"""What reading TLS costs a server: on-CPU time per HTTPS request, with farcall's probes and without, interleaved.

Servers are nginx (OpenSSL) and a Go program; one client, one connection, one request at a time, so the figure holds a
round trip's system calls too. "With" is everything: system calls, uprobes, records. The other end's cost is not in it.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farcall_probes.elf import ElfFile
from farcall_probes.libraries import find_points
from farcall_probes.probes import open_probes
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


def measure_tls(quick: bool) -> dict[str, list[float]]:
    """Metric → µs added per request, of each calm round."""
    rounds, requests = (4, 2_000) if quick else (10, 4_000)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        certificate = make_certificate(place)
        program = build_go(place / "go")
        run = _Run(program, certificate[0], requests)
        found = {}
        with _nginx(place, certificate) as (tgid, port):
            found["tls_us_openssl"] = run.compare(find_own_libssl().path, tgid, port, rounds)
        with _go(program, certificate) as (tgid, port):
            found["tls_us_go"] = run.compare(str(program), tgid, port, rounds)
        return found


class _Run:
    def __init__(self, program: Path, certificate: Path, requests: int) -> None:
        self._program, self._certificate, self._requests = program, certificate, requests

    def compare(self, library: str, tgid: int, port: int, rounds: int) -> list[float]:
        self._ask(tgid, port)
        bare, read = [], []
        for _ in range(rounds):
            bare.append(self._ask(tgid, port))
            with _probed(library):
                read.append(self._ask(tgid, port))
        # Others on the machine only ever add: the calm half of each kind is compared, rank by rank.
        calm = max(1, rounds // 2)
        pairs = zip(sorted(read)[:calm], sorted(bare)[:calm], strict=True)
        return [with_probes - without for with_probes, without in pairs]

    def _ask(self, tgid: int, port: int) -> float:
        """µs of the server's CPU per request."""
        ask = [self._program, "ask", self._certificate, str(port), str(self._requests), "h1"]
        before = read_cpu_us(tgid)
        subprocess.run(ask, check=True)
        return (read_cpu_us(tgid) - before) / self._requests


def read_cpu_us(tgid: int) -> float:
    """On-CPU time of all threads."""
    total = 0
    for task in Path(f"/proc/{tgid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1_000


@contextmanager
def _probed(library: str) -> Iterator[None]:
    capture = open_probes()
    try:
        assert capture.tls is not None
        capture.tls.load()
        fd = os.open(library, os.O_RDONLY)
        found = find_points(ElfFile(fd))
        assert found is not None
        attached = capture.tls.attach(fd, found[1])
        os.close(fd)
        yield
        attached.close()
    finally:
        capture.close()


@contextmanager
def _nginx(place: Path, certificate: tuple[Path, Path]) -> Iterator[tuple[int, int]]:
    port = find_free_port()
    config = place / "nginx.conf"
    cert, key = certificate
    config.write_text(_NGINX.format(d=place, port=port, cert=cert, key=key))
    with _started(["nginx", "-c", str(config)]) as server:
        wait_for = f"/proc/{server.pid}/task/{server.pid}/children"
        children: list[str] = []
        while not children:
            children = Path(wait_for).read_text().split()
        yield int(children[0]), port


@contextmanager
def _go(program: Path, certificate: tuple[Path, Path]) -> Iterator[tuple[int, int]]:
    with _started([str(program), "serve", *map(str, certificate), "h1"]) as server:
        assert server.stdout is not None
        yield server.pid, int(server.stdout.readline())


@contextmanager
def _started(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield server
    finally:
        server.terminate()
        server.communicate()
