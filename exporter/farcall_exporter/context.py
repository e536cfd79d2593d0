"""What the rooms of the pipeline share while a batch is handled: settings in force, and memory between batches."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from farcall.effective import EffectiveConfig, SelectionConfig
from farcall.storeport import Writer
from farcall_exporter.agentlist import AgentList
from farcall_exporter.agents import AgentBook
from farcall_exporter.clients import ClientBook
from farcall_exporter.cluster.catalog import Catalog
from farcall_exporter.cluster.identity import Identities
from farcall_exporter.cluster.watching import ClusterWatch
from farcall_exporter.columns import Coded, Mask
from farcall_exporter.counters import Counters
from farcall_exporter.late import LateBook
from farcall_exporter.lookups import Lookups
from farcall_exporter.parents import CauseBook
from farcall_exporter.resolve import NamingRules
from farcall_exporter.selection import Budgets
from farcall_exporter.sides import Cluster
from farcall_exporter.sights import Sight
from farcall_exporter.unproven import UnprovenBook
from farcall_exporter.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Settings:
    """The live part of the effective config, as the pipeline needs it."""

    rules: NamingRules
    cluster: Cluster
    join_hold_s: float
    generation: int
    revision: str = ""
    is_cluster_given: bool = (
        True  # its CIDRs; else the addresses that the API server tells count as well
    )
    selection: SelectionConfig = field(default_factory=SelectionConfig)

    @classmethod
    def of(cls, config: EffectiveConfig) -> "Settings":
        return cls(
            rules=NamingRules(
                ttl_s=config.dns.effective_ttl_s,
                hold_while_connected=config.dns.hold_while_connected,
            ),
            cluster=Cluster(tuple(config.cluster_cidrs)),
            join_hold_s=config.exporter.join_hold_s,
            generation=config.generation,
            revision=config.revision,
            is_cluster_given=config.cluster_cidrs_source == "given",
            selection=config.selection,
        )


@dataclass(slots=True, kw_only=True)
class Context:
    """Belongs to the pipeline's thread alone; `settings` is replaced as a whole when the config changes."""

    settings: Settings
    counters: Counters
    lookups: Lookups
    clock: Callable[[], float]  # monotonic seconds
    version: str
    peers: Writer | None = (
        None  # where there are several exporters: the store, for what the others know
    )
    run: str = ""  # this process among all exporters (orphans.render_run)
    wall_ns: Callable[[], int] = time.time_ns  # Unix
    clients: ClientBook = field(default_factory=ClientBook)
    waiting: Waiting = field(default_factory=Waiting)
    unproven: UnprovenBook = field(default_factory=UnprovenBook)
    late: LateBook = field(default_factory=LateBook)
    agents: AgentBook = field(default_factory=AgentBook)
    causes: CauseBook = field(default_factory=CauseBook)
    catalog: Catalog = field(default_factory=Catalog)  # empty where there is no cluster
    watch: ClusterWatch | None = None
    budgets: Budgets = field(default_factory=Budgets)
    agent_list: AgentList = field(init=False)
    identities: Identities = field(init=False)

    def __post_init__(self) -> None:
        self.agent_list = AgentList(self.counters, clock=self.clock)
        self.identities = Identities(self.catalog)

    def find_client_node(self, sight: Sight) -> str:
        """The node that its client was on, "" when nobody has said so."""
        with self.catalog.locked():
            return self.catalog.node_at(sight.client_ip, sight.start_ns)

    def is_beyond(self, sight: Sight) -> bool:
        """Its server is outside, though an agent sees it: a node's own address, say, where the CIDRs are of pods alone."""
        return bool(sight.server_ip) and not self.is_inside(sight.server_ip)

    def inside(self, addresses: Coded) -> Mask:
        known = [self.is_inside(text) for text in addresses.texts()]
        return np.array(known or [False], np.bool_)[np.maximum(addresses.codes, 0)]

    def is_inside(self, address: str) -> bool:
        """Discovered CIDRs lack the pods of network plugins that hand out addresses of their own; the catalog has them."""
        if self.settings.cluster.is_inside(address):
            return True
        return not self.settings.is_cluster_given and self.catalog.holds(address)
