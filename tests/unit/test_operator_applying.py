"""Children are made, repaired, recreated and pruned; what is somebody else's is never touched."""

import copy
import functools
from collections.abc import Iterator
from typing import Any

import pytest

from farcall.tracingconfig import TracingConfig
from farcall_operator.cluster.port import (
    COMPONENT_LABEL,
    DESIRED_HASH,
    MANAGED_BY,
    MANAGER,
    OWNER_LABEL,
    Manifest,
    Ref,
)
from farcall_operator.context import Context
from farcall_operator.kubernetes import build_manifests
from farcall_operator.reconcile import Build
from support_fake_cluster import roll_out, roll_out_all
from support_reconcile import NAMESPACE, Stage

pytestmark = pytest.mark.unit

CONFIG_MAP = Ref("v1", "ConfigMap", NAMESPACE, "main-config")
MIRROR = {"tier": "Hobby", "images": {"registry": "mirror.example.com/farcall"}}


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.add_nodes(3)
    made.write()
    made.settle()
    return made


def image(stage: Stage, kind: str, name: str) -> str:
    found = stage.cluster.find(kind, name)
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


# ---- Drift ------------------------------------------------------------------------------------------------------


def list_leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list) and value:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in entries:
            yield from list_leaves(inner, (*path, key))
    else:
        yield path


def set_leaf(manifest: Manifest, path: tuple[Any, ...]) -> None:
    *parents, last = path
    holder: Any = functools.reduce(lambda found, key: found[key], parents, manifest)
    old = holder[last]
    if isinstance(old, bool):
        holder[last] = not old
    elif isinstance(old, int):
        holder[last] = old + 1
    else:
        holder[last] = f"{old}-drift" if isinstance(old, str) else "drift"


def build_once() -> Build:
    """Rendering is most of a reconciliation, and a thousand of them ask for the same."""
    known: dict[str, list[Manifest]] = {}

    def build(config: TracingConfig, context: Context) -> list[Manifest]:
        key = config.model_dump_json()
        if key not in known:
            known[key] = build_manifests(config, context)
        return known[key]

    return build


# Identity: another value is another object, or no manifest at all.
IDENTITY = ("apiVersion", "kind", "metadata.name", "metadata.namespace")


@pytest.mark.parametrize("tier", ["Hobby", "Scale"])
def test_drift_in_any_field_is_repaired_by_one_write(tier: str) -> None:
    stage = Stage(build=build_once())
    stage.write(spec={"tier": tier})
    stage.settle()
    desired = copy.deepcopy(stage.cluster._applied)
    unrepaired = []
    for ref, manifest in desired.items():
        for path in list_leaves(manifest):
            if ".".join(str(key) for key in path) in IDENTITY or "ownerReferences" in path:
                continue
            before = copy.deepcopy(stage.cluster.objects[ref])
            stage.cluster.edit(ref, lambda m, path=path: set_leaf(m, path))
            stage.cluster.forget_calls()
            stage.reconcile()
            if ("apply", ref) not in stage.cluster.calls:
                unrepaired.append((ref.kind, path))
            stage.cluster.put(before)
            stage.reconcile()
            roll_out_all(stage.cluster)  # a workload that rolls holds the later ones back

    assert len(desired) > 10
    assert unrepaired == []


def test_a_deleted_child_comes_back(stage: Stage) -> None:
    stage.cluster.remove(CONFIG_MAP)
    stage.reconcile()

    assert CONFIG_MAP in stage.cluster.objects


def test_a_child_without_its_labels_is_found_by_asking_and_repaired(stage: Stage) -> None:
    stage.cluster.edit(CONFIG_MAP, lambda m: m["metadata"].update(labels={}))
    stage.cluster.world.drop(stage.cluster.objects[CONFIG_MAP])
    stage.reconcile()

    assert stage.cluster.objects[CONFIG_MAP]["metadata"]["labels"][OWNER_LABEL] == "main"


def test_what_others_own_stays(stage: Stage) -> None:
    ref = stage.cluster.ref("DaemonSet", "main-probe")

    def restart(manifest: Manifest) -> None:
        manifest["metadata"]["annotations"]["example.com/note"] = "hello"
        manifest["spec"]["template"]["metadata"]["annotations"][
            "kubectl.kubernetes.io/restartedAt"
        ] = "now"

    stage.cluster.edit(ref, restart)
    roll_out_all(stage.cluster)
    stage.cluster.forget_calls()
    stage.reconcile()

    assert ("apply", ref) not in stage.cluster.calls


