"""What reconciling asks the cluster beside its own objects, each at most once in a while and shared by all resources.

Nothing in here decides anything; every answer may be a moment old, and one that cannot be had is as good as none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from farcall_operator.agents import AgentsAnswer, fetch_agents
from farcall_operator.children import Memory
from farcall_operator.cluster.port import Cluster, ClusterError, Manifest
from farcall_operator.context import Credentials

EVENTS_FOR = timedelta(seconds=10)
MAX_EVENTS = 5_000  # kept; the newest of a namespace that has more
KINDS_FOR = timedelta(minutes=10)
RUNS_FOR = timedelta(seconds=60)
RUNS_WHILE_CHANGING = timedelta(seconds=10)
RUNS_AFTER_PROBLEM = timedelta(
    minutes=5
)  # of the exporter that did not answer; its pod's events come sooner

# An exporter of the same cluster answers within some 10 ms. A pass waits no longer than this for it, since others wait for
# the pass; an answer that comes later makes a pass of its own.
AT_ONCE_S = 0.1
ASKED_AT_ONCE = 16  # exporters; each costs a connection and a TLS context

FetchAgents = Callable[[str, str, str], Awaitable[AgentsAnswer]]
Wake = Callable[[str], None]  # the name of a TracingConfig that is to be looked at again


def wake_nobody(_: str) -> None:
    """For one who looks again anyway."""


@dataclass(slots=True, kw_only=True)
class Surroundings:
    cluster: Cluster
    namespace: str
    fetch: FetchAgents = fetch_agents
    wake: Wake = wake_nobody
    failures: int = 0  # answers that could not be had
    _events: tuple[datetime, Sequence[Manifest]] | None = None
    _monitors: tuple[datetime, bool] | None = None
    _runs: dict[str, tuple[datetime, AgentsAnswer]] = field(default_factory=dict)
    _asking: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ASKED_AT_ONCE))

    async def list_warnings(self, now: datetime) -> Sequence[Manifest]:
        """Warning events of the namespace; asked for only when something is not as it should be."""
        if self._events is not None and now - self._events[0] < EVENTS_FOR:
            return self._events[1]
        try:
            found = await self.cluster.list("v1", "Event", self.namespace, fields="type=Warning")
        except ClusterError:
            self.failures += 1
            found = []
        self._events = (now, found[-MAX_EVENTS:])
        return self._events[1]

    async def has_service_monitors(self, now: datetime) -> bool:
        if self._monitors is not None and now - self._monitors[0] < KINDS_FOR:
            return self._monitors[1]
        try:
            await self.cluster.list("monitoring.coreos.com/v1", "ServiceMonitor", self.namespace)
            found = True
        except ClusterError:  # the kind does not exist, or we may not use it
            found = False
        self._monitors = (now, found)
        return found

    async def ask_exporter(
        self,
        name: str,
        memory: Memory,
        url: str,
        credentials: Credentials,
        generation: int,
        now: datetime,
    ) -> AgentsAnswer | None:
        """Its last answer, at most a minute old where it answers at once; None when it has not answered yet.

        Asked more often while agents run an older generation. A slow answer wakes `name` once it is there.
        """
        if self._is_due(memory.uid, generation, now) and memory.uid not in self._asking:
            asking = asyncio.ensure_future(self._ask(memory.uid, url, credentials, now))
            self._asking[memory.uid] = asking
            await asyncio.wait({asking}, timeout=AT_ONCE_S)
            if not asking.done():
                asking.add_done_callback(lambda _: self._wake(name, memory.uid))
        known = self._runs.get(memory.uid)
        return None if known is None else known[1]

    def _is_due(self, uid: str, generation: int, now: datetime) -> bool:
        known = self._runs.get(uid)
        if known is None:
            return True
        is_old = any(run.config_generation != generation for run in known[1].runs)
        is_moving = is_old or _is_in_trouble(known[1])
        return now - known[0] >= (RUNS_WHILE_CHANGING if is_moving else RUNS_FOR)

    async def _ask(self, uid: str, url: str, credentials: Credentials, now: datetime) -> None:
        try:
            async with self._turns:
                answer = await self.fetch(url, credentials.ingest_token, credentials.ca_pem)
            self._runs[uid] = (now, answer)
        finally:
            self._asking.pop(uid, None)

    def _wake(self, name: str, uid: str) -> None:
        if uid in self._runs:
            self.wake(name)

    def read_store_trouble(self, memory: Memory) -> str:
        """Why the exporter can store nothing, as it said with the agents' runs; "" when it can, or nobody can say."""
        known = self._runs.get(memory.uid)
        return known[1].store_trouble if known is not None else ""

    def read_cache_trouble(self, memory: Memory) -> tuple[int, str]:
        """How many agents have not been able to use the cache for a while, and what most of them say."""
        known = self._runs.get(memory.uid)
        said = [run.cache_trouble for run in known[1].runs if run.cache_trouble] if known else []
        return len(said), max(said, key=said.count, default="")

    def read_pause_s(self, memory: Memory) -> float | None:
        """When to ask the exporter again though nothing has happened; None while it was never asked."""
        known = self._runs.get(memory.uid)
        if known is None:
            return RUNS_WHILE_CHANGING.total_seconds() if memory.uid in self._asking else None
        if _is_in_trouble(known[1]):
            return RUNS_WHILE_CHANGING.total_seconds()
        return (RUNS_AFTER_PROBLEM if known[1].problem else RUNS_FOR).total_seconds()

    def forget(self, uid: str) -> None:
        if asking := self._asking.pop(uid, None):
            asking.cancel()
        self._runs.pop(uid, None)


def _is_in_trouble(answer: AgentsAnswer) -> bool:
    return bool(answer.store_trouble) or any(run.cache_trouble for run in answer.runs)
