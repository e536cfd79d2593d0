"""Reading bindings back at start: few round trips, bounded steps, nothing asked twice, and everything left out is counted."""

from collections.abc import Iterator, Sequence

import pytest

from farcall.cacheexpiry import Life
from farcall.cacherecall import BATCH
from farcall.dnscache import CacheUnavailableError, binding_key, tombstone_key
from farcall.redislink import Command, Refusal
from farcall_probes.opensockets import OpenSocket, OpenSockets
from farcall_probes.recall import Recall

pytestmark = pytest.mark.unit

LIFE = Life(ttl_s=3600, held=False)
HELD = Life(ttl_s=3600, held=True)
GONE = 1_000_000
PEER = "203.0.113.10:6379"


class Sockets(OpenSockets):
    """So many connections, each of a process of its own where `tgid` is left out."""

    def __init__(self, count: int, *, tgid: int | None = None, twice: bool = False) -> None:
        super().__init__()
        self._count, self._tgid, self._times = count, tgid, 2 if twice else 1

    def find(self) -> Iterator[OpenSocket | None]:
        for number in range(self._count):
            for _ in range(self._times):
                yield OpenSocket(tgid=self._tgid or number, local=local(number), peer=PEER)
            yield None


class Cache:
    """Commands as Redis answers them."""

    def __init__(self) -> None:
        self.hashes: dict[str, object] = {}
        self.expiries: dict[str, int] = {}
        self.told: dict[str, list[str]] = {}
        self.asked: list[int] = []
        self.down = False

    def run(self, commands: Sequence[Command]) -> list[object]:
        if self.down:
            raise CacheUnavailableError("it is down")
        self.asked.append(len(commands))
        return [self._answer(*command) for command in commands]

    def _answer(self, name: object, key: object, *_more: object) -> object:
        if name == "PEXPIRETIME":
            return self.expiries.get(str(key), -2)
        if name == "ZRANGE":
            return self.told.get(str(key), [])
        assert name == "HGETALL"
        return self.hashes.get(str(key), {})

    def add(self, number: int, **changes: object) -> str:
        key = binding_key("c:1", local(number), PEER)
        self.hashes[key] = {"name": "a.example", "answered_at": "1000.5", "tcp": "7", **changes}
        return key


def local(number: int) -> str:
    return f"10.0.{number // 250}.{number % 250}:40000"


def make(sockets: OpenSockets, **options: int) -> Recall:
    return Recall(
        sockets, lambda tgid: "c:1" if tgid != GONE else None, clock=Clock(), cpu=Clock(), **options
    )


