"""Look-ups that are cheap and honest, and names that come late (B5)."""

import pytest

from farcall.dnscache import CacheQuestion, NamedAt
from farcall.names import UNKNOWN_EXTERNAL_SERVICE
from farcall_exporter import late, lookups
from farcall_exporter.batches import build_batch
from farcall_exporter.chores import Chores
from farcall_exporter.counters import Counters
from farcall_exporter.lookups import Lookups
from farcall_exporter.pipeline import Pipeline
from support_exporter import (
    NS,
    T0,
    WATCHED,
    Clock,
    FakeCache,
    FakeWriter,
    Row,
    decoded,
    make_context,
    redis_exchange,
)

pytestmark = pytest.mark.unit

IP = "203.0.113.10"
CLIENT = ("c:abc", IP)
NAME = NamedAt(name="cache.example.com", answered_at=T0 / NS - 60)


def question(number: int = 1) -> CacheQuestion:
    return CacheQuestion(client_key="c:abc", ip=IP, local=f"10.244.0.5:{number}", peer=f"{IP}:6379")


def make() -> tuple[Lookups, FakeCache, Clock]:
    cache, clock = FakeCache(), Clock()
    return Lookups(cache, Counters(), clock=clock), cache, clock


def test_a_batchs_distinct_questions_go_out_in_one_read() -> None:
    asked, cache, _ = make()
    assert len(asked.read([question(i % 3) for i in range(30)])) == 30
    assert cache.reads == [3]


def test_an_answer_is_kept_for_moments_only() -> None:
    asked, cache, clock = make()
    asked.read([question()])
    clock.now += lookups.FRESH_S - 0.1
    asked.read([question()])
    assert cache.reads == [1]
    clock.now += 0.2
    cache.mine[CLIENT] = [NAME]
    [view] = asked.read([question()])
    assert (cache.reads, view.entry and view.entry.client_names) == ([1, 1], (NAME,))


def test_a_cache_that_is_down_is_said_and_not_asked_for_every_batch() -> None:
    asked, cache, clock = make()
    cache.down = True
    for _ in range(10):
        [view] = asked.read([question()])
        assert (view.entry, view.is_current) == (None, False)
    assert cache.reads == [1]
    assert asked.trouble

    clock.now += lookups.RETRY_AFTER_S + 0.1
    cache.down = False
    assert asked.read([question()])[0].is_current
    assert not asked.trouble


def test_while_it_is_down_what_was_known_still_counts_for_a_while() -> None:
    asked, cache, clock = make()
    cache.mine[CLIENT] = [NAME]
    asked.read([question()])
    cache.down = True
    clock.now += lookups.STALE_S - 1
    [view] = asked.read([question()])
    assert view.entry is not None and not view.is_current
    clock.now += 2
    assert asked.read([question()])[0].entry is None


def test_the_local_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MAX_ENTRIES", 10)
    asked, cache, _ = make()
    for start in range(0, 100, 5):
        asked.read([question(start + i) for i in range(5)])
    asked.read([question(99), question(0)])  # the newest is known, the oldest is not
    assert cache.reads[-1] == 1


class World:
    def __init__(self) -> None:
        self.clock, self.cache, self.writer = Clock(), FakeCache(), FakeWriter()
        self.context = make_context(cache=self.cache, clock=self.clock)
        self.pipeline = Pipeline(self.writer, self.context)
        self.chores = Chores(self.pipeline)

    def take(self, *rows: Row) -> list[Row]:
        self.writer.write(build_batch(decoded(rows), self.context), token=str(self.writer.writes))
        return self.writer.rows("spans")

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.now += 1
            self.chores.run(self.clock.now)


def older(**changes: object) -> Row:
    return redis_exchange(flags=1 << 3, connection_opened=None, **changes)


def test_a_name_that_comes_late_mends_the_spans_that_lacked_it() -> None:
    world = World()
    world.cache.down = True
    spans = world.take(older(sequence=1), older(sequence=2), older(sequence=3, connection_id=9))
    assert {s["UnknownReason"] for s in spans} == {"cache_unavailable"}
    world.cache.down = False
    world.wait(10)
    assert world.writer.rows("late_names") == []  # it is back, and knows nothing

    world.cache.mine[CLIENT] = [NAME]
    world.wait(10)
    rows = world.writer.rows("late_names")
    assert {(r["TraceId"], r["SpanId"], r["Timestamp"]) for r in rows} == {
        (s["TraceId"], s["SpanId"], s["Timestamp"]) for s in spans
    }
    assert rows[0]["DestinationLabel"] == "cache.example.com"
    assert rows[0]["Attributes"] == {
        "server.address": "cache.example.com",
        "farcall.destination.name": "cache.example.com",
        "farcall.destination.kind": "external",
        "farcall.name.source": "cache",
        "farcall.name.confidence": "client",
        "farcall.name.age_s": "60",
    }
    world.wait(60)
    assert len(world.writer.rows("late_names")) == 3
    assert world.context.counters.read()["late_names"] == 3


