"""Names of connections that are older than the agent, over a real Redis that keeps nothing: read back at start, and written again."""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from farcall import secretfiles
from farcall.cacheacl import EXPORTER
from farcall.cachereader import CacheReader, connect_redis
from farcall.dnscache import Answer, Binding, CacheEntry, CacheQuestion
from farcall.effective import EffectiveWatcher
from farcall.names import Confidence, NameSource
from farcall.secretfiles import read_secret
from farcall_exporter.resolve import CacheView, Call, NamingRules, resolve
from farcall_probes.agent import Agent
from farcall_probes.dnswriter import DnsWriter
from farcall_probes.identity import Identities
from farcall_probes.opensockets import OpenSocket, OpenSockets
from farcall_probes.recall import Recall
from farcall_probes.surroundings import Surroundings
from support_agent import FakeCapture, FakeExporter, make_config, write_config
from support_agent_thread import running
from support_exporter import wait_until
from support_exporter_process import RedisProcess

pytestmark = pytest.mark.servers

TTL_S = 3_600
IDENTITY = 2**63 + 12_345


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    folder = tmp_path / "redis"
    folder.mkdir()
    make_config(tmp_path)  # makes the agent's secrets
    for name in secretfiles.ALL:
        path = tmp_path / "secrets" / name
        if not path.exists():
            path.write_text("s" * 40)
    running = RedisProcess(folder, tmp_path / "secrets")
    try:
        yield running.start()
    finally:
        running.kill()


@contextmanager
def open_link() -> Iterator[Binding]:
    """A connection of this process to itself, with a name that is five minutes old."""
    client_key = Identities(node="node-1").find_client(os.getpid())
    assert client_key is not None
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with socket.create_connection(listening.getsockname()) as client:
            taken, _ = listening.accept()
            with taken:
                yield Binding(
                    client_key=client_key,
                    local="{}:{}".format(*client.getsockname()),
                    peer="{}:{}".format(*client.getpeername()),
                    name="old.example.com",
                    answered_at=time.time() - 300,
                    tcp_identity=IDENTITY,
                )


def read_entry(server: RedisProcess, binding: Binding) -> CacheEntry:
    """As the exporter does."""
    password = read_secret(server.secrets_dir, EXPORTER.password_file)
    reader = CacheReader(connect_redis(server.url, username=EXPORTER.name, password=password))
    ip = binding.peer.rpartition(":")[0]
    question = CacheQuestion(
        client_key=binding.client_key, ip=ip, local=binding.local, peer=binding.peer
    )
    [entry] = reader.read([question])
    return entry


def lose(server: RedisProcess) -> None:
    """As an out-of-memory kill does, without a volume."""
    server.kill()
    server.start()


@contextmanager
def running_agent(tmp_path: Path, server: RedisProcess, **spec: object) -> Iterator[Agent]:
    with FakeExporter() as exporter:
        config = make_config(
            tmp_path, exporter=exporter.url, redis=server.url, spec={"dns": dict(spec)}
        )
        watcher = EffectiveWatcher(write_config(config, tmp_path))
        agent = Agent(watcher, FakeCapture(), surroundings=Surroundings(status_every_s=0.2))
        with running(agent):
            yield agent


def held(agent: Agent) -> int:
    return len(agent._tracer.bindings)


def test_a_name_older_than_the_agent_is_there_again_when_redis_comes_back_empty(
    tmp_path: Path, server: RedisProcess
) -> None:
    now = time.time()
    with open_link() as binding:
        server.writer().write([], [binding], ttl_s=TTL_S, now=now)
        before = read_entry(server, binding)
        with running_agent(tmp_path, server) as agent:
            wait_until(lambda: held(agent))
            lose(server)
            wait_until(lambda: read_entry(server, binding).binding)
            after = read_entry(server, binding)

    assert after == before
    assert after.tcp_identity == IDENTITY
    call = Call(
        peer_ip="127.0.0.1", at=now, inside=False, late=True, tcp_identity=after.tcp_identity
    )
    decision = resolve(call, CacheView(entry=after), NamingRules(ttl_s=TTL_S))
    assert (decision.label, decision.source, decision.confidence) == (
        "old.example.com",
        NameSource.CACHE,
        Confidence.EXACT,
    )
    assert decision.answered_at == pytest.approx(binding.answered_at)


