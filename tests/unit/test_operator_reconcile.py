"""One reconciliation after another over a cluster in memory: what is written, what is left alone, what is said."""

from datetime import timedelta

import pytest

from farcall.tracingconfig import API_VERSION, KIND
from farcall_operator.cluster.port import ClusterError, Ref
from farcall_operator.context import AgentRun, Credentials, Discovery
from support_reconcile import HOBBY, NAMESPACE, Stage

pytestmark = pytest.mark.unit

CONFIG = Ref(API_VERSION, KIND, "", "main")


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.add_nodes(3)
    return made


def test_a_new_resource_gets_everything_in_one_pass(stage: Stage) -> None:
    stage.write()
    stage.reconcile()

    kinds = {ref.kind for ref in stage.cluster.objects}
    assert {
        "StatefulSet",
        "Deployment",
        "DaemonSet",
        "ConfigMap",
        "Service",
        "NetworkPolicy",
    } <= kinds
    assert stage.truth("Ready") == ("False", "RollingOut")
    assert stage.truth("Reconciling")[0] == "True"


@pytest.mark.parametrize("tier", ["Hobby", "Scale"])
def test_the_second_pass_makes_no_request(stage: Stage, tier: str) -> None:
    stage.write(spec={"tier": tier})
    stage.settle()
    outcome = stage.reconcile()

    assert stage.truth("Ready") == ("True", "Ready")
    assert outcome.writes == 0
    asked = [ref for _, ref in stage.cluster.calls if not ref.name.startswith("data-")]
    assert asked == []  # no StatefulSet controller here makes the claim, so it is looked for


def test_a_new_process_writes_nothing(stage: Stage) -> None:
    stage.write()
    stage.settle()
    stage.restart()
    stage.reconcile()

    assert stage.cluster.writes == []


def test_what_was_written_a_moment_ago_is_not_written_again_while_the_watch_lags(
    stage: Stage,
) -> None:
    stage.write()
    stage.settle()
    stage.cluster.lags = True
    stage.cluster.edit(
        CONFIG, lambda m: m.update(spec={"tier": "Hobby", "dns": {"holdWhileConnected": True}})
    )
    stage.cluster.catch_up()
    stage.reconcile()
    stage.cluster.forget_calls()
    stage.reconcile()

    assert stage.cluster.writes == []


def test_a_resource_that_is_gone_or_going_is_left_alone(stage: Stage) -> None:
    stage.write("other")
    stage.cluster.edit(
        Ref(API_VERSION, KIND, "", "other"),
        lambda m: m["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"),
    )
    stage.cluster.forget_calls()

    assert stage.reconcile("other").writes == 0
    assert stage.reconcile("never").writes == 0
    assert stage.cluster.calls == []


def test_paused_nothing_is_touched_and_status_says_so(stage: Stage) -> None:
    stage.write()
    stage.settle()
    before = {ref: m for ref, m in stage.cluster.objects.items() if ref.kind not in (KIND, "Event")}
    effective = stage.status()["effective"]
    stage.write(spec={"tier": "Scale", "paused": True})
    stage.reconcile()

    after = {ref: m for ref, m in stage.cluster.objects.items() if ref.kind not in (KIND, "Event")}
    assert after == before
    assert stage.truth("Ready") == ("Unknown", "Paused")
    assert stage.status()["observedGeneration"] == 2
    assert stage.status()["effective"] == effective  # what is in force, not what is written


def test_an_invalid_resource_is_stalled_with_the_sentences_and_heals(stage: Stage) -> None:
    stage.write(spec={"tier": "Hobby", "clusterCIDRs": ["10.0.0.1/8"]})
    stage.reconcile()

    assert stage.truth("Stalled") == ("True", "Invalid")
    assert "clusterCIDRs" in stage.condition("Ready")["message"]
    assert {ref.kind for ref in stage.cluster.objects} == {KIND, "Node", "Event"}
    stage.write()
    stage.settle()
    assert stage.truth("Ready") == ("True", "Ready")


