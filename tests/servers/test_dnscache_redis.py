"""The DNS cache against a real Redis: how long keys live, what stays of several names, and what a restart does."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis

from farcall.dnscache import (
    MAX_NAMES,
    Answer,
    Binding,
    CacheQuestion,
    CacheReader,
    CacheUnavailableError,
    CacheWriter,
    binding_key,
    client_key_of_address,
    cluster_key,
    connect_redis,
    tombstone_key,
)
from farcall.tiers import TIERS

pytestmark = pytest.mark.servers

IP = "203.0.113.7"
LOCAL, PEER = "10.244.0.5:4000", "203.0.113.7:6379"
QUESTION = CacheQuestion(client_key="c", ip=IP, local=LOCAL, peer=PEER)


class RedisProcess:
    """One redis-server on a Unix socket, started and killed at will."""

    def __init__(self, folder: Path) -> None:
        self.url = f"unix://{folder}/redis.sock"
        self._command = ["redis-server", "--port", "0", "--unixsocket", f"{folder}/redis.sock"]
        self._command += ["--save", "", "--dir", str(folder)]

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        with connect_redis(self.url, username=None, password=None) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    assert time.monotonic() < deadline, "redis-server did not answer"
                    time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    # Not tmp_path: a Unix socket's path has at most 107 bytes.
    with TemporaryDirectory(prefix="fc-", dir="/tmp") as folder:
        server = RedisProcess(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def client(server: RedisProcess) -> Iterator["redis.Redis"]:
    with connect_redis(server.url, username=None, password=None) as client:
        client.flushall()
        yield client


def answer(name: str, at: float, *, trusted: bool = True, ip: str = IP) -> Answer:
    return Answer(client_key="c", ip=ip, name=name, answered_at=at, trusted=trusted)


@pytest.mark.parametrize("tier", list(TIERS.values()), ids=lambda t: t.name)
def test_a_key_expires_when_the_tiers_ttl_has_passed_since_the_answer(
    client: "redis.Redis", tier: object
) -> None:
    ttl_s = tier.dns_ttl_s  # type: ignore[attr-defined]
    answered = time.time() - 60.0
    binding = Binding(client_key="c", local=LOCAL, peer=PEER, name="a", answered_at=answered)

    CacheWriter(client).write([answer("a", answered)], [binding], ttl_s=ttl_s, now=time.time())

    for key in (client_key_of_address("c", IP), cluster_key(IP), binding_key("c", LOCAL, PEER)):
        assert client.pexpiretime(key) / 1000 - answered == pytest.approx(ttl_s, abs=0.0011)
    assert client.pexpiretime(tombstone_key("c", IP)) / 1000 - answered == pytest.approx(
        2 * ttl_s, abs=0.0011
    )


def test_an_answer_that_comes_late_does_not_shorten_the_life_of_a_newer_one(
    client: "redis.Redis",
) -> None:
    now = time.time()
    writer = CacheWriter(client)
    writer.write([answer("new", now)], [], ttl_s=3_600, now=now)
    expiry = client.pexpiretime(cluster_key(IP))

    writer.write([answer("old", now - 1_000)], [], ttl_s=3_600, now=now)

    assert client.pexpiretime(cluster_key(IP)) == expiry
    (entry,) = CacheReader(client).read([QUESTION])
    assert {n.name for n in entry.client_names} == {"new", "old"}


def test_an_answer_that_is_too_old_is_not_written(client: "redis.Redis") -> None:
    now = time.time()

    assert CacheWriter(client).write([answer("a", now - 3_600)], [], ttl_s=3_600, now=now) == 0
    assert client.dbsize() == 0


def test_only_a_trusted_resolver_speaks_for_the_cluster(client: "redis.Redis") -> None:
    now = time.time()
    CacheWriter(client).write([answer("a", now, trusted=False)], [], ttl_s=3_600, now=now)

    (entry,) = CacheReader(client).read([QUESTION])
    assert [n.name for n in entry.client_names] == ["a"]
    assert entry.cluster_names == ()


def test_the_newest_names_of_an_address_stay(client: "redis.Redis") -> None:
    now = time.time()
    answers = [answer(f"n{i}", now - i) for i in range(MAX_NAMES + 5)]
    CacheWriter(client).write(answers, [], ttl_s=3_600, now=now)

    (entry,) = CacheReader(client).read([QUESTION])
    assert {n.name for n in entry.client_names} == {f"n{i}" for i in range(MAX_NAMES)}


def test_a_repeated_answer_is_written_again_only_after_a_hundredth_of_the_ttl(
    client: "redis.Redis",
) -> None:
    now = time.time()
    writer = CacheWriter(client)

    assert writer.write([answer("a", now)], [], ttl_s=3_600, now=now) == 3
    assert writer.write([answer("a", now + 35)], [], ttl_s=3_600, now=now + 35) == 0
    assert writer.write([answer("a", now + 37)], [], ttl_s=3_600, now=now + 37) == 3
    writer.forget_older_than(now + 38)
    assert writer.write([answer("a", now + 37)], [], ttl_s=3_600, now=now + 38) == 3


def test_an_address_is_found_however_it_is_written(client: "redis.Redis") -> None:
    now = time.time()
    CacheWriter(client).write([answer("a", now, ip=f"::ffff:{IP}")], [], ttl_s=3_600, now=now)

    (entry,) = CacheReader(client).read([QUESTION])
    assert [n.name for n in entry.client_names] == ["a"]


def test_answers_come_in_the_order_of_the_questions(client: "redis.Redis") -> None:
    now = time.time()
    CacheWriter(client).write([answer("a", now)], [], ttl_s=3_600, now=now)
    other = CacheQuestion(client_key="other", ip="203.0.113.8", local=LOCAL, peer=PEER)

    nothing, found, nothing_again = CacheReader(client).read([other, QUESTION, other])

    assert [n.name for n in found.client_names] == ["a"]
    assert nothing == nothing_again
    assert nothing.client_names == nothing.cluster_names == nothing.tombstones == ()
    assert CacheReader(client).read([]) == []


def test_what_somebody_else_wrote_is_no_evidence_and_no_crash(client: "redis.Redis") -> None:
    client.hset(binding_key("c", LOCAL, PEER), mapping={"name": "x", "answered_at": "soon"})
    client.zadd(client_key_of_address("c", IP), {b"\xff\xfe": 1.0})

    (entry,) = CacheReader(client).read([QUESTION])
    assert entry.binding is None
    assert [n.name for n in entry.client_names] == ["\ufffd\ufffd"]


def test_a_restart_is_noticed_once_and_everything_is_written_again() -> None:
    with TemporaryDirectory(prefix="fc-", dir="/tmp") as folder:
        server = RedisProcess(Path(folder))
        server.start()
        try:
            with connect_redis(server.url, username=None, password=None) as client:
                writer, now = CacheWriter(client), time.time()
                assert not writer.has_lost_memory()
                writer.write([answer("a", now)], [], ttl_s=3_600, now=now)

                server.kill()
                with pytest.raises(CacheUnavailableError):
                    writer.write([answer("b", now)], [], ttl_s=3_600, now=now)
                with pytest.raises(CacheUnavailableError):
                    CacheReader(client).read([QUESTION])
                with pytest.raises(CacheUnavailableError):
                    writer.has_lost_memory()
                server.start()

                assert writer.has_lost_memory()
                assert not writer.has_lost_memory()
                both = [answer("a", now), answer("b", now)]
                assert writer.write(both, [], ttl_s=3_600, now=now) == 6
        finally:
            server.kill()