def test_what_a_webhook_makes_of_a_manifest_is_accepted_and_not_fought_over() -> None:
    stage = Stage()

    def rewrite(manifest: Manifest) -> None:
        for container in (
            manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
        ):
            container["image"] = f"mirror.example.com/{container['image'].rpartition('/')[2]}"

    stage.cluster.mutate = rewrite
    stage.write()
    stage.settle()
    stage.reconcile()
    assert stage.cluster.writes == []

    ref = stage.cluster.ref("DaemonSet", "main-probe")
    stage.cluster.edit(
        ref, lambda m: m["spec"]["template"]["spec"]["containers"][0].update(image="other")
    )
    stage.cluster.forget_calls()
    stage.reconcile()
    assert ("apply", ref) in stage.cluster.calls


def test_every_child_carries_its_hash_and_its_owner(stage: Stage) -> None:
    uid = stage.cluster.find("TracingConfig", "main")["metadata"]["uid"]
    for ref, child in stage.cluster.objects.items():
        if ref.namespace == NAMESPACE:
            assert child["metadata"]["annotations"][DESIRED_HASH], ref
            assert child["metadata"]["ownerReferences"][0]["uid"] == uid, ref


# ---- Whose is it ------------------------------------------------------------------------------------------------


def foreign(**metadata: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "main-config", "namespace": NAMESPACE, **metadata},
        "data": {"theirs": "yes"},
    }


OTHERS = {
    "nobody's": foreign(),
    "another controller's, with our labels": foreign(
        labels={OWNER_LABEL: "main", MANAGED_BY: MANAGER},
        ownerReferences=[{"apiVersion": "v1", "kind": "Namespace", "name": "x", "uid": "n", "controller": True}],
    ),
    "another TracingConfig's": foreign(
        labels={OWNER_LABEL: "else", MANAGED_BY: MANAGER},
        ownerReferences=[{"apiVersion": "farcall.dev/v1alpha1", "kind": "TracingConfig", "name": "else", "uid": "e", "controller": True}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("theirs", OTHERS.values(), ids=OTHERS)
def test_an_object_of_somebody_else_is_named_and_left_alone(theirs: Manifest) -> None:
    stage = Stage()
    stage.cluster.put(theirs)
    before = copy.deepcopy(stage.cluster.objects[CONFIG_MAP])
    stage.write()
    stage.reconcile()

    assert stage.truth("Stalled") == ("True", "Conflict")
    assert "ConfigMap farcall/main-config" in stage.condition("Stalled")["message"]
    assert stage.cluster.objects[CONFIG_MAP] == before
    stage.cluster.remove(CONFIG_MAP)
    stage.settle()
    assert stage.truth("Ready") == ("True", "Ready")


def test_the_children_of_a_resource_of_the_same_name_that_is_gone_are_waited_for() -> None:
    stage = Stage()
    owner = {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "name": "main",
        "uid": "before",
        "controller": True,
    }
    stage.cluster.put(
        foreign(labels={OWNER_LABEL: "main", MANAGED_BY: MANAGER}, ownerReferences=[owner])
    )
    stage.write()
    stage.reconcile()

    assert stage.truth("Stalled")[0] == "False"
    assert "still being deleted" in stage.condition("Ready")["message"]
    stage.cluster.remove(CONFIG_MAP)
    stage.settle()
    assert stage.truth("Ready") == ("True", "Ready")


def test_what_was_left_behind_without_an_owner_is_taken_up_again(stage: Stage) -> None:
    stage.cluster.edit(CONFIG_MAP, lambda m: m["metadata"].pop("ownerReferences"))
    stage.reconcile()

    assert stage.cluster.objects[CONFIG_MAP]["metadata"]["ownerReferences"]


# ---- No longer wanted -------------------------------------------------------------------------------------------


def test_what_is_no_longer_wanted_is_deleted_and_volumes_stay(stage: Stage) -> None:
    clickhouse = {"clickhouse": {"url": "http://clickhouse.data.svc:8123"}, "replicas": 2}
    stage.write(spec={"tier": "Hobby", "exporter": clickhouse})
    stage.settle()
    budget = stage.cluster.ref("PodDisruptionBudget", "main-exporter")
    stage.write()
    stage.reconcile()

    assert budget not in stage.cluster.objects
    assert stage.cluster.find("PersistentVolumeClaim", "main-store")


def test_a_neighbour_that_only_bears_our_label_is_not_pruned(stage: Stage) -> None:
    labels = {OWNER_LABEL: "main", MANAGED_BY: MANAGER}
    stage.cluster.put(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "notes", "namespace": NAMESPACE, "labels": labels},
        }
    )
    stage.reconcile()

    assert stage.cluster.find("ConfigMap", "notes")


# ---- What cannot be changed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"), [("Deployment", "main-exporter"), ("StatefulSet", "main-redis")]
)
def test_an_immutable_field_is_changed_by_recreation(stage: Stage, kind: str, name: str) -> None:
    ref = stage.cluster.ref(kind, name)
    first = stage.cluster.objects[ref]["metadata"]["uid"]
    stage.cluster.edit(
        ref, lambda m: m["spec"]["selector"]["matchLabels"].update({COMPONENT_LABEL: "x"})
    )
    stage.cluster.forget_calls()
    stage.reconcile()

    assert ("delete Background", ref) in stage.cluster.calls
    assert stage.cluster.objects[ref]["metadata"]["uid"] != first
    stage.settle()
    assert stage.truth("Ready") == ("True", "Ready")


