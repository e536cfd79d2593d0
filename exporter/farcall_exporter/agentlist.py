"""What each agent last said of itself, for the operator's status: from those that speak to this exporter, and from the store
for those that speak to another. Belongs to the pipeline's thread.

Only the last minutes: a node that is gone stops being listed by itself. Without the store the list is this exporter's own.
An agent that comes back under another boot has left a gap: how long, and what was in flight, is counted and logged.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from farcall.api import ComponentStatus
from farcall.envelope import DNS_CACHE, MAX_AGENTS, AgentSight, AgentStatus
from farcall.journal import get_log
from farcall.storeport import StoreError, Writer
from farcall_exporter.counters import Counters

log = get_log("exporter")

WITHIN_S = 600.0
ASK_EVERY_S = (
    2.0  # of the store; operators ask every few seconds, and a list may be asked for by several
)
CACHE_TROUBLE_AFTER_S = 10.0  # a Redis that restarts is none
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Heard:
    version: str
    generation: int
    revision: str
    at: float  # monotonic
    boot_id: str = ""  # "": heard by another exporter
    started_ns: int = 0
    told_ns: int = 0  # the node's clock, of the newest word; or when its recording ended
    in_flight: int | None = None  # when it ended; None: it has not said so
    cache_fault: str = ""  # why it cannot use the DNS cache
    cache_fault_at: float = 0.0  # monotonic, since when


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
        before = self._heard.get(status.node)
        if before is not None and before.boot_id != status.boot_id:
            if status.ended_ns and status.started_ns < before.started_ns:
                return  # late words of one that has its successor
            self._note_restart(before, status)
        fault = _read_cache_fault((c.name, c.on, c.why) for c in status.capabilities)
        self._heard.pop(status.node, None)  # to the end: the longest silent is first
        self._heard[status.node] = _Heard(
            status.version,
            status.config_generation,
            status.config_revision,
            now,
            boot_id=status.boot_id,
            started_ns=status.started_ns,
            told_ns=status.ended_ns or status.time_ns,
            in_flight=status.counters.get("in_flight_lost", 0) if status.ended_ns else None,
            cache_fault=fault,
            cache_fault_at=_find_begin(before, now),
        )
        while len(self._heard) > MAX_AGENTS:
            del self._heard[next(iter(self._heard))]

    def _note_restart(self, before: _Heard, status: AgentStatus) -> None:
        """What nobody saw on that node, as far as the two boots tell."""
        gap_ns = max(0, status.started_ns - before.told_ns)
        self._counters.add("agent_restarts", 1)
        self._counters.add("agent_restarts_unannounced", before.in_flight is None)
        self._counters.add("agent_unwatched_ms", gap_ns // 1_000_000)
        self._counters.add("agent_in_flight_lost", before.in_flight or 0)
        log.warning(
            "an agent was restarted; calls on its node were not seen meanwhile",
            node=status.node,
            unwatched_s=round(gap_ns / NS, 3),
            in_flight_lost="unknown" if before.in_flight is None else before.in_flight,
        )

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
                cache_trouble=_find_trouble(heard),
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
        at = now - max(0.0, (self._wall_ns() - int(status.seen_ns)) / NS)
        said = (
            (c.get("name", ""), c.get("on") == "true", c.get("why", ""))
            for c in status.capabilities
        )
        return _Heard(
            status.version,
            status.config_generation,
            status.config_revision,
            at,
            cache_fault=_read_cache_fault(said),
            cache_fault_at=_find_begin(self._elsewhere.get(status.name), at),
        )


def _read_cache_fault(capabilities: Iterable[tuple[str, bool, str]]) -> str:
    """`capabilities`: name, whether it is on, and why not."""
    for name, is_on, why in capabilities:
        if name == DNS_CACHE and not is_on:
            return why or "it does not say why"
    return ""


def _find_begin(before: _Heard | None, now: float) -> float:
    """Since when there is a fault, if there is one now."""
    return before.cache_fault_at if before is not None and before.cache_fault else now


def _find_trouble(heard: _Heard) -> str:
    lasts = heard.at - heard.cache_fault_at >= CACHE_TROUBLE_AFTER_S
    return heard.cache_fault if lasts else ""
