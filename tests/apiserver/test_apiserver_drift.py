"""Whoever edits or deletes a child finds it repaired; what is not ours is never touched."""

import json
from collections.abc import Callable

import pytest

from farcall import commands
from support_apiserver import ControlPlane
from support_apiserver_access import Api, Object
from support_apiserver_configs import (
    CHILD_PATHS,
    OWNER,
    WORKLOADS,
    Configs,
    Key,
    strip,
    strip_all,
    versions,
)
from support_apiserver_operator import NAMESPACE

pytestmark = pytest.mark.apiserver

MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
PARTS = ("ProbesReady", "CacheReady", "ExporterReady")
# What somebody with kubectl might do to a child of that kind: a merge patch of a field that we own.
EDITS: dict[str, Object] = {
    "ConfigMap": {"data": {"effective.json": "{}"}},
    "Service": {"spec": {"selector": {"app.kubernetes.io/component": "nobody"}}},
    "ServiceAccount": {"automountServiceAccountToken": True},
    "DaemonSet": {"spec": {"template": {"spec": {"hostPID": False}}}},
    "Deployment": {"spec": {"replicas": 0}},
    "StatefulSet": {"spec": {"replicas": 0}},
    "NetworkPolicy": {"spec": {"ingress": [{}]}},
}


def test_a_child_that_was_edited_is_repaired(configs: Configs, name: str) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = strip_all(configs.children(name))
    edited = [key for key in before if key[0] in EDITS]
    for kind, child in edited:
        configs.api.merge(configs.path(kind, child), EDITS[kind])

    assert {kind for kind, _ in edited} == set(EDITS)
    for kind, child in edited:
        configs.wait(
            lambda kind=kind, child=child: strip(configs.child(kind, child)) == before[kind, child],
            name,
            f"{kind} {child} is repaired",
        )
    configs.wait_ready(name)


def test_a_child_that_was_deleted_comes_back(configs: Configs, name: str) -> None:
    """Credentials too: without them no pod would start again."""
    configs.apply(name)
    configs.wait_settled(name)
    before = configs.children(name)
    mortal = [key for key in before if key[0] != "PersistentVolumeClaim"]
    for kind, child in mortal:
        configs.api.delete(configs.path(kind, child))

    configs.wait(lambda: set(mortal) <= set(configs.children(name)), name, "all are back")
    configs.wait_ready(name)


def test_a_label_that_binds_a_child_to_its_owner_comes_back(configs: Configs, name: str) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    path = configs.path("Service", f"{name}-redis")
    for label in (OWNER, MANAGED_BY):
        configs.api.merge(path, {"metadata": {"labels": {label: None}}})
        configs.wait(
            lambda label=label: configs.api.get(path)["metadata"]["labels"].get(label) is not None,
            name,
            f"{label} is back",
            within_s=240,
        )


@pytest.fixture
def show_parts(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], list[set[Key]]]:
    """The parts of a TracingConfig that `farcall status` shows: asked by its name, and among all."""
    monkeypatch.setenv("KUBECONFIG", str(plane.admin_kubeconfig))

    def show(name: str) -> list[set[Key]]:
        shown = []
        for asked in ([name], []):
            commands.main(["status", "-o", "json", *asked])
            told = json.loads(capsys.readouterr().out)
            report = told if asked else next(one for one in told if one["name"] == name)
            shown.append({(part["kind"], part["name"]) for part in report["parts"]})
        return shown

    return show


def pause(configs: Configs, name: str) -> set[Key]:
    """A paused TracingConfig's workloads, which nobody repairs."""
    configs.apply(name)
    configs.wait_settled(name)
    configs.apply(name, paused=True)
    configs.wait_condition(name, "Ready", "Paused")
    return {(kind, child) for kind, child in configs.children(name) if kind in WORKLOADS}


def test_workloads_without_their_component_label_are_told_of_and_get_it_back(
    configs: Configs, name: str, show_parts: Callable[[str], list[set[Key]]]
) -> None:
    """Nothing is repaired while it is paused, and the status goes on to tell of them."""
    children = pause(configs, name)
    paths = [configs.path(kind, child) for kind, child in children]
    for path in paths:
        configs.api.merge(path, {"metadata": {"labels": {COMPONENT: None}}})
    assert show_parts(name) == [children, children]
    configs.apply(name, paused=True, logs={"enabled": False})
    configs.wait_for_observed(name)

    said = configs.conditions(name)
    assert len(paths) == 3
    assert {said[part]["status"] for part in PARTS} == {"True"}
    configs.apply(name)
    configs.wait(
        lambda: all(COMPONENT in configs.api.get(path)["metadata"]["labels"] for path in paths),
        name,
        "the labels are back",
    )
    configs.wait_ready(name)


@pytest.mark.parametrize("label", [MANAGED_BY, OWNER])
def test_workloads_that_no_watch_tells_of_any_more_are_said_while_it_is_paused(
    configs: Configs,
    name: str,
    label: str,
    show_parts: Callable[[str], list[set[Key]]],
) -> None:
    children = pause(configs, name)
    for kind, child in children:
        configs.api.merge(configs.path(kind, child), {"metadata": {"labels": {label: None}}})

    def is_said() -> bool:
        said = configs.conditions(name)
        return all(f"lost the label {label}=" in said[part]["message"] for part in PARTS)

    configs.wait(is_said, name, "the lost labels are told")
    assert {configs.conditions(name)[part]["status"] for part in PARTS} == {"True"}
    assert show_parts(name) == [children, children]
    configs.apply(name)
    configs.wait_ready(name)
    configs.wait(lambda: not is_said(), name, "the labels are back")


