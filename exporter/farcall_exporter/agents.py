"""Which agents live, how far in time each has reported, and whose node an address belongs to.

A server's sight waits a little longer while the agent on its client's node lives and has not yet reported up to the
sight's time. Learned from batches and statuses, and from the cluster's objects where a pod is so new that its agent has
not yet spoken of it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import nsmallest

from farcall_exporter.clients import SKEW_NS
from farcall_exporter.sights import Sight

ALIVE_S = 15.0  # agents send their status every few seconds
MAX_ADDRESSES = 100_000


@dataclass(slots=True)
class _Agent:
    node: str
    heard: float = 0.0
    reported_ns: int = 0


class AgentBook:
    def __init__(self) -> None:
        self._agents: dict[str, _Agent] = {}
        self._boot_by_address: OrderedDict[str, str] = OrderedDict()

    def hear(self, boot_id: str, now: float, *, node: str, reported_ns: int) -> None:
        """`reported_ns`: Unix, what ended before on its node is known here; 0 when it has not said."""
        agent = self._agents.setdefault(boot_id, _Agent(node))
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

    def judge(self, now: float, find_node: Callable[[Sight], str]) -> Callable[[Sight], bool]:
        """Of a sight: may another agent still report its client's? The one whose address or node the client's is (`find_node`,
        "" when not known), if it lives; where nobody knows whose it is, any that lives."""
        alive = {b: a for b, a in self._agents.items() if now - a.heard <= ALIVE_S}
        by_node = {agent.node: boot_id for boot_id, agent in alive.items()}  # the newest boot's
        said = {boot_id: (agent.reported_ns, boot_id) for boot_id, agent in alive.items()}
        slowest = nsmallest(2, said.values())  # one of them is another than the sight's own
        of_address: dict[
            str, list[tuple[int, str]]
        ] = {}  # thousands of sights are of a few clients

        def find(sight: Sight) -> list[tuple[int, str]]:
            boot_id = self._boot_by_address.get(sight.client_ip)
            if boot_id is None and (node := find_node(sight)):
                boot_id = by_node.get(node, "")  # it has no agent
            if boot_id is None:
                return slowest
            return [said[boot_id]] if boot_id in said else []

        def may_report(sight: Sight) -> bool:
            others = of_address.get(sight.client_ip)
            if others is None:
                others = of_address[sight.client_ip] = find(sight)
            sought_ns = sight.end_ns + SKEW_NS
            for reported_ns, boot_id in others:
                if reported_ns < sought_ns and boot_id != sight.boot_id:
                    return True
            return False

        return may_report

    def is_traced(self, address: str, now: float) -> bool:
        """The address belongs to a node whose agent reports: calls made from it are seen there."""
        agent = self._agents.get(self._boot_by_address.get(address, ""))
        return agent is not None and now - agent.heard <= ALIVE_S

    def count_alive(self, now: float) -> int:
        return sum(now - agent.heard <= ALIVE_S for agent in self._agents.values())
