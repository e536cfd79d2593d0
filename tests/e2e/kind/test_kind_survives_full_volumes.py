"""Volumes: a full one is told of, nothing that can be kept is lost, and room alone heals it. What was kept outlives a pod."""

import uuid
from collections.abc import Iterator

import pytest

from support_cluster import NAMESPACE, Cluster, docker, wait_until
from support_cluster_faults import (
    SECOND,
    SMALL,
    second_config,
    small_path,
    small_volumes,
    wait_told,
)
from support_cluster_shop import ZONE, Shop, caller
from support_cluster_spans import count_rounds, find_missing

pytestmark = pytest.mark.kind

STORE, CACHE = f"{SECOND}-store", f"data-{SECOND}-redis-0"
STORE_MIB, CACHE_MIB = 256, 16


@pytest.fixture(scope="module")
def small(cluster: Cluster, shop: Shop) -> Iterator[None]:
    """A second TracingConfig with a store and a cache on small volumes, and a pod that it traces."""
    volume = {"size": "1Gi", "storageClassName": SMALL}
    node = shop.nodes[1]
    with small_volumes(cluster, node, {STORE: STORE_MIB, CACHE: CACHE_MIB}):
        try:
            cluster.apply(
                second_config(
                    exporter={"storage": volume},
                    dnsCache={"persistence": {"enabled": True, **volume}},
                )
            )
            cluster.wait_current(SECOND)
            cluster.apply(
                *in_second(cluster, caller("full", node, f"http://pay.{ZONE}:8080/full/"))
            )
            yield
        finally:
            cluster.kubectl("delete", "namespace", SECOND, "--ignore-not-found", "--wait")
            cluster.kubectl("delete", "tracingconfig", SECOND, "--ignore-not-found")
            wait_until(
                lambda: not cluster.items("pods,pvc", "-l", f"farcall.dev/tracingconfig={SECOND}"),
                "it is gone",
            )


def in_second(cluster: Cluster, *objects: dict[str, object]) -> list[dict[str, object]]:
    """The same objects in the namespace that the second TracingConfig traces, and the namespace."""
    script = cluster.get("configmap", "workload", namespace="shop")["data"]
    own = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "workload"},
        "data": script,
    }
    moved = [
        {**one, "metadata": {**one["metadata"], "namespace": SECOND}} for one in (own, *objects)
    ]
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SECOND}}, *moved]


def ask_cache(cluster: Cluster, words: str) -> str:
    """As an agent may ask it, by its shell."""
    script = f"""
    export REDISCLI_AUTH=$(cat /run/secrets/farcall/redis-agent-password)
    redis-cli --tls --cacert /run/secrets/farcall/ca.crt --user farcall-agent --no-auth-warning {words}
    """
    return cluster.kubectl("-n", NAMESPACE, "exec", f"{SECOND}-redis-0", "--", "sh", "-c", script)


def write_to_cache(cluster: Cluster) -> None:
    """More than what is left of a page that the file has already: Redis finds out when it writes."""
    ask_cache(cluster, "hset fc1:filler text \"$(head -c 8192 /dev/zero | tr '\\0' x)\"")


def fill(node: str, claim: str) -> None:
    docker("exec", node, "sh", "-c", f"cat /dev/zero >{small_path(claim)}/filler || true")


def make_room(node: str, claim: str) -> None:
    docker("exec", node, "rm", "--force", f"{small_path(claim)}/filler")


def read_rounds(cluster: Cluster) -> list[int]:
    spans = list(cluster.list_spans("url.path:/full/*", name=SECOND))
    return sorted(count_rounds(spans))


def test_a_full_store_and_a_full_cache_are_told_of_and_no_call_of_that_time_is_lost(
    cluster: Cluster, shop: Shop, small: None
) -> None:
    node = shop.nodes[1]
    wait_until(lambda: len(read_rounds(cluster)) > 3, "calls are seen")
    fill(node, STORE)
    fill(node, CACHE)
    write_to_cache(cluster)
    wait_told(
        cluster, SECOND, "ExporterReady", "StoreRefusesWrites", "disk is full", "storage.size"
    )
    wait_told(cluster, SECOND, "CacheReady", "NotAvailable", "No space left on device")
    last = max(read_rounds(cluster))  # what is stored can be read all the while
    make_room(node, STORE)
    make_room(node, CACHE)
    cluster.wait_current(SECOND)

    def look() -> bool:
        spans = list(cluster.list_spans("url.path:/full/*", name=SECOND))
        rounds = count_rounds(spans)
        assert max(rounds) > last + 20, f"{max(rounds)} after {last}"
        assert find_missing(rounds) == []
        return True

    wait_until(look, "every call of that time is a span")


def test_a_cache_on_a_volume_has_what_it_had_after_it_was_killed(
    cluster: Cluster, shop: Shop, small: None
) -> None:
    before = str(uuid.uuid4())  # no agent would write that again
    ask_cache(cluster, f"hset fc1:kept text {before}")
    pod = f"{SECOND}-redis-0"
    cluster.kubectl("-n", NAMESPACE, "delete", "pod", pod, "--grace-period", "0", "--force")

    def look() -> bool:
        found = ask_cache(cluster, "hgetall fc1:kept")
        assert before in found, found
        return True

    wait_until(look, "it is there again")
    cluster.wait_current(SECOND)
