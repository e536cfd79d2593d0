"""What a cluster tells beyond the TracingConfig, as the parts of the operator hand it to one another. Types only.

discovery.py finds `Discovery`, credentials.py makes `Credentials`, agents.py asks for `AgentRun`; reconcile.py puts them
together into the `Context` that desired state is computed from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """Sorted, so that the same cluster gives the same config byte for byte. `sources` says where `cidrs` came from."""

    cidrs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()  # for example `nodes' podCIDRs`, `ServiceCIDR kubernetes`
    resolvers: tuple[str, ...] = ()  # the cluster DNS' addresses
    problems: tuple[
        str, ...
    ] = ()  # one sentence each: what could not be found out, and what to set


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Never the secrets themselves but for the two that the operator itself uses; `hashes` by workload (layout.SECRET_FILES)."""

    hashes: Mapping[str, str] = field(default_factory=dict)  # change → that workload's pods roll
    ca_pem: str = ""
    ingest_token: str = field(default="", repr=False)
    renew_at: datetime | None = None
    problems: tuple[str, ...] = ()  # a referenced Secret is missing, lacks a key, …
    writes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRun:
    """What one agent said last, by way of the exporter."""

    node: str
    version: str
    config_generation: int
    config_revision: str
    age_s: float
    cache_trouble: str = ""  # why it cannot use the DNS cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The arguments of desired state beside the TracingConfig. `farcall render` has only a namespace."""

    namespace: str
    discovery: Discovery | None = None  # None: nobody looked
    credentials: Credentials | None = None
    has_service_monitors: bool = False  # the ServiceMonitor kind exists
    architectures: tuple[str, ...] = ("amd64", "arm64")  # that there are images for
