"""What is inside the cluster: the networks of pods, Services and nodes, and the addresses of the cluster DNS.

Nodes come from the watch and cost no request; Service ranges are asked for at most once a minute. The answer is the
same, byte for byte, for the same cluster. What cannot be found out is said in a sentence that names what to set;
discovery never guesses and never fails a reconciliation, but for an API server that does not answer when nothing is known yet.
"""

import asyncio
import ipaddress
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

from farcall_operator.cluster.port import Cluster, ClusterError, Manifest, Observed
from farcall_operator.context import Discovery
from farcall_operator.networks import Network, add_up, parse_network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

ASK_EVERY_S = 60.0
RESOLV_CONF = Path("/etc/resolv.conf")
MAX_RESOLV_CONF_BYTES = 64 * 1024
MAX_RESOLVERS = 8
# v1 since Kubernetes 1.33; before that v1beta1, where somebody switched it on.
SERVICE_CIDR_VERSIONS = ("networking.k8s.io/v1", "networking.k8s.io/v1beta1")
# A Service that is never created: the API server refuses the address and says which ones it would take.
HINT_NAME = "farcall-service-range"
_HINT = re.compile(r"range of valid IPs is ([0-9a-fA-F:.]{2,39}/[0-9]{1,3})")
_HINT_ASKS = (("0.0.0.0", None), ("::", ["IPv6"]))  # of no cluster: the unspecified addresses
_SET_CIDRS = "set spec.clusterCIDRs"
_SET_RESOLVERS = "set spec.dns.resolvers"
# Answers that stay the same when asked again; all others may be a moment's.
_LASTING = (400, 401, 403, 404, 405, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One kind of network: where it came from, and what is missing."""

    networks: tuple[Network, ...] = ()
    sources: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass
class Discoverer:
    """Remembers. `namespace` is the operator's own, for the dry run; empty leaves that out.

    `environment` and `resolv_conf` are the operator's own pod's: there Kubernetes says what the API's Service and the
    cluster DNS are, without a right to read either.
    """

    cluster: Cluster
    observed: Observed
    namespace: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    resolv_conf: Path = RESOLV_CONF
    clock: Callable[[], float] = time.monotonic
    _nodes: tuple[Manifest, ...] | None = None
    _services: _Found | None = None
    _known_services: _Found | None = None  # as `_last` has them
    _ask_at: float = 0.0
    _last: Discovery | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def discover(self) -> Discovery:
        """Raises ClusterError only while nothing is known of the Services and the API server does not answer."""
        services = await self._find_services()
        nodes = tuple(self.observed.nodes().values())
        if (
            self._last is None
            or services is not self._known_services
            or not _are_same(nodes, self._nodes)
        ):
            self._last = self._put_together(nodes, services)
        self._known_services, self._nodes = services, nodes
        return self._last

    def _put_together(self, nodes: tuple[Manifest, ...], services: _Found) -> Discovery:
        pods, addresses = find_pod_ranges(nodes), find_node_addresses(nodes)
        parts = (pods, services, addresses)
        whole = add_up(n for part in parts for n in part.networks)
        resolvers, missing = self._find_resolvers((*pods.networks, *services.networks))
        problems = [*(p for part in parts for p in part.problems), *missing]
        if whole.widened is not None:
            problems.append(
                f"The nodes' addresses are too many to list; they were widened to /{whole.widened}, so that "
                f"their neighbours count as inside as well: {_SET_CIDRS} to the networks that are yours."
            )
        if whole.left_out:
            problems.append(
                f"{whole.left_out} networks are too many to list and count as outside: {_SET_CIDRS} to wider ones."
            )
        return Discovery(
            cidrs=whole.cidrs,
            sources=tuple(s for part in parts for s in part.sources),
            resolvers=resolvers,
            problems=tuple(problems),
        )

    # ---- Services ---------------------------------------------------------------------------------------------

    async def _find_services(self) -> _Found:
        """The very same object while nothing changed. Many may ask at once (a resync); the server is asked by one."""
        async with self._asking:
            now = self.clock()
            if self._services is None or now >= self._ask_at:
                found = await self._ask_services()
                self._ask_at = now + ASK_EVERY_S
                if found != self._services:
                    self._services = found
            return self._services

    async def _ask_services(self) -> _Found:
        """ServiceCIDR objects, else the API server's hint, else the addresses that are known anyway."""
        try:
            return await self._read_service_cidrs() or await self._ask_hint() or self._fall_back("")
        except ClusterError as e:
            if e.status in _LASTING:
                return self._fall_back(f" ({e.message[:200]})")
            if self._services is None:
                raise
            return self._services  # known a minute ago; the API server is only busy

    async def _read_service_cidrs(self) -> _Found | None:
        for version in SERVICE_CIDR_VERSIONS:
            try:
                items = await self.cluster.list(version, "ServiceCIDR")
            except ClusterError as e:
                if e.status not in (403, 404):
                    raise
                continue
            networks = tuple(n for item in items for n in _parse_all(_list(item, "spec", "cidrs")))
            if networks:
                names = sorted(str(_get(item, "metadata", "name")) for item in items)
                return _Found(
                    networks=_in_order(networks),
                    sources=(f"ServiceCIDR {', '.join(names[:5])}",),
                )
        return None

    async def _ask_hint(self) -> _Found | None:
        if not self.namespace:
            return None
        networks: list[Network] = []
        for address, families in _HINT_ASKS:
            try:
                await self.cluster.apply(
                    build_hint_service(self.namespace, address, families), dry_run=True
                )
            except ClusterError as e:
                if e.status not in _LASTING:
                    raise
                networks += _parse_all(_HINT.findall(e.message)[:2])
        if not networks:
            return None
        return _Found(
            networks=_in_order(networks), sources=("the API server's hint of its Service range",)
        )

    def _fall_back(self, why: str) -> _Found:
        """The API's own Service and the cluster DNS, which calls go to; other Services are then outside."""
        own = parse_network(self.environment.get("KUBERNETES_SERVICE_HOST"))
        networks = [
            n for n in (own, *map(parse_network, self._read_nameservers())) if n is not None
        ]
        known = [n for n in networks if not n.is_link_local and not n.is_loopback] if own else []
        return _Found(
            networks=_in_order(known),
            sources=("the addresses of the API's Service and the cluster DNS",) if known else (),
            problems=(
                f"The Services' range could not be found out{why}: calls to Services count as leaving the cluster; "
                f"{_SET_CIDRS} to the ranges of pods, Services and nodes.",
            ),
        )

    # ---- resolvers --------------------------------------------------------------------------------------------

    def _find_resolvers(self, inside: Iterable[Network]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(addresses, problems). The operator's pod asks the cluster DNS, as every pod with ClusterFirst does."""
        given = [a for a in map(_parse_address, self._read_nameservers()) if a is not None]
        networks = [*inside, _NODE_LOCAL_DNS]
        if "KUBERNETES_SERVICE_HOST" in self.environment:
            ours = {a for a in given if any(a in n for n in networks)}
            if ours:
                return tuple(str(a) for a in sorted(ours, key=lambda a: (a.version, a.packed))), ()
        return (), (
            "The cluster DNS' address could not be found out from the operator's own resolv.conf; names that pods "
            f"of other nodes were told may stay unknown: {_SET_RESOLVERS}.",
        )

    def _read_nameservers(self) -> list[str]:
        try:
            with self.resolv_conf.open("rb") as file:
                raw = file.read(MAX_RESOLV_CONF_BYTES)
        except OSError:
            return []
        lines = (line.split() for line in raw.decode("utf-8", "replace").splitlines())
        return [w[1] for w in lines if len(w) > 1 and w[0] == "nameserver"][:MAX_RESOLVERS]


# NodeLocal DNSCache listens on an address of its choice in here, and speaks for the cluster DNS.
_NODE_LOCAL_DNS = ipaddress.ip_network("169.254.0.0/16")
_discoverers: "WeakKeyDictionary[Cluster, Discoverer]" = WeakKeyDictionary()


async def discover(cluster: Cluster, observed: Observed, *, namespace: str = "") -> Discovery:
    """As Discoverer does, which is remembered for as long as `cluster` is."""
    known = _discoverers.get(cluster)
    if known is None or known.observed is not observed or known.namespace != namespace:
        known = _discoverers[cluster] = Discoverer(cluster, observed, namespace)
    return await known.discover()


def build_hint_service(namespace: str, address: str, families: list[str] | None) -> Manifest:
    spec: Manifest = {"clusterIP": address, "ports": [{"port": 1, "protocol": "TCP"}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": HINT_NAME, "namespace": namespace},
        "spec": {**spec, "ipFamilies": families} if families else spec,
    }


def find_pod_ranges(nodes: Iterable[Manifest]) -> _Found:
    networks: list[Network] = []
    without: list[str] = []
    for node in nodes:
        given = _parse_all(_list(node, "spec", "podCIDRs") or [_get(node, "spec", "podCIDR")])
        networks += given
        if not given:
            without.append(str(_get(node, "metadata", "name")))
    problems: tuple[str, ...] = ()
    if without:
        problems = (
            f"{len(without)} of the nodes ({min(without)[:63]} first) tell no podCIDR, because the network plugin hands out "
            f"addresses itself; their pods count as outside: {_SET_CIDRS} to the pods' range.",
        )
    return _Found(
        networks=_in_order(networks),
        sources=("nodes' podCIDRs",) if networks else (),
        problems=problems,
    )


def find_node_addresses(nodes: Iterable[Manifest]) -> _Found:
    """Inside as well: a call from outside that comes by way of a node (SNAT) then waits for that node's agent, and is kept
    as the server's span when nobody there made it."""
    found = (
        address.get("address")
        for node in nodes
        for address in _list(node, "status", "addresses")
        if isinstance(address, dict) and address.get("type") in ("InternalIP", "ExternalIP")
    )
    networks = _parse_all(found)
    return _Found(networks=_in_order(networks), sources=("nodes' addresses",) if networks else ())


def _are_same(now: tuple[Manifest, ...], before: tuple[Manifest, ...] | None) -> bool:
    """By what is read of a node. Its heartbeats make it another object again and again; most are the very same."""
    if before is None or len(now) != len(before):
        return False
    return all(a is b or _pick(a) == _pick(b) for a, b in zip(now, before, strict=True))


def _pick(node: Manifest) -> tuple[object, ...]:
    return (
        _get(node, "metadata", "name"),
        _get(node, "spec", "podCIDR"),
        _get(node, "spec", "podCIDRs"),
        _get(node, "status", "addresses"),
    )


def _get(manifest: Manifest, *path: str) -> object:
    found: object = manifest
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _list(manifest: Manifest, *path: str) -> list[object]:
    found = _get(manifest, *path)
    return found if isinstance(found, list) else []


def _parse_all(texts: Iterable[object]) -> list[Network]:
    return [n for n in map(parse_network, texts) if n is not None and n.prefixlen > 0]


def _parse_address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _in_order(networks: Iterable[Network]) -> tuple[Network, ...]:
    return tuple(sorted(set(networks), key=lambda n: (n.version, n.network_address.packed)))