def test_the_younger_of_two_that_overlap_touches_nothing_until_the_older_is_gone(
    stage: Stage,
) -> None:
    stage.write("old", creationTimestamp="2026-01-01T00:00:00Z")
    stage.write(
        "young",
        {"tier": "Hobby", "namespaces": {"include": ["shop"]}},
        creationTimestamp="2026-02-01T00:00:00Z",
    )
    stage.settle("old")
    stage.reconcile("young")

    assert stage.truth("Stalled", "young") == ("True", "Overlap")
    assert "old" in stage.condition("Stalled", "young")["message"]
    assert not any(ref.name.startswith("young-") for ref in stage.cluster.objects)
    stage.cluster.remove(Ref(API_VERSION, KIND, "", "old"))
    stage.settle("young")
    assert stage.truth("Ready", "young") == ("True", "Ready")


def test_two_with_disjoint_namespaces_live_side_by_side(stage: Stage) -> None:
    for name in ("one", "two"):
        stage.write(name, {"tier": "Hobby", "namespaces": {"include": [name]}})
    stage.settle("one")
    stage.settle("two")

    assert stage.truth("Ready", "one") == stage.truth("Ready", "two") == ("True", "Ready")


def test_every_error_of_the_api_is_in_the_status_and_reaches_the_queue(stage: Stage) -> None:
    stage.write()
    busy = ClusterError(503, "ServiceUnavailable", "etcd is busy", retry_after_s=7)
    stage.cluster.fault = lambda verb, ref: (
        busy if ref.kind == "ConfigMap" and verb == "apply" else None
    )
    error = stage.reconcile_failing()

    assert error.retry_after_s == 7
    assert stage.truth("Ready") == ("False", "ApiError")
    assert "etcd is busy" in stage.condition("Ready")["message"]
    assert stage.truth("Stalled")[0] == "False"
    assert stage.cluster.find("DaemonSet", "main-probe")  # the others were applied
    stage.cluster.fault = lambda verb, ref: None
    stage.settle()
    assert stage.truth("Ready") == ("True", "Ready")


REFUSALS = [
    (403, 'pods is forbidden: violates PodSecurity "restricted:latest"', "PodSecurity"),
    (403, "exceeded quota: small, requested: services=1", "Quota"),
    (403, 'admission webhook "policy.example.com" denied the request: no', "AdmissionRefused"),
    (403, 'User "x" cannot patch resource "services"', "Forbidden"),
    (
        500,
        "failed to create typed patch object (x): .spec.ports: expected list, got string",
        "Rejected",
    ),
    (422, "Service is invalid: spec.ports: Invalid value", "Rejected"),
]


@pytest.mark.parametrize(
    ("code", "message", "reason"), REFUSALS, ids=[f"{c} {r}" for c, _, r in REFUSALS]
)
def test_a_refusal_is_stalled_by_its_kind_and_the_others_are_applied(
    stage: Stage, code: int, message: str, reason: str
) -> None:
    stage.write()
    stage.cluster.fault = lambda verb, ref: (
        ClusterError(code, "Forbidden", message)
        if verb == "apply" and ref.name == "main-console"
        else None
    )
    outcome = stage.reconcile()

    assert stage.truth("Stalled") == ("True", reason)
    assert "Service farcall/main-console" in stage.condition("Stalled")["message"]
    assert outcome.again_in_s == 60
    assert stage.cluster.find("DaemonSet", "main-probe")


def test_discovery_that_fails_is_told_and_nothing_is_applied(stage: Stage) -> None:
    async def fail() -> Discovery:
        raise ClusterError(0, "Unreachable", "connection refused")

    stage.discover = fail  # type: ignore[method-assign]
    stage.restart()
    stage.write()
    stage.reconcile_failing()

    assert stage.truth("Ready") == ("False", "ApiError")
    assert {ref.kind for ref in stage.cluster.objects} == {KIND, "Node"}


def test_without_any_network_it_stalls_and_says_what_to_set(stage: Stage) -> None:
    stage.discovery = Discovery(problems=("Nodes have no podCIDRs: set spec.clusterCIDRs.",))
    stage.write()
    stage.reconcile()

    assert stage.truth("Stalled") == ("True", "NetworksUnknown")
    assert "spec.clusterCIDRs" in stage.condition("Ready")["message"]


def test_a_problem_of_a_secret_is_stalled_and_read_anew_each_time(stage: Stage) -> None:
    problems = ("the Secret theirs lacks the keys a, b", "the Secret theirs, key c: is empty")
    stage.credentials = Credentials(problems=problems)
    stage.write()
    stage.reconcile()
    stage.reconcile()

    assert stage.truth("Stalled") == ("True", "Credentials")
    assert stage.condition("Stalled")["message"] == "".join(f"{p}. " for p in problems).rstrip()
    assert stage.asked == 2
    stage.credentials = Credentials()
    stage.settle()
    assert stage.truth("Ready") == ("True", "Ready")


