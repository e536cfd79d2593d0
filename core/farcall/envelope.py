"""How agents and the exporter talk: paths, limits and what each answer means. HTTP/1.1, bearer token.

POST /ingest/v1/batch          body: one Arrow IPC stream (farcall.exchange)  → 200 after it is committed to the store
POST /ingest/v1/agent-status   body: JSON AgentStatus                          → 200
GET  /ingest/v1/agents         what each agent last said, for the operator     → 200, JSON `AgentsSaid`

| status | meaning | the agent |
|---|---|---|
| 200 | committed, or already known by its (boot_id, number) | forgets the batch |
| 400, 413, 415, 422 | this batch can never be taken; the JSON problem says why | drops it and counts it as refused |
| 401, 403 | the token is wrong | keeps it, reads the token anew, backs off, says so |
| 429, 503 | not now; `Retry-After` in seconds | keeps it, backs off |
| other, or no connection | a fault | keeps it, backs off |
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

BATCH_PATH = "/ingest/v1/batch"
STATUS_PATH = "/ingest/v1/agent-status"
AGENTS_PATH = "/ingest/v1/agents"
BATCH_CONTENT_TYPE = "application/vnd.apache.arrow.stream"
MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_BATCH_ROWS = 65_536
MAX_STATUS_BYTES = 64 * 1024
MAX_STATUS_TEXT = 1024  # characters of one text in it
MAX_WHOLE = 2**63 - 1
MAX_AGENTS = 10_000  # in one list: twice what Kubernetes supports in nodes
MAX_AGENTS_BYTES = 4 * 1024 * 1024


# The capability of writing names where other agents and the exporter find them.
DNS_CACHE = "dns cache"


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
    config_revision: str = ""  # EffectiveConfig.revision; an older agent does not say it
    ended_ns: int = 0  # Unix, of the last status of a boot: when recording ended; 0: it goes on
    # Unix: what had ended before is in batches that this exporter has taken; 0: not known, or an older agent's.
    reported_ns: int = 0

    def to_json(self) -> dict[str, Any]:
        # By hand: asdict copies deeply, which takes ten times as long as writing the JSON.
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "capabilities": [_to_json(c) for c in self.capabilities]}


def _to_json(capability: Capability) -> dict[str, Any]:
    return {name: getattr(capability, name) for name in capability.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSight:
    """What one agent last said of itself, and how long ago, as the exporter tells the operator."""

    node: str
    version: str
    config_generation: int
    config_revision: str
    age_s: float
    cache_trouble: str = ""  # why it has not been able to use the DNS cache for a while


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsSaid:
    """The answer of AGENTS_PATH. `store_trouble`: why nothing can be stored just now, "" when all is well."""

    agents: tuple[AgentSight, ...]
    store_trouble: str = ""


def render_agents(agents: Iterable[AgentSight], *, store_trouble: str = "") -> bytes:
    """The freshest MAX_AGENTS of them, by node."""
    freshest = sorted(agents, key=lambda a: a.age_s)[:MAX_AGENTS]
    items = [asdict(a) for a in sorted(freshest, key=lambda a: a.node)]
    said = {"agents": items, "store_trouble": store_trouble[:MAX_STATUS_TEXT]}
    return json.dumps(said, separators=(",", ":")).encode()


def parse_agents(body: bytes) -> AgentsSaid:
    """Raises ValueError that names what is wrong."""
    try:
        raw = json.loads(body)
    except RecursionError as e:
        raise ValueError("the list is nested too deeply") from e
    agents = raw.get("agents") if isinstance(raw, dict) else None
    if not isinstance(agents, list) or len(agents) > MAX_AGENTS:
        raise ValueError(f"the answer holds no list of at most {MAX_AGENTS} agents")
    trouble = raw.get("store_trouble", "")  # an older exporter does not say it
    _check_text("store_trouble", trouble)
    return AgentsSaid(agents=tuple(_parse_sight(item) for item in agents), store_trouble=trouble)


def _parse_sight(raw: Any) -> AgentSight:
    if not isinstance(raw, dict):
        raise ValueError("agents holds something that is not an object")
    for name in ("node", "version", "config_revision"):
        _check_text(name, raw.get(name))
    _check_whole("config_generation", raw.get("config_generation"))
    _check_number("age_s", raw.get("age_s"))
    sight = {"cache_trouble": "", **raw}  # an older exporter does not say it
    _check_text("cache_trouble", sight["cache_trouble"])
    return AgentSight(**{f.name: sight[f.name] for f in fields(AgentSight)})


def parse_agent_status(raw: Any) -> AgentStatus:
    """The JSON value of an agent's status. Raises ValueError that names the field.

    Unknown fields are left out: a newer agent may say more than this exporter knows.
    """
    if not isinstance(raw, dict):
        raise ValueError("the status is not a JSON object")
    if missing := _CHECKS.keys() - raw.keys():
        raise ValueError(f"the status lacks {', '.join(sorted(missing))}")
    for name, check in _CHECKS.items():
        check(name, raw[name])
    capabilities = tuple(_parse_capability(item) for item in raw["capabilities"])
    values = {name: raw[name] for name in _CHECKS}
    for name in _OPTIONAL.keys() & raw.keys():
        _OPTIONAL[name](name, raw[name])
        values[name] = raw[name]
    return AgentStatus(**{**values, "capabilities": capabilities})


def _parse_capability(raw: Any) -> Capability:
    if not isinstance(raw, dict):
        raise ValueError("capabilities holds something that is not an object")
    for name in ("name", "why", "cost"):
        _check_text(f"capabilities.{name}", raw.get(name, "" if name != "name" else None))
    _check_bool("capabilities.on", raw.get("on"))
    return Capability(
        name=raw["name"], on=raw["on"], why=raw.get("why", ""), cost=raw.get("cost", "")
    )


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not text")
    if len(value) > MAX_STATUS_TEXT:
        raise ValueError(f"{name} is longer than {MAX_STATUS_TEXT} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name} is not Unicode text")  # JSON can say \ud800; UTF-8 cannot


def _check_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is not true or false")


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is not a whole number")
    if not 0 <= value <= MAX_WHOLE:
        raise ValueError(f"{name} is not between 0 and {MAX_WHOLE}")


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} is not a number")
    if not -MAX_WHOLE <= value <= MAX_WHOLE:  # nan is in no range
        raise ValueError(f"{name} is not a number of 64 bits")


def _check_list(name: str, value: Any) -> None:
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")


def _check_numbers(check: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    def check_mapping(name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{name} is not an object")
        for key, number in value.items():
            _check_text(f"a key of {name}", key)
            check(f"{name}.{key}", number)

    return check_mapping


_OPTIONAL: dict[str, Callable[[str, Any], None]] = {
    "config_revision": _check_text,
    "ended_ns": _check_whole,
    "reported_ns": _check_whole,
}
_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "node": _check_text,
    "boot_id": _check_text,
    "version": _check_text,
    "time_ns": _check_whole,
    "started_ns": _check_whole,
    "config_generation": _check_whole,
    "dns_ttl_s": _check_whole,
    "dns_ttl_overridden": _check_bool,
    "kernel": _check_text,
    "capabilities": _check_list,
    "counters": _check_numbers(_check_whole),
    "gauges": _check_numbers(_check_number),
}
