"""Whoever edits, deletes or scales a part by hand finds it repaired; a resource that goes takes its parts with it."""

import json
import time
import uuid

import pytest

from support_cluster import NAMESPACE, ROOT, Cluster, wait_until
from support_cluster_faults import SECOND, children_of, second_config
from support_cluster_former import install
from support_cluster_shop import CONFIG, Shop, build_config
from support_cluster_spans import count_rounds, wait_complete

pytestmark = pytest.mark.kind


def uid_of(cluster: Cluster, kind: str, name: str) -> str:
    uid: str = cluster.get(kind, name)["metadata"]["uid"]
    return uid


@pytest.mark.parametrize(
    "child",
    ["daemonset/{}-probe", "configmap/{}-config", "service/{}-redis", "networkpolicy/{}-redis"],
)
def test_a_part_that_is_deleted_is_made_again(cluster: Cluster, shop: Shop, child: str) -> None:
    kind, _, name = child.format(CONFIG).partition("/")
    before = uid_of(cluster, kind, name)

    cluster.kubectl("-n", NAMESPACE, "delete", kind, name)

    def look() -> bool:
        assert cluster.exists(kind, name), "it is not there"
        return uid_of(cluster, kind, name) != before

    wait_until(look, f"{kind} {name} is there again")
    cluster.wait_current(CONFIG)


def test_a_part_that_is_edited_or_scaled_is_as_it_was(cluster: Cluster, shop: Shop) -> None:
    cluster.kubectl("-n", NAMESPACE, "scale", f"deployment/{CONFIG}-exporter", "--replicas", "0")
    patch = {"spec": {"ports": [{"name": "redis", "port": 6379, "targetPort": 1}]}}
    cluster.kubectl("-n", NAMESPACE, "patch", "service", f"{CONFIG}-redis", "-p", json.dumps(patch))

    def look() -> bool:
        replicas = cluster.get("deployment", f"{CONFIG}-exporter")["spec"]["replicas"]
        ports = cluster.get("service", f"{CONFIG}-redis")["spec"]["ports"]
        assert replicas == 1, f"{replicas} replicas"
        assert ports[0]["targetPort"] != 1, str(ports)
        return True

    wait_until(look, "both are as they were")
    cluster.wait_current(CONFIG)


def test_somebody_elses_object_with_a_parts_name_is_left_alone_and_told_of(
    cluster: Cluster, shop: Shop
) -> None:
    mine = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{SECOND}-config", "namespace": NAMESPACE},
        "data": {"mine": str(uuid.uuid4())},
    }
    cluster.apply(mine)
    try:
        cluster.apply(second_config())

        def look() -> bool:
            stalled = cluster.conditions(SECOND).get("Stalled", {})
            assert stalled.get("status") == "True", str(stalled)
            assert stalled["reason"] == "Conflict", str(stalled)
            assert f"{SECOND}-config" in stalled["message"]
            return True

        wait_until(look, "the TracingConfig is stalled")
        assert cluster.get("configmap", f"{SECOND}-config")["data"] == mine["data"]
    finally:
        cluster.kubectl("-n", NAMESPACE, "delete", "configmap", f"{SECOND}-config")
        cluster.kubectl("delete", "tracingconfig", SECOND, "--ignore-not-found")


def test_a_config_that_is_deleted_while_no_operator_runs_takes_all_its_parts_with_it(
    cluster: Cluster, shop: Shop
) -> None:
    cluster.apply(second_config())
    wait_until(lambda: children_of(cluster, SECOND), "it has parts")
    cluster.kubectl("-n", NAMESPACE, "scale", "deployment/farcall-operator", "--replicas", "0")
    try:
        cluster.kubectl(
            "-n", NAMESPACE, "wait", "pods", "--for=delete", "--timeout=100s",
            "-l", "app.kubernetes.io/component=operator",
        )  # fmt: skip
        cluster.kubectl("delete", "tracingconfig", SECOND, "--timeout=60s")

        def look() -> bool:
            left = children_of(cluster, SECOND)
            assert left == [], f"left are {left}"
            return True

        wait_until(look, "nothing of it is left")
    finally:
        cluster.kubectl("-n", NAMESPACE, "scale", "deployment/farcall-operator", "--replicas", "1")
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/farcall-operator")


def test_a_definition_that_is_deleted_leaves_the_volumes_to_keep_and_applied_again_it_has_what_is_in_them(
    cluster: Cluster, shop: Shop
) -> None:
    volume = f"{CONFIG}-store"
    cluster.apply(build_config(deletionPolicy="Retain"))
    cluster.wait_current(CONFIG)
    before = uid_of(cluster, "pvc", volume)
    calls = wait_complete(cluster, "pay", at_least=1, since_ns=time.time_ns())
    last = max(count_rounds(calls))
    try:
        cluster.kubectl("delete", "crd", "tracingconfigs.farcall.dev", "--timeout=100s")

        def look() -> bool:
            left = children_of(cluster, CONFIG)
            assert left == [f"PersistentVolumeClaim/{volume}"], f"left are {left}"
            return True

        wait_until(look, "only the volume is left")
    finally:
        install(cluster, ROOT)
        wait_until(lambda: cluster.apply(build_config()), "the definition is there")
    cluster.wait_current(CONFIG)

    assert uid_of(cluster, "pvc", volume) == before
    assert cluster.list_spans(f"url.path:/pay/{last}")
    wait_complete(cluster, "pay", since_ns=time.time_ns())
