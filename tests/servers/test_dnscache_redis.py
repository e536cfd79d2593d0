"""The DNS cache in a real Redis, as the agent and as the exporter: expiries, bounds, memory loss, outages, odd data."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from farcall import secretfiles
from farcall.cacheacl import EXPORTER
from farcall.cachereader import CacheReader, connect_redis
from farcall.dnscache import (
    MAX_NAMES,
    Answer,
    Binding,
    CacheQuestion,
    CacheUnavailableError,
    CacheWriter,
    NamedAt,
    binding_key,
    client_key_of_address,
    cluster_key,
    format_endpoint,
    tombstone_key,
)
from farcall.redislink import RedisLink
from support_exporter_process import RedisProcess
from support_stopped import stopped

pytestmark = pytest.mark.servers

CLIENT, IP, NAME = "c:abc", "203.0.113.10", "cache.example.com"
HOBBY, SCALE = 3_600, 604_800
LOCAL, PEER = format_endpoint("10.244.0.5", 40_000), format_endpoint(IP, 6379)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    folder = tmp_path_factory.mktemp("redis")
    secrets_dir = folder / "secrets"
    secrets_dir.mkdir()
    for name in secretfiles.ALL:
        (secrets_dir / name).write_text("s" * 40)
    running = RedisProcess(folder, secrets_dir)
    try:
        yield running.start()
    finally:
        running.kill()


@pytest.fixture
def cache(server: RedisProcess) -> Iterator["redis.Redis"]:
    """The agent's connection to an empty Redis: it came up anew."""
    server.kill()
    server.start()
    with server.connect() as client:
        yield client


def reader(server: RedisProcess) -> CacheReader:
    password = (server.secrets_dir / EXPORTER.password_file).read_text()
    return CacheReader(connect_redis(server.url, username=EXPORTER.name, password=password))


def answer(
    at: float, *, name: str = NAME, client: str = CLIENT, ip: str = IP, trusted: bool = True
) -> Answer:
    return Answer(client_key=client, ip=ip, name=name, answered_at=at, trusted=trusted)


def binding(at: float, *, name: str = NAME, held_at: float | None = None) -> Binding:
    return Binding(
        client_key=CLIENT, local=LOCAL, peer=PEER, name=name, answered_at=at, held_at=held_at
    )


def question(client: str = CLIENT, ip: str = IP) -> CacheQuestion:
    return CacheQuestion(client_key=client, ip=ip, local=LOCAL, peer=PEER)


@pytest.mark.parametrize("identity", [0, 1, 2**64 - 1])
def test_a_binding_says_which_connection_it_is_of(
    server: RedisProcess, cache: "redis.Redis", identity: int
) -> None:
    now = time.time()
    bound = replace(binding(now), tcp_identity=identity)
    server.writer().write([], [bound], ttl_s=HOBBY, now=now)

    [entry] = CacheReader(cache).read([question()])
    assert (entry.binding, entry.tcp_identity) == (NamedAt(name=NAME, answered_at=now), identity)


@pytest.mark.parametrize("left", [None, "", "not a number", "-1", "9" * 400])
def test_a_binding_of_an_earlier_version_or_of_nobody_is_of_an_unknown_connection(
    cache: "redis.Redis", left: str | None
) -> None:
    fields = {"name": NAME, "answered_at": "1"} | ({} if left is None else {"tcp": left})
    cache.hset(binding_key(CLIENT, LOCAL, PEER), mapping=fields)

    [entry] = CacheReader(cache).read([question()])
    assert entry.binding is not None
    assert entry.tcp_identity == (int("9" * 20) if left == "9" * 400 else 0)


@pytest.mark.parametrize("ttl_s", [HOBBY, SCALE, 7])
def test_every_key_expires_by_the_tier_counted_from_the_answer(
    server: RedisProcess, cache: "redis.Redis", ttl_s: int
) -> None:
    now = time.time()
    at = now - 3.25
    keys = server.writer().write([answer(at)], [binding(at)], ttl_s=ttl_s, now=now)

    lives = {
        client_key_of_address(CLIENT, IP): ttl_s,
        cluster_key(IP): ttl_s,
        binding_key(CLIENT, LOCAL, PEER): ttl_s,
        tombstone_key(CLIENT, IP): ttl_s + max(ttl_s, 3600),
    }
    assert keys == len(lives)
    for key, life_s in lives.items():
        assert cache.pexpiretime(key) == pytest.approx((at + life_s) * 1_000, abs=1)


