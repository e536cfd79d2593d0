"""Workers around the schedule: what a reconciliation returns or raises, and what follows."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from farcall_operator.cluster.port import ClusterError, Outcome
from farcall_operator.running.workqueue import Workqueue

pytestmark = pytest.mark.unit


@dataclass
class Recorder:
    """A reconciler that does what the test tells, and what the queue tells its watcher."""

    act: Callable[[str, int], Outcome] = lambda _key, _time: Outcome()
    keys: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    running: set[str] = field(default_factory=set)
    most_at_once: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reconcile(self, name: str) -> Outcome:
        assert name not in self.running, "one reconciliation per key at a time"
        self.running.add(name)
        self.most_at_once = max(self.most_at_once, len(self.running))
        self.keys.append(name)
        try:
            async with self.changed:
                self.changed.notify_all()
            if self.gate is not None:
                await self.gate.wait()
            return self.act(name, self.keys.count(name))
        finally:
            self.running.discard(name)

    def reconciled(self, result: str, duration_s: float) -> None:
        assert duration_s >= 0
        self.results.append(result)

    async def wait_for(self, keys: int) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: len(self.keys) >= keys)


@contextlib.asynccontextmanager
async def working(
    recorder: Recorder, *, workers: int = 2, resync_s: float = 3600, keeps: bool = True
) -> AsyncIterator[Workqueue]:
    queue = Workqueue(
        recorder, watcher=recorder, keeps=lambda _key: keeps, resync_s=resync_s, pick=lambda: 0.5
    )
    running = asyncio.ensure_future(queue.run(workers))
    try:
        yield queue
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def test_as_many_keys_are_worked_on_at_once_as_there_are_workers():
    async def scene() -> None:
        recorder = Recorder(gate=asyncio.Event())
        async with working(recorder, workers=3) as queue:
            for number in range(9):
                queue.add(f"k{number}")
            await recorder.wait_for(3)
            assert queue.state().running == 3
            assert queue.state().depth == 6
            recorder.gate.set()
            await recorder.wait_for(9)
        assert recorder.most_at_once == 3

    asyncio.run(scene())


def test_a_key_that_is_called_while_it_runs_runs_once_more():
    async def scene() -> None:
        recorder = Recorder(gate=asyncio.Event())
        async with working(recorder) as queue:
            queue.add("a")
            await recorder.wait_for(1)
            queue.add("a")
            queue.add("a")
            recorder.gate.set()
            await recorder.wait_for(2)
        assert recorder.keys == ["a", "a"]

    asyncio.run(scene())


def test_a_key_is_looked_at_again_after_the_resync_time():
    async def scene() -> None:
        recorder = Recorder()
        async with working(recorder, resync_s=0.02) as queue:
            queue.add("a")
            await recorder.wait_for(4)

    asyncio.run(scene())


def test_a_key_comes_back_when_its_outcome_says_so():
    async def scene() -> None:
        recorder = Recorder(act=lambda _key, time: Outcome(again_in_s=0.01 if time < 3 else None))
        async with working(recorder) as queue:
            queue.add("a")
            await recorder.wait_for(3)

    asyncio.run(scene())


def test_a_key_that_is_no_more_is_not_looked_at_again():
    async def scene() -> None:
        recorder = Recorder()
        async with working(recorder, resync_s=0.01, keeps=False) as queue:
            queue.add("gone")
            await recorder.wait_for(1)
            queue.add("other")
            await recorder.wait_for(2)
            await asyncio.sleep(0.1)
        assert recorder.keys == ["gone", "other"]

    asyncio.run(scene())


@pytest.mark.parametrize("fault", [ClusterError(500, "InternalError", "x"), ValueError("a bug")])
def test_a_failed_key_is_tried_again_and_holds_nobody_up(fault: Exception):
    def act(key: str, time: int) -> Outcome:
        if key == "bad" and time == 1:
            raise fault
        return Outcome()

    async def scene() -> None:
        recorder = Recorder(act=act)
        async with working(recorder, workers=1) as queue:
            queue.add("bad")
            queue.add("good")
            await recorder.wait_for(3)
            assert recorder.keys == ["bad", "good", "bad"]
        assert recorder.results[:3] in (["error", "ok"], ["error", "ok", "ok"])

    asyncio.run(scene())


def test_a_quiet_queue_is_not_stuck():
    async def scene() -> None:
        recorder = Recorder()
        async with working(recorder) as queue:
            assert not queue.state().is_stuck
            assert queue.state().oldest_s == 0.0

    asyncio.run(scene())
