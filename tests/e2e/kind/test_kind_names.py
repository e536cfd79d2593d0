"""What the far end of a call is called when the caller is a pod, seen through the API as a user sees it."""

import re

import pytest

from farcall.api import Span
from farcall.names import UNKNOWN_EXTERNAL_SERVICE
from support_cluster import Cluster, wait_until
from support_cluster_shop import SHOP, ZONE, Shop
from support_cluster_spans import names, pod_of, wait_spans

pytestmark = pytest.mark.kind


@pytest.mark.parametrize("caller", ["carts", "stock"])
def test_two_pods_that_reach_one_address_by_two_names_each_see_their_own(
    cluster: Cluster, shop: Shop, caller: str
) -> None:
    spans = wait_spans(cluster, caller, "db.system.name:redis")

    assert names(spans) == {f"{caller}.{ZONE}"}
    assert {s.attributes["network.peer.address"] for s in spans} == {shop.redis}
    assert {s.attributes["farcall.name.source"] for s in spans} <= {"dns", "cache"}


def test_http_is_named_by_its_host_and_a_bare_address_is_unknown(
    cluster: Cluster, shop: Shop
) -> None:
    payer = wait_spans(cluster, "payer")
    bare = wait_spans(cluster, "bare")

    assert names(payer) == {f"pay.{ZONE}"}
    assert {s.attributes["farcall.name.source"] for s in payer} == {"http"}
    assert names(bare) == {UNKNOWN_EXTERNAL_SERVICE}
    assert {s.unknown_reason for s in bare} == {"no_dns_seen"}


def test_an_answer_seen_on_one_node_names_an_older_connection_on_another(
    cluster: Cluster, shop: Shop
) -> None:
    """The pod connected before there was an agent, so that nobody can say what it had asked for."""

    def look() -> list[Span]:
        found = [
            s for s in cluster.list_spans("db.system.name:redis") if pod_of(s).startswith("early-")
        ]
        named = [s for s in found if s.destination == f"rates.{ZONE}"]
        assert named, f"{len(found)} spans, named {names(found)}"
        return named

    wait_spans(cluster, "rates")
    spans = wait_until(look, "the early connection is named")

    assert {s.attributes["farcall.name.confidence"] for s in spans} == {"shared"}
    assert {s.attributes["farcall.name.source"] for s in spans} == {"cluster"}


def test_every_span_says_which_pod_namespace_and_container_called(
    cluster: Cluster, shop: Shop
) -> None:
    for span in wait_spans(cluster, "carts"):
        assert span.service == span.resource["k8s.deployment.name"] == "carts"
        assert span.resource["k8s.namespace.name"] == SHOP
        assert span.resource["k8s.container.name"] == "main"
        assert re.fullmatch(r"[0-9a-f-]{36}", span.resource["k8s.pod.uid"])
        assert span.resource["k8s.node.name"] == shop.nodes[1]


@pytest.mark.parametrize(
    ("caller", "service"),
    [
        ("by-name", "api"),
        ("by-ip", "api"),
        ("by-node", "api"),
        ("on-host", "api"),
        ("headless", "api-headless"),
        ("session", "sessions"),
    ],
)
def test_a_call_inside_is_named_by_its_service_however_it_was_addressed(
    cluster: Cluster, shop: Shop, caller: str, service: str
) -> None:
    spans = wait_spans(cluster, caller, at_least=10)[:10]

    assert names(spans) == {service}
    assert {s.attributes["farcall.name.source"] for s in spans} == {"kubernetes"}
    assert {s.attributes["k8s.service.name"] for s in spans} == {service}
    assert {s.attributes["k8s.namespace.name"] for s in spans} == {SHOP}
    assert {s.resource["k8s.deployment.name"] for s in spans} == {caller}
