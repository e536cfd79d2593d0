"""A TracingConfig's life under real controllers: applied, ready, applied again, left alone, deleted."""

import time
from importlib.metadata import version

import pytest

from support_apiserver import ControlPlane, read_audit, wait_until
from support_apiserver_access import Api, Object
from support_apiserver_configs import CONFIGS, WORKLOADS, Configs, strip_all, versions
from support_apiserver_nodes import Player, Waits
from support_apiserver_operator import NAMESPACE, USER, OperatorProcess

pytestmark = pytest.mark.apiserver

QUIET_S = 120  # `make bench-operator` waits ten minutes, with a thousand resources
WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def test_applying_one_resource_makes_everything_that_it_needs_and_it_becomes_ready(
    configs: Configs, name: str
) -> None:
    configs.apply(name)
    ready = configs.wait_ready(name)

    kinds = {kind for kind, _ in configs.children(name)}
    assert {
        *WORKLOADS,
        "ConfigMap",
        "Secret",
        "Service",
        "ServiceAccount",
        "NetworkPolicy",
    } <= kinds
    assert ready["status"]["observedGeneration"] == ready["metadata"]["generation"]
    for condition in ready["status"]["conditions"]:
        assert condition["observedGeneration"] == ready["metadata"]["generation"], condition
        assert condition["reason"], condition


def test_kubectl_get_tells_how_it_does_in_a_line(
    configs: Configs, name: str, plane: ControlPlane
) -> None:
    configs.apply(name)
    probes = configs.wait_ready(name)["status"]["probes"]
    row = plane.kubectl("get", "tcfg", name, "--no-headers").split()
    wide = plane.kubectl("get", "tcfg", name, "-o", "wide", "--no-headers").split()

    assert row[:-1] == [name, "Hobby", "3600", "True", "Ready", probes]
    assert wide[:-3] == row[:-1]
    assert wide[-2:] == [version("farcall"), "3d"]
    configs.apply(name, paused=True)
    configs.wait_condition(name, "Ready", "Paused")
    paused = plane.kubectl("get", "tcfg", name, "-o", "wide", "--no-headers").split()
    assert paused[3:5] == ["Unknown", "Paused"]
    assert paused[-3:] == [version("farcall"), "3d", "true"]


def test_every_child_names_its_owner_so_that_deleting_it_deletes_them(
    configs: Configs, name: str
) -> None:
    configs.apply(name)
    uid = configs.wait_ready(name)["metadata"]["uid"]

    for key, child in configs.children(name).items():
        if key[0] == "PersistentVolumeClaim" and key[1].startswith("data-"):
            continue  # the StatefulSet's
        owners = child["metadata"].get("ownerReferences", [])
        assert [o["uid"] for o in owners if o.get("controller")] == [uid], key


def test_it_is_not_ready_before_its_pods_are(configs: Configs, name: str, player: Player) -> None:
    player.set_script("exporter", Waits("ContainerCreating"))
    configs.apply(name)
    configs.wait_for_observed(name)

    conditions = configs.conditions(name)
    assert conditions["Ready"]["status"] != "True"
    assert conditions["ExporterReady"]["status"] != "True"
    player.reset()
    configs.wait_ready(name)


def test_applying_the_same_again_changes_nothing(configs: Configs, name: str) -> None:
    configs.apply(name)
    ready = configs.wait_settled(name)
    before = versions(configs.children(name))
    configs.apply(name)
    configs.nudge(name)

    again = configs.get(name)
    assert again["metadata"]["generation"] == ready["metadata"]["generation"]
    assert again["metadata"]["resourceVersion"] == ready["metadata"]["resourceVersion"]
    assert versions(configs.children(name)) == before


def test_nothing_is_ever_written_to_what_the_user_wrote(configs: Configs, name: str) -> None:
    applied = configs.apply(name)
    configs.wait_ready(name)

    live = configs.get(name)
    assert live["spec"] == applied["spec"]
    assert set(live["metadata"]) == set(applied["metadata"])
    assert live["metadata"]["generation"] == 1


