"""What is inside the cluster: found from nodes and ServiceCIDRs, the same each time, bounded, and honest about what is missing."""

import asyncio
import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_operator.cluster.port import Applied, ClusterError, Manifest, Ref
from farcall_operator.discovery import ASK_EVERY_S, Discoverer, discover
from farcall_operator.networks import MAX_NETWORKS, add_up

pytestmark = pytest.mark.unit

IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
HINT = (
    'Service "farcall-service-range" is invalid: spec.clusterIPs: Invalid value: ["0.0.0.0"]: failed to allocate IP '
    "0.0.0.0: the provided IP (0.0.0.0) is not in the valid range. The range of valid IPs is 10.96.0.0/12"
)


def make_node(number: int, *, cidrs: list[str] | None = None, address: str = "") -> Manifest:
    spec: Manifest = {"podCIDRs": cidrs} if cidrs else {}
    found = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": "n"}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{number}"},
        "spec": spec,
        "status": {"addresses": found},
    }


class FakeCluster:
    """Answers `list` with ServiceCIDRs and a dry-run apply with a refusal; counts requests."""

    def __init__(self, cidrs: list[str] | None = None, *, hint: str = "") -> None:
        self.cidrs = cidrs
        self.hint = hint
        self.requests: list[str] = []
        self.failure: ClusterError | None = None

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
    ) -> list[Manifest]:
        self.requests.append(f"list {api_version} {kind}")
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        if self.cidrs is None or api_version != "networking.k8s.io/v1":
            raise ClusterError(404, "NotFound", "the server could not find the requested resource")
        return [{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": self.cidrs}}]

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        assert dry_run
        self.requests.append(f"apply {manifest['metadata']['namespace']}")
        six = manifest["spec"].get("ipFamilies") == ["IPv6"]
        raise ClusterError(422, "Invalid", "IPv6 is not configured" if six else self.hint)

    async def get(self, ref: Ref) -> Manifest | None:
        raise AssertionError(ref)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        raise AssertionError(manifest)

    async def create(self, manifest: Manifest) -> Manifest:
        raise AssertionError(manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        raise AssertionError(manifest)

    async def merge(self, ref: Ref, patch: Manifest) -> Manifest:
        raise AssertionError(ref)

    async def delete(self, ref: Ref, *, uid: str | None = None, propagation: Any = "") -> None:
        raise AssertionError(ref)


class FakeWorld:
    def __init__(self, *nodes: Manifest) -> None:
        self.known = {n["metadata"]["name"]: n for n in nodes}

    def nodes(self) -> Mapping[str, Manifest]:
        return MappingProxyType(self.known)

    def config(self, name: str) -> Manifest | None:
        return None

    def configs(self) -> Mapping[str, Manifest]:
        return {}

    def children(self, name: str) -> Mapping[Ref, Manifest]:
        return {}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make(
    tmp_path: Path,
    cluster: FakeCluster,
    world: FakeWorld,
    *,
    nameserver: str = "10.96.0.10",
    environment: Mapping[str, str] = IN_CLUSTER,
    namespace: str = "farcall",
) -> Discoverer:
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"search a.b\nnameserver {nameserver}\noptions ndots:5\n")
    return Discoverer(
        cluster,
        world,
        namespace=namespace,
        environment=environment,
        resolv_conf=conf,
        clock=Clock(),
    )


NODES = (
    make_node(1, cidrs=["10.244.1.0/24", "fd00:1::/64"], address="172.18.0.3"),
    make_node(0, cidrs=["10.244.0.0/24"], address="172.18.0.2"),
)


def test_ranges_of_pods_services_and_nodes_are_added_up(tmp_path: Path) -> None:
    discoverer = make(tmp_path, FakeCluster(["10.96.0.0/16", "fd00:2::/108"]), FakeWorld(*NODES))

    found = asyncio.run(discoverer.discover())

    assert found.cidrs == (
        "10.96.0.0/16",
        "10.244.0.0/23",
        "172.18.0.2/31",
        "fd00:1::/64",
        "fd00:2::/108",
    )
    assert found.sources == ("nodes' podCIDRs", "ServiceCIDR kubernetes", "nodes' addresses")
    assert found.resolvers == ("10.96.0.10",)
    assert found.problems == ()


def test_the_order_of_nodes_changes_nothing(tmp_path: Path) -> None:
    one = make(tmp_path, FakeCluster(["10.96.0.0/16"]), FakeWorld(*NODES))
    other = make(tmp_path, FakeCluster(["10.96.0.0/16"]), FakeWorld(*reversed(NODES)))

    assert asyncio.run(one.discover()) == asyncio.run(other.discover())


def test_nothing_is_asked_while_nothing_changed(tmp_path: Path) -> None:
    cluster, world = FakeCluster(["10.96.0.0/16"]), FakeWorld(*NODES)
    discoverer = make(tmp_path, cluster, world)
    first = asyncio.run(discoverer.discover())

    assert asyncio.run(discoverer.discover()) is first
    world.known["node-2"] = make_node(2, cidrs=["10.244.2.0/24"], address="172.18.0.9")
    later = asyncio.run(discoverer.discover())
    assert "172.18.0.9/32" in later.cidrs
    heartbeat = make_node(2, cidrs=["10.244.2.0/24"], address="172.18.0.9")
    heartbeat["status"]["conditions"] = [{"type": "Ready", "lastHeartbeatTime": "now"}]
    world.known["node-2"] = heartbeat
    assert asyncio.run(discoverer.discover()) is later
    assert len(cluster.requests) == 1


def test_many_that_ask_at_once_cost_one_request(tmp_path: Path) -> None:
    cluster = FakeCluster(["10.96.0.0/16"])
    discoverer = make(tmp_path, cluster, FakeWorld(*NODES))

    async def ask() -> None:
        found = await asyncio.gather(*(discoverer.discover() for _ in range(20)))
        assert len(set(found)) == 1

    asyncio.run(ask())
    assert len(cluster.requests) == 1


def test_service_ranges_are_asked_for_again_after_a_minute(tmp_path: Path) -> None:
    cluster = FakeCluster(["10.96.0.0/16"])
    discoverer = make(tmp_path, cluster, FakeWorld(*NODES))
    first = asyncio.run(discoverer.discover())
    assert isinstance(discoverer.clock, Clock)

    discoverer.clock.now += ASK_EVERY_S + 1
    assert asyncio.run(discoverer.discover()) is first
    cluster.cidrs = ["10.96.0.0/16", "10.112.0.0/16"]
    discoverer.clock.now += ASK_EVERY_S + 1
    assert "10.112.0.0/16" in asyncio.run(discoverer.discover()).cidrs
    assert len(cluster.requests) == 3


def test_the_servers_hint_stands_in_where_there_are_no_servicecidrs(tmp_path: Path) -> None:
    cluster = FakeCluster(hint=HINT)

    found = asyncio.run(make(tmp_path, cluster, FakeWorld(*NODES)).discover())

    assert "10.96.0.0/12" in found.cidrs
    assert found.problems == ()
    assert cluster.requests == [
        "list networking.k8s.io/v1 ServiceCIDR",
        "list networking.k8s.io/v1beta1 ServiceCIDR",
        "apply farcall",
        "apply farcall",
    ]


def test_a_range_that_nobody_tells_is_a_problem_with_a_cure(tmp_path: Path) -> None:
    found = asyncio.run(make(tmp_path, FakeCluster(), FakeWorld(*NODES)).discover())

    assert {"10.96.0.1/32", "10.96.0.10/32"} <= set(found.cidrs)
    (problem,) = found.problems
    assert "Services" in problem and "spec.clusterCIDRs" in problem
    assert found.resolvers == ("10.96.0.10",)


def test_a_busy_server_takes_nothing_away(tmp_path: Path) -> None:
    cluster = FakeCluster(["10.96.0.0/16"])
    discoverer = make(tmp_path, cluster, FakeWorld(*NODES))
    first = asyncio.run(discoverer.discover())
    assert isinstance(discoverer.clock, Clock)

    cluster.failure = ClusterError(0, "Unreachable", "connection refused")
    discoverer.clock.now += ASK_EVERY_S + 1
    assert asyncio.run(discoverer.discover()) is first


def test_a_busy_server_is_asked_again_when_nothing_is_known_yet(tmp_path: Path) -> None:
    cluster = FakeCluster(["10.96.0.0/16"])
    cluster.failure = ClusterError(500, "InternalError", "etcd is away")
    discoverer = make(tmp_path, cluster, FakeWorld(*NODES))

    with pytest.raises(ClusterError):
        asyncio.run(discoverer.discover())
    cluster.failure = None
    assert "10.96.0.0/16" in asyncio.run(discoverer.discover()).cidrs


def test_nodes_without_a_pod_range_are_counted_and_named(tmp_path: Path) -> None:
    world = FakeWorld(
        *NODES, make_node(7, address="172.18.0.7"), make_node(8, address="172.18.0.8")
    )

    found = asyncio.run(make(tmp_path, FakeCluster(["10.96.0.0/16"]), world).discover())

    (problem,) = found.problems
    assert problem.startswith("2 of the nodes (node-7 first)") and "spec.clusterCIDRs" in problem


@pytest.mark.parametrize(
    ("nameserver", "environment", "expected"),
    [
        ("10.244.0.53", IN_CLUSTER, ("10.244.0.53",)),
        ("169.254.20.10", IN_CLUSTER, ("169.254.20.10",)),  # NodeLocal DNSCache
        ("192.0.2.53", IN_CLUSTER, ()),  # not ClusterFirst: that of the node speaks for nobody else
        ("10.96.0.10", {}, ()),  # an operator outside: its own resolver is not the cluster's
        ("nonsense", IN_CLUSTER, ()),
    ],
)
def test_the_cluster_dns_is_the_resolver_of_the_operators_pod(
    tmp_path: Path, nameserver: str, environment: Mapping[str, str], expected: tuple[str, ...]
) -> None:
    discoverer = make(
        tmp_path,
        FakeCluster(["10.96.0.0/16"]),
        FakeWorld(*NODES),
        nameserver=nameserver,
        environment=environment,
    )
    found = asyncio.run(discoverer.discover())

    assert found.resolvers == expected
    assert bool(found.problems) == (not expected)
    assert all("spec.dns.resolvers" in problem for problem in found.problems)


HOSTILE = [None, 1, "", "x", "10.0.0.0/99", "fe80::1%eth0", ["10.0.0.0/8"], {"a": 1}, "0.0.0.0/0"]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_what_is_no_network_is_left_out(tmp_path: Path, value: object) -> None:
    node = make_node(1)
    node["spec"] = {"podCIDRs": [value], "podCIDR": value}
    node["status"] = {"addresses": [{"type": "InternalIP", "address": value}, value]}

    found = asyncio.run(make(tmp_path, FakeCluster(["10.96.0.0/16"]), FakeWorld(node)).discover())

    assert found.cidrs == ("10.96.0.0/16",)


def test_the_shared_discoverer_is_kept_for_as_long_as_its_cluster(tmp_path: Path) -> None:
    cluster, world = FakeCluster(["10.96.0.0/16"]), FakeWorld(*NODES)

    async def twice() -> tuple[object, object]:
        return await discover(cluster, world), await discover(cluster, world)

    first, second = asyncio.run(twice())
    assert first is second
    assert len(cluster.requests) == 1


def test_five_thousand_nodes_fit_a_config(tmp_path: Path) -> None:
    """Every other address, so that nothing is a neighbour of another."""
    base = int(ipaddress.ip_address("10.128.0.0"))
    nodes = [
        make_node(
            n,
            cidrs=[f"10.{n // 256}.{n % 256}.0/24"],
            address=str(ipaddress.ip_address(base + 2 * n)),
        )
        for n in range(5_000)
    ]
    found = asyncio.run(make(tmp_path, FakeCluster(["10.96.0.0/16"]), FakeWorld(*nodes)).discover())

    assert len(found.cidrs) <= MAX_NETWORKS
    assert len(json.dumps(found.cidrs, indent=2)) < 32_000
    networks = [ipaddress.ip_network(c) for c in found.cidrs]
    for node in nodes:
        address = ipaddress.ip_address(node["status"]["addresses"][0]["address"])
        assert any(address in n for n in networks)
    (problem,) = found.problems
    assert "widened to /30" in problem


NETWORKS = st.builds(
    lambda address, bits: ipaddress.ip_network((address, bits), strict=False),
    st.integers(min_value=0, max_value=2**32 - 1),
    st.integers(min_value=8, max_value=32),
) | st.builds(
    lambda address, bits: ipaddress.ip_network((address, bits), strict=False),
    st.integers(min_value=2**64, max_value=2**128 - 1),
    st.integers(min_value=16, max_value=128),
)


@given(st.lists(NETWORKS, max_size=40), st.integers(min_value=1, max_value=20))
def test_whatever_is_added_up_is_bounded_sorted_and_covers(networks: list[Any], limit: int) -> None:
    whole = add_up(networks, limit=limit)
    found = [ipaddress.ip_network(c) for c in whole.cidrs]

    assert len(found) <= limit
    assert found == sorted(found, key=lambda n: (n.version, n))
    if not whole.left_out:
        for network in networks:
            assert any(n.version == network.version and network.subnet_of(n) for n in found)
    assert add_up(reversed(networks), limit=limit) == whole
