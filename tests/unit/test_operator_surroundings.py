"""What reconciling asks of others: an exporter that is slow makes nobody wait, and its answer is not lost."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from farcall_operator.agents import AgentsAnswer
from farcall_operator.children import Memory
from farcall_operator.context import AgentRun, Credentials
from farcall_operator.surroundings import ASKED_AT_ONCE, Surroundings
from support_fake_cluster import FakeCluster

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUNS: Sequence[AgentRun] = (
    AgentRun(node="n", version="1", config_generation=1, config_revision="r", age_s=1),
)


class SlowExporters:
    """They answer once `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0
        self.woken: list[str] = []
        self.surroundings = Surroundings(
            cluster=FakeCluster(), namespace="farcall", fetch=self.fetch, wake=self.woken.append
        )

    async def fetch(self, url: str, token: str, ca_pem: str) -> AgentsAnswer:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.open.wait()
        self.at_once -= 1
        return AgentsAnswer(runs=tuple(RUNS))

    async def ask(self, name: str = "main") -> AgentsAnswer | None:
        memory = Memory(uid=f"uid-{name}")
        return await self.surroundings.ask_exporter(
            name, memory, "https://x", Credentials(), 1, NOW
        )

    async def wait_woken(self, number: int) -> None:
        async with asyncio.timeout(60):
            while len(self.woken) < number:  # noqa: ASYNC110 - the loop that runs is the one which wakes
                await asyncio.sleep(0.001)


def test_a_slow_answer_makes_a_pass_of_its_own() -> None:
    async def play() -> None:
        exporters = SlowExporters()
        assert await exporters.ask() is None
        assert exporters.woken == []
        exporters.open.set()
        await exporters.wait_woken(1)

        answer = await exporters.ask()
        assert exporters.woken == ["main"]
        assert answer is not None
        assert answer.runs == tuple(RUNS)
        assert exporters.asked == 1

    asyncio.run(play())


def test_an_answer_at_once_wakes_nobody() -> None:
    async def play() -> None:
        exporters = SlowExporters()
        exporters.open.set()
        answer = await exporters.ask()

        assert answer is not None
        assert exporters.woken == []

    asyncio.run(play())


def test_nobody_is_asked_twice_at_a_time_and_few_at_once() -> None:
    async def play() -> None:
        exporters = SlowExporters()
        names = [f"t{number}" for number in range(3 * ASKED_AT_ONCE)]
        await asyncio.gather(*(exporters.ask(name) for name in names))
        await asyncio.gather(*(exporters.ask(name) for name in names))
        assert exporters.asked == exporters.most_at_once == ASKED_AT_ONCE
        exporters.open.set()
        await exporters.wait_woken(len(names))

        assert sorted(exporters.woken) == sorted(names)
        assert exporters.asked == len(names)

    asyncio.run(play())


def test_what_is_forgotten_is_asked_no_more_and_wakes_nobody() -> None:
    async def play() -> None:
        exporters = SlowExporters()
        await exporters.ask()
        exporters.surroundings.forget("uid-main")
        await asyncio.sleep(0)
        exporters.open.set()
        assert await exporters.ask("other") is not None

        assert exporters.woken == []
        assert exporters.surroundings.read_pause_s(Memory(uid="uid-main")) is None

    asyncio.run(play())
