"""Sets of networks: added up, in one order, and never more than a bound. Pure.

A cluster of thousands of nodes must not make a config of thousands of entries: neighbours become one network, and
where that is not enough, networks are widened until they fit. What was widened is said, because it counts neighbours
as inside that may not belong to the cluster.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Of a discovered list. At about 24 bytes each a tenth of what one ConfigMap may hold (1 MiB); it also stands in the status.
MAX_NETWORKS = 1_000
# Host bits cleared per round: a round must at most halve the list, a /28 at a time would take too many.
_STEP = 2
# Never wider: half of the Internet as inside would be worse than a node too few.
_WIDEST = {4: 16, 6: 48}


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """`widened` names the prefix length that lone networks were widened to, None when all are as they were found."""

    cidrs: tuple[str, ...]
    widened: int | None = None
    left_out: int = 0


def parse_network(text: object) -> Network | None:
    """Of a CIDR or an address; None for what is neither, as an API may hold anything."""
    if not isinstance(text, str) or "%" in text:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def add_up(networks: Iterable[Network], *, limit: int = MAX_NETWORKS) -> Networks:
    """All of `networks`, neighbours as one, sorted; at most `limit`."""
    found = _collapse(list(networks))
    widened = None
    while len(found) > limit:
        narrowest = max((_host_bits_left(n) for n in found), default=0)
        if narrowest <= 0:
            break
        wider = [_widen(n, narrowest) for n in found]
        widened = max(n.prefixlen for n in wider)
        found = _collapse(wider)
    return Networks(
        cidrs=tuple(str(n) for n in found[:limit]),
        widened=widened,
        left_out=max(0, len(found) - limit),
    )


def _host_bits_left(network: Network) -> int:
    """By how many bits it may still be widened."""
    return network.prefixlen - _WIDEST[network.version]


def _widen(network: Network, narrowest: int) -> Network:
    """Only the narrowest: a pod range that is wide already stays as it is."""
    left = _host_bits_left(network)
    if left < narrowest or left <= 0:
        return network
    return network.supernet(prefixlen_diff=min(_STEP, left))


def _collapse(networks: list[Network]) -> list[Network]:
    return [*_collapse_version(networks, 4), *_collapse_version(networks, 6)]


def _collapse_version(networks: list[Network], version: int) -> Iterator[Network]:
    return ipaddress.collapse_addresses([n for n in networks if n.version == version])  # type: ignore[type-var]
