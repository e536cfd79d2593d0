"""Which agents live, how far in time each has reported, and whose node an address belongs to.

A server's sight waits a little longer while the agent on its client's node lives and has not yet reported up to the
sight's time. Learned from batches and statuses alone; where nothing is known nothing is waited for.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from farcall_exporter.sights import Sight

ALIVE_S = 15.0  # agents send their status every few seconds
MAX_ADDRESSES = 100_000


@dataclass(slots=True)
class _Agent:
    heard: float = 0.0
    reported_ns: int = 0


class AgentBook:
    def __init__(self) -> None:
        self._agents: dict[str, _Agent] = {}
        self._boot_by_address: OrderedDict[str, str] = OrderedDict()

    def hear(self, boot_id: str, now: float, *, reported_ns: int = 0) -> None:
        agent = self._agents.setdefault(boot_id, _Agent())
        agent.heard = now
        agent.reported_ns = max(agent.reported_ns, reported_ns)
        if len(self._agents) > 4_096:  # restarts leave boots behind
            self._agents = {boot: a for boot, a in self._agents.items() if now - a.heard < ALIVE_S}

    def learn_addresses(self, boot_id: str, addresses: Iterable[str]) -> None:
        for address in addresses:
            self._boot_by_address[address] = boot_id
            self._boot_by_address.move_to_end(address)
        while len(self._boot_by_address) > MAX_ADDRESSES:
            self._boot_by_address.popitem(last=False)

    def may_report(self, sight: Sight, now: float) -> bool:
        """Another agent, alive, owns the client's address and has not reported past the sight's end."""
        boot_id = self._boot_by_address.get(sight.client_ip)
        if boot_id is None or boot_id == sight.boot_id:
            return False
        agent = self._agents.get(boot_id)
        if agent is None or now - agent.heard > ALIVE_S:
            return False
        return agent.reported_ns < sight.end_ns

    def is_traced(self, address: str, now: float) -> bool:
        """The address belongs to a node whose agent reports: calls made from it are seen there."""
        agent = self._agents.get(self._boot_by_address.get(address, ""))
        return agent is not None and now - agent.heard <= ALIVE_S

    def count_alive(self, now: float) -> int:
        return sum(now - agent.heard <= ALIVE_S for agent in self._agents.values())
