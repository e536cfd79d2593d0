"""For tests that run `farcall agent` over the real kernel: a DNS server, a Redis and clients, each a process of its own.

Names and addresses are the test's own (a random /24 of 127.0.0.0/8), so that other traffic of the machine is not mistaken for ours.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from farcall.cacheacl import USERS, render_acl_rule
from support_agent import PASSWORD, FakeExporter, make_config, rows_of, write_config
from support_ports import find_free_port

# Answers every A question with the address given; one datagram at a time.
DNS_SERVER = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    asked, client = server.recvfrom(2048)
    answer = asked[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + asked[12:]
    server.sendto(answer + b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + socket.inet_aton(sys.argv[2]), client)
"""
# What a client may do: look a name up at `resolver`, and send one command over a new connection.
CLIENT = """
import os, socket, struct, sys, time
resolver, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
def look_up(name):
    question = b"".join(bytes([len(x)]) + x for x in name.encode().split(b".")) + b"\\0\\0\\1\\0\\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((resolver, 53))
        s.send(b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + question)
        s.recv(2048)
def connect():
    return socket.create_connection((address, port))
def ask(link, *words):
    link.sendall(b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(w), w) for w in words))
    assert link.recv(4096)
"""


# A server and its client, whose response goes on for as long as there is something in `last`.
STREAM = """
import threading
server = socket.create_server((address, 0))
def serve():
    peer, _ = server.accept()
    peer.recv(4096)
    for piece in (b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n", b"5\\r\\nhello\\r\\n", *last):
        peer.sendall(piece)
        time.sleep(0.3)
    peer.recv(1)
def stream():
    threading.Thread(target=serve, daemon=True).start()
    link = socket.create_connection(server.getsockname())
    link.sendall(b"POST /stream HTTP/1.1\\r\\nHost: a.test\\r\\nContent-Length: 2\\r\\n\\r\\n")
    time.sleep(0.1)
    link.sendall(b"hi")
    read = b""
    while not read.endswith(b"hello\\r\\n" + b"".join(last)):
        read += link.recv(4096)
    return link
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    directory: Path  # the agent's
    resolver: str
    address: str
    port: int
    cache: "redis.Redis"
    exporter: FakeExporter
    agent: "subprocess.Popen[str]"

    def run(self, code: str, *, name: str) -> None:
        """A client with this service name. It stays until the agent has told of it, since a process is known by its files in
        /proc: an agent among three suites may be late."""
        code = f"{code}\nprint('done', flush=True)\nsys.stdin.readline()\n"
        with self.start(code, name=name, stdin=subprocess.PIPE) as client:
            assert client.stdout is not None and client.stdout.readline() == "done\n"
            self.exporter.wait_for(lambda _: self.knows(name), within_s=60)
            client.communicate("\n", timeout=60)
            assert client.returncode == 0

    @contextmanager
    def start(self, code: str, *, name: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
        """The same, while it runs."""
        words = (sys.executable, "-c", f"{CLIENT}{code}", self.resolver, self.address)
        env = {**os.environ, "OTEL_SERVICE_NAME": self.service(name)}
        with child(*words, str(self.port), env=env, **options) as client:
            yield client

    def knows(self, name: str) -> bool:
        return any(self.rows(kind, name) for kind in ("exchanges", "dns"))

    def service(self, name: str) -> str:
        """Ours alone: other things on this machine are traced as well."""
        return f"{name}-{self.resolver}"

    def rows(self, kind: str, name: str) -> list[dict[str, Any]]:
        rows = rows_of(self.exporter.batches(kind))
        return [r for r in rows if r["service"] == self.service(name)]

    def server_rows(self) -> list[dict[str, Any]]:
        """Sights of the Redis that clients talk to."""
        rows = rows_of(self.exporter.batches("exchanges"))
        return [r for r in rows if (r["role"], r["local_port"]) == (1, self.port)]

    def wait_rows(self, kind: str, name: str, count: int = 1) -> list[dict[str, Any]]:
        self.exporter.wait_for(lambda _: len(self.rows(kind, name)) >= count, within_s=60)
        return self.rows(kind, name)


@contextmanager
def child(*argv: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def wait(condition: Callable[[], object], within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def running_scene(
    directory: Path,
    *,
    spec: dict[str, Any] | None = None,
    metrics: str | None = None,  # the agent's, as a URL
    log: Path | None = None,  # the agent's standard error
) -> Iterator[Scene]:
    net = f"127.{random.randint(10, 250)}.{random.randint(1, 250)}"
    resolver, address = f"{net}.53", f"{net}.10"
    with ExitStack() as stack:
        server = stack.enter_context(child(sys.executable, "-c", DNS_SERVER, resolver, address))
        assert server.stdout is not None and server.stdout.readline()
        cache_socket = directory / "cache.sock"
        rules = "\n".join(render_acl_rule(user, PASSWORD) for user in USERS)
        config = directory / "cache.conf"
        config.write_text(f'port 0\nunixsocket {cache_socket}\nsave ""\ndir {directory}\n{rules}\n')
        stack.enter_context(child("redis-server", str(config)))
        port = stack.enter_context(target_redis(directory, address))
        wait(cache_socket.exists)
        exporter = stack.enter_context(FakeExporter())
        effective = write_config(
            make_config(
                directory,
                exporter=exporter.url,
                redis=f"unix://{cache_socket}",
                spec={"dns": {"resolvers": [resolver]}, **(spec or {})},
                metrics=metrics,
            ),
            directory,
        )
        said = stack.enter_context(log.open("wb")) if log is not None else None
        ready = directory / "ready"
        agent = stack.enter_context(
            child(
                *(sys.executable, "-m", "farcall.commands", "agent"),
                *("--config", str(effective), "--ready-file", str(ready)),
                stderr=said,
            )
        )
        wait(lambda: ready.exists() or agent.poll() is not None, within_s=120)
        assert agent.poll() is None
        cache = stack.enter_context(
            redis.Redis(unix_socket_path=str(cache_socket), decode_responses=True)
        )
        yield Scene(
            directory=directory,
            resolver=resolver,
            address=address,
            port=port,
            cache=cache,
            exporter=exporter,
            agent=agent,
        )


@contextmanager
def target_redis(directory: Path, address: str) -> Iterator[int]:
    """The Redis that clients talk to, on its own address."""
    port = find_free_port()
    argv = ("--bind", address, "--port", str(port), "--save", "", "--protected-mode", "no")
    with child("redis-server", *argv, "--dir", str(directory)) as process:
        with redis.Redis(host=address, port=port) as client:

            def answers() -> bool:
                assert process.poll() is None
                try:
                    return bool(client.ping())
                except redis.ConnectionError:
                    return False

            wait(answers)
        yield port
