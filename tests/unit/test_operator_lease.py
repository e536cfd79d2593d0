"""Who leads: one at a time, by a Lease that only changes when nobody else changed it meanwhile."""

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from farcall_operator.cluster.port import ClusterError, Manifest, Ref
from farcall_operator.running.lease import DURATION_S, GIVE_UP_S, Lease, LeaseLostError

pytestmark = pytest.mark.unit


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class LeaseServer:
    """Holds one Lease as the API server does: optimistic locking by resource version."""

    stored: Manifest | None = None
    is_away: bool = False
    version: int = 0
    before_replace: list[Manifest] = field(default_factory=list)  # another's write comes first

    async def get(self, _ref: Ref) -> Manifest | None:
        self._answer()
        return copy.deepcopy(self.stored)

    async def create(self, manifest: Manifest) -> Manifest:
        self._answer()
        if self.stored is not None:
            raise ClusterError(409, "AlreadyExists", "exists")
        return self._store(manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        self._answer()
        if self.before_replace:
            self._store(self.before_replace.pop())
        if self.stored is None:
            raise ClusterError(404, "NotFound", "gone")
        if manifest["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
            raise ClusterError(409, "Conflict", "changed")
        return self._store(manifest)

    def _answer(self) -> None:
        if self.is_away:
            raise ClusterError(0, "Unreachable", "away")

    def _store(self, manifest: Manifest) -> Manifest:
        self.version += 1
        stored = copy.deepcopy(manifest)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.stored = stored
        return stored

    @property
    def spec(self) -> Manifest:
        assert self.stored is not None
        return self.stored["spec"]


def build(server: LeaseServer, identity: str, clock: Clock) -> Lease:
    return Lease(
        server,  # type: ignore[arg-type] - what a Lease needs of a Cluster
        namespace="farcall",
        identity=identity,
        clock=clock,
        renew_every_s=0.01,
        poll_s=0.01,
    )


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


async def attempt(lease: Lease) -> bool:
    """One poll of `acquire`."""
    acquiring = asyncio.ensure_future(lease.acquire())
    for _ in range(20):  # enough for all it awaits of a server that answers at once
        await asyncio.sleep(0)
    acquiring.cancel()
    return acquiring.done() and not acquiring.cancelled()


def test_the_first_makes_the_lease_and_the_second_waits():
    async def scene() -> None:
        server, clock = LeaseServer(), Clock()
        first, second = build(server, "a", clock), build(server, "b", clock)

        assert await attempt(first)
        assert not await attempt(second)
        assert server.spec["holderIdentity"] == "a"
        assert server.spec["leaseDurationSeconds"] == DURATION_S
        assert (first.is_held(), second.is_held()) == (True, False)

    asyncio.run(scene())


def test_a_standby_counts_from_when_it_saw_the_last_change_whatever_the_clocks_say():
    async def scene() -> None:
        server, clock = LeaseServer(), Clock()
        await attempt(build(server, "a", clock))
        server.spec["renewTime"] = "1999-01-01T00:00:00.000000Z"  # a clock that is years behind
        second = build(server, "b", clock)

        assert not await attempt(second)
        clock.now += DURATION_S - 0.1
        assert not await attempt(second)
        clock.now += 0.1
        assert await attempt(second)
        assert server.spec["holderIdentity"] == "b"
        assert server.spec["leaseTransitions"] == 1

    asyncio.run(scene())


def test_of_two_that_take_an_expired_lease_one_wins():
    async def scene() -> None:
        server, clock = LeaseServer(), Clock()
        await attempt(build(server, "a", clock))
        second = build(server, "b", clock)
        await attempt(second)
        clock.now += DURATION_S
        theirs = copy.deepcopy(server.stored)
        assert theirs is not None
        theirs["spec"]["holderIdentity"] = "c"
        server.before_replace = [theirs]

        assert not await attempt(second)
        assert not second.is_held()
        assert server.spec["holderIdentity"] == "c"

    asyncio.run(scene())


def test_a_released_lease_is_taken_at_once():
    async def scene() -> None:
        server, clock = LeaseServer(), Clock()
        first = build(server, "a", clock)
        await attempt(first)
        await first.release()

        assert not first.is_held()
        assert await attempt(build(server, "b", clock))

    asyncio.run(scene())


def test_release_leaves_anothers_lease_alone():
    async def scene() -> None:
        server, clock = LeaseServer(), Clock()
        first = build(server, "a", clock)
        await attempt(first)
        server.spec["holderIdentity"] = "b"
        await first.release()

        assert server.spec["holderIdentity"] == "b"

    asyncio.run(scene())


def test_writing_is_unsafe_before_anybody_else_may_take_over():
    async def scene() -> None:
        server, clock = LeaseServer(), Clock()
        first = build(server, "a", clock)
        await attempt(first)

        clock.now += GIVE_UP_S
        assert not first.is_held()
        assert GIVE_UP_S < DURATION_S

    asyncio.run(scene())


def test_an_api_server_that_was_away_is_no_loss_while_nobody_took_over():
    async def scene() -> None:
        server, clock = LeaseServer(), Clock()
        first = build(server, "a", clock)
        await attempt(first)
        server.is_away = True
        clock.now += 60.0
        holding = asyncio.ensure_future(first.hold())
        await asyncio.sleep(0.05)
        assert not holding.done()
        assert not first.is_held()
        server.is_away = False
        await until(first.is_held)
        holding.cancel()

    asyncio.run(scene())


def test_whoever_finds_another_in_its_place_has_to_end():
    async def scene() -> None:
        server, clock = LeaseServer(), Clock()
        first = build(server, "a", clock)
        await attempt(first)
        assert server.stored is not None
        theirs = copy.deepcopy(server.stored)
        theirs["spec"]["holderIdentity"] = "b"
        server._store(theirs)

        with pytest.raises(LeaseLostError, match="b leads now"):
            async with asyncio.timeout(20):
                await first.hold()

    asyncio.run(scene())


def test_a_deleted_lease_is_made_again_by_its_holder():
    async def scene() -> None:
        server, clock = LeaseServer(), Clock()
        first = build(server, "a", clock)
        await attempt(first)
        server.stored = None
        holding = asyncio.ensure_future(first.hold())
        await until(lambda: server.stored is not None)
        holding.cancel()
        assert server.spec["holderIdentity"] == "a"

    asyncio.run(scene())
