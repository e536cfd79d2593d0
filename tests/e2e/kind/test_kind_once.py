"""Each call is one span, wherever client and server stand, and from the right side. Calls are numbered by their path."""

import time

import pytest

from farcall.api import Span
from support_cluster import Cluster, wait_until
from support_cluster_faults import frozen
from support_cluster_shop import CONFIG, SHOP, Shop, caller, wait_ready
from support_cluster_spans import count_rounds, pod_of, wait_complete

pytestmark = pytest.mark.kind

# By the Service's name and address, by its endpoints, by a node's port (so behind two translations), from a pod on its
# node's own network, from a pod to itself through its own Service, and to the world outside.
CALLERS = ["by-name", "by-ip", "headless", "by-node", "on-host", "hairpin", "pay"]


# Longer than a sight waits for a client of whom nobody may tell; less than after what an agent counts as dead.
STILL_S = 12


def assert_each_is_its_clients(cluster: Cluster, spans: list[Span]) -> None:
    assert max(count_rounds(spans).values()) == 1
    assert not (served := [s for s in spans if s.kind != "Client" or s.is_server_span]), describe(
        cluster, served
    )


def describe(cluster: Cluster, spans: list[Span]) -> str:
    """What one would ask first: which rounds, when, whose; and whether the clients' sights came too late, or never."""
    told = [(s.start_ns, pod_of(s), dict(s.attributes)) for s in spans]
    with cluster.open_api(CONFIG) as api:
        counters = {c.kind: c.counters for c in api.read_status().components}
    of_sights = {k: v for k, v in counters.get("exporter", {}).items() if "sight" in k}
    return f"{told} are servers' sights; {of_sights}"


@pytest.mark.parametrize("path", CALLERS)
def test_each_call_of_a_pod_is_one_client_side_span(
    cluster: Cluster, shop: Shop, path: str
) -> None:
    spans = wait_complete(cluster, path)

    assert_each_is_its_clients(cluster, spans)


def test_a_call_of_a_new_pod_is_its_clients_though_the_agent_there_stands_still(
    cluster: Cluster, shop: Shop
) -> None:
    """No agent has spoken of the pod's address yet when the server's tells of the call."""
    (server,) = cluster.items("pods", "-l", "deployment=api-0", namespace=SHOP)
    new = caller("new", shop.nodes[1], f"http://{server['status']['podIP']}:8080/new/")
    try:
        with frozen(shop.nodes[1], "probe"):
            ends = time.monotonic() + STILL_S
            cluster.apply(new)
            wait_ready(cluster)
            time.sleep(max(0.0, ends - time.monotonic()))
        spans = wait_complete(cluster, "new")
    finally:
        cluster.kubectl("-n", SHOP, "delete", "deployment", "new", "--wait=false")

    assert 1 in count_rounds(spans)
    assert_each_is_its_clients(cluster, spans)


@pytest.mark.parametrize("path", ["by-name", "by-ip", "headless", "by-node", "on-host"])
def test_the_servers_sight_of_the_call_is_joined_and_names_its_pod(
    cluster: Cluster, shop: Shop, path: str
) -> None:
    spans = wait_complete(cluster, path)
    joined = [span for span in spans if span.attributes.get("farcall.join") == "exact"]

    assert len(joined) >= len(spans) - 5  # the newest may still wait for it
    servers = {span.attributes["farcall.server.pod.name"].rpartition("-")[0] for span in joined}
    # A resolver puts the addresses of a headless Service in an order of its own, always the same.
    deployments = {server.rpartition("-")[0] for server in servers}
    assert deployments == {"api-0", "api-1"} or path == "headless", deployments
    assert deployments <= {"api-0", "api-1"}


def test_a_pod_that_calls_itself_through_its_service_is_client_and_server_of_one_span(
    cluster: Cluster, shop: Shop
) -> None:
    def look() -> list[Span]:
        spans = list(cluster.list_spans("url.path:/hairpin/*"))
        joined = [span for span in spans if span.attributes.get("farcall.join") == "exact"]
        assert joined, f"of {len(spans)} none is joined"
        return joined

    for span in wait_until(look, "the server's sight is joined"):
        assert span.destination == "mirror"
        assert span.attributes["farcall.server.pod.name"] == pod_of(span)


def test_a_call_by_a_pods_own_headless_name_is_joined_with_the_sight_of_the_other_node(
    cluster: Cluster, shop: Shop
) -> None:
    def look() -> list[Span]:
        spans = [s for s in cluster.list_spans("service:session") if s.destination == "sessions"]
        joined = [span for span in spans if span.attributes.get("farcall.join") == "exact"]
        assert joined, f"of {len(spans)} none is joined"
        return joined

    for span in wait_until(look, "the server's sight is joined"):
        assert span.resource["k8s.node.name"] == shop.nodes[0]
        assert span.attributes["farcall.server.pod.name"] == "sessions-0"  # on the second node


def test_a_call_from_outside_through_a_node_port_is_one_server_side_span(
    cluster: Cluster, shop: Shop
) -> None:
    """The client stands behind the node's address, which is inside; nobody else will ever report it."""
    spans = wait_complete(cluster, "outside")

    assert max(count_rounds(spans).values()) == 1
    for span in spans:
        assert span.is_server_span and span.kind == "Server"
        assert span.attributes["metoro.is_server_span"] == "true"
        assert span.attributes["farcall.join"] == "none"
        assert pod_of(span).startswith("api-")


def test_calls_of_processes_outside_this_cluster_are_nobodys(cluster: Cluster, shop: Shop) -> None:
    """The nodes share a kernel with each other, with the servers outside, and with all else on this machine."""
    wait_complete(cluster, "outside")
    spans = cluster.list_spans("")

    assert {span.resource.get("k8s.namespace.name") for span in spans} == {"shop"}
    assert {span.resource.get("k8s.node.name") for span in spans} == set(shop.nodes)
