"""Conditions: never Ready too early, one verdict of three, times that move with the status alone, and events on change."""

from dataclasses import replace
from typing import Any

import pytest

from farcall.crd import build_status_schema
from farcall_operator.cluster.port import COMPONENT_LABEL, OWNER_LABEL, Manifest
from farcall_operator.conditions import CACHE, EXPORTER, PROBES
from farcall_operator.context import AgentRun
from farcall_operator.reconcile import STALLED_AGAIN_S
from support_fake_cluster import roll_out, roll_out_all
from support_reconcile import NAMESPACE, Stage, play_pod

pytestmark = pytest.mark.unit


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.add_nodes(3)
    made.write()
    made.settle()
    return made


def set_status(stage: Stage, kind: str, name: str, **status: Any) -> None:
    stage.cluster.edit(
        stage.cluster.ref(kind, name), lambda m: m.update(status={**m["status"], **status})
    )


BEHIND = [
    ("DaemonSet", "main-probe", {"observedGeneration": 0}, "ProbesReady", "RollingOut"),
    ("DaemonSet", "main-probe", {"updatedNumberScheduled": 2}, "ProbesReady", "RollingOut"),
    ("DaemonSet", "main-probe", {"numberAvailable": 2}, "ProbesReady", "NotAvailable"),
    ("DaemonSet", "main-probe", {"desiredNumberScheduled": 0}, "ProbesReady", "NoNodes"),
    ("StatefulSet", "main-redis", {"observedGeneration": 0}, "CacheReady", "RollingOut"),
    ("StatefulSet", "main-redis", {"updatedReplicas": 0}, "CacheReady", "RollingOut"),
    ("StatefulSet", "main-redis", {"availableReplicas": 0}, "CacheReady", "NotAvailable"),
    ("Deployment", "main-exporter", {"observedGeneration": 0}, "ExporterReady", "RollingOut"),
    ("Deployment", "main-exporter", {"replicas": 2}, "ExporterReady", "RollingOut"),
    ("Deployment", "main-exporter", {"availableReplicas": 0}, "ExporterReady", "NotAvailable"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "change", "type_", "reason"), BEHIND)
def test_it_is_not_ready_while_a_workload_does_not_say_so(
    stage: Stage, kind: str, name: str, change: Manifest, type_: str, reason: str
) -> None:
    set_status(stage, kind, name, **change)
    stage.reconcile()

    assert stage.truth(type_) == ("False", reason)
    assert stage.truth("Ready") == ("False", reason)
    assert stage.truth("Reconciling")[0] == "True"
    roll_out_all(stage.cluster)
    stage.reconcile()
    assert stage.truth("Ready") == ("True", "Ready")


WORKLOADS = (("DaemonSet", "main-probe"), ("StatefulSet", "main-redis"), ("Deployment", "main-exporter"))  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), WORKLOADS)
def test_a_workload_that_lost_its_label_is_known_by_its_name(
    stage: Stage, kind: str, name: str
) -> None:
    """Anybody may take the label away, and nothing brings it back while the resource is paused."""
    stage.write(spec={"tier": "Hobby", "paused": True})
    stage.cluster.edit(
        stage.cluster.ref(kind, name), lambda m: m["metadata"]["labels"].pop(COMPONENT_LABEL)
    )
    stage.reconcile()

    assert stage.truth("Ready") == ("Unknown", "Paused")
    assert {stage.truth(c)[0] for c in (PROBES, CACHE, EXPORTER)} == {"True"}


@pytest.mark.parametrize("spec", [{"tier": "Hobby", "paused": True}, {"tier": "No"}], ids=str)
def test_a_workload_that_the_watches_do_not_tell_of_is_asked_for_and_said(
    stage: Stage, spec: Manifest
) -> None:
    """They are filtered by label, and nothing is applied that would bring the label back."""
    stage.write(spec=spec)
    ref = stage.cluster.ref("DaemonSet", "main-probe")
    stage.cluster.edit(ref, lambda m: m["metadata"]["labels"].pop(OWNER_LABEL))
    set_status(stage, "DaemonSet", "main-probe", numberAvailable=2)
    outcome = stage.reconcile()

    said = stage.condition(PROBES)
    assert said["reason"] == "NotAvailable", said
    assert said["message"].startswith("2 of 3 agents can serve."), said
    assert f"DaemonSet {NAMESPACE}/main-probe has lost the label {OWNER_LABEL}=main" in said["message"]  # fmt: skip
    assert stage.status()["probes"] == "2/3"
    assert outcome.again_in_s == STALLED_AGAIN_S, "no event will tell of its changes"


def test_somebody_elses_of_that_name_is_not_taken_for_ours_while_paused(stage: Stage) -> None:
    stage.write(spec={"tier": "Hobby", "paused": True})

    def estrange(manifest: Manifest) -> None:
        manifest["metadata"].update(labels={}, ownerReferences=[])

    stage.cluster.edit(stage.cluster.ref("DaemonSet", "main-probe"), estrange)
    outcome = stage.reconcile()

    assert stage.truth(PROBES) == ("False", "NotApplied")
    assert "lost the label" not in stage.condition(PROBES)["message"]
    assert outcome.again_in_s is None


