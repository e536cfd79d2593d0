"""Every protocol that farcall reads, called by a pod: as many spans as calls, named, with the server's sight joined.

Client and server stand on different nodes, and the calls go through Services; two servers are outside the cluster.
"""

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from support_cluster import NAMESPACE, Cluster
from support_cluster_protocols import (
    BEYOND,
    CLIENT,
    EXPORTER,
    INSIDE,
    OUTSIDE,
    OWN,
    Images,
    Market,
    open_market,
)
from support_cluster_shop import CONFIG, SHOP, Shop
from support_cluster_spans import names, pod_of

pytestmark = pytest.mark.kind


@pytest.fixture(scope="module")
def market(
    cluster: Cluster,
    shop: Shop,
    images: "Future[Images]",
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Market]:
    with open_market(cluster, shop, images.result(), tmp_path_factory.mktemp("market")) as market:
        yield market


@pytest.mark.parametrize("name", INSIDE)
def test_each_call_of_a_pod_is_one_span_with_its_servers_pod_and_sight(
    shop: Shop, market: Market, name: str
) -> None:
    case = INSIDE[name]
    spans = market.call(name)

    assert len(spans) == market.count_sent(name), market.describe(name, spans)
    assert names(spans) == {case.host}
    for span in spans:
        assert (span.kind, span.is_server_span, span.service) == ("Client", False, CLIENT)
        assert pod_of(span).startswith(f"{CLIENT}-")
        assert span.resource["k8s.node.name"] == shop.nodes[0]
        said = span.attributes
        assert case.said.items() <= said.items()
        assert said["farcall.name.source"] == "kubernetes"
        assert said["k8s.service.name"] == said["k8s.deployment.name"] == case.host
        assert said["k8s.namespace.name"] == SHOP
        assert said["farcall.server.service.name"] == case.host
        assert said["farcall.server.pod.name"].startswith(f"{case.host}-")


@pytest.mark.parametrize(
    ("name", "sources"),
    [("postgresql outside", {"dns", "cache"}), ("https outside", {"http"})],
)
def test_each_call_of_a_pod_to_a_server_outside_is_one_span_with_the_name_it_used(
    shop: Shop, market: Market, name: str, sources: set[str]
) -> None:
    case = BEYOND[name]
    spans = market.call(name)

    assert len(spans) == market.count_sent(name), market.describe(name, spans)
    assert names(spans) == {OUTSIDE}
    for span in spans:
        assert (span.kind, span.is_server_span, span.service) == ("Client", False, CLIENT)
        assert case.said.items() <= span.attributes.items()
        assert span.attributes["network.peer.address"] == shop.web
        assert span.attributes["farcall.name.source"] in sources
        assert "farcall.join" not in span.attributes


@pytest.mark.parametrize("name", OWN)
def test_a_pod_that_calls_the_exporters_own_headless_name_has_one_span_for_each_call(
    market: Market, name: str
) -> None:
    spans = market.call(name)

    assert len(spans) == market.count_sent(name), market.describe(name, spans)
    assert names(spans) == {EXPORTER}
    for span in spans:
        assert (span.kind, span.is_server_span, span.service) == ("Client", False, CLIENT)
        said = span.attributes
        assert OWN[name].said.items() <= said.items()
        assert said["farcall.name.source"] == "kubernetes"
        assert said["k8s.namespace.name"] == NAMESPACE
        assert said["k8s.service.name"] == EXPORTER
        assert said["k8s.deployment.name"] == f"{CONFIG}-exporter"
