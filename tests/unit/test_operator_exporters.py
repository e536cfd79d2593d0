"""What exporters are asked: none makes a pass wait for long, and what one says is not lost, however late it comes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from farcall_operator import exporters as room
from farcall_operator.agents import AgentsAnswer
from farcall_operator.context import AgentRun
from farcall_operator.exporters import ASKED_AT_ONCE, Exporters, Question

pytestmark = pytest.mark.unit

RUN = AgentRun(node="n", version="1", config_generation=1, config_revision="r", age_s=1)
SAID = AgentsAnswer(runs=(RUN,))
PROBLEM = AgentsAnswer(problem="nobody there")
AGAIN_S = 0.001


@dataclass
class Play:
    """Exporters that answer once `open` is set, each in its turn with what `says` holds; the last for ever."""

    says: list[AgentsAnswer] = field(default_factory=lambda: [SAID])
    open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    at_once: int = 0
    most_at_once: int = 0
    woken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exporters = Exporters(fetch=self.fetch, wake=self.woken.append)

    async def fetch(self, url: str, token: str, ca_pem: str) -> AgentsAnswer:
        said = self.says[min(self.asked, len(self.says) - 1)]
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.open.wait()
        self.at_once -= 1
        return said

    async def ask(self, name: str = "main", token: str = "") -> AgentsAnswer | None:
        question = Question(name=name, url="https://x", token=token, ca_pem="", generation=1)
        return await self.exporters.ask(f"uid-{name}", question)

    async def wait(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 - what is waited for runs in this loop
                await asyncio.sleep(0.001)


def run(play: Callable[[], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        await play()

    asyncio.run(all_of_it())


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again without the pauses."""
    for name in ("AGAIN_S", "WHILE_CHANGING_S", "AFTER_PROBLEM_S"):
        monkeypatch.setattr(room, name, AGAIN_S)


def test_a_slow_answer_makes_a_pass_of_its_own() -> None:
    async def play() -> None:
        it = Play()
        assert await it.ask() is None
        assert it.woken == []
        it.open.set()
        await it.wait(lambda: it.woken == ["main"])

        assert await it.ask() == SAID
        assert it.asked == 1

    run(play)


def test_an_answer_at_once_is_that_passs_own() -> None:
    async def play() -> None:
        it = Play()
        it.open.set()

        assert await it.ask() == SAID
        assert it.woken == []

    run(play)


def test_nobody_is_asked_twice_at_a_time_and_few_at_once() -> None:
    async def play() -> None:
        it = Play()
        names = [f"t{number}" for number in range(3 * ASKED_AT_ONCE)]
        await asyncio.gather(*(it.ask(name) for name in names))
        await asyncio.gather(*(it.ask(name) for name in names))
        assert it.asked == it.most_at_once == ASKED_AT_ONCE
        it.open.set()
        await it.wait(lambda: len(it.woken) == len(names))

        assert sorted(it.woken) == sorted(names)
        assert it.asked == len(names)

    run(play)


def test_one_that_was_only_slow_is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays as it is, so that no event of its pod tells of its return."""
    monkeypatch.setattr(room, "WHILE_CHANGING_S", 0.001)

    async def play() -> None:
        it = Play([PROBLEM, PROBLEM, SAID])
        it.open.set()
        assert await it.ask() == PROBLEM
        await it.wait(lambda: it.woken == ["main"])
        assert await it.ask() == SAID

    run(play)


@pytest.mark.usefixtures("soon")
def test_one_that_says_the_same_again_makes_no_pass() -> None:
    async def play() -> None:
        it = Play([SAID, AgentsAnswer(runs=(replace(RUN, age_s=7.0),))])
        it.open.set()
        await it.ask()
        await it.wait(lambda: it.asked > 5)

        assert it.woken == []

    run(play)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    "changed",
    [
        AgentsAnswer(runs=(replace(RUN, config_generation=2),)),
        AgentsAnswer(runs=(RUN, replace(RUN, node="m"))),
        AgentsAnswer(runs=(replace(RUN, cache_trouble="Redis is full"),)),
        AgentsAnswer(runs=(RUN,), store_trouble="the disk is full"),
        PROBLEM,
    ],
)
def test_one_that_says_something_new_makes_a_pass_though_nothing_else_happens(
    changed: AgentsAnswer,
) -> None:
    async def play() -> None:
        it = Play([SAID, SAID, changed])
        it.open.set()
        await it.ask()
        await it.wait(lambda: it.woken == ["main"])
        assert it.exporters.answer("uid-main") == changed

    run(play)


def test_other_credentials_are_tried_at_once() -> None:
    async def play() -> None:
        it = Play([PROBLEM, SAID])
        it.open.set()
        assert await it.ask(token="old") == PROBLEM
        assert await it.ask(token="old") == PROBLEM
        assert await it.ask(token="new") == SAID

    run(play)


def test_credentials_that_come_while_an_answer_is_awaited_are_tried_too() -> None:
    async def play() -> None:
        it = Play([PROBLEM, SAID])
        await it.ask(token="old")
        await it.ask(token="new")
        assert it.asked == 1
        it.open.set()
        await it.wait(lambda: it.exporters.answer("uid-main") == SAID)

    run(play)


@pytest.mark.usefixtures("soon")
def test_what_is_forgotten_is_asked_no_more_and_wakes_nobody() -> None:
    async def play() -> None:
        it = Play([SAID, PROBLEM])
        await it.ask()
        it.exporters.forget("uid-main")
        it.open.set()
        await it.ask("other")
        await it.wait(lambda: it.asked > 5)

        assert "main" not in it.woken
        assert it.exporters.answer("uid-main") is None

    run(play)