def test_a_status_without_any_number_is_not_ready(stage: Stage) -> None:
    for kind, name in (("DaemonSet", "main-probe"), ("Deployment", "main-exporter")):
        stage.cluster.edit(stage.cluster.ref(kind, name), lambda m: m.pop("status"))
    stage.reconcile()

    assert stage.truth("ProbesReady")[0] == stage.truth("ExporterReady")[0] == "False"


def test_the_printed_columns_say_how_many(stage: Stage) -> None:
    assert stage.status()["probes"] == "3/3"
    set_status(stage, "DaemonSet", "main-probe", numberAvailable=2)
    stage.reconcile()
    assert stage.status()["probes"] == "2/3"


def test_a_time_moves_when_the_status_does_and_not_with_the_reason(stage: Stage) -> None:
    since = stage.condition("Ready")["lastTransitionTime"]
    stage.clock.pass_s(60)
    set_status(stage, "DaemonSet", "main-probe", numberAvailable=2)
    stage.reconcile()
    left = stage.condition("Ready")["lastTransitionTime"]
    stage.clock.pass_s(60)
    set_status(stage, "DaemonSet", "main-probe", updatedNumberScheduled=1)
    stage.reconcile()

    assert left != since
    assert stage.condition("Ready")["lastTransitionTime"] == left
    assert stage.truth("Ready") == ("False", "RollingOut")
    assert stage.condition("CacheReady")["lastTransitionTime"] <= since


def test_every_condition_speaks_of_the_newest_generation(stage: Stage) -> None:
    stage.write(spec={"tier": "Hobby", "dns": {"holdWhileConnected": True}})
    stage.reconcile()

    assert stage.status()["observedGeneration"] == 2
    assert {c["observedGeneration"] for c in stage.status()["conditions"]} == {2}


def test_exactly_one_of_three_is_true(stage: Stage) -> None:
    def verdicts() -> list[str]:
        return [t for t in ("Ready", "Reconciling", "Stalled") if stage.truth(t)[0] == "True"]

    assert verdicts() == ["Ready"]
    set_status(stage, "DaemonSet", "main-probe", numberAvailable=2)
    stage.reconcile()
    assert verdicts() == ["Reconciling"]
    stage.write(spec={"tier": "Huge"})
    stage.reconcile()
    assert verdicts() == ["Stalled"]


def test_a_trouble_that_lasts_ten_minutes_is_a_failure(stage: Stage) -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "ErrImagePull: no such tag"}}
    play_pod(
        stage,
        "probe",
        "main-probe-x",
        {"containerStatuses": [{"name": "probe", "image": "i", "state": waiting}]},
    )
    set_status(stage, "DaemonSet", "main-probe", numberAvailable=2)
    stage.reconcile()
    assert stage.truth("ProbesReady") == ("False", "ImagePull")
    assert stage.truth("Stalled")[0] == "False"
    stage.clock.pass_s(599)
    stage.reconcile()
    assert stage.truth("Stalled")[0] == "False"
    stage.clock.pass_s(1)
    stage.reconcile()
    assert stage.truth("Stalled") == ("True", "ImagePull")
    roll_out_all(stage.cluster)
    stage.reconcile()
    assert stage.truth("Ready") == ("True", "Ready")


def test_waiting_grows_with_how_long_it_has_been(stage: Stage) -> None:
    set_status(stage, "DaemonSet", "main-probe", numberAvailable=2)
    waits = []
    for pause_s in (0, 60, 540, 6_000):
        stage.clock.pass_s(pause_s)
        waits.append(stage.reconcile().again_in_s)

    assert waits == [3, 30, 300, 300]


def test_nodes_that_get_no_agent_are_counted_by_the_first_reason() -> None:
    stage = Stage()
    stage.add_nodes(3)
    stage.add_nodes(2, **{"kubernetes.io/arch": "s390x"})
    stage.add_nodes(1, **{"kubernetes.io/os": "windows"})
    stage.add_nodes(1, pool="gpu")
    stage.write(spec={"tier": "Hobby", "probe": {"nodeSelector": {"pool": "gpu"}}})
    stage.settle(nodes=1)

    assert stage.status()["nodes"] == {
        "total": 7,
        "traced": 1,
        "leftOut": {"architecture": 2, "operatingSystem": 1, "nodeSelector": 3},
    }


def test_a_daemonset_without_nodes_says_which_were_left_out() -> None:
    stage = Stage()
    stage.add_nodes(2, **{"kubernetes.io/arch": "s390x"})
    stage.write()
    stage.settle(nodes=0)

    assert stage.truth("ProbesReady") == ("False", "NoNodes")
    assert "2 by architecture" in stage.condition("ProbesReady")["message"]