def test_late_naming_keeps_the_rules() -> None:
    """Neither another client's name for a watched one, nor a name that was too old at the call."""
    world = World()
    world.take(
        redis_exchange(flags=WATCHED),
        redis_exchange(flags=WATCHED, host=None, connection_id=8, client_key="c:other"),
    )
    world.cache.cluster[IP] = [NAME]
    world.cache.mine[("c:other", IP)] = [
        NamedAt(name="old.example.com", answered_at=T0 / NS - 9_999)
    ]
    world.wait(30)

    assert world.writer.rows("late_names") == []


def test_expired_and_ambiguous_names_are_not_asked_again() -> None:
    world = World()
    world.cache.mine[CLIENT] = [NAME, NamedAt(name="b.example.com", answered_at=NAME.answered_at)]
    spans = world.take(
        older(),
        redis_exchange(
            bound_name="x.example.com",
            bound_answered=T0 - 9_999 * NS,
            connection_opened=T0 - 9_998 * NS,
        ),
    )
    assert [s["UnknownReason"] for s in spans] == ["ambiguous", "expired"]
    assert len(world.context.late) == 0


def seen_whole(**changes: object) -> Row:
    """Of a client that was watched from its start, on a connection that was seen being opened."""
    return redis_exchange(flags=WATCHED, bound_name=None, bound_answered=None, **changes)


def reasons(world: World) -> dict[str, str]:
    """By span, as they are laid over what is stored; the last counts."""
    return {
        row["SpanId"]: dict(row["Attributes"]).get("farcall.unknown.reason", "")
        for row in world.writer.rows("late_names")
    }


def test_a_reason_that_was_given_while_redis_was_away_is_corrected_once_it_answers() -> None:
    world = World()
    world.cache.down = True
    first, second = world.take(older(), seen_whole(connection_id=8, client_key="c:other"))
    assert {first["UnknownReason"], second["UnknownReason"]} == {"cache_unavailable"}
    world.wait(60)
    assert reasons(world) == {}
    world.cache.down = False
    world.wait(60)

    assert reasons(world) == {
        first["SpanId"]: "agent_started_later",
        second["SpanId"]: "no_dns_seen",
    }
    assert {row["DestinationLabel"] for row in world.writer.rows("late_names")} == {
        UNKNOWN_EXTERNAL_SERVICE
    }
    counters = world.context.counters.read()
    assert (counters["late_reasons"], counters.get("late_names", 0)) == (2, 0)
    assert len(world.context.late) == 1  # the first may still get a name

    world.cache.mine[CLIENT] = [NAME]
    world.wait(10)
    assert reasons(world)[first["SpanId"]] == ""
    assert world.writer.rows("late_names")[-1]["DestinationLabel"] == "cache.example.com"


def test_no_reason_is_corrected_before_agents_could_write_again_what_redis_lost() -> None:
    world = World()
    world.cache.down = True
    [span] = world.take(seen_whole())
    world.cache.down = False
    world.wait(lookups.SETTLED_AFTER_S - 2)
    assert reasons(world) == {}
    assert len(world.context.late) == 1
    world.wait(10)

    assert reasons(world) == {span["SpanId"]: "no_dns_seen"}
    assert len(world.context.late) == 0


OPENED_LONG_AGO = {
    "bound_name": "cache.example.com",
    "bound_answered": T0 - 9_999 * NS,
    "connection_opened": T0 - 9_998 * NS,
}


def test_a_renewal_that_redis_could_not_tell_of_mends_a_name_that_seemed_expired() -> None:
    world = World()
    world.cache.down = True
    [span] = world.take(redis_exchange(flags=WATCHED, **OPENED_LONG_AGO))
    assert span["UnknownReason"] == "expired"
    world.cache.down = False
    world.cache.mine[CLIENT] = [NAME]
    world.wait(10)
    [row] = world.writer.rows("late_names")

    assert (row["SpanId"], row["DestinationLabel"]) == (span["SpanId"], "cache.example.com")


def test_a_name_that_is_expired_is_still_that_when_redis_answers_again() -> None:
    world = World()
    world.cache.down = True
    world.take(redis_exchange(flags=WATCHED, **OPENED_LONG_AGO))
    world.cache.down = False
    world.wait(60)

    assert world.writer.rows("late_names") == []
    assert len(world.context.late) == 0


def test_many_unknown_spans_are_asked_for_in_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "MAX_QUESTIONS", 3)
    world = World()
    spans = world.take(*(older(connection_id=i, local_port=2_000 + i) for i in range(8)))
    world.wait(4)
    world.cache.reads.clear()
    world.wait(6)
    assert max(world.cache.reads) == 3
    assert sum(world.cache.reads) == 8

    world.cache.mine[CLIENT] = [NAME]
    world.wait(12)
    assert {row["SpanId"] for row in world.writer.rows("late_names")} == {
        span["SpanId"] for span in spans
    }
    assert len(world.writer.rows("late_names")) == 8


def test_unknown_spans_are_forgotten_by_age_and_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.take(older())
    assert len(world.context.late) == 1
    world.clock.now += late.KEEP_S
    world.wait(6)
    assert len(world.context.late) == 0
    monkeypatch.setattr(late, "MAX_SPANS", 5)
    world.take(*(older(connection_id=i) for i in range(20)))
    assert len(world.context.late) == 5
    assert world.context.counters.read()["late_forgotten"] == 16