def test_two_quiet_minutes_are_free_of_writes(
    configs: Configs, name: str, plane: ControlPlane
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = count_writes(plane)
    time.sleep(QUIET_S)

    assert count_writes(plane) - before == 0, list_writes(plane)[before:]


def count_writes(plane: ControlPlane) -> int:
    return len(list_writes(plane))


def list_writes(plane: ControlPlane) -> list[tuple[object, ...]]:
    """But the Lease's renewals, by which the others know that somebody works."""
    found = []
    for event in read_audit(plane.audit_log, USER):
        what = event.get("objectRef") or {}
        if event["verb"] in WRITES and what.get("resource") != "leases":  # type: ignore[attr-defined]
            found.append((event["verb"], event["requestURI"]))
    return found


def test_deleting_it_deletes_its_children_and_leaves_the_neighbours_alone(
    configs: Configs, name: str
) -> None:
    neighbour = f"{name}-neighbour"
    for each in (name, neighbour):
        configs.apply(each)
    for each in (name, neighbour):
        configs.wait_settled(each)
    before = versions(configs.children(neighbour))
    gauge = 'farcall_tracingconfig_condition{name="%s",type="Ready",status="True"} 1\n'
    assert gauge % name in configs.operator.metrics()
    configs.delete(name)

    configs.wait(lambda: not configs.children(name), name, "its children are gone")
    assert configs.api.find(f"{CONFIGS}/{name}") is None
    assert versions(configs.children(neighbour)) == before
    of_it = f'name="{name}"'
    configs.wait(lambda: of_it not in configs.operator.metrics(), name, "its gauges are gone")
    assert gauge % neighbour in configs.operator.metrics()


def test_deletion_needs_no_operator(
    configs: Configs, name: str, operator: OperatorProcess, api: Api
) -> None:
    configs.apply(name)
    configs.wait_ready(name)
    operator.stop()
    configs.delete(name)

    assert api.find(f"{CONFIGS}/{name}") is None  # at once: there is no finalizer to wait for
    wait_until(lambda: not configs.children(name), "its children are gone")


def test_created_again_under_its_old_name_it_becomes_ready(configs: Configs, name: str) -> None:
    configs.apply(name)
    first = configs.wait_ready(name)["metadata"]["uid"]
    configs.delete(name)
    configs.apply(name)

    assert configs.wait_ready(name)["metadata"]["uid"] != first
    uid = configs.get(name)["metadata"]["uid"]
    owned = [
        owner["uid"]
        for key, child in configs.children(name).items()
        for owner in child["metadata"].get("ownerReferences", [])
        if owner["kind"] == "TracingConfig"
    ]
    assert owned and set(owned) == {uid}


def test_volumes_stay_behind_where_the_policy_says_so(
    configs: Configs, name: str, api: Api
) -> None:
    configs.apply(name, tier="Scale", deletionPolicy="Retain")
    configs.wait_ready(name)
    claims = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims"
    configs.delete(name)
    configs.wait(
        lambda: not any(configs.find_child(kind, f"{name}-{part}") for kind, part in (("StatefulSet", "redis"), ("Deployment", "exporter"))),
        name,
        "the workloads are gone",
    )  # fmt: skip

    left = {claim["metadata"]["name"] for claim in api.list(claims)}
    assert f"data-{name}-redis-0" in left


def test_what_it_made_is_the_same_when_it_is_made_again(configs: Configs, name: str) -> None:
    """Deterministic: deleting every child but what holds data gives the same objects once more."""
    configs.apply(name)
    configs.wait_settled(name)
    before = strip_all(configs.children(name))
    for (kind, child), _ in before.items():
        if kind not in ("Secret", "PersistentVolumeClaim"):
            configs.api.delete(configs.path(kind, child))
    configs.wait(lambda: set(configs.children(name)) == set(before), name, "all are back")
    configs.wait_settled(name)

    after = strip_all(configs.children(name))
    for key in before:
        assert forget_addresses(key[0], after[key]) == forget_addresses(key[0], before[key]), key


def forget_addresses(kind: str, manifest: Object) -> Object:
    """A Service that is made anew may get another address."""
    if kind != "Service" or manifest["spec"]["clusterIP"] == "None":
        return manifest
    given = ("clusterIP", "clusterIPs")
    return {**manifest, "spec": {k: v for k, v in manifest["spec"].items() if k not in given}}