def test_the_effective_settings_follow_the_tier(stage: Stage) -> None:
    hobby = stage.status()["effective"]
    stage.write(spec={"tier": "Scale", "clusterCIDRs": ["10.0.0.0/8"]})
    stage.reconcile()
    scale = stage.status()["effective"]

    assert (hobby["dnsTTLSeconds"], scale["dnsTTLSeconds"]) == (3_600, 604_800)
    assert hobby["clusterCIDRsFrom"] == ["nodes' podCIDRs"]
    assert scale["clusterCIDRsFrom"] == ["spec.clusterCIDRs"]
    assert scale["retention"]["traces"] == "30d"
    assert scale["volumes"] == {"data-main-redis-0": "4Gi", "main-store": "100Gi"}


def test_a_time_to_live_that_is_not_the_tier_s_is_said_aloud(stage: Stage) -> None:
    ref = stage.cluster.ref("TracingConfig", "main")
    override = {"farcall.dev/dns-ttl-override-s": "60"}
    stage.cluster.edit(ref, lambda m: m["metadata"].update(annotations=override))
    stage.reconcile()

    assert stage.status()["effective"]["dnsTTLSeconds"] == 60
    assert "60 s instead of the tier's 3600 s" in stage.condition("Ready")["message"]


def test_all_that_is_written_is_in_the_schema(stage: Stage) -> None:
    """A field that it does not name would make the API server refuse the whole status."""
    assert list_unknown(stage.status(), build_status_schema()) == []


def list_unknown(value: Any, schema: Manifest, path: str = "status") -> list[str]:
    if isinstance(value, list):
        return [p for entry in value for p in list_unknown(entry, schema["items"], f"{path}[]")]
    if not isinstance(value, dict):
        return []
    found = []
    for key, inner in value.items():
        known = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
        found += [f"{path}.{key}"] if known is None else list_unknown(inner, known, f"{path}.{key}")
    return found


# ---- Events -------------------------------------------------------------------------------------------------------


def test_events_tell_of_transitions_once(stage: Stage) -> None:
    assert [event["reason"] for event in stage.events()] == ["Ready"]
    for _ in range(3):
        stage.clock.pass_s(60)
        stage.reconcile()
    assert len(stage.events()) == 1


def test_a_part_that_comes_and_goes_is_told_of_once_in_ten_minutes(stage: Stage) -> None:
    crash = {"terminated": {"exitCode": 1, "message": "boom"}}
    play_pod(
        stage,
        "dns-cache",
        "main-redis-0",
        {"containerStatuses": [{"name": "redis", "state": crash}]},
    )
    for _ in range(4):
        set_status(stage, "StatefulSet", "main-redis", availableReplicas=0)
        stage.reconcile()
        roll_out(stage.cluster, "StatefulSet")
        stage.reconcile()
        stage.clock.pass_s(30)

    found = [event["reason"] for event in stage.events()]
    assert found == ["Ready", "CrashLoop"]
    crashed = stage.events()[1]
    assert crashed["type"] == "Warning" and "boom" in crashed["message"]
    assert crashed["involvedObject"]["name"] == "main"
    assert crashed["metadata"]["namespace"] == "default"


def test_an_event_that_cannot_be_written_fails_nothing_and_is_counted() -> None:
    from farcall_operator.cluster.port import ClusterError

    stage = Stage()
    stage.cluster.fault = lambda verb, ref: (
        ClusterError(403, "Forbidden", "no") if ref.kind == "Event" else None
    )
    stage.write(spec={"tier": "Huge"})
    stage.reconcile()

    assert stage.truth("Stalled") == ("True", "Invalid")
    assert stage.reconciler.notices.lost == 1


def test_an_exporter_that_can_store_nothing_is_not_ready_though_its_pods_are(
    stage: Stage,
) -> None:
    full = "Code: 243. The store's disk is full: 3 MiB are left"
    stage.unreachable, stage.store_trouble = False, full
    stage.hear_exporter()

    assert stage.truth("ExporterReady") == ("False", "StoreRefusesWrites")
    assert stage.truth("Ready") == ("False", "StoreRefusesWrites")
    message = stage.condition("ExporterReady")["message"]
    assert full in message and "`exporter.storage.size`" in message

    stage.store_trouble = ""
    stage.hear_exporter()
    assert stage.truth("Ready") == ("True", "Ready")


def test_a_cache_that_agents_cannot_use_is_not_ready_though_its_pod_is(stage: Stage) -> None:
    full = "Redis is full, and has nothing that it may give up (OOM command not allowed)"
    well = AgentRun(node="a", version="1", config_generation=1, config_revision="r", age_s=1)
    ill = replace(well, node="b", cache_trouble=full)
    stage.unreachable, stage.runs = False, [well, ill, replace(ill, node="c")]
    stage.hear_exporter()

    assert stage.truth("CacheReady") == ("False", "CacheUnavailable")
    assert stage.truth("Ready") == ("False", "CacheUnavailable")
    message = stage.condition("CacheReady")["message"]
    assert "2 agents" in message and full in message and "`dnsCache.resources" in message

    stage.runs = [well]
    stage.hear_exporter()
    assert stage.truth("Ready") == ("True", "Ready")