class Clock:
    """Each look at it takes 5 ms."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.005
        return self.now


def run(recall: Recall, cache: Cache, life: Life = LIFE) -> int:
    """To its end; the number of steps."""
    steps = 0
    while recall.due_in_s() is not None:
        recall.step(cache, life)
        steps += 1
        assert steps < 100_000
    return steps


def test_what_the_cache_knows_of_open_connections_is_read_as_it_was_written() -> None:
    cache = Cache()
    cache.add(3)
    recall = make(Sockets(5))
    run(recall, cache)
    (binding,) = recall.take()

    assert (binding.client_key, binding.local, binding.peer) == ("c:1", local(3), PEER)
    assert (binding.name, binding.answered_at, binding.tcp_identity) == ("a.example", 1000.5, 7)
    assert binding.held_at is None
    assert recall.take() == []
    assert recall.counters == {
        "cache_bindings_asked": 5,
        "cache_bindings_recalled": 1,
        "cache_answers_recalled": 0,
        "bindings_unrecalled_dropped": 0,
    }


def test_a_held_binding_remembers_when_it_was_last_in_use() -> None:
    cache = Cache()
    cache.expiries[cache.add(0)] = 9_000_000
    recall = make(Sockets(1))
    run(recall, cache, HELD)

    assert [b.held_at for b in recall.take()] == [9_000 - 3_600]


def test_many_connections_cost_few_round_trips_in_short_steps() -> None:
    cache = Cache()
    for number in range(2_000):
        cache.add(number)
    recall = make(Sockets(2_000))
    steps = run(recall, cache)

    assert cache.asked == [BATCH] * 4
    assert len(recall.take()) == 2_000
    assert steps > 4  # listing takes its time, and others have theirs in between


def test_a_socket_that_processes_of_one_client_share_is_asked_for_once() -> None:
    cache = Cache()
    recall = make(Sockets(10, twice=True))
    run(recall, cache)

    assert cache.asked == [10, 1]  # their bindings, and what the client was told of the address


def test_a_process_that_is_gone_is_not_asked_for() -> None:
    cache = Cache()
    run(make(Sockets(10, tgid=GONE)), cache)

    assert cache.asked == []


def test_what_a_client_was_told_is_written_again_where_there_is_no_binding() -> None:
    cache = Cache()
    cache.add(0)
    cache.told[tombstone_key("c:1", "203.0.113.10")] = ["a.example", "1000.5", "b.example", "2000"]
    only_bound, other = make(Sockets(1)), make(Sockets(2))
    run(only_bound, cache)
    run(other, cache)
    for recall in (only_bound, other):
        recall.write_again()

    assert not only_bound.is_due_again
    told = other.next_told(3000.0, LIFE.ttl_s)
    assert [(a.client_key, a.ip, a.name, a.answered_at, a.trusted) for a in told] == [
        ("c:1", "203.0.113.10", "a.example", 1000.5, False),
        ("c:1", "203.0.113.10", "b.example", 2000.0, False),
    ]
    assert other.next_told(3000.0, LIFE.ttl_s) == told  # until it is written
    other.wrote_told()
    assert not other.is_due_again
    assert other.counters["cache_answers_recalled"] == 2


def test_of_names_one_of_which_is_too_old_none_is_written_again() -> None:
    """The other one alone would be more certain than what was known."""
    cache = Cache()
    cache.told[tombstone_key("c:1", "203.0.113.10")] = ["a.example", "1000", "b.example", "4000"]
    recall = make(Sockets(1))
    run(recall, cache)
    recall.write_again()

    assert len(recall.next_told(4_599.0, LIFE.ttl_s)) == 2
    assert recall.next_told(4_600.0, LIFE.ttl_s) == []


@pytest.mark.parametrize(
    "reply",
    [Refusal("WRONGTYPE"), "x", ["a"], ["a", "x"], ["a", "nan"], ["", "1"], ["a" * 256, "1"], None],
)
def test_what_no_agent_wrote_is_no_answer(reply: object) -> None:
    cache = Cache()
    cache.told[tombstone_key("c:1", "203.0.113.10")] = reply  # type: ignore[assignment]
    recall = make(Sockets(1))
    run(recall, cache)
    recall.write_again()

    assert not recall.is_due_again


def test_what_there_is_no_room_for_is_counted() -> None:
    cache = Cache()
    for number in range(20):
        cache.add(number)
    few = make(Sockets(20), max_recalled=15)
    run(few, cache)
    short = make(Sockets(20), max_asked=8)
    run(short, cache)

    assert (len(few.take()), few.counters["bindings_unrecalled_dropped"]) == (15, 5)
    assert (len(short.take()), short.counters["bindings_unrecalled_dropped"]) == (8, 12)
    assert cache.asked == [20, 8]


def test_a_cache_that_is_down_is_asked_for_the_same_again() -> None:
    cache = Cache()
    cache.add(1)
    cache.down = True
    recall = make(Sockets(3))
    with pytest.raises(CacheUnavailableError):
        run(recall, cache)
    cache.down = False
    run(recall, cache)

    assert len(recall.take()) == 1
    assert cache.asked == [3, 1]


def test_a_redis_that_refuses_to_say_is_one_that_is_down() -> None:
    cache = Cache()
    cache.hashes[binding_key("c:1", local(0), PEER)] = Refusal("NOPERM no right to hgetall")
    with pytest.raises(CacheUnavailableError):
        run(make(Sockets(1)), cache)


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "a.example", "answered_at": "soon"},
        {"name": "a.example", "answered_at": "inf"},
        {"name": "a.example"},
        {"name": "a" * 256, "answered_at": "1"},
        Refusal("WRONGTYPE Operation against a key holding the wrong kind of value"),
        "text",
        None,
    ],
)
def test_what_is_not_written_by_an_agent_is_no_binding(raw: object) -> None:
    cache = Cache()
    cache.hashes[binding_key("c:1", local(0), PEER)] = raw
    recall = make(Sockets(1))
    run(recall, cache)

    assert recall.take() == []
