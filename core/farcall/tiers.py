"""The tiers: one table that sizes everything a TracingConfig leaves open.

The DNS time to live is the brief's (Hobby one hour, Scale one week). The reasons for the other numbers stand beside them.
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
    store_volume: str


DAY_S = 86_400

# Why so much. Measured on two shared cores, x86-64, so upper bounds for the processor (bench/results):
# - The agent holds 59 MB with 10,000 open connections under load, at most 90 MB with 100,000 of 5,000 processes. Beside
#   it the kernel counts 41 MiB of BPF maps for the pod: 98 MiB under load, 127 MiB in that crowd. In a cluster with 1,000
#   requests/s its container counts 82 MB. A limit is twice that: an agent that is killed sees nothing. It takes 2 % of a
#   core idle and 20-31 us a record: 100m are some 3,000 records/s, 200m some 6,000.
# - An answer takes 713 bytes of Redis for the first client that is told an address, with its tombstone and the cluster's
#   key, and 534 for each further one. Hobby's 72 MiB (75 % of 96) hold some 100,000 within an hour, Scale's 614 MiB (60 %
#   of 1,024) some 900,000 within a week. Past that the entry that would end soonest goes.
# - The append-only file is as large as the data, and as large again while it is rewritten: 4 Gi are three times 1 Gi and
#   room.
# - The store holds 193 MB at rest and 223 MB after a load, up to 580 MB with logs beside it, and hangs in a cgroup of
#   500 MB where it lives in one of 700: three fifths of Hobby's 2 Gi are 1,228 Mi (farcall_operator.sizes).
# - The exporter decodes and writes 103,000 spans for each second of a core. A quarter of Hobby's 200m are 5,000 spans/s, a
#   quarter of Scale's core 25,000; there is no limit, so a quiet node gives more.
# Not measured yet: how fast the volumes fill. 10 Gi in three days and 100 Gi in thirty are what the oldest day goes by.

TIERS: dict[TierName, Tier] = {
    "Hobby": Tier(
        name="Hobby",
        dns_ttl_s=3_600,  # the brief's
        retention_traces_s=3 * DAY_S,  # a weekend
        retention_logs_s=3 * DAY_S,
        redis=RedisSizing(memory="96Mi", maxmemory_percent=75, append_only=False, volume=None),
        probe=Resources(cpu_request="100m", memory_request="128Mi", memory_limit="256Mi"),
        exporter=Resources(cpu_request="200m", memory_request="768Mi", memory_limit="2Gi"),
        store_volume="10Gi",
    ),
    "Scale": Tier(
        name="Scale",
        dns_ttl_s=604_800,  # the brief's
        retention_traces_s=30 * DAY_S,  # "was it like this before the release of last month?"
        retention_logs_s=14 * DAY_S,  # lines take several times the room of spans
        redis=RedisSizing(memory="1Gi", maxmemory_percent=60, append_only=True, volume="4Gi"),
        # A week of names in its memory instead of an hour: at most 20,000 addresses of 500 bytes and 32,768 bindings of 350.
        probe=Resources(cpu_request="200m", memory_request="160Mi", memory_limit="384Mi"),
        exporter=Resources(cpu_request="1", memory_request="1Gi", memory_limit="4Gi"),
        store_volume="100Gi",
    ),
}
