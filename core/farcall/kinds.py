"""Kinds of values that both a TracingConfig and the effective config hold, checked without any library."""

import ipaddress
import re
from typing import Literal

ProtocolName = Literal[
    "http",
    "http2",
    "grpc",
    "redis",
    "postgresql",
    "mysql",
    "memcached",
    "mongodb",
    "kafka",
    "cassandra",
    "nats",
    "amqp",
    "dns",
    "tcp",
]

# Address, slash, prefix length; ipaddress alone would also take a bare address, a netmask and a zone.
_CIDR = re.compile(r"[0-9a-fA-F:.]+/(0|[1-9][0-9]{0,2})")


def check_cidr(text: str) -> str:
    """`text`. Raises ValueError."""
    try:
        if _CIDR.fullmatch(text) is None:
            raise ValueError("it needs an address, a slash and a prefix length")
        refuse_mapped(ipaddress.ip_network(text, strict=True).network_address)
    except ValueError as e:
        raise ValueError(f"must be a CIDR such as 10.244.0.0/16 or fd00::/48: {e}") from e
    return text


def refuse_mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Kubernetes refuses ::ffff:10.0.0.1 too: two ways to write one address, and only one of them ever matches."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError("it is an IPv4 address written as IPv6")