def test_what_a_client_was_told_before_the_agent_is_there_again_too(
    tmp_path: Path, server: RedisProcess
) -> None:
    """The connection was too young for a binding when the agent before this one ended."""
    now = time.time()
    with open_link() as link:
        ip = link.peer.rpartition(":")[0]
        told = [
            Answer(
                client_key=link.client_key, ip=ip, name=name, answered_at=now - age_s, trusted=True
            )
            for name, age_s in (("old.example.com", 300), ("older.example.com", 600))
        ]
        server.writer().write(told, [], ttl_s=TTL_S, now=now)
        before = read_entry(server, link)
        with running_agent(tmp_path, server) as agent:
            wait_until(lambda: agent._writer.counters().get("cache_answers_recalled", 0) == 2)
            lose(server)
            wait_until(lambda: read_entry(server, link).client_names)
            after = read_entry(server, link)

    assert (after.client_names, after.tombstones) == (before.client_names, before.tombstones)
    assert len(after.client_names) == 2
    assert before.cluster_names and not after.cluster_names  # others may not be named by it


def test_a_held_name_that_is_older_than_its_time_is_there_again_too(
    tmp_path: Path, server: RedisProcess
) -> None:
    now = time.time()
    with open_link() as recent:
        binding = replace(recent, answered_at=now - 3 * TTL_S, held_at=now - 60)
        server.writer().write([], [binding], ttl_s=TTL_S, now=now)
        [key] = server.connect().scan_iter("fc1:b:*")
        expiry_ms = server.connect().pexpiretime(key)
        with running_agent(tmp_path, server, holdWhileConnected=True) as agent:
            wait_until(lambda: held(agent))
            lose(server)
            wait_until(lambda: read_entry(server, binding).binding)

    assert server.connect().pexpiretime(key) == pytest.approx(expiry_ms, abs=2)
    entry = read_entry(server, binding)
    assert entry.binding is not None
    assert entry.binding.answered_at == pytest.approx(now - 3 * TTL_S)


def test_what_redis_cannot_say_at_start_is_read_once_it_can(
    tmp_path: Path, server: RedisProcess
) -> None:
    """It hangs, as under memory pressure, and keeps what it has."""
    now = time.time()
    with open_link() as binding:
        server.writer().write([], [binding], ttl_s=TTL_S, now=now)
        hidden = server.socket.rename(server.folder / "hidden.sock")
        with running_agent(tmp_path, server) as agent:
            wait_until(lambda: agent._writer.counters().get("cache_failures", 0))
            assert not held(agent)
            hidden.rename(server.socket)
            wait_until(lambda: held(agent))


class Given(OpenSockets):
    """So many that this process cannot open them."""

    def __init__(self, sockets: Sequence[OpenSocket]) -> None:
        super().__init__()
        self._sockets = sockets

    def find(self) -> Iterator[OpenSocket | None]:
        yield from self._sockets


def test_tens_of_thousands_are_read_and_written_again_beside_ordinary_answers(
    server: RedisProcess,
) -> None:
    now, count = time.time(), 40_000
    bindings = [
        Binding(
            client_key="c:1",
            local=f"10.{n // 62_500}.{n // 250 % 250}.{n % 250}:40000",
            peer="203.0.113.1:6379",
            name=f"n{n % 100}.example.com",
            answered_at=now - 60,
            tcp_identity=n + 1,
        )
        for n in range(count)
    ]
    for first in range(0, count, 2_000):
        server.writer().write([], bindings[first : first + 2_000], ttl_s=TTL_S, now=now)
    sockets = [OpenSocket(tgid=1, local=b.local, peer=b.peer) for b in bindings]
    recall = Recall(Given(sockets), lambda _: "c:1", clock=time.monotonic, cpu=time.thread_time)
    writer = DnsWriter(server.writer, ttl_s=TTL_S, recall=recall, check_every_s=0.2)
    writer.start()
    found: list[Binding] = []

    def is_read() -> bool:
        found.extend(writer.take_recalled())
        return recall.is_done

    wait_until(is_read)
    found.extend(writer.take_recalled())
    counters = writer.counters()
    assert len(found) == counters["cache_bindings_recalled"] == 32_768
    assert counters["bindings_unrecalled_dropped"] == count - 32_768
    assert counters["cache_bindings_asked"] < 33_500
    assert set(found) <= set(bindings)

    lose(server)
    wait_until(writer.lost_memory.is_set)
    writer.put([], found)
    keys = server.connect().scan_iter
    wait_until(lambda: sum(1 for _ in keys("fc1:b:*", count=10_000)) == 32_768)
    assert writer.counters()["cache_bindings_dropped"] == 0
    writer.stop(2)
