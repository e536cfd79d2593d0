"""Entries of the DNS cache follow the tier, in a real Redis: new ones, old ones, those of agents that are gone."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farcall.cacheexpiry import CLAIM, MARK, Life, Pass, is_followed
from farcall.dnscache import Answer, Binding
from farcall.tiers import TIERS
from farcall_probes.dnswriter import DnsWriter
from support_live_config import RedisServer, running_redis, wait

pytestmark = pytest.mark.servers

HOBBY, SCALE = TIERS["Hobby"].dns_ttl_s, TIERS["Scale"].dns_ttl_s
SLACK_S = 5.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as running:
        yield running


def answers(client: str, count: int, *, age_s: float = 0.0) -> list[Answer]:
    now = time.time()
    return [
        Answer(
            client_key=client,
            ip=f"203.0.113.{n}",
            name="a.example",
            answered_at=now - age_s,
            trusted=True,
        )
        for n in range(count)
    ]


def a_binding(*, age_s: float, held: bool = False, port: int = 1) -> Binding:
    now = time.time()
    return Binding(
        client_key="c:1",
        local=f"10.0.0.1:{port}",
        peer="203.0.113.1:6379",
        name="a.example",
        answered_at=now - age_s,
        held_at=now if held else None,
    )


@contextmanager
def writing(
    server: RedisServer, ttl_s: int, *, held: bool = False, owner: str = "n1"
) -> Iterator[DnsWriter]:
    writer = DnsWriter(server.connect, ttl_s=ttl_s, held=held, owner=owner, check_every_s=0.1)
    writer.start()
    try:
        wait(lambda: writer.gauges()["cache_follows_ttl"])
        yield writer
    finally:
        writer.stop(2)


def follow(writer: DnsWriter, ttl_s: int, *, held: bool = False) -> None:
    passes = writer.counters()["cache_expiry_passes"]
    writer.set_life(ttl_s, held=held)
    wait(lambda: writer.counters()["cache_expiry_passes"] > passes)
    wait(lambda: writer.gauges()["cache_follows_ttl"])


def has_lives(server: RedisServer, ttl_s: int, *, age_s: float = 0.0) -> bool:
    """Every entry lives as long as `ttl_s` says, a tombstone twice."""
    found = server.lives()
    return bool(found) and all(
        abs(left - (ttl_s * (2 if key.startswith("fc1:t:") else 1) - age_s)) < SLACK_S
        for key, left in found.items()
    )


def test_entries_follow_the_tier_there_and_back(server: RedisServer) -> None:
    with writing(server, HOBBY) as gone:
        gone.put(answers("c:gone", 40, age_s=100))
        wait(lambda: len(server.lives()) == 120)
    assert has_lives(server, HOBBY, age_s=100)

    with writing(server, HOBBY, owner="n2") as writer:
        follow(writer, SCALE)
        assert has_lives(server, SCALE, age_s=100)
        writer.put(answers("c:new", 1))
        wait(lambda: "fc1:a:c:new:203.0.113.0" in server.lives())
        assert server.lives()["fc1:a:c:new:203.0.113.0"] > SCALE - SLACK_S

        follow(writer, HOBBY)
        assert max(server.lives("fc1:a:*").values()) <= HOBBY
        assert max(server.lives("fc1:w:*").values()) <= HOBBY
        assert max(server.lives("fc1:t:*").values()) <= 2 * HOBBY
        # Of what was there, of what came in between, and the cluster's entry, which both wrote: one key each.
        assert len(server.lives()) == 122


def test_what_is_older_than_the_new_life_goes_at_once(server: RedisServer) -> None:
    with writing(server, SCALE) as writer:
        writer.put(answers("c:1", 3, age_s=HOBBY + 60), [a_binding(age_s=HOBBY + 60)])
        wait(lambda: len(server.lives()) == 10)
        follow(writer, HOBBY)

        assert {key[:6] for key in server.lives()} == {"fc1:t:"}  # tombstones say why it is unknown


def test_the_newest_name_of_an_address_decides(server: RedisServer) -> None:
    with writing(server, SCALE) as writer:
        old, new = answers("c:1", 1, age_s=3_000)[0], answers("c:1", 1, age_s=10)[0]
        writer.put([old])
        wait(lambda: server.lives())
        writer.put(
            [
                Answer(
                    client_key="c:1",
                    ip=new.ip,
                    name="b",
                    answered_at=new.answered_at,
                    trusted=False,
                )
            ]
        )
        wait(lambda: server.admin.zcard("fc1:a:c:1:203.0.113.0") == 2)
        follow(writer, HOBBY)

        lives = server.lives()
        assert abs(lives["fc1:a:c:1:203.0.113.0"] - (HOBBY - 10)) < SLACK_S
        assert abs(lives["fc1:w:203.0.113.0"] - (HOBBY - 3_000)) < SLACK_S


def test_an_agent_that_learns_late_sees_to_what_it_wrote_until_then(server: RedisServer) -> None:
    with (
        writing(server, SCALE, owner="early") as early,
        writing(server, SCALE, owner="late") as late,
    ):
        follow(early, HOBBY)
        late.put(answers("c:late", 5))
        wait(lambda: len(server.lives()) == 15)
        assert min(server.lives("fc1:a:c:late:*").values()) > SCALE - SLACK_S

        follow(late, HOBBY)
        assert has_lives(server, HOBBY)


def test_many_agents_that_learn_at_once_share_passes(server: RedisServer) -> None:
    writers = [
        DnsWriter(server.connect, ttl_s=HOBBY, owner=f"n{n}", check_every_s=0.5) for n in range(8)
    ]
    for writer in writers:
        writer.start()
    try:
        writers[0].put(answers("c:1", 250))
        wait(lambda: len(server.lives()) == 750)
        for writer in writers:
            writer.set_life(SCALE, held=False)
        wait(lambda: all(w.gauges()["cache_follows_ttl"] for w in writers))
        assert has_lives(server, SCALE)
        assert not server.admin.exists(CLAIM)
    finally:
        for writer in writers:
            writer.stop(2)


def test_a_pass_whose_agent_died_is_made_by_another(server: RedisServer) -> None:
    with writing(server, HOBBY) as writer:
        writer.put(answers("c:1", 20))
        wait(lambda: len(server.lives()) == 60)
        dead = server.connect()
        assert Pass.begin(dead, Life(ttl_s=SCALE, held=False), "dead") is not None
        writer.set_life(SCALE, held=False)
        server.admin.persist(CLAIM)  # it died between the two commands
        wait(lambda: server.admin.pttl(CLAIM) > 0)  # whoever comes next gives it an end
        server.admin.pexpire(CLAIM, 10)

        wait(lambda: writer.gauges()["cache_follows_ttl"])
        assert has_lives(server, SCALE)


def test_held_bindings_live_on(server: RedisServer) -> None:
    with writing(server, SCALE, held=True) as writer:
        writer.put([], [a_binding(age_s=2 * HOBBY, held=True)])
        wait(lambda: server.lives())
        follow(writer, HOBBY, held=True)
        (left,) = server.lives().values()
        assert HOBBY - SLACK_S < left <= HOBBY  # its owner renews it within a quarter of that

        follow(writer, HOBBY, held=False)
        assert server.lives() == {}


def test_what_is_not_ours_is_left_alone_and_counted(server: RedisServer) -> None:
    server.admin.set("fc1:a:text", "x")
    server.admin.zadd("fc1:a:endless", {"n": float("inf")})
    server.admin.hset("fc1:b:nothing", mapping={"answered_at": "soon"})
    server.admin.set("other", "x")
    with writing(server, HOBBY) as writer:
        wait(lambda: writer.counters()["cache_entries_unread"] == 3)

    assert {server.admin.ttl(key) for key in ("fc1:a:text", "fc1:b:nothing", "other")} == {-1}


def test_nothing_is_gone_through_again_when_an_agent_starts(server: RedisServer) -> None:
    with writing(server, HOBBY) as first:
        assert first.counters()["cache_expiry_passes"] == 1
    with writing(server, HOBBY, owner="n2") as second:
        assert second.counters()["cache_expiry_passes"] == 0
    assert is_followed(server.connect(), Life(ttl_s=HOBBY, held=False), since=0.0)
    assert server.admin.ttl(MARK) > SCALE


def test_answers_are_written_while_entries_follow(server: RedisServer) -> None:
    pipe = server.admin.pipeline(transaction=False)
    for n in range(20_000):
        pipe.zadd(f"fc1:a:c:{n}:203.0.113.1", {"a.example": time.time()})
    pipe.execute()
    with writing(server, HOBBY) as writer:
        writer.set_life(SCALE, held=False)
        wait(lambda: server.admin.exists(CLAIM))
        writer.put(answers("c:new", 1))
        wait(lambda: server.admin.exists("fc1:a:c:new:203.0.113.0"))
        wait(lambda: writer.gauges()["cache_follows_ttl"])
        assert min(server.lives("fc1:a:*").values()) > SCALE - 60
