"""Each call is one span, wherever client and server stand, and from the right side. Calls are numbered by their path."""

import pytest

from farcall.api import Span
from support_cluster import Cluster, wait_until
from support_cluster_shop import Shop
from support_cluster_spans import count_rounds, pod_of, wait_complete

pytestmark = pytest.mark.kind

# By the Service's name and address, by its endpoints, by a node's port (so behind two translations), from a pod on its
# node's own network, from a pod to itself through its own Service, and to the world outside.
CALLERS = ["by-name", "by-ip", "headless", "by-node", "on-host", "hairpin", "pay"]


@pytest.mark.parametrize("path", CALLERS)
def test_each_call_of_a_pod_is_one_client_side_span(
    cluster: Cluster, shop: Shop, path: str
) -> None:
    spans = wait_complete(cluster, path)

    assert max(count_rounds(spans).values()) == 1
    assert {span.is_server_span for span in spans} == {False}
    assert {span.kind for span in spans} == {"Client"}


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
