"""What a call to an address of the cluster is called: service, workload, pod or node, at the call's own time."""

from typing import Any

import pytest

from farcall.attributes import REGISTRY
from farcall_exporter.batches import build_batch
from farcall_exporter.context import Context
from support_cluster_objects import controller, node, owned_by, pod, put, remove, service
from support_exporter import (
    IDENTITY,
    NS,
    T0,
    WATCHED,
    Row,
    decoded,
    exchange,
    identified,
    make_context,
    seen_from_server,
    to_rows,
)

pytestmark = pytest.mark.unit

POD, SERVICE, NODE = "10.244.1.7", "10.96.4.4", "10.244.0.1"
CART = {"app": "cart"}


@pytest.fixture
def context() -> Context:
    return make_context()


def deploy(context: Context, name: str = "cart", address: str = POD, **more: Any) -> Any:
    """A pod of a Deployment, with the ReplicaSet between them."""
    replicas = controller(
        "ReplicaSet", f"{name}-7d9c", {"kind": "Deployment", "name": name, "uid": f"d-{name}"}
    )
    made = pod(
        f"{name}-7d9c-x", address, owner=owned_by(replicas), labels={"app": name}, **more
    )  # fmt: skip
    put(context.catalog, replicas, made)
    return made


def call(context: Context, **changes: Any) -> Row:
    row = exchange(**{"peer_address": POD, "peer_port": 8080, **changes})
    (span,) = to_rows(build_batch(decoded([row]), context)["spans"])
    assert set(span["SpanAttributes"]) <= set(REGISTRY)
    assert set(span["ResourceAttributes"]) <= set(REGISTRY)
    return span


def label(context: Context, **changes: Any) -> str:
    span = call(context, **changes)
    assert span["DestinationLabel"] == span["SpanAttributes"]["farcall.destination.name"]
    return str(span["DestinationLabel"])


def test_a_pod_behind_a_service_is_named_by_the_service_whatever_the_host_says(
    context: Context,
) -> None:
    deploy(context)
    put(context.catalog, service("cart", selector=CART))
    attributes = call(context, host="payments.example.com")["SpanAttributes"]
    expected = {
        "farcall.destination.name": "cart",
        "farcall.destination.kind": "service",
        "farcall.name.source": "kubernetes",
        "farcall.name.confidence": "exact",
        "server.address": "payments.example.com",
        "k8s.service.name": "cart",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "cart-7d9c-x",
        "k8s.deployment.name": "cart",
        "k8s.node.name": "node-1",
    }

    assert {key: attributes.get(key) for key in expected} == expected


def test_a_cluster_ip_is_its_service_and_the_one_workload_behind_it(context: Context) -> None:
    deploy(context)
    put(context.catalog, service("cart", SERVICE, selector=CART))
    attributes = call(context, peer_address=SERVICE, peer_port=80)["SpanAttributes"]

    assert attributes["k8s.service.name"] == "cart"
    assert attributes["k8s.deployment.name"] == "cart"
    assert "k8s.pod.name" not in attributes


def test_behind_a_cluster_ip_the_joined_sight_tells_the_pod(context: Context) -> None:
    deploy(context)
    put(context.catalog, service("cart", SERVICE, selector=CART))
    client = identified(peer_address=SERVICE, peer_port=80)
    rows = [client, seen_from_server(client, local_address=POD, pod="cart-7d9c-x")]
    (span,) = to_rows(build_batch(decoded(rows), context)["spans"])

    assert span["SpanAttributes"]["k8s.pod.name"] == "cart-7d9c-x"
    assert span["SpanAttributes"]["farcall.join"] == "exact"
    assert span["DestinationLabel"] == "cart"


def test_a_port_that_no_service_publishes_is_the_workloads(context: Context) -> None:
    deploy(context, ports=({"name": "http", "containerPort": 8080}, {"containerPort": 9090}))
    put(context.catalog, service("shopfront", selector=CART))

    assert label(context, peer_port=8080) == "shopfront"
    assert label(context, peer_port=9090) == "cart"


def test_of_two_services_of_a_pod_the_name_that_was_used_decides(context: Context) -> None:
    deploy(context)
    put(context.catalog, service("cart", SERVICE, selector=CART))
    put(context.catalog, service("basket", "10.96.4.5", selector=CART))
    answered = {"bound_answered": T0 - 2 * NS, "connection_opened": T0 - NS}

    assert label(context, bound_name="basket.shop.svc.cluster.local", **answered) == "basket"
    assert label(context, host="cart.shop:8080") == "cart"
    assert label(context, host="cart-7d9c-x.basket.shop.svc:8080") == "basket"


