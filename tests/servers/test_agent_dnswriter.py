"""The cache writer against a real Redis, as the user it will be: prompt, patient while Redis is away, and aware of lost memory."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from farcall.cacheacl import AGENT, USERS, render_acl_rule
from farcall.dnscache import Answer, Binding, CacheUnavailableError, CacheWriter
from farcall.redislink import RedisLink
from farcall_probes.dnswriter import DnsWriter
from support_agent import PASSWORD

pytestmark = pytest.mark.servers


class Redis:
    """A server on a socket in `directory`; can be ended and started again."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "redis.sock"
        rules = "\n".join(render_acl_rule(user, PASSWORD) for user in USERS)
        self._config = directory / "redis.conf"
        self._config.write_text(
            f'port 0\nunixsocket {self.socket}\nsave ""\ndir {directory}\n{rules}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", str(self._config)], stdout=subprocess.DEVNULL
        )
        wait(self.is_answering)  # its socket exists before it listens

    def is_answering(self) -> bool:
        try:
            self.keys()
        except redis.RedisError:
            return False
        return True

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self.socket.unlink(missing_ok=True)
            self._process = None

    def connect(self) -> CacheWriter:
        return CacheWriter(
            RedisLink(f"unix://{self.socket}", username=AGENT.name, password=PASSWORD)
        )

    def keys(self) -> set[str]:
        with redis.Redis(unix_socket_path=str(self.socket), decode_responses=True) as client:
            return set(client.keys("*"))  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    server.start()
    yield server
    server.end()


def wait(condition: Callable[[], object], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def answer(ip: str, *, name: str = "a.example", age_s: float = 0.0) -> Answer:
    return Answer(
        client_key="c:1", ip=ip, name=name, answered_at=time.time() - age_s, trusted=False
    )


def writing(server: Redis, **options: float) -> DnsWriter:
    writer = DnsWriter(server.connect, ttl_s=3600, check_every_s=0.1, **options)  # type: ignore[arg-type]
    writer.start()
    return writer


def test_answers_and_bindings_are_written_as_the_agents_user(server: Redis) -> None:
    writer = writing(server)
    binding = Binding(
        client_key="c:1",
        local="10.0.0.1:4",
        peer="203.0.113.1:6379",
        name="a",
        answered_at=time.time(),
    )
    writer.put([answer("203.0.113.1")], [binding])
    wait(lambda: len(server.keys()) == 3)

    assert server.keys() == {
        "fc1:a:c:1:203.0.113.1",
        "fc1:t:c:1:203.0.113.1",
        "fc1:b:c:1:10.0.0.1:4>203.0.113.1:6379",
    }
    writer.stop(2)


def test_nothing_is_lost_while_redis_is_away_for_a_moment(server: Redis) -> None:
    writer = writing(server)
    writer.put([answer("203.0.113.1")])
    wait(lambda: server.keys())
    server.end()
    writer.put([answer("203.0.113.2")])
    wait(lambda: writer.counters().get("cache_failures", 0) > 0)
    assert writer.gauges()["cache_available"] == 0
    server.start()
    wait(lambda: "fc1:a:c:1:203.0.113.2" in server.keys())

    wait(
        lambda: writer.lost_memory.is_set()
    )  # it came back empty: the loop hands over all it holds
    writer.put([answer("203.0.113.1", age_s=1)])
    wait(lambda: "fc1:a:c:1:203.0.113.1" in server.keys())
    assert writer.counters()["cache_answers_dropped"] == 0
    writer.stop(2)


def test_the_oldest_go_when_redis_is_away_for_long(tmp_path: Path) -> None:
    def unreachable() -> CacheWriter:
        raise CacheUnavailableError("no")

    writer = DnsWriter(unreachable, ttl_s=60, max_pending=10)
    writer.start()
    for n in range(25):
        writer.put([answer(f"203.0.113.{n}")])
    wait(lambda: writer.counters().get("cache_failures", 0) > 0)
    writer.stop(0.2)

    # Those dropped for room, and those that were still there at the end.
    assert writer.counters()["cache_answers_dropped"] == 25


def test_what_waits_is_written_before_the_end(server: Redis) -> None:
    writer = writing(server)
    writer.put([answer(f"203.0.113.{n}") for n in range(200)])
    writer.stop(5)

    assert len([k for k in server.keys() if k.startswith("fc1:a:")]) == 200
    assert writer.counters()["cache_answers_dropped"] == 0
