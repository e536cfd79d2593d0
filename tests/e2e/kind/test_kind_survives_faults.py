"""Operators, the API server, agents and nodes that die: who carries on, what the status says, and that all of it heals."""

import time

import pytest

from support_cluster import NAMESPACE, Cluster, docker, wait_until
from support_cluster_faults import (
    SECOND,
    children_of,
    kill_container,
    operator_on,
    operator_pods,
    read_leader,
    second_config,
    wait_node,
    wait_told,
)
from support_cluster_shop import CONFIG, Shop, build_config
from support_cluster_spans import count_rounds, find_missing, wait_complete

pytestmark = pytest.mark.kind

PARTS = "ds,sts,deploy,cm,svc,sa,secrets,pvc,netpol"  # what the operator itself makes


def test_an_operator_killed_in_the_middle_of_its_work_finishes_it(
    cluster: Cluster, shop: Shop
) -> None:
    cluster.wait_current(CONFIG)
    whole = [part.replace(CONFIG, SECOND) for part in children_of(cluster, CONFIG, PARTS)]
    node = operator_pods(cluster)[0]["spec"]["nodeName"]
    cluster.apply(second_config())
    try:
        wait_until(lambda: children_of(cluster, SECOND, PARTS), "the first part is there", every_s=0.1)  # fmt: skip
        kill_container(node, "operator")

        def look() -> bool:
            found = [p for p in children_of(cluster, SECOND, PARTS) if "controller" not in p]
            assert set(whole) <= set(found), f"missing are {set(whole) - set(found)}"
            return True

        wait_until(look, "it has every part that the other has")
    finally:
        cluster.kubectl("delete", "tracingconfig", SECOND, "--timeout=60s")


def test_of_two_operators_one_leads_and_the_other_takes_over_when_it_is_killed(
    cluster: Cluster, shop: Shop
) -> None:
    deployment = "deployment/farcall-operator"
    cluster.kubectl("-n", NAMESPACE, "scale", deployment, "--replicas", "2")
    try:
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", deployment, "--timeout=100s")
        leader = wait_until(lambda: read_leader(cluster), "one leads")
        pods = {pod["metadata"]["name"] for pod in operator_pods(cluster)}
        (standby,) = pods - {leader}
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", leader, "--grace-period", "0", "--force")
        cluster.kubectl("-n", NAMESPACE, "delete", "service", f"{CONFIG}-redis")

        wait_until(lambda: read_leader(cluster) == standby, "the other leads", within_s=30)
        wait_until(lambda: cluster.exists("service", f"{CONFIG}-redis"), "it repairs")
        cluster.wait_current(CONFIG)
    finally:
        cluster.kubectl("-n", NAMESPACE, "scale", deployment, "--replicas", "1")
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", deployment)


def test_calls_are_seen_while_the_api_server_is_away_and_the_operator_carries_on_after_it(
    cluster: Cluster, shop: Shop
) -> None:
    since_ns = time.time_ns()
    last = max(count_rounds(wait_complete(cluster, "by-name", since_ns=since_ns)))
    kill_container(shop.nodes[0], "kube-apiserver")

    def look() -> bool:
        done = cluster.try_kubectl("get", "--raw", "/readyz")
        assert done.stdout == "ok", done.stdout + done.stderr
        rounds = count_rounds(list(cluster.list_spans("url.path:/by-name/*", since_ns=since_ns)))
        assert max(rounds) > last + 20, f"{max(rounds)} after {last}"
        assert find_missing(rounds) == []
        return True

    wait_until(look, "every call of that time is a span")
    cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", f"{CONFIG}-redis")
    wait_until(lambda: cluster.exists("networkpolicy", f"{CONFIG}-redis"), "the operator repairs")
    cluster.wait_current(CONFIG)


def test_an_agent_without_enough_memory_is_told_of_by_its_limit_and_the_other_nodes_keep_theirs(
    cluster: Cluster, shop: Shop
) -> None:
    limit = "24Mi"
    memory = {"requests": {"memory": limit}, "limits": {"memory": limit}}
    cluster.apply(build_config(probe={"resources": memory}))
    try:
        wait_told(
            cluster, CONFIG, "ProbesReady", "OOMKilled",
            "1 of 2", f"used more than its memory limit of {limit}", "Raise its memory limit",
        )  # fmt: skip
        assert cluster.get("tracingconfig", CONFIG)["status"]["probes"] == "1/2"
    finally:
        cluster.apply(build_config())
    cluster.wait_current(CONFIG)


def test_a_node_that_is_gone_is_told_of_and_all_of_it_heals_when_it_is_back(
    cluster: Cluster, shop: Shop
) -> None:
    """Everything but the operator runs on it: exporter, cache, and half of the agents."""
    first, second = shop.nodes[:2]
    with operator_on(cluster, first):
        cluster.wait_current(CONFIG)
        docker("kill", second)
        try:
            wait_told(
                cluster, CONFIG, "ProbesReady", "NodeNotReady", second, "the node is not Ready"
            )
            wait_told(cluster, CONFIG, "ExporterReady", "NodeNotReady", second)
            wait_told(cluster, CONFIG, "CacheReady", "NodeNotReady", second)
        finally:
            docker("start", second)
        wait_node(cluster, second, ready=True)
        cluster.wait_current(CONFIG)
    since_ns = time.time_ns()
    for path in ("by-name", "pay"):
        assert max(count_rounds(wait_complete(cluster, path, since_ns=since_ns)).values()) == 1
