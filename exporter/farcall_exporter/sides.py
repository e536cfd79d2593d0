"""Which sight of a call becomes its span. Design section 4, as one table.

| the client is | the server is | client's sight | server's sight |
|---|---|---|---|
| inside | anywhere | the span | joined to the client's |
| outside | inside | dropped | the span, `metoro.is_server_span` |
| outside | outside | the span | joined to the client's |

The last row is a machine's own traffic beyond the CIDRs: nobody else reports it, and joining keeps it single.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network

import numpy as np

from farcall.exchange import ExchangeFlag
from farcall_exporter.columns import Coded, Mask
from farcall_exporter.exchanges import Exchanges


class Cluster:
    """What counts as inside: the CIDRs and loopback, whose both ends are on this very machine or pod.

    Networks lie by their size: a thousand of them (a discovered cluster of many nodes) cost one look per size, not a thousand.
    """

    def __init__(self, cidrs: tuple[str, ...]) -> None:
        self._networks: dict[tuple[int, int], set[int]] = {}
        for network in map(ip_network, cidrs):
            host_bits = network.max_prefixlen - network.prefixlen
            begin = int(network.network_address) >> host_bits
            self._networks.setdefault((network.version, host_bits), set()).add(begin)
        self._is_inside = lru_cache(maxsize=65_536)(self._decide)

    def is_inside(self, address: str) -> bool:
        return self._is_inside(address)

    def _decide(self, text: str) -> bool:
        address = ip_address(text)
        number = int(address)
        return address.is_loopback or any(
            version == address.version and number >> host_bits in begins
            for (version, host_bits), begins in self._networks.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    client_spans: Mask
    server_spans: Mask
    server_sights: Mask  # to be joined
    dropped: Mask
    peer_inside: Mask
    joinable: Mask  # client's spans whose server may be seen as well


def decide_sides(exchanges: Exchanges, inside: Callable[[Coded], Mask]) -> Sides:
    local_inside = inside(exchanges.ends.local)
    peer_inside = inside(exchanges.ends.peer)
    is_client = exchanges.is_client
    # Of a connect that failed no server has a sight, whatever its client's address; it may not even have had one.
    local_inside = local_inside | exchanges.ends.has(ExchangeFlag.UNCONNECTED)
    client_inside = np.where(is_client, local_inside, peer_inside)
    server_inside = np.where(is_client, peer_inside, local_inside)
    from_outside = ~client_inside & server_inside
    # What another exporter has is neither a span nor waits here.
    is_server = ~is_client & ~exchanges.ends.has(ExchangeFlag.COPY)
    is_client = is_client & ~exchanges.ends.has(ExchangeFlag.COPY)
    return Sides(
        client_spans=is_client & ~from_outside,
        server_spans=is_server & from_outside,
        server_sights=is_server & ~from_outside,
        dropped=is_client & from_outside,
        peer_inside=peer_inside,
        joinable=is_client
        & ~from_outside
        & (server_inside | ~client_inside)
        & ~exchanges.ends.has(ExchangeFlag.UNCONNECTED),
    )