def test_of_two_services_that_nobody_asked_for_none_is_guessed(context: Context) -> None:
    deploy(context)
    put(context.catalog, service("front", SERVICE, selector=CART))
    put(context.catalog, service("basket", "10.96.4.5", selector=CART))
    attributes = call(context)["SpanAttributes"]

    assert attributes["farcall.destination.name"] == "cart"
    assert "k8s.service.name" not in attributes


def test_a_headless_service_gives_way_to_the_one_with_an_address(context: Context) -> None:
    deploy(context)
    put(context.catalog, service("cart", SERVICE, selector=CART))
    put(context.catalog, service("cart-peers", selector=CART))

    assert label(context) == "cart"
    assert label(context, host="cart-peers.shop.svc") == "cart-peers"


def test_workloads_are_named_by_whom_people_know(context: Context) -> None:
    cron = {"kind": "CronJob", "name": "backup", "uid": "c"}
    job = controller("Job", "backup-2891", cron)
    stateful = {"kind": "StatefulSet", "name": "redis", "uid": "s"}
    put(context.catalog, job, pod("backup-2891-a", "10.244.1.20", owner=owned_by(job)))
    put(context.catalog, pod("redis-0", "10.244.1.21", owner=stateful))
    put(context.catalog, pod("lonely", "10.244.1.22"))
    # Its ReplicaSet was not seen; what the Deployment controller writes says the same.
    hashed = {"kind": "ReplicaSet", "name": "web-5f6c", "uid": "r"}
    put(
        context.catalog,
        pod("web-5f6c-z", "10.244.1.23", owner=hashed, labels={"pod-template-hash": "5f6c"}),
    )
    named = [label(context, peer_address=f"10.244.1.{i}") for i in (20, 21, 22, 23)]

    assert named == ["backup", "redis", "lonely", "web"]


def test_an_address_used_again_is_each_pods_at_its_time(context: Context) -> None:
    old = deploy(context, "cart")
    remove(context.catalog, old, T0)
    deploy(context, "billing", started_ns=T0 + 60 * NS)
    times = [T0 - 30 * NS, T0 + 30 * NS, T0 + 90 * NS]
    spans = [call(context, start=at) for at in times]

    assert [s["SpanAttributes"].get("k8s.deployment.name") for s in spans] == [
        "cart",
        None,
        "billing",
    ]
    rows = [exchange(peer_address=POD, peer_port=8080, start=at, sequence=i) for i, at in enumerate(times)]  # fmt: skip
    together = to_rows(build_batch(decoded(rows), context)["spans"])
    assert [s["DestinationLabel"] for s in together] == ["cart", POD, "billing"]


def test_where_two_may_have_held_it_only_what_is_true_of_both_is_said(context: Context) -> None:
    """The kubelet frees the address before the deletion is seen."""
    first = deploy(context, "cart")
    owner = first["metadata"]["ownerReferences"][0]
    again = pod("cart-7d9c-y", POD, owner=owner, labels=CART, started_ns=T0)
    put(context.catalog, again, seen_ns=T0 + NS)
    remove(context.catalog, first, T0 + 10 * NS)
    attributes = call(context, start=T0 + 5 * NS)["SpanAttributes"]

    assert attributes["k8s.deployment.name"] == "cart"
    assert "k8s.pod.name" not in attributes
    remove(context.catalog, again, T0 + 20 * NS)
    deploy(context, "billing", started_ns=T0 + 15 * NS)
    assert label(context, start=T0 + 17 * NS) == POD


def test_a_nodes_address_is_the_node_but_for_ports_that_somebody_took(context: Context) -> None:
    put(context.catalog, node("node-1", NODE))
    put(context.catalog, service("shopfront", SERVICE, selector=CART, ports=({"port": 80, "nodePort": 30080},)))  # fmt: skip
    daemon = {"kind": "DaemonSet", "name": "exporter", "uid": "ds"}
    put(
        context.catalog,
        pod("exporter-1", NODE, owner=daemon, host_network=True, ports=({"containerPort": 9100},)),
        pod("proxy", "10.244.1.30", ports=({"containerPort": 80, "hostPort": 8081},)),
    )
    ports = (10250, 30080, 9100, 8081)

    assert [label(context, peer_address=NODE, peer_port=p) for p in ports] == [
        "node-1",
        "shopfront",
        "exporter",
        "proxy",
    ]