def test_a_workload_of_an_earlier_version_is_told_of_until_it_is_replaced() -> None:
    """It has none of the labels that came later, and another selector."""
    stage = Stage()
    ref = Ref("apps/v1", "Deployment", NAMESPACE, "main-exporter")
    labels = {OWNER_LABEL: "main", MANAGED_BY: MANAGER}
    selector = {"old": "exporter"}
    stage.cluster.put(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": ref.name, "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": selector},
                "template": {"metadata": {"labels": selector}, "spec": {"containers": []}},
            },
        }
    )
    stage.write()
    stage.reconcile()

    assert stage.truth("ExporterReady")[0] == stage.truth("Ready")[0] == "False"
    assert "waits until" in stage.condition("Ready")["message"]  # for the cache
    stage.settle()
    assert stage.truth("Ready") == ("True", "Ready")
    assert stage.cluster.objects[ref]["spec"]["selector"]["matchLabels"] != selector


def test_a_cache_that_gets_a_volume_gets_another_pod(stage: Stage) -> None:
    """The pod that is there has no such volume, and a StatefulSet's controller never replaces it."""
    stage.write(spec={"tier": "Scale"})
    stage.reconcile()

    assert (
        "delete Background",
        stage.cluster.ref("StatefulSet", "main-redis"),
    ) in stage.cluster.calls


# ---- Order --------------------------------------------------------------------------------------------------------


def test_the_agents_follow_the_cache_and_the_exporter(stage: Stage) -> None:
    stage.write(spec=MIRROR)
    seen = []
    for kind in ("StatefulSet", "Deployment", "DaemonSet"):
        stage.reconcile()
        seen.append([image(stage, k, n).startswith("mirror") for k, n in (("StatefulSet", "main-redis"), ("Deployment", "main-exporter"), ("DaemonSet", "main-probe"))])  # fmt: skip
        roll_out(stage.cluster, kind)

    assert seen == [[True, False, False], [True, True, False], [True, True, True]]


def test_a_rollout_that_does_not_come_through_is_waited_for_ten_minutes(stage: Stage) -> None:
    stage.write(spec=MIRROR)
    stage.reconcile()
    message = stage.condition("Ready")["message"]
    assert "Deployment farcall/main-exporter waits until StatefulSet farcall/main-redis" in message
    stage.clock.pass_s(601)
    stage.reconcile()
    assert image(stage, "Deployment", "main-exporter").startswith("mirror")


def test_a_deployment_that_has_given_up_holds_nobody_back(stage: Stage) -> None:
    stage.write(spec=MIRROR)
    stage.reconcile()
    roll_out(stage.cluster, "StatefulSet")
    stage.reconcile()
    failed = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    stage.cluster.edit(
        stage.cluster.ref("Deployment", "main-exporter"),
        lambda m: m["status"].update(conditions=[failed]),
    )
    stage.reconcile()

    assert image(stage, "DaemonSet", "main-probe").startswith("mirror")


def test_a_live_field_changes_the_config_and_no_workload(stage: Stage) -> None:
    stage.write(spec={"tier": "Hobby", "dns": {"holdWhileConnected": True}})
    stage.reconcile()

    assert [ref.kind for verb, ref in stage.cluster.calls if verb == "apply"] == ["ConfigMap"]
