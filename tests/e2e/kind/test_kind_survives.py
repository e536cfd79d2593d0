"""What dies comes back, what was seen meanwhile is not lost, and the status says what is wrong."""

import time

import pytest

from support_argocd import judge
from support_cluster import NAMESPACE, Cluster, wait_until
from support_cluster_faults import SECOND, cut_off, kill, read_leader, second_config, wait_told
from support_cluster_shop import CONFIG, SHOP, ZONE, Shop, build_config
from support_cluster_spans import count_rounds, find_missing, wait_complete

pytestmark = pytest.mark.kind


def test_no_span_is_lost_while_the_exporter_is_away(cluster: Cluster, shop: Shop) -> None:
    since_ns = time.time_ns()  # agents may have been away before
    last = max(count_rounds(wait_complete(cluster, "pay", since_ns=since_ns)))
    kill(cluster, "exporter")
    cluster.wait_current(CONFIG)

    def look() -> bool:
        rounds = count_rounds(list(cluster.list_spans("url.path:/pay/*", since_ns=since_ns)))
        assert max(rounds) > last + 20, f"{max(rounds)} after {last}"
        assert find_missing(rounds) == []
        return True

    wait_until(look, "every call of that time is a span")


def test_names_are_there_again_after_the_dns_cache_was_killed(cluster: Cluster, shop: Shop) -> None:
    """Of connections that the agents saw being opened: those they keep, and fill the cache with again."""
    callers = ("deployment/carts", "deployment/stock")
    cluster.kubectl("-n", SHOP, "rollout", "restart", *callers)
    for caller in callers:
        cluster.kubectl("-n", SHOP, "rollout", "status", caller, "--timeout=120s")
    wait_names(cluster, since_ns=time.time_ns())
    kill(cluster, "dns-cache")
    cluster.wait_current(CONFIG)

    wait_names(cluster, since_ns=time.time_ns())


def test_an_agent_that_cannot_reach_the_cache_is_told_of_and_heals_when_it_can(
    cluster: Cluster, shop: Shop
) -> None:
    """The cache is Ready as its kubelet sees it, and so are all agents: one of them says it, and the operator asks once a minute."""
    cluster.wait_current(CONFIG)
    before = pods_of(cluster)
    with cut_off(cluster, shop.nodes[0], f"{CONFIG}-redis-0"):
        wait_told(
            cluster, CONFIG, "CacheReady", "CacheUnavailable",
            "1 of 1 cache can serve", "cannot use it", "Redis",
            within_s=400,
        )  # fmt: skip
        assert cluster.conditions(CONFIG)["Ready"]["status"] == "False"
    cluster.wait_current(CONFIG)
    wait_names(cluster, since_ns=time.time_ns())
    assert pods_of(cluster) == before


def wait_names(cluster: Cluster, *, since_ns: int) -> None:
    def look() -> bool:
        spans = cluster.list_spans("db.system.name:redis service:*", since_ns=since_ns)
        found = {span.destination for span in spans}
        assert {f"carts.{ZONE}", f"stock.{ZONE}"} <= found, str(found)
        return True

    wait_until(look, "both names are there")


def test_nothing_is_restarted_when_the_operator_is_killed(cluster: Cluster, shop: Shop) -> None:
    cluster.wait_current(CONFIG)
    before = pods_of(cluster)
    kill(cluster, "operator")
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/farcall-operator")
    # Long enough for a reconciliation of the new one.
    cluster.kubectl("label", "tracingconfig", CONFIG, f"touched={time.time_ns()}", "--overwrite")
    wait_until(lambda: read_leader(cluster), "the new operator leads")
    cluster.wait_current(CONFIG)

    assert pods_of(cluster) == before


def pods_of(cluster: Cluster) -> dict[str, str]:
    found = cluster.items("pods", "-l", f"farcall.dev/tracingconfig={CONFIG}")
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


def test_an_image_that_cannot_be_pulled_is_named_and_mending_it_heals(
    cluster: Cluster, shop: Shop
) -> None:
    image = "registry.invalid/redis:none"
    cluster.apply(build_config(dnsCache={"image": image}))
    try:

        def look() -> bool:
            ready = cluster.conditions(CONFIG)["Ready"]
            assert ready["status"] == "False", str(ready)
            assert image in str(cluster.conditions(CONFIG)), str(cluster.conditions(CONFIG))
            return True

        wait_until(look, "the status names the image")
    finally:
        cluster.apply(build_config())
    cluster.wait_current(CONFIG)


def test_a_namespace_that_refuses_the_agent_is_told_of_with_the_cure_which_heals(
    cluster: Cluster, shop: Shop
) -> None:
    enforce = "pod-security.kubernetes.io/enforce"
    label = ("label", "namespace", NAMESPACE, "--overwrite")
    cluster.kubectl(*label, f"{enforce}=baseline")
    try:
        cluster.apply(second_config())
        wait_told(cluster, SECOND, "ProbesReady", "PodSecurity", f"{enforce}=privileged")
        assert judge(cluster.get("tracingconfig", SECOND))[0] == "Degraded"
        cluster.kubectl(*label, f"{enforce}=privileged")
        cluster.wait_current(SECOND)
    finally:
        cluster.kubectl(*label, f"{enforce}=privileged")
        cluster.kubectl("delete", "tracingconfig", SECOND, "--timeout=60s")
