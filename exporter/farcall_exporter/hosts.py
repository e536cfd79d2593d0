"""What a Host header, or a name from DNS, says: is it a name at all, and which service of the cluster does it mean?

Pure text rules. The header comes from the wire: whatever does not look like a DNS name is no name.
"""

import ipaddress
import re
from functools import lru_cache

# Underscores appear in real names (SRV-like labels, Docker Compose); RFC 1123 forbids them, resolvers do not.
_LABEL = re.compile(r"^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$")
_NUMBER = re.compile(r"^(0x[0-9a-f]*|[0-9]+)$")
_PORT = re.compile(r":[0-9]{0,5}$")
MAX_NAME = 253  # RFC 1035: 255 octets on the wire


@lru_cache(maxsize=16_384)
def parse_host_name(host: str | None) -> str | None:
    """The name in a Host header, lower case, without port and final dot; None when it holds none.

    An IP literal is not a name: `1.2.3.4`, `1.2.3.4:80`, `[::1]`, `[::1]:80`, `::1`, and the older numeric forms
    (`2130706433`, `0x7f.1`), by the WHATWG rule that a host whose last label is a number is an IPv4 address.
    `localhost` means this machine, which is no name for the far end either.
    """
    if not host:
        return None
    text = _PORT.sub("", host.strip().lower()).removesuffix(".")
    if not text or len(text) > MAX_NAME or is_address(text):
        return None
    labels = text.split(".")
    if not all(_LABEL.match(label) for label in labels) or _NUMBER.match(labels[-1]):
        return None
    return None if labels[-1] == "localhost" else text


def is_ip_literal(host: str | None) -> bool:
    """The request itself names a bare address (M7), as opposed to naming nothing."""
    if not host:
        return False
    text = host.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    text = text.removesuffix(".")
    return is_address(text) or _NUMBER.match(text.rpartition(".")[2].lower()) is not None


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


@lru_cache(maxsize=16_384)
def parse_service_label(name: str) -> str:
    """The service that an in-cluster name means: `inventory.shop.svc.cluster.local` → `inventory`.

    Understood are `[pod.]service.namespace.svc[.domain]` and the single label. Two labels stay as they are: they may be
    `service.namespace`, and may be a real domain that points inside.
    """
    labels = name.split(".")
    if len(labels) >= 3 and "svc" in labels[2:]:
        return labels[labels.index("svc", 2) - 2]
    return name
