"""Which DNS servers may speak for the whole cluster: those of the config and those that this node itself asks."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from farcall_probes.procfs import read_bounded

_MAPPED = bytes(10) + b"\xff\xff"
_LOOPBACK_V6 = bytes(15) + b"\x01"


def packed_address(text: str) -> bytes | None:
    """16 bytes, IPv4 mapped; None for what is no address. A zone (`fe80::1%eth0`) is dropped."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0].strip())
    except ValueError:
        return None
    return address.packed if address.version == 6 else _MAPPED + address.packed


@lru_cache(maxsize=4096)
def address_text(packed: bytes) -> str:
    if packed.startswith(_MAPPED):
        return ".".join(map(str, packed[12:]))
    return str(ipaddress.IPv6Address(packed))


def speaks_for_all(resolver: bytes, trusted: frozenset[bytes], *, of_node: bool) -> bool:
    """`of_node`: asked in the node's own network namespace. Elsewhere loopback is a pod's own, which may run there what it likes."""
    is_loopback = resolver == _LOOPBACK_V6 or (resolver.startswith(_MAPPED) and resolver[12] == 127)
    return resolver in trusted and (of_node or not is_loopback)


def read_node_netns(proc: Path = Path("/proc")) -> int:
    """The inode of the network namespace of the node's first process, else of ours; 0 where neither can be read.

    Some sandboxes let nobody look at the first process. Where ours is a pod's own, nobody else is in it.
    """
    for process in ("1", "self"):
        try:
            return (proc / process / "ns/net").stat().st_ino
        except OSError:
            continue
    return 0


def read_nameservers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    raw = read_bounded(path) or b""
    words = (line.split() for line in raw.decode("utf-8", "replace").splitlines())
    return [w[1] for w in words if len(w) > 1 and w[0] == "nameserver"]


def trusted_resolvers(configured: Iterable[str], of_node: Iterable[str]) -> frozenset[bytes]:
    packed = (packed_address(text) for text in [*configured, *of_node])
    return frozenset(p for p in packed if p is not None)
