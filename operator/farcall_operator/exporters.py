"""What each TracingConfig's exporter says of its agents and its store: asked again and again, and told when it changes.

No pass waits for it for long, and none is made for an answer that is as the one before: of a thousand resources each is asked
once a minute, and a pass costs ten times what a question does. Every answer may be a minute old; nothing is decided by it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from farcall_operator.agents import AgentsAnswer, fetch_agents
from farcall_operator.cluster.port import Wake

# An exporter of the same cluster answers within some 10 ms. A pass waits no longer than this for it, since others wait for
# the pass; an answer that comes later makes a pass of its own.
AT_ONCE_S = 0.1
ASKED_AT_ONCE = 16  # each costs a connection and a TLS context
AGAIN_S = 60.0
WHILE_CHANGING_S = 10.0  # agents that run an older generation; a disk or a cache that is full
# Of an exporter that did not answer: soon at first, since one that was only slow sends no event that would tell of its
# return, then twice as long each time up to this. The events of its pod come sooner.
AFTER_PROBLEM_S = 300.0
JITTER = 0.2  # a fifth either way

FetchAgents = Callable[[str, str, str], Awaitable[AgentsAnswer]]


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
class _Known:
    """Of one TracingConfig."""

    question: Question  # as the last pass would ask
    answer: AgentsAnswer | None = None
    answered_at: float = 0.0  # the loop's time
    problems: int = 0  # one after the other
    asking: asyncio.Future[None] | None = None
    later: asyncio.TimerHandle | None = None
    is_awaited: bool = False  # by a pass, which will hear the answer itself


@dataclass(slots=True, kw_only=True)
class Exporters:
    """Of all TracingConfigs, by uid. Belongs to the event loop that asks."""

    fetch: FetchAgents = fetch_agents
    wake: Wake = wake_nobody
    _known: dict[str, _Known] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ASKED_AT_ONCE))

    async def ask(self, uid: str, question: Question) -> AgentsAnswer | None:
        """The newest answer; None when there is none yet. From now on asked again by itself, until `forget`."""
        known = self._known.setdefault(uid, _Known(question=question))
        is_other, known.question = known.question != question, question
        if is_other or _is_due(known):
            known.is_awaited = True
            try:
                await asyncio.wait({self._begin(known)}, timeout=AT_ONCE_S)
            finally:
                known.is_awaited = False
        return known.answer

    def answer(self, uid: str) -> AgentsAnswer | None:
        known = self._known.get(uid)
        return known.answer if known is not None else None

    def forget(self, uid: str) -> None:
        known = self._known.pop(uid, None)
        for pending in (known.asking, known.later) if known is not None else ():
            if pending is not None:
                pending.cancel()

    def _begin(self, known: _Known) -> asyncio.Future[None]:
        if known.asking is None:
            if known.later is not None:
                known.later.cancel()
            known.asking = asyncio.ensure_future(self._ask(known))
        return known.asking

    async def _ask(self, known: _Known) -> None:
        try:
            async with self._turns:
                asked = known.question
                answer = await self.fetch(asked.url, asked.token, asked.ca_pem)
        finally:
            known.asking = None
        loop = asyncio.get_running_loop()
        before, known.answer, known.answered_at = known.answer, answer, loop.time()
        known.problems = known.problems + 1 if answer.problem else 0
        pause_s = _pause_s(answer, asked.generation, known.problems) * random.uniform(
            1 - JITTER, 1 + JITTER
        )
        if known.question != asked:  # meanwhile; with these it may have to be asked otherwise
            pause_s = 0.0
        known.later = loop.call_later(pause_s, self._begin, known)
        is_new = before is None or _essence(before) != _essence(answer)
        if is_new and not known.is_awaited:
            self.wake(asked.name)


def _is_due(known: _Known) -> bool:
    """A pass is made when something happened: an exporter that could not answer may be back."""
    if known.answer is None:
        return True
    age_s = asyncio.get_running_loop().time() - known.answered_at
    return bool(known.answer.problem) and age_s >= WHILE_CHANGING_S


def _pause_s(answer: AgentsAnswer, generation: int, problems: int) -> float:
    if problems:
        return min(AFTER_PROBLEM_S, WHILE_CHANGING_S * 2.0 ** min(problems - 1, 30))
    is_changing = bool(answer.store_trouble) or any(
        run.cache_trouble or run.config_generation != generation for run in answer.runs
    )
    return WHILE_CHANGING_S if is_changing else AGAIN_S


def _essence(answer: AgentsAnswer) -> tuple[object, ...]:
    """All that a status is made of: an answer that differs in its agents' ages alone says nothing new."""
    runs = sorted((run.node, run.config_generation, run.cache_trouble) for run in answer.runs)
    return bool(answer.problem), answer.store_trouble, tuple(runs)
