"""The agent's status: what it sees, what it lost, what it costs. Posted by the sender every few seconds."""

import os
import time
from collections.abc import Callable, Iterable

from farcall.effective import EffectiveConfig
from farcall.envelope import AgentStatus, Capability
from farcall.installed import read_version

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def make_status(
    *,
    node: str,
    boot_id: str,
    started_ns: int,
    ended_ns: int,
    reported_ns: int,
    config: EffectiveConfig,
    revision: str,
    capabilities: Iterable[Capability],
    counters: Iterable[dict[str, int]],
    gauges: Iterable[dict[str, float]],
) -> AgentStatus:
    return AgentStatus(
        node=node,
        boot_id=boot_id,
        version=read_version(),
        time_ns=time.time_ns(),
        started_ns=started_ns,
        ended_ns=ended_ns,
        reported_ns=reported_ns,
        config_generation=config.generation,
        config_revision=revision,
        dns_ttl_s=config.dns.effective_ttl_s,
        dns_ttl_overridden=config.dns.ttl_override_s is not None,
        kernel=os.uname().release,
        capabilities=tuple(capabilities),
        counters={k: v for part in counters for k, v in part.items()},
        gauges={k: v for part in (*gauges, read_cost()) for k, v in part.items()},
    )


def read_cost(read: Callable[[], bytes] | None = None) -> dict[str, float]:
    """Memory and CPU of this process."""
    raw = read() if read is not None else _read_statm()
    return {
        "rss_bytes": float(int(raw.split()[1]) * PAGE_BYTES),
        "cpu_seconds": round(time.process_time(), 3),
    }


def _read_statm() -> bytes:
    with open("/proc/self/statm", "rb") as file:
        return file.read()
