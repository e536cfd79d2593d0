"""What the far end of a call is called when the caller is a pod, seen through the API as a user sees it."""

import re
from collections import Counter

import pytest

from farcall.api import Span
from farcall.names import UNKNOWN_EXTERNAL_SERVICE
from support_cluster import Cluster, wait_until
from support_cluster_shop import SHOP, ZONE, Shop

pytestmark = pytest.mark.kind


def pod_of(span: Span) -> str:
    return span.resource.get("k8s.pod.name", "")


def wait_spans(cluster: Cluster, caller: str, query: str = "", *, at_least: int = 3) -> list[Span]:
    """Client-side spans of the pods of that Deployment."""

    def look() -> list[Span] | None:
        found = [s for s in cluster.list_spans(query) if pod_of(s).startswith(f"{caller}-")]
        assert len(found) >= at_least, f"{len(found)} spans of {caller}"
        return found

    return wait_until(look, f"{at_least} spans of {caller}")


def names(spans: list[Span]) -> set[str]:
    return {span.destination for span in spans}


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
        assert span.resource["k8s.namespace.name"] == SHOP
        assert span.resource["k8s.container.name"] == "main"
        assert re.fullmatch(r"[0-9a-f-]{36}", span.resource["k8s.pod.uid"])
        assert span.resource["k8s.node.name"] == shop.nodes[1]


@pytest.mark.parametrize("caller", ["by-name", "by-ip", "headless", "by-node", "payer"])
def test_each_call_is_one_span(cluster: Cluster, shop: Shop, caller: str) -> None:
    """Same node, other node, ClusterIP, headless, NodePort and outside. Rounds are numbered: none twice, none missing."""
    spans = wait_spans(cluster, caller, f"url.path:/{caller.removesuffix('er')}*", at_least=10)
    rounds = Counter(int(s.attributes["url.path"].rpartition("/")[2]) for s in spans)

    assert max(rounds.values()) == 1, rounds.most_common(3)
    # The newest may still be on their way, and the oldest may be from before the agent was there.
    first, last = min(rounds), max(rounds) - 3
    assert [n for n in range(first, last) if n not in rounds] == []
