"""From an earlier commit's installation to this one and back, with live resources: nothing restarts without a cause."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from support_cluster import NAMESPACE, ROOT, Cluster, Object, wait_until
from support_cluster_faults import read_leader
from support_cluster_former import DEPLOYMENT, former_operator, former_tree, install
from support_cluster_shop import CONFIG, SHOP, Shop

pytestmark = pytest.mark.kind

OURS = f"farcall.dev/tracingconfig={CONFIG}"


@dataclass(frozen=True)
class Sight:
    """`templates` and `pods` (their UIDs) by component; `kept` is what no upgrade may touch, by UID or version."""

    templates: dict[str, Object]
    pods: dict[str, set[str]]
    kept: dict[str, str]


def look_at(cluster: Cluster) -> Sight:
    workloads = cluster.items("ds,sts,deploy", "-l", OURS)
    component = "app.kubernetes.io/component"
    pods: dict[str, set[str]] = {}
    for pod in cluster.items("pods", "-l", OURS):
        pods.setdefault(pod["metadata"]["labels"][component], set()).add(pod["metadata"]["uid"])
    config = cluster.get("tracingconfig", CONFIG)["metadata"]
    secrets = cluster.items("secrets", "-l", OURS)
    return Sight(
        templates={w["metadata"]["labels"][component]: w["spec"]["template"] for w in workloads},
        pods=pods,
        kept={
            "TracingConfig": f"{config['uid']} {config['generation']}",
            **{s["metadata"]["name"]: str(s["data"]) for s in secrets},
            **{c["metadata"]["name"]: c["metadata"]["uid"] for c in cluster.items("pvc", "-l", OURS)},
            **{p["metadata"]["name"]: p["metadata"]["uid"] for p in cluster.items("pods", namespace=SHOP)},
        },
    )  # fmt: skip


def settle(cluster: Cluster) -> None:
    """Until whoever leads has looked at everything: it repairs, and says so."""
    service = f"{CONFIG}-console"
    cluster.kubectl("-n", NAMESPACE, "delete", "service", service)
    wait_until(lambda: cluster.exists("service", service), "it repairs")
    cluster.wait_current(CONFIG)


def check(before: Sight, after: Sight) -> None:
    assert after.kept == before.kept
    same = {c for c in before.templates if before.templates[c] == after.templates.get(c)}
    assert {c: after.pods[c] for c in same} == {c: before.pods[c] for c in same}


def test_an_earlier_version_and_this_one_take_over_from_each_other_and_restart_nothing_without_a_cause(
    cluster: Cluster, shop: Shop, tmp_path: Path
) -> None:
    settle(cluster)
    newer = look_at(cluster)
    try:
        with former_tree(tmp_path) as tree, former_operator(cluster, tree, tmp_path):
            settle(cluster)
            older = look_at(cluster)
            check(newer, older)
    finally:
        install(cluster, ROOT)
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", DEPLOYMENT, "--timeout=100s")
    wait_until(lambda: read_leader(cluster), "the operator of this version leads")
    settle(cluster)
    upgraded = look_at(cluster)

    check(older, upgraded)
    assert upgraded.templates == newer.templates