def test_a_held_binding_lives_on_and_keeps_the_time_of_its_answer(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    now = time.time()
    server.writer().write([], [binding(now - 9_000, held_at=now)], ttl_s=HOBBY, now=now)

    [entry] = reader(server).read([question()])
    assert entry.binding == NamedAt(name=NAME, answered_at=now - 9_000)
    assert cache.pexpiretime(binding_key(CLIENT, LOCAL, PEER)) == pytest.approx(
        (now + HOBBY) * 1_000, abs=1
    )


def test_an_unnamed_binding_is_read_as_such_and_replaces_the_old_one(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    now = time.time()
    writer = server.writer()
    writer.write([], [binding(now - 60)], ttl_s=HOBBY, now=now)
    writer.write([], [binding(now, name="")], ttl_s=HOBBY, now=now)
    [entry] = reader(server).read([question()])
    assert entry.binding == NamedAt(name="", answered_at=now)


def test_an_answer_older_than_the_ttl_is_not_written(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    now = time.time()
    assert server.writer().write([answer(now - HOBBY)], [], ttl_s=HOBBY, now=now) == 0
    assert list(cache.scan_iter("fc1:*")) == []


def test_only_a_trusted_answer_speaks_for_the_cluster(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    now = time.time()
    server.writer().write([answer(now, trusted=False)], [], ttl_s=HOBBY, now=now)
    [mine, others] = reader(server).read([question(), question("c:other")])
    assert (len(mine.client_names), mine.cluster_names) == (1, ())
    assert others.client_names == others.cluster_names == others.tombstones == ()


def test_clients_are_kept_apart_and_share_only_the_cluster_key(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    now = time.time()
    answers = [
        answer(now, name="a.example.com"),
        answer(now, name="b.example.com", client="c:other"),
    ]
    server.writer().write(answers, [], ttl_s=HOBBY, now=now)
    [mine, others] = reader(server).read([question(), question("c:other")])
    assert [n.name for n in mine.client_names] == ["a.example.com"]
    assert [n.name for n in others.client_names] == ["b.example.com"]
    assert {n.name for n in mine.cluster_names} == {"a.example.com", "b.example.com"}


def test_a_repeated_answer_is_written_again_only_after_one_percent_of_the_ttl(
    server: RedisProcess,
    cache: "redis.Redis",
) -> None:
    now = time.time()
    writer = server.writer()
    assert writer.write([answer(now)], [], ttl_s=HOBBY, now=now) == 3
    assert writer.write([answer(now + 35)], [], ttl_s=HOBBY, now=now + 35) == 0
    assert writer.write([answer(now + 37)], [], ttl_s=HOBBY, now=now + 37) == 3
    expiry = cache.pexpiretime(client_key_of_address(CLIENT, IP))
    assert expiry == pytest.approx((now + 37 + HOBBY) * 1_000, abs=1)


def test_an_older_answer_neither_ages_a_newer_one_nor_shortens_its_life(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    now = time.time()
    server.writer().write([answer(now)], [], ttl_s=HOBBY, now=now)
    server.writer().write([answer(now - 900)], [], ttl_s=HOBBY, now=now)  # a slow agent's
    [entry] = reader(server).read([question()])
    assert entry.client_names == (NamedAt(name=NAME, answered_at=now),)
    expiry = cache.pexpiretime(client_key_of_address(CLIENT, IP))
    assert expiry == pytest.approx((now + HOBBY) * 1_000, abs=1)


def test_an_address_with_many_names_keeps_the_newest_few(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    now = time.time()
    answers = [answer(now - 100 + i, name=f"n{i}.example.com") for i in range(50)]
    server.writer().write(answers, [], ttl_s=HOBBY, now=now)
    [entry] = reader(server).read([question()])
    assert {n.name for n in entry.client_names} == {
        f"n{i}.example.com" for i in range(50 - MAX_NAMES, 50)
    }


def test_both_socket_families_find_the_same_key(server: RedisProcess, cache: "redis.Redis") -> None:
    now = time.time()
    server.writer().write([answer(now, ip=f"::ffff:{IP}")], [], ttl_s=HOBBY, now=now)
    [entry] = reader(server).read([question()])
    assert [n.name for n in entry.client_names] == [NAME]
    assert format_endpoint(f"::ffff:{IP}", 6379) == PEER


def test_answers_come_in_the_order_of_the_questions(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    now = time.time()
    answers = [answer(now, ip=f"203.0.113.{i}", name=f"n{i}.example.com") for i in range(100)]
    server.writer().write(answers, [], ttl_s=HOBBY, now=now)
    entries = reader(server).read([question(ip=f"203.0.113.{i}") for i in range(110)])
    names = [[n.name for n in entry.client_names] for entry in entries]
    assert names == [[f"n{i}.example.com"] for i in range(100)] + [[]] * 10


def test_a_restart_is_noticed_once_and_everything_is_written_again(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    now = time.time()
    writer = server.writer()
    assert not writer.has_lost_memory()
    writer.write([answer(now)], [], ttl_s=HOBBY, now=now)
    server.kill()
    with pytest.raises(CacheUnavailableError):
        writer.has_lost_memory()
    server.start()
    assert writer.has_lost_memory()
    assert not writer.has_lost_memory()
    assert writer.write([answer(now)], [], ttl_s=HOBBY, now=now) == 3


def test_while_it_is_down_both_sides_say_so_and_nothing_counts_as_written(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    now = time.time()
    writer, asked = server.writer(), reader(server)
    server.kill()
    for _ in range(2):
        with pytest.raises(CacheUnavailableError):
            writer.write([answer(now)], [binding(now)], ttl_s=HOBBY, now=now)
        with pytest.raises(CacheUnavailableError):
            asked.read([question()])
    server.start()
    assert writer.write([answer(now)], [binding(now)], ttl_s=HOBBY, now=now) == 4
    assert asked.read([question()])[0].binding is not None


def test_a_server_that_hangs_costs_one_time_limit(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    asked = reader(server)
    asked.read([question()])
    assert server.process is not None
    with (
        stopped(server.process.pid),
        pytest.raises(CacheUnavailableError, match="imeout"),
    ):
        asked.read([question()])
    assert (
        asked.read([question()])[0].client_names == ()
    )  # and the late reply does not answer the next question


def test_a_wrong_password_and_a_foreign_key_type_are_unavailable_not_a_crash(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    wrong = CacheReader(connect_redis(server.url, username=EXPORTER.name, password="x" * 40))
    with pytest.raises(CacheUnavailableError):
        wrong.read([question()])
    cache.hset(client_key_of_address(CLIENT, IP), mapping={"not": "a set"})
    with pytest.raises(CacheUnavailableError, match="WRONGTYPE"):
        reader(server).read([question()])


@pytest.mark.parametrize(
    "fields",
    [
        {"name": NAME},
        {"answered_at": "1"},
        {"name": NAME, "answered_at": "nan"},
        {"name": NAME, "answered_at": "inf"},
        {"name": NAME, "answered_at": "soon"},
    ],
)
def test_a_binding_that_nobody_of_us_wrote_is_no_evidence(
    server: RedisProcess, cache: "redis.Redis", fields: dict[str, str]
) -> None:
    cache.hset(binding_key(CLIENT, LOCAL, PEER), mapping=fields)
    [entry] = reader(server).read([question()])
    assert entry.binding is None


def test_odd_names_are_read_and_endless_ones_are_not(
    server: RedisProcess, cache: "redis.Redis"
) -> None:
    cache.zadd(client_key_of_address(CLIENT, IP), {b"\xff\xfe": 5.0, "endless": float("inf")})
    [entry] = reader(server).read([question()])
    assert [n.answered_at for n in entry.client_names] == [5.0]


def test_the_writers_memory_is_bounded(server: RedisProcess, cache: "redis.Redis") -> None:
    now = time.time()
    writer = server.writer()
    writer.write(
        [answer(now - i, name=f"n{i}.example.com") for i in range(100)], [], ttl_s=HOBBY, now=now
    )
    writer.forget_older_than(now - 9.5)
    assert writer.write([answer(now - 50, name="n50.example.com")], [], ttl_s=HOBBY, now=now) == 3
    assert writer.write([answer(now - 5, name="n5.example.com")], [], ttl_s=HOBBY, now=now) == 0


def test_nothing_asked_is_nothing_sent(tmp_path: Path) -> None:
    nowhere = connect_redis(f"unix://{tmp_path}/none.sock", username=None, password=None)
    assert CacheReader(nowhere).read([]) == []
    link = RedisLink(f"unix://{tmp_path}/none.sock", username=None, password=None)
    assert CacheWriter(link).write([], [], ttl_s=HOBBY, now=time.time()) == 0
