"""What each TracingConfig's exporter says of its agents and its store: asked again and again, and told when it changes.

No pass waits for it for long, and none is made for an answer that is as the one before: of a thousand resources each is asked
once a minute, and a pass costs ten times what a question does. Every answer may be a minute old; nothing is decided by it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from farcall_operator.agents import AgentsAnswer, fetch_agents

# An exporter of the same cluster answers within some 10 ms. A pass waits no longer than this for it, since others wait for
# the pass; an answer that comes later makes a pass of its own.
AT_ONCE_S = 0.1
ASKED_AT_ONCE = 16  # each costs a connection and a TLS context
AGAIN_S = 60.0
WHILE_CHANGING_S = 10.0  # agents that run an older generation; a disk or a cache that is full
AFTER_PROBLEM_S = 300.0  # of an exporter that did not answer; its pod's events come sooner
JITTER = 0.2  # a fifth either way

FetchAgents = Callable[[str, str, str], Awaitable[AgentsAnswer]]
Wake = Callable[[str], None]  # the name of a TracingConfig that is to be looked at again


def wake_nobody(_: str) -> None:
    """For one who looks again anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Where a TracingConfig's exporter is asked, with what, and which generation its agents ought to run."""

    name: str
    url: str
    token: str
    ca_pem: str
    generation: int


@dataclass(slots=True, kw_only=True)
class Exporters:
    """Of all TracingConfigs, by uid. Belongs to the event loop that asks."""

    fetch: FetchAgents = fetch_agents
    wake: Wake = wake_nobody
    _questions: dict[str, Question] = field(default_factory=dict)  # as the last pass would ask
    _answers: dict[str, AgentsAnswer] = field(default_factory=dict)
    _asking: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    _later: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _answered_at: dict[str, float] = field(default_factory=dict)  # the loop's time
    _waiting: set[str] = field(default_factory=set)  # passes that will hear the answer themselves
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ASKED_AT_ONCE))

    async def ask(self, uid: str, question: Question) -> AgentsAnswer | None:
        """The newest answer; None when there is none yet. From now on asked again by itself, until `forget`."""
        before = self._questions.get(uid)
        self._questions[uid] = question
        if before != question or self._is_due(uid):
            self._waiting.add(uid)
            try:
                await asyncio.wait({self._begin(uid)}, timeout=AT_ONCE_S)
            finally:
                self._waiting.discard(uid)
        return self._answers.get(uid)

    def _is_due(self, uid: str) -> bool:
        """A pass is made when something happened: an exporter that could not answer may be back."""
        answer = self._answers.get(uid)
        if answer is None:
            return True
        age_s = asyncio.get_running_loop().time() - self._answered_at[uid]
        return bool(answer.problem) and age_s >= WHILE_CHANGING_S

    def answer(self, uid: str) -> AgentsAnswer | None:
        return self._answers.get(uid)

    def forget(self, uid: str) -> None:
        self._questions.pop(uid, None)
        self._answers.pop(uid, None)
        self._answered_at.pop(uid, None)
        if asking := self._asking.pop(uid, None):
            asking.cancel()
        if later := self._later.pop(uid, None):
            later.cancel()

    def _begin(self, uid: str) -> asyncio.Future[None]:
        if uid not in self._asking:
            if later := self._later.pop(uid, None):
                later.cancel()
            self._asking[uid] = asyncio.ensure_future(self._ask(uid))
        return self._asking[uid]

    async def _ask(self, uid: str) -> None:
        try:
            async with self._turns:
                question = self._questions[uid]
                answer = await self.fetch(question.url, question.token, question.ca_pem)
        finally:
            self._asking.pop(uid, None)
        loop = asyncio.get_running_loop()
        before = self._answers.get(uid)
        self._answers[uid], self._answered_at[uid] = answer, loop.time()
        pause_s = _pause_s(answer, question.generation) * random.uniform(1 - JITTER, 1 + JITTER)
        self._later[uid] = loop.call_later(pause_s, self._begin, uid)
        is_new = before is None or _essence(before) != _essence(answer)
        if is_new and uid not in self._waiting:
            self.wake(question.name)


def _pause_s(answer: AgentsAnswer, generation: int) -> float:
    if answer.problem:
        return AFTER_PROBLEM_S
    is_changing = bool(answer.store_trouble) or any(
        run.cache_trouble or run.config_generation != generation for run in answer.runs
    )
    return WHILE_CHANGING_S if is_changing else AGAIN_S


def _essence(answer: AgentsAnswer) -> tuple[object, ...]:
    """All that a status is made of: an answer that differs in its agents' ages alone says nothing new."""
    runs = sorted((run.node, run.config_generation, run.cache_trouble) for run in answer.runs)
    return bool(answer.problem), answer.store_trouble, tuple(runs)
