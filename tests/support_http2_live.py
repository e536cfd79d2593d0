"""The real peers of the HTTP/2 tests, and an agent's tracer over the real programs, in this process."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farcall.exchange import ExchangeFlag
from farcall_probes.probes import KernelCapture, open_probes
from support_agent_room import Room, Rows

BUILD = Path(__file__).parent / "build-go.sh"
GO_PEER = Path(__file__).parent / "peers" / "http2"
PYTHON_PEER = Path(__file__).parent / "peers" / "grpcpeer.py"


def build_peer() -> Path:
    done = subprocess.run(
        [BUILD, GO_PEER], stdout=subprocess.PIPE, text=True, check=True, timeout=280
    )
    return Path(done.stdout.strip())


@contextmanager
def serving(*argv: str | Path) -> Iterator[list[int]]:
    """A server that prints its ports and serves until its standard input ends."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield [int(word) for word in process.stdout.readline().split()]
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running_nginx(folder: Path) -> Iterator[int]:
    """nginx with HTTP/2 in plain text: /ok/ is 204, everything else 404."""
    port = free_port()
    (folder / "logs").mkdir()
    conf = folder / "nginx.conf"
    conf.write_text(
        f"""
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port} http2; location /ok/ {{ return 204; }} location / {{ return 404; }} }}
}}
"""
    )
    process = subprocess.Popen(["nginx", "-p", folder, "-c", conf])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(60)


class Live:
    """Everything of the machine is traced, and drained while a client runs; rows are picked by a server's port."""

    def __init__(self, capture: KernelCapture, room: Room) -> None:
        self.capture = capture
        self.room = room
        self._rows: Rows = []

    def run(self, *argv: str | Path) -> list[dict[str, Any]]:
        """A client's own account of its calls, by their number."""
        self.forget()
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            return self.follow(process)

    def forget(self) -> None:
        self._rows.clear()
        self.capture.drain()

    def follow(self, process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
        """The same of a client that runs already, which says little enough for a pipe."""
        assert process.stdout is not None
        while process.poll() is None:
            self._drain()
            time.sleep(0.02)
        lines = process.stdout.read().splitlines()
        assert process.returncode == 0
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return sorted(told, key=lambda call: int(call["n"]))

    def _drain(self) -> None:
        self._rows += self.room.take(self.capture.drain()).get("exchanges", [])

    def take(self, port: int, count: int) -> tuple[Rows, Rows]:
        """(client's rows, server's rows) once there are `count` of each, and those that come a moment later."""
        deadline = time.monotonic() + 60
        last_look = False
        while True:
            self._drain()
            ends: tuple[Rows, Rows] = ([], [])
            for row in self._rows:
                if port in (row["local_port"], row["peer_port"]) and row["protocol"] != "tcp":
                    ends[row["role"]].append(row)
            if last_look or time.monotonic() > deadline:
                return ends
            last_look = all(len(end) >= count for end in ends)
            time.sleep(0.2)

    @property
    def counters(self) -> dict[str, int]:
        return {**self.capture.read_counters(), **self.room.tracer.counters()}

    @property
    def losses(self) -> dict[str, int]:
        """What may be why rows are missing."""
        ends = ("_lost", "_dropped", "_gaps", "_orphans", "_unread")
        return {name: n for name, n in self.counters.items() if n and name.endswith(ends)}


@contextmanager
def watching(folder: Path) -> Iterator[Live]:
    capture = open_probes()
    try:
        yield Live(capture, Room(folder))
    finally:
        capture.close()


def python_peer(*arguments: str) -> list[str]:
    return [sys.executable, str(PYTHON_PEER), *arguments]


def check_twins(client: Rows, server: Rows) -> None:
    """Both ends tell of the same requests, which can be joined, and of as many bytes."""
    keys = [
        sorted((r["isn_client"], r["isn_server"], r["request_seq"]) for r in end)
        for end in (client, server)
    ]
    assert keys[0] == keys[1] and len(set(keys[0])) == len(client)
    assert all(r["flags"] & ExchangeFlag.IDENTITY for r in client + server)
    sizes = [
        sorted((r["request_seq"], r["request_bytes"], r["response_bytes"]) for r in end)
        for end in (client, server)
    ]
    assert sizes[0] == sizes[1]
