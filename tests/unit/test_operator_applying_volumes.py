"""Volume claims grow, never shrink, and are never deleted; a StatefulSet follows its claim by recreation."""

from typing import Any

import pytest

from farcall_operator.cluster.port import ClusterError, Manifest, Ref
from support_reconcile import NAMESPACE, Stage

pytestmark = pytest.mark.unit

CONFIG_MAP = Ref("v1", "ConfigMap", NAMESPACE, "main-config")


def scale(size: str, **more: Any) -> Manifest:
    return {"tier": "Scale", "dnsCache": {"persistence": {"size": size}}, **more}


CLAIM = Ref("v1", "PersistentVolumeClaim", NAMESPACE, "data-main-redis-0")


def make_scaled(*, expandable: bool = True) -> Stage:
    stage = Stage()
    stage.cluster.put(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "disk"},
            "allowVolumeExpansion": expandable,
        }
    )
    stage.write(spec=scale("4Gi"))
    stage.reconcile()
    spec = {"storageClassName": "disk", "resources": {"requests": {"storage": "4Gi"}}}
    stage.cluster.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM.name, "namespace": NAMESPACE}, "spec": spec, "status": {"phase": "Bound"}})  # fmt: skip
    stage.cluster.edit(
        stage.cluster.ref("PersistentVolumeClaim", "main-store"),
        lambda m: m["spec"].update(storageClassName="disk"),
    )
    stage.settle()
    return stage


def size_of(stage: Stage, name: str) -> str:
    return str(
        stage.cluster.find("PersistentVolumeClaim", name)["spec"]["resources"]["requests"][
            "storage"
        ]
    )


def test_a_larger_cache_volume_grows_the_claim_and_recreates_the_statefulset() -> None:
    stage = make_scaled()
    ref = stage.cluster.ref("StatefulSet", "main-redis")
    first = stage.cluster.objects[ref]["metadata"]["uid"]
    stage.write(spec=scale("6Gi"))
    stage.reconcile()

    assert size_of(stage, CLAIM.name) == "6Gi"
    assert ("delete Orphan", ref) in stage.cluster.calls
    assert stage.cluster.objects[ref]["metadata"]["uid"] != first
    stage.settle()
    stage.reconcile()
    assert stage.cluster.calls == []


def test_a_class_that_does_not_grow_is_told_and_the_rest_goes_on() -> None:
    stage = make_scaled(expandable=False)
    ref = stage.cluster.ref("StatefulSet", "main-redis")
    first = stage.cluster.objects[ref]["metadata"]["uid"]
    stage.write(spec=scale("6Gi", dns={"holdWhileConnected": True}))
    stage.reconcile()

    assert stage.truth("Stalled") == ("True", "VolumeCannotGrow")
    assert "disk" in stage.condition("Stalled")["message"]
    assert stage.cluster.objects[ref]["metadata"]["uid"] == first
    assert (
        '"hold_while_connected": true'
        in stage.cluster.objects[CONFIG_MAP]["data"]["effective.json"]
    )


def test_a_volume_that_the_resource_asks_to_shrink_is_refused() -> None:
    stage = make_scaled()
    stage.write(spec=scale("2Gi"))
    stage.reconcile()

    assert stage.truth("Stalled") == ("True", "VolumeShrink")
    assert size_of(stage, CLAIM.name) == "4Gi"


def test_a_smaller_tier_keeps_the_larger_volume_and_is_ready() -> None:
    stage = make_scaled()
    stage.write(spec={"tier": "Hobby"})
    stage.settle()

    assert size_of(stage, "main-store") == "100Gi"
    assert stage.truth("Ready") == ("True", "Ready")
    assert "main-store keeps 100Gi" in stage.condition("Ready")["message"]
    stage.reconcile()
    assert stage.cluster.calls == []


def test_the_store_s_claim_grows_by_itself() -> None:
    stage = make_scaled()
    stage.write(spec={**scale("4Gi"), "exporter": {"storage": {"size": "200Gi"}}})
    stage.reconcile()

    assert size_of(stage, "main-store") == "200Gi"


def test_one_claim_that_cannot_be_asked_for_keeps_nobody_waiting() -> None:
    stage = make_scaled()
    stage.restart()
    stage.cluster.fault = lambda verb, ref: (
        ClusterError(403, "Forbidden", "no") if ref == CLAIM else None
    )
    stage.write(spec=scale("4Gi", dns={"holdWhileConnected": True}))
    stage.reconcile()

    assert stage.truth("Stalled") == ("True", "Forbidden")
    assert (
        '"hold_while_connected": true'
        in stage.cluster.objects[CONFIG_MAP]["data"]["effective.json"]
    )
