"""What each agent last said of itself, for the operator's status: from those that speak to this exporter, and from the store
for those that speak to another. Belongs to the pipeline's thread.

Only the last minutes: a node that is gone stops being listed by itself. Without the store the list is this exporter's own.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from farcall.api import ComponentStatus
from farcall.envelope import MAX_AGENTS, AgentSight, AgentStatus
from farcall.journal import get_log
from farcall.storeport import StoreError, Writer
from farcall_exporter.counters import Counters

log = get_log("exporter")

WITHIN_S = 600.0
ASK_EVERY_S = (
    2.0  # of the store; operators ask every few seconds, and a list may be asked for by several
)
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Heard:
    version: str
    generation: int
    revision: str
    at: float  # monotonic


class AgentList:
    def __init__(
        self,
        counters: Counters,
        *,
        clock: Callable[[], float],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._counters = counters
        self._clock = clock  # monotonic
        self._wall_ns = wall_ns
        self._heard: dict[str, _Heard] = {}
        self._elsewhere: dict[str, _Heard] = {}
        self._ask_at = 0.0

    def hear(self, status: AgentStatus) -> None:
        now = self._clock()
        self._heard.pop(status.node, None)  # to the end: the longest silent is first
        self._heard[status.node] = _Heard(
            status.version, status.config_generation, status.config_revision, now
        )
        while len(self._heard) > MAX_AGENTS:
            del self._heard[next(iter(self._heard))]

    def read(self, writer: Writer) -> list[AgentSight]:
        now = self._clock()
        if now >= self._ask_at:
            self._ask_at = now + ASK_EVERY_S
            self._elsewhere = self._ask(writer, now)
        freshest = dict(self._elsewhere)
        for node, heard in self._heard.items():
            if node not in freshest or freshest[node].at <= heard.at:
                freshest[node] = heard
        return [
            AgentSight(
                node=node,
                version=heard.version,
                config_generation=heard.generation,
                config_revision=heard.revision,
                age_s=round(max(0.0, now - heard.at), 3),
            )
            for node, heard in freshest.items()
            if now - heard.at < WITHIN_S
        ]

    def _ask(self, writer: Writer, now: float) -> dict[str, _Heard]:
        since_ns = self._wall_ns() - int(WITHIN_S * NS)
        try:
            said = writer.read_statuses(kind="agent", since_ns=since_ns, limit=MAX_AGENTS)
        except StoreError as e:
            self._counters.add("status_failures", 1)
            log.warning("the agents of other exporters are not known", error=str(e))
            return self._elsewhere
        return {s.name: self._from_store(s, now) for s in said}

    def _from_store(self, status: ComponentStatus, now: float) -> _Heard:
        """Its age by the agent's own clock, which may be a little off."""
        age_s = (self._wall_ns() - int(status.seen_ns)) / NS
        return _Heard(
            status.version, status.config_generation, status.config_revision, now - max(0.0, age_s)
        )
