"""From what pods, controllers, events and the API server say to one sentence that somebody can act upon."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farcall_operator.cluster.port import Manifest
from farcall_operator.troubles import Scene, Trouble, find_trouble

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LONG_AGO = "2026-11-25T11:00:00Z"
DAEMON_SET: Manifest = {
    "kind": "DaemonSet",
    "metadata": {"name": "main-probe", "namespace": "farcall"},
    "spec": {},
}


def pod(name: str = "main-probe-a", node: str = "node-a", **status: Any) -> Manifest:
    spec = {
        "nodeName": node,
        "containers": [{"name": "probe", "resources": {"limits": {"memory": "256Mi"}}}],
    }
    return {"kind": "Pod", "metadata": {"name": name}, "spec": spec, "status": status}


def container(state: Manifest | None = None, last: Manifest | None = None, **more: Any) -> Manifest:
    return {
        "name": "probe",
        "image": "farcall/probes:1",
        "ready": False,
        "state": state or {},
        "lastState": last or {},
        **more,
    }


def waiting(reason: str, message: str = "") -> Manifest:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int = 1, message: str = "", reason: str = "Error") -> Manifest:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


def event(reason: str, message: str, about: str = "main-probe", age_s: float = 5) -> Manifest:
    moment = (NOW - timedelta(seconds=age_s)).isoformat()
    return {
        "metadata": {"name": "e"},
        "reason": reason,
        "message": message,
        "involvedObject": {"name": about},
        "lastTimestamp": moment,
    }


def find(*pods: Manifest, wanted: int = 1, **more: Any) -> Trouble:
    found = find_trouble(Scene(workload=DAEMON_SET, pods=pods, wanted=wanted, **more), NOW)
    assert found is not None
    return found


def running(*containers: Manifest) -> Manifest:
    return pod(phase="Running", containerStatuses=list(containers))


CASES: dict[str, tuple[Manifest, str, tuple[str, ...]]] = {
    "an image that does not exist": (
        running(container(waiting("ErrImagePull", 'failed to pull "x": not found'))),
        "ImagePull", ("farcall/probes:1", "not found"),
    ),
    "a crash loop": (
        running(container(waiting("CrashLoopBackOff", "back-off 40s"), ended(3, "starting\nno such file: /etc/x\n"))),
        "CrashLoop", ("exit code 3", "no such file: /etc/x"),
    ),
    "between two crashes": (running(container({"running": {}}, ended(2, "boom"))), "CrashLoop", ("boom",)),
    "out of memory": (
        running(container(waiting("CrashLoopBackOff"), ended(137, reason="OOMKilled"))),
        "OOMKilled", ("256Mi", "memory limit"),
    ),
    "a missing key": (
        running(container(waiting("CreateContainerConfigError", "couldn't find key a in Secret b"))),
        "ContainerConfig", ("couldn't find key a",),
    ),
    "no node": (
        pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available."}]),
        "Unschedulable", ("0/3 nodes", "3 Insufficient cpu"),
    ),
    "no volume": (
        pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "pod has unbound immediate PersistentVolumeClaims"}]),
        "VolumePending", ("unbound",),
    ),
    "evicted": (pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."), "Evicted", ("low on resource",)),
    "not ready": (running(container({"running": {}})), "NotReady", ("probe not ready yet",)),
}  # fmt: skip


@pytest.mark.parametrize(("one", "reason", "words"), CASES.values(), ids=CASES)
def test_a_pod_that_does_not_serve_says_why(
    one: Manifest, reason: str, words: tuple[str, ...]
) -> None:
    found = find(one)

    assert found.reason == reason
    for word in words:
        assert word in found.message


def test_a_pod_that_serves_is_no_trouble() -> None:
    ready = pod(
        phase="Running",
        conditions=[{"type": "Ready", "status": "True"}],
        containerStatuses=[container({"running": {}}, ended(1), ready=True)],
    )
    assert find_trouble(Scene(workload=DAEMON_SET, pods=[ready], wanted=1), NOW) is None


def test_pulling_and_waiting_to_pull_say_the_same() -> None:
    words = "rpc error: manifest unknown"
    first = find(running(container(waiting("ErrImagePull", words))))
    then = find(
        running(
            container(
                waiting("ImagePullBackOff", f'Back-off pulling image "x": ErrImagePull: {words}')
            )
        )
    )
    assert first.message == then.message


def test_pods_with_the_same_trouble_are_counted_and_their_nodes_named() -> None:
    pods = [
        pod(
            f"p{i}",
            f"node-{i}",
            phase="Running",
            containerStatuses=[container(waiting("ErrImagePull", "no"))],
        )
        for i in range(5)
    ]
    message = find(*pods, wanted=5).message

    assert message.startswith("5 of 5 pods (on node-0, node-1, node-2 and 2 more)")


def test_a_node_that_is_down_is_named() -> None:
    nodes = {
        "node-a": {
            "metadata": {"name": "node-a"},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
        }
    }
    found = find(running(container({"running": {}})), nodes=nodes)
    assert (found.reason, "node-a" in found.message) == ("NodeNotReady", True)


def test_what_a_readiness_probe_said_is_told() -> None:
    said = "MISCONF Errors writing to the AOF file: No space left on device"
    events = [event("Unhealthy", f"Readiness probe failed: {said}", about="main-probe-a")]
    found = find(running(container({"running": {}})), events=events)

    assert found.reason == "NotReady"
    assert found.message.endswith(f"probe not ready yet: {said}.")


def test_a_taint_that_keeps_pods_away_is_named() -> None:
    words = "0/2 nodes are available: 2 node(s) had untolerated taint(s). no new claims to deallocate, preemption: none."
    taint = {"key": "example.com/reserved", "effect": "NoSchedule"}
    nodes = {name: {"metadata": {"name": name}, "spec": {"taints": [taint]}} for name in "ab"}
    refused = {"type": "PodScheduled", "status": "False", "message": words}
    message = find(pod(phase="Pending", conditions=[refused]), nodes=nodes).message

    assert "untolerated taint(s); there are example.com/reserved:NoSchedule on 2." in message


def test_hostile_words_are_bounded_and_harmless() -> None:
    words = "\x1b[2J\u202e" + "A" * 100_000
    for state in (
        ended(1, words),
        waiting("ErrImagePull", words),
        waiting("CreateContainerError", words),
    ):
        message = find(running(container(state))).message
        assert len(message) < 1_000
        assert "\x1b" not in message and "\u202e" not in message and "\n" not in message


REFUSALS = [
    ('pods "x" is forbidden: violates PodSecurity "baseline:latest": host namespaces', "PodSecurity", "pod-security.kubernetes.io/enforce=privileged"),
    ('pods "x" is forbidden: exceeded quota: none, requested: pods=1', "Quota", "ResourceQuota"),
    ('admission webhook "v.example.com" denied the request: no latest', "AdmissionRefused", "no latest"),
    ("something else", "FailedCreate", "something else"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "reason", "cure"), REFUSALS, ids=[r for _, r, _ in REFUSALS])
def test_pods_that_cannot_be_made_are_explained_by_events(
    message: str, reason: str, cure: str
) -> None:
    found = find(
        events=[event("FailedCreate", "an old one", age_s=900), event("FailedCreate", message)]
    )
    assert found.reason == reason
    assert cure in found.message


def test_a_deployment_tells_of_refused_pods_itself() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: none"}
    workload = {
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {},
        "status": {"conditions": [condition]},
    }
    found = find_trouble(Scene(workload=workload, wanted=1), NOW)
    assert found is not None and found.reason == "Quota"


def test_the_warning_of_the_apply_explains_missing_pods() -> None:
    found = find(warnings=['would violate PodSecurity "restricted:latest": hostPID'])
    assert found.reason == "PodSecurity" and found.is_final


def test_old_events_and_those_of_others_explain_nothing() -> None:
    events = [event("FailedCreate", "x", age_s=7_200), event("FailedCreate", "x", about="other")]
    assert find_trouble(Scene(workload=DAEMON_SET, wanted=1, events=events), NOW) is None


def test_events_of_refused_pods_do_not_count_once_all_pods_are_there() -> None:
    found = find(
        running(container({"running": {}})), events=[event("FailedCreate", "exceeded quota")]
    )
    assert found.reason == "NotReady"


def test_a_volume_that_cannot_be_mounted_is_told() -> None:
    words = 'MountVolume.SetUp failed for volume "secrets": secret "main-secrets" not found'
    found = find(
        running(container(waiting("ContainerCreating"))),
        events=[event("FailedMount", words, about="main-probe-a")],
    )
    assert found.reason == "VolumeMount" and "main-secrets" in found.message


def claim(**spec: Any) -> Manifest:
    return {
        "metadata": {"name": "main-store", "creationTimestamp": LONG_AGO},
        "spec": spec,
        "status": {"phase": "Pending"},
    }


CLAIMS = [
    (claim(), [], "StorageClassMissing", "default"),
    (claim(storageClassName="fast"), [event("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found', "main-store")], "StorageClassMissing", '"fast" not found'),
    (claim(storageClassName="disk"), [event("ProvisioningFailed", "the disks are gone", "main-store")], "VolumePending", "the disks are gone"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "events", "reason", "words"), CLAIMS)
def test_a_claim_without_a_volume_says_why(
    one: Manifest, events: list[Manifest], reason: str, words: str
) -> None:
    found = find(pod(phase="Pending"), claims=[one], events=events)
    assert found.reason == reason
    assert words in found.message


def test_what_explains_the_others_comes_first() -> None:
    pulling = running(container(waiting("ErrImagePull", "no")))
    crashing = running(container(ended(1, "boom")))
    assert find(crashing, pulling, wanted=2).reason == "ImagePull"
