"""How agents and the exporter talk: paths, limits and what each answer means. HTTP/1.1, bearer token.

POST /ingest/v1/batch          body: one Arrow IPC stream (farcall.exchange)  → 200 after it is committed to the store
POST /ingest/v1/agent-status   body: JSON AgentStatus                          → 200

| status | meaning | the agent |
|---|---|---|
| 200 | committed, or already known by its (boot_id, number) | forgets the batch |
| 400, 413, 415, 422 | this batch can never be taken; the JSON problem says why | drops it and counts it as refused |
| 401, 403 | the token is wrong | keeps it, reads the token anew, backs off, says so |
| 429, 503 | not now; `Retry-After` in seconds | keeps it, backs off |
| other, or no connection | a fault | keeps it, backs off |
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

BATCH_PATH = "/ingest/v1/batch"
STATUS_PATH = "/ingest/v1/agent-status"
BATCH_CONTENT_TYPE = "application/vnd.apache.arrow.stream"
MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_BATCH_ROWS = 65_536
MAX_STATUS_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One thing the agent can or cannot see on this node. `farcall doctor` prints these."""

    name: str  # for example `syscalls/write`
    on: bool
    why: str = ""  # when off: the cause
    cost: str = ""  # when off: what is not seen for it


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """Sent every few seconds, and shown on the status page. Counters only ever grow within a boot."""

    node: str
    boot_id: str
    version: str
    time_ns: int  # Unix
    started_ns: int
    config_generation: int
    dns_ttl_s: int
    dns_ttl_overridden: bool
    kernel: str
    capabilities: tuple[Capability, ...]
    counters: dict[str, int] = field(
        default_factory=dict
    )  # names as in farcall_probes.counters, losses end in `_lost` or `_dropped`
    gauges: dict[str, float] = field(
        default_factory=dict
    )  # rss_bytes, cpu_seconds, queue_batches, ring fill

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse_agent_status(raw: Any) -> AgentStatus:
    """The JSON value of an agent's status. Raises ValueError that names the field."""
    if not isinstance(raw, dict):
        raise ValueError("the status is not a JSON object")
    known = {f.name for f in fields(AgentStatus)}
    if missing := known - raw.keys():
        raise ValueError(f"the status lacks {', '.join(sorted(missing))}")
    values: dict[str, Any] = {name: raw[name] for name in known}
    for name, kind in _TYPES.items():
        if not isinstance(values[name], kind) or (kind is int and isinstance(values[name], bool)):
            raise ValueError(f"{name} is not of type {kind.__name__}")
    try:
        values["capabilities"] = tuple(
            Capability(**capability) for capability in values["capabilities"]
        )
    except TypeError as e:
        raise ValueError(f"capabilities: {e}") from e
    for name in ("counters", "gauges"):
        if any(
            not isinstance(v, int | float) or isinstance(v, bool) for v in values[name].values()
        ):
            raise ValueError(f"{name} holds something that is not a number")
    return AgentStatus(**values)


_TYPES: dict[str, type] = {
    "node": str,
    "boot_id": str,
    "version": str,
    "time_ns": int,
    "started_ns": int,
    "config_generation": int,
    "dns_ttl_s": int,
    "dns_ttl_overridden": bool,
    "kernel": str,
    "capabilities": list,
    "counters": dict,
    "gauges": dict,
}