def test_what_others_add_to_a_child_stays(configs: Configs, name: str) -> None:
    """Server-side apply owns its fields and no more: an annotation of another tool is not drift."""
    configs.apply(name)
    configs.wait_settled(name)
    path = configs.path("Deployment", f"{name}-exporter")
    configs.api.merge(path, {"metadata": {"annotations": {"example.com/note": "hello"}}})
    configs.nudge(name)

    live = configs.api.get(path)
    assert live["metadata"]["annotations"]["example.com/note"] == "hello"


def test_restarting_by_kubectl_is_no_drift(configs: Configs, name: str, plane: object) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    path = configs.path("DaemonSet", f"{name}-probe")
    stamp = {"kubectl.kubernetes.io/restartedAt": "2026-01-02T03:04:05Z"}
    configs.api.merge(path, {"spec": {"template": {"metadata": {"annotations": stamp}}}})
    configs.nudge(name)
    configs.wait_ready(name)

    template = configs.api.get(path)["spec"]["template"]
    assert template["metadata"]["annotations"].items() >= stamp.items()


FOREIGN: tuple[tuple[str, str, Object], ...] = (
    ("ConfigMap", "config", {"apiVersion": "v1", "kind": "ConfigMap", "data": {"theirs": "yes"}}),
    (
        "Service",
        "redis",
        {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1}], "selector": {"a": "b"}}},
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "part", "body"), FOREIGN, ids=lambda v: v if isinstance(v, str) else ""
)
def test_an_object_of_somebody_else_is_left_alone_and_named(
    configs: Configs, name: str, api: Api, kind: str, part: str, body: Object
) -> None:
    theirs = {**body, "metadata": {"name": f"{name}-{part}", "namespace": NAMESPACE}}
    made = api.create(theirs)
    configs.apply(name)
    message = configs.wait_condition(name, "Stalled", "Conflict")

    assert kind in message and f"{name}-{part}" in message
    assert configs.kstatus(name) == "Failed"
    live = api.get(configs.path(kind, f"{name}-{part}"))
    assert strip(live) == strip(made)
    api.delete(configs.path(kind, f"{name}-{part}"))
    configs.wait_ready(name)


def test_an_object_of_another_controller_is_left_alone(
    configs: Configs, name: str, api: Api
) -> None:
    """Also when it carries our labels, which anybody may write."""
    owner = api.get(f"/api/v1/namespaces/{NAMESPACE}")["metadata"]
    made = api.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{name}-config",
                "namespace": NAMESPACE,
                "labels": {OWNER: name, MANAGED_BY: "farcall-operator"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": NAMESPACE, "uid": owner["uid"], "controller": True}],
            },
        }
    )  # fmt: skip
    configs.apply(name)
    configs.wait_condition(name, "Stalled", "Conflict")

    assert strip(api.get(configs.path("ConfigMap", f"{name}-config"))) == strip(made)
    api.delete(configs.path("ConfigMap", f"{name}-config"))
    configs.wait_ready(name)


def test_a_neighbour_in_the_namespace_that_only_bears_our_label_is_not_pruned(
    configs: Configs, name: str, api: Api
) -> None:
    path = CHILD_PATHS["ConfigMap"].format(NAMESPACE)
    api.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{name}-notes",
                "namespace": NAMESPACE,
                "labels": {OWNER: name, MANAGED_BY: "farcall-operator"},
            },
        }
    )
    configs.apply(name)
    configs.wait_settled(name)

    assert api.find(f"{path}/{name}-notes") is not None
    assert versions(configs.children(name))
    api.delete(f"{path}/{name}-notes")


def test_what_only_a_scaled_out_exporter_has_is_repaired_and_comes_back(
    configs: Configs, name: str
) -> None:
    edits: dict[str, Object] = {
        "HorizontalPodAutoscaler": {"spec": {"maxReplicas": 64}},
        "PodDisruptionBudget": {"metadata": {"labels": {"app.kubernetes.io/part-of": "edited"}}},
        "Ingress": {"spec": {"ingressClassName": "somebodys"}},
    }
    configs.apply(
        name,
        exporter={
            "clickhouse": {"url": "http://clickhouse:8123"},
            "autoscaling": {"maxReplicas": 4},
        },
        console={"ingress": {"host": f"{name}.example.com", "className": "nginx"}},
    )
    configs.wait_for_observed(name)
    configs.wait(
        lambda: set(edits) <= {kind for kind, _ in configs.children(name)}, name, "all are there"
    )
    before = strip_all(configs.children(name))
    edited = [key for key in before if key[0] in edits]
    for kind, child in edited:
        configs.api.merge(configs.path(kind, child), edits[kind])
    for kind, child in edited:
        configs.wait(
            lambda kind=kind, child=child: strip(configs.child(kind, child)) == before[kind, child],
            name,
            f"{kind} {child} is repaired",
        )
    for kind, child in edited:
        configs.api.delete(configs.path(kind, child))
    configs.wait(lambda: set(edited) <= set(configs.children(name)), name, "all are back")