def test_a_burst_reads_the_secrets_once_and_comes_back_for_them(stage: Stage) -> None:
    stage.write()
    stage.settle()
    asked = stage.asked
    stage.clock.pass_s(60)
    assert stage.reconcile().again_in_s is None
    stage.clock.pass_s(4)
    outcome = stage.reconcile()

    assert stage.asked == asked + 1
    assert outcome.again_in_s == pytest.approx(6)


def test_an_edit_is_applied_before_the_secrets_are_read_again(stage: Stage) -> None:
    stage.write(spec={**HOBBY, "clusterCIDRs": ["10.0.0.0/8"]})
    stage.settle()
    asked = stage.asked
    stage.clock.pass_s(60)
    stage.write(spec={**HOBBY, "clusterCIDRs": ["10.1.0.0/16"]})
    outcome = stage.reconcile()

    assert outcome.writes > 0
    assert (stage.asked, outcome.again_in_s) == (asked, pytest.approx(1))
    stage.clock.pass_s(1)
    stage.reconcile()
    assert stage.asked == asked + 1


def test_an_edit_that_names_other_secrets_has_them_read_first(stage: Stage) -> None:
    stage.write()
    stage.settle()
    asked = stage.asked
    stage.write(spec={**HOBBY, "dnsCache": {"existingSecret": "theirs"}})
    stage.reconcile()

    assert stage.asked == asked + 1


def test_a_certificate_that_is_due_brings_it_back(stage: Stage) -> None:
    due = stage.clock.now + timedelta(minutes=5)
    stage.credentials = Credentials(renew_at=due)
    stage.write()
    stage.settle()
    stage.clock.pass_s(60)
    assert stage.reconcile().again_in_s == pytest.approx((due - stage.clock.now).total_seconds())


def test_status_shows_the_generations_that_the_agents_run(stage: Stage) -> None:
    stage.unreachable = False
    stage.runs = [
        AgentRun(node=f"n{i}", version="1", config_generation=g, config_revision="r", age_s=1)
        for i, g in enumerate((1, 1, 0))
    ]
    stage.write()
    stage.settle()
    stage.hear_exporter()

    assert stage.status()["configGenerations"] == [
        {"generation": 1, "agents": 2},
        {"generation": 0, "agents": 1},
    ]


def test_a_new_process_leaves_the_status_alone_until_the_exporter_has_spoken(stage: Stage) -> None:
    stage.unreachable = False
    stage.store_trouble = "the volume is full"
    stage.write()
    stage.settle()
    before = stage.status()
    stage.restart()
    stage.silent = True
    stage.reconcile()

    assert stage.status() == before
    assert stage.cluster.writes == []


def test_an_edit_does_not_wait_for_an_exporter_that_is_silent(stage: Stage) -> None:
    stage.write()
    stage.settle()
    stage.restart()
    stage.silent = True
    stage.write(spec={"tier": "Scale"})
    stage.reconcile()

    assert ("apply", Ref("v1", "ConfigMap", NAMESPACE, "main-config")) in stage.cluster.writes


def test_a_status_that_cannot_be_written_is_an_error_and_a_gone_resource_is_none(
    stage: Stage,
) -> None:
    stage.write()
    stage.cluster.fault = lambda verb, ref: (
        ClusterError(409, "Conflict", "no") if verb == "apply-status" else None
    )
    assert stage.reconcile_failing().status == 409
    stage.cluster.fault = lambda verb, ref: (
        ClusterError(404, "NotFound", "no") if verb == "apply-status" else None
    )
    stage.reconcile()


def test_nothing_but_the_status_of_the_resource_is_written(stage: Stage) -> None:
    stage.write()
    stage.settle()
    stage.write(spec={"tier": "Scale"})
    for _ in range(3):
        stage.reconcile()

    assert {verb for verb, ref in stage.cluster.writes if ref.kind == KIND} == {"apply-status"}
    assert {
        ref.namespace for _, ref in stage.cluster.writes if ref.kind not in (KIND, "Event")
    } == {NAMESPACE}
