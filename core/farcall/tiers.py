"""The tiers: one table that sizes everything a TracingConfig leaves open.

The DNS time to live is the brief's (Hobby one hour, Scale one week). The other numbers are first values;
each is to be justified by a measurement before it is called final (docs/decisions).
"""

from dataclasses import dataclass
from typing import Literal, get_args

TierName = Literal["Hobby", "Scale"]
TIER_NAMES: tuple[TierName, ...] = get_args(TierName)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """CPU in Kubernetes quantities (`100m`), memory likewise (`160Mi`)."""

    cpu_request: str
    memory_request: str
    memory_limit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSizing:
    memory: str  # request and limit alike: a cache that is throttled by the kernel is no cache
    maxmemory_percent: int  # 75 without persistence, 60 with: the fork's copy-on-write and the AOF buffer lie outside
    append_only: bool
    volume: str | None  # None: emptyDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    name: TierName
    dns_ttl_s: int
    retention_traces_s: int
    retention_logs_s: int
    redis: RedisSizing
    probe: Resources
    exporter: Resources
    exporter_max_replicas: (
        int  # reached only with `exporter.clickhouse.url`; the embedded store has one writer
    )
    store_volume: str


DAY_S = 86_400

TIERS: dict[TierName, Tier] = {
    "Hobby": Tier(
        name="Hobby",
        dns_ttl_s=3_600,
        retention_traces_s=3 * DAY_S,
        retention_logs_s=3 * DAY_S,
        redis=RedisSizing(memory="96Mi", maxmemory_percent=75, append_only=False, volume=None),
        probe=Resources(cpu_request="100m", memory_request="160Mi", memory_limit="256Mi"),
        exporter=Resources(cpu_request="200m", memory_request="768Mi", memory_limit="2Gi"),
        exporter_max_replicas=1,
        store_volume="10Gi",
    ),
    "Scale": Tier(
        name="Scale",
        dns_ttl_s=604_800,
        retention_traces_s=30 * DAY_S,
        retention_logs_s=14 * DAY_S,
        redis=RedisSizing(memory="1Gi", maxmemory_percent=60, append_only=True, volume="4Gi"),
        probe=Resources(cpu_request="200m", memory_request="192Mi", memory_limit="384Mi"),
        exporter=Resources(cpu_request="1", memory_request="1Gi", memory_limit="4Gi"),
        exporter_max_replicas=10,
        store_volume="100Gi",
    ),
}