def test_what_listens_on_a_node_is_named_by_its_own_sight(context: Context) -> None:
    put(context.catalog, node("node-1", NODE))
    client = identified(peer_address=NODE, peer_port=10250)
    rows = [client, seen_from_server(client, service="kubelet")]
    (span,) = to_rows(build_batch(decoded(rows), context)["spans"])

    assert span["DestinationLabel"] == "kubelet"
    assert span["SpanAttributes"]["farcall.name.source"] == "server"
    assert span["SpanAttributes"]["k8s.node.name"] == "node-1"


def test_both_ends_carry_their_own_workload(context: Context) -> None:
    made = deploy(context)
    put(context.catalog, service("cart", selector=CART))
    resource = call(context, pod_uid=made["metadata"]["uid"])["ResourceAttributes"]

    assert resource["k8s.deployment.name"] == "cart"
    assert resource["k8s.pod.name"] == "cart-7d9c-x"  # the node could not tell
    outside = exchange(
        role=1, flags=WATCHED | IDENTITY, pod_uid=made["metadata"]["uid"],
        local_address=POD, local_port=8080, peer_address="198.51.100.7", peer_port=50_000,
    )  # fmt: skip
    (span,) = to_rows(build_batch(decoded([outside]), context)["spans"])
    assert span["IsServerSpan"] is True
    assert span["DestinationLabel"] == "cart"
    assert span["SpanAttributes"]["k8s.service.name"] == "cart"


@pytest.mark.parametrize(
    ("said", "service"),
    [
        ({"service": "main", "container": "main"}, "cart"),
        ({"service": "basket", "container": "main"}, "basket"),  # OTEL_SERVICE_NAME
        ({"service": "python3", "container": None}, "python3"),
    ],
)
def test_a_service_that_has_but_its_containers_name_is_called_as_its_workload(
    context: Context, said: dict[str, Any], service: str
) -> None:
    made = deploy(context)
    span = call(context, pod_uid=made["metadata"]["uid"], **said)

    assert span["ServiceName"] == span["ResourceAttributes"]["service.name"] == service


def test_a_pod_without_a_workload_gives_the_service_its_own_name(context: Context) -> None:
    alone = pod("debug", POD)
    put(context.catalog, alone)
    span = call(context, pod_uid=alone["metadata"]["uid"], service="main", container="main")

    assert span["ServiceName"] == "debug"


def test_a_pod_that_the_cluster_does_not_know_keeps_the_containers_name(context: Context) -> None:
    assert (
        call(context, pod_uid="unheard", service="main", container="main")["ServiceName"] == "main"
    )


def test_a_static_pod_is_found_by_what_its_node_calls_it(context: Context) -> None:
    hashed = {"kubernetes.io/config.hash": "0123abcd"}
    put(context.catalog, pod("etcd-node-1", NODE, host_network=True, annotations=hashed))

    assert call(context, pod_uid="0123abcd")["ResourceAttributes"]["k8s.pod.name"] == "etcd-node-1"


def test_an_address_outside_the_given_networks_keeps_its_external_name(context: Context) -> None:
    """The user said what is inside; a pod elsewhere is none of ours."""
    put(context.catalog, pod("stray", "203.0.113.10"))
    span = call(context, peer_address="203.0.113.10", host="api.example.com")

    assert span["DestinationLabel"] == "api.example.com"
    assert span["SpanAttributes"]["farcall.destination.kind"] == "external"


def test_where_networks_were_discovered_the_pods_known_are_inside() -> None:
    """A network plugin that hands out addresses by itself leaves nodes without a podCIDR."""
    from dataclasses import replace

    context = make_context(cidrs=("10.96.0.0/12",))
    context.settings = replace(context.settings, is_cluster_given=False)
    put(context.catalog, pod("web-0", "192.168.7.7"), pod("client-0", "192.168.7.8"))
    span = call(context, peer_address="192.168.7.7", local_address="192.168.7.8")

    assert span["SpanAttributes"]["farcall.destination.kind"] == "service"
    assert (span["DestinationLabel"], span["IsServerSpan"]) == ("web-0", False)


def test_the_evidence_says_that_the_cluster_named_the_connection(context: Context) -> None:
    from farcall.arrowschemas import SCHEMAS
    from support_exporter import who

    deploy(context)
    values = exchange(peer_address=POD, peer_port=8080)
    row = {**who(), "time": T0, "opened": T0 - NS, "rivals": []}
    row |= {k: values[k] for k in SCHEMAS["connections"].names if k in values and k not in row}
    (connection,) = to_rows(build_batch(decoded([row], "connections"), context)["connections"])

    assert (connection["Label"], connection["NameSource"]) == ("cart", "kubernetes")


def test_nothing_of_a_pods_environment_is_kept(context: Context) -> None:
    deploy(context)

    assert "PASSWORD" not in repr(context.catalog._pods)
