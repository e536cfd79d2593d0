"""`/healthz` fails when nothing moves any more, and only then."""

import asyncio

import aiohttp
import pytest

from farcall_operator.cluster.port import Outcome
from farcall_operator.running.health import Health, start_server
from farcall_operator.running.metrics import Counters
from farcall_operator.running.workqueue import STUCK_AFTER_S, Workqueue

pytestmark = pytest.mark.unit


class Loop(asyncio.SelectorEventLoop):
    """Its clock is ahead by as much as a test says."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


class Once:
    """Tells that it was asked."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def reconcile(self, name: str) -> Outcome:
        self.asked.set()
        return Outcome()


async def ask(port: int, path: str) -> tuple[int, str]:
    # No time limit of the client's: the clock of this loop leaps.
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await answer.text()


def test_a_queue_in_which_nothing_comes_to_its_end_fails_the_health_check() -> None:
    """No workers run here, as when each hangs where no time limit can end it."""

    async def scene(loop: Loop) -> None:
        counters, once = Counters(), Once()
        queue = Workqueue(once, watcher=counters, keeps=lambda _: True, resync_s=600)
        health = Health(counters=counters, reached=True, leading=True, queue=queue)
        runner, port = await start_server(health, "127.0.0.1", 0)
        try:
            loop.ahead_s += STUCK_AFTER_S + 1
            assert await ask(port, "/healthz") == (200, "ok\n")  # nothing waits
            queue.add("main")
            loop.ahead_s += STUCK_AFTER_S - 1
            assert await ask(port, "/healthz") == (200, "ok\n")
            loop.ahead_s += 2
            assert await ask(port, "/healthz") == (503, "the queue is stuck\n")
            assert await ask(port, "/readyz") == (200, "leader\n")
            working = asyncio.ensure_future(queue.run(1))
            await once.asked.wait()
            assert await ask(port, "/healthz") == (200, "ok\n")
            working.cancel()
        finally:
            await runner.cleanup()

    loop = Loop()
    try:
        loop.run_until_complete(scene(loop))
    finally:
        loop.close()
