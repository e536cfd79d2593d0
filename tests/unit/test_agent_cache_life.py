"""When the entries of the DNS cache are gone through: after a change, in small steps, and once for all agents."""

from collections.abc import Sequence

import pytest

from farcall.cacheexpiry import BATCH, CLAIM, MARK, Life
from farcall.dnscache import CacheUnavailableError, Command
from farcall_probes.cachelife import LOOK_EVERY_S, CacheLife

pytestmark = pytest.mark.unit

HOBBY, SCALE = Life(ttl_s=3_600, held=False), Life(ttl_s=604_800, held=False)


class Clock:
    now = 10.0

    def __call__(self) -> float:
        return self.now


class FakeRedis:
    """Knows the mark and the claim, and `pages` of keys that are all names answered at 1,000."""

    def __init__(self, pages: int = 1) -> None:
        self.pages = pages
        self.clock = 1_000.0
        self.mark: dict[str, str] = {}
        self.claimed = False
        self.expiries: dict[str, int] = {}
        self.asked_most = 0
        self.is_away = False

    def run(self, commands: Sequence[Command]) -> list[object]:
        if self.is_away:
            raise CacheUnavailableError("away")
        self.asked_most = max(self.asked_most, len(commands))
        return [self._answer(command) for command in commands]

    def _answer(self, command: Command) -> object:
        match command:
            case ("INFO", _):
                return {"server_time_usec": int(self.clock * 1e6)}
            case ("HGETALL", key) if key == MARK:
                return dict(self.mark)
            case ("HSET", key, *_) if key == CLAIM:
                first, self.claimed = not self.claimed, True
                return int(first)
            case ("HSET", _, _, life, _, began):
                self.mark = {"life": str(life), "began": str(began)}
                return 0
            case ("PEXPIREAT", key, 1) if key == CLAIM:
                self.claimed = False
                return 1
            case ("PEXPIREAT", key, at, *_):
                self.expiries[str(key)] = int(at)
                return 1
            case ("SCAN", cursor, *_):
                after = int(cursor) + 1
                keys = [f"fc1:a:{cursor}:{n}" for n in range(BATCH)]
                return (after % self.pages, keys)
            case ("ZRANGE", *_):
                return ["a.example", "1000"]
        raise AssertionError(command)


def make(redis: FakeRedis, clock: Clock, owner: str = "n1") -> CacheLife:
    life = CacheLife(owner, HOBBY, clock=clock, jitter=lambda: 0.5)
    settle(life, redis, clock)
    return life


def settle(life: CacheLife, redis: FakeRedis, clock: Clock) -> int:
    """Steps until nothing is wanted; how many it took."""
    steps = 0
    while (due_in_s := life.due_in_s()) is not None:
        clock.now += due_in_s
        life.step(redis)
        steps += 1
        assert steps < 100
    return steps


def test_a_change_is_followed_once_in_small_steps() -> None:
    redis, clock = FakeRedis(pages=7), Clock()
    life = make(redis, clock)
    redis.clock += 60
    life.want(SCALE)

    assert not life.is_followed
    assert settle(life, redis, clock) == 1 + 7  # a look, and each page
    assert redis.asked_most <= 2 * BATCH
    assert set(redis.expiries.values()) - {redis.expiries[k] for k in (MARK, CLAIM)} == {
        605_800_000
    }
    assert life.is_followed and not redis.claimed


def test_a_pass_that_began_before_the_change_is_not_enough() -> None:
    redis, clock = FakeRedis(), Clock()
    early, late = make(redis, clock, "early"), make(redis, clock, "late")
    redis.clock += 60
    early.want(SCALE)
    settle(early, redis, clock)
    redis.clock += 30
    late.want(SCALE)
    settle(late, redis, clock)

    assert late.counters["cache_expiry_passes"] == 1
    assert float(redis.mark["began"]) == redis.clock


def test_one_who_finds_another_at_work_waits_and_shares() -> None:
    redis, clock = FakeRedis(pages=3), Clock()
    first, second = make(redis, clock, "first"), make(redis, clock, "second")
    before = first.counters["cache_expiry_passes"]
    first.want(SCALE)
    second.want(SCALE)
    clock.now += 1
    second.step(redis)  # it learned later, and was faster
    first.step(redis)
    assert first.due_in_s() == LOOK_EVERY_S
    settle(second, redis, clock)
    settle(first, redis, clock)

    assert first.counters["cache_expiry_passes"] == before
    assert second.counters["cache_expiry_passes"] == 1


def test_a_change_in_the_middle_begins_anew() -> None:
    redis, clock = FakeRedis(pages=9), Clock()
    life = make(redis, clock)
    life.want(SCALE)
    clock.now += 1
    for _ in range(4):
        life.step(redis)
        clock.now += 1
    life.want(HOBBY)
    settle(life, redis, clock)

    assert redis.mark["life"] == HOBBY.render()
    assert {redis.expiries[f"fc1:a:{page}:0"] for page in range(9)} == {4_600_000}


def test_a_step_that_failed_is_done_again() -> None:
    redis, clock = FakeRedis(pages=3), Clock()
    life = make(redis, clock)
    life.want(SCALE)
    clock.now += 1
    life.step(redis)
    redis.is_away = True
    for _ in range(3):
        clock.now += 1
        with pytest.raises(CacheUnavailableError):
            life.step(redis)
    redis.is_away = False
    settle(life, redis, clock)

    assert {redis.expiries[f"fc1:a:{page}:0"] for page in range(3)} == {605_800_000}
