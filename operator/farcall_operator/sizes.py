"""How the tier's figure for the exporter's pod is shared by its containers. Pure.

The embedded engine sorts and merges in memory and must have 700 MB or more (farcall.tiers has what was measured); the
console holds one answer at a time.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from farcall.quantities import parse_bytes, parse_quantity
from farcall.tiers import RedisSizing, Resources
from farcall.workloadspec import QuantitiesSpec, ResourcesSpec

Container = Literal["store", "exporter", "console"]
PERCENT: dict[Container, int] = {"store": 60, "exporter": 25, "console": 15}
# With a ClickHouse of its own the pod has no store, and the exporter gets the store's share.
PERCENT_WITHOUT_STORE: dict[Container, int] = {"store": 0, "exporter": 85, "console": 15}
MI = 1 << 20
_CPU = re.compile(r"^([0-9]+)(m?)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantities:
    """As Kubernetes writes them."""

    requests: dict[str, str]
    limits: dict[str, str]


def share_resources(pod: Resources, container: Container, *, has_store: bool) -> Quantities:
    percent = (PERCENT if has_store else PERCENT_WITHOUT_STORE)[container]
    return Quantities(
        requests={
            "cpu": f"{parse_cpu_m(pod.cpu_request) * percent // 100}m",
            "memory": _share_memory(pod.memory_request, percent),
        },
        limits={"memory": _share_memory(pod.memory_limit, percent)},
    )


def all_resources(resources: Resources) -> Quantities:
    """No CPU limit: throttling makes spans late, and the request already shares the node fairly."""
    return Quantities(
        requests={"cpu": resources.cpu_request, "memory": resources.memory_request},
        limits={"memory": resources.memory_limit},
    )


def override_resources(computed: Quantities, given: ResourcesSpec | None) -> Quantities:
    """What the resource says, quantity by quantity; the tier for the rest, moved out of its way.

    A limit of the tier's is raised to a request that was given, and a request of the tier's lowered to a limit that was
    given: the API server refuses a request above its limit.
    """
    if given is None:
        return computed
    requests, limits = _plain(given.requests), _plain(given.limits)
    return Quantities(
        requests={
            name: _pick(min, value, limits.get(name)) for name, value in computed.requests.items()
        }
        | requests,
        limits={
            name: _pick(max, value, requests.get(name)) for name, value in computed.limits.items()
        }
        | limits,
    )


def _plain(given: QuantitiesSpec | None) -> dict[str, str]:
    return given.model_dump(by_alias=True, exclude_none=True) if given else {}


def _pick(choose: Callable[..., str], ours: str, theirs: str | None) -> str:
    return ours if theirs is None else choose(ours, theirs, key=parse_quantity)


def find_cache_memory(sizing: RedisSizing, given: ResourcesSpec | None) -> int:
    """Bytes that the DNS cache's container may use."""
    memory = {"memory": sizing.memory}
    limits = override_resources(Quantities(requests=memory, limits=memory), given).limits
    return int(parse_quantity(limits["memory"]))


def parse_cpu_m(text: str) -> int:
    """Thousandths of a core of `100m` or `1`. Raises ValueError."""
    match = _CPU.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a CPU quantity")
    return int(match[1]) * (1 if match[2] else 1_000)


def _share_memory(text: str, percent: int) -> str:
    return f"{parse_bytes(text) * percent // 100 // MI}Mi"
