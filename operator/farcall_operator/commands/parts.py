"""What runs of a TracingConfig, read off its children in the cluster: workloads, and what troubles their pods. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from farcall_operator.children import Owner, judge_standing
from farcall_operator.cluster.port import COMPONENT_LABEL, Manifest, Ref


class Workload(NamedTuple):
    """A TracingConfig has one of each, named `<name>-<suffix>`: labels may be taken away, a name stays.

    `component`: what its pods' label says; `part`: what a person calls it.
    """

    api_version: str
    kind: str
    suffix: str
    component: str
    part: str

    def ref(self, owner: str, namespace: str) -> Ref:
        return Ref(self.api_version, self.kind, namespace, f"{owner}-{self.suffix}")


# In the order in which data flows.
WORKLOADS = (
    Workload("apps/v1", "DaemonSet", "probe", "probe", "probes"),
    Workload("apps/v1", "StatefulSet", "redis", "dns-cache", "DNS cache"),
    Workload("apps/v1", "Deployment", "exporter", "exporter", "exporter and console"),
)
MAX_MESSAGE = 300  # characters of what a container said last
MAX_TROUBLES = 5  # of one part; the same trouble on every node is one, with a count


class Trouble(NamedTuple):
    """`reason` as Kubernetes has it (ImagePullBackOff); `pods`: how many share it; `pod`: one of them."""

    reason: str
    message: str
    pod: str
    container: str
    pods: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One workload. `current`: its controller has seen the newest desired state."""

    part: str
    kind: str
    name: str
    wanted: int
    ready: int
    updated: int
    current: bool
    restarts: int
    troubles: list[Trouble]


def list_parts(
    config: Manifest, workloads: Iterable[Manifest], pods: Sequence[Manifest]
) -> list[Part]:
    """Of the workloads those that are this resource's; another's of that name is none of its parts."""
    metadata = config["metadata"]
    owner = Owner(name=metadata["name"], uid=metadata.get("uid", ""))
    known = {(w["kind"], w["metadata"]["name"]): w for w in workloads}
    found = []
    for place in WORKLOADS:
        live = known.get((place.kind, f"{owner.name}-{place.suffix}"))
        if live is not None and judge_standing(live, owner) == "ours":
            own = [pod for pod in pods if component_of(pod) == place.component]
            found.append(build_part(place.part, live, own))
    return found


def component_of(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("labels") or {}).get(COMPONENT_LABEL, ""))


def build_part(part: str, workload: Manifest, pods: Sequence[Manifest]) -> Part:
    status = workload.get("status") or {}
    wanted, ready, updated = count_pods(workload["kind"], workload.get("spec") or {}, status)
    generation = workload["metadata"].get("generation", 0)
    return Part(
        part=part,
        kind=workload["kind"],
        name=workload["metadata"]["name"],
        wanted=wanted,
        ready=ready,
        updated=updated,
        current=status.get("observedGeneration", 0) >= generation,
        restarts=sum(c.get("restartCount", 0) for p in pods for c in containers_of(p)),
        troubles=merge_troubles(t for p in pods for t in find_troubles(p)),
    )


def count_pods(
    kind: str, spec: Mapping[str, Any], status: Mapping[str, Any]
) -> tuple[int, int, int]:
    """(wanted, ready, updated)."""
    if kind == "DaemonSet":
        names = ("desiredNumberScheduled", "numberReady", "updatedNumberScheduled")
        wanted, ready, updated = (int(status.get(name) or 0) for name in names)
        return wanted, ready, updated
    wanted = int(spec.get("replicas", 1))
    return wanted, int(status.get("readyReplicas") or 0), int(status.get("updatedReplicas") or 0)


def containers_of(pod: Manifest) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    found: list[dict[str, Any]] = []
    for key in ("initContainerStatuses", "containerStatuses"):
        found += status.get(key) or []
    return found


def find_troubles(pod: Manifest) -> Iterable[Trouble]:
    name = pod["metadata"]["name"]
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield make_trouble(condition.get("reason"), condition.get("message"), name)
    for container in containers_of(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason")
        # Not yet a trouble: every container begins so.
        if not reason or reason in ("ContainerCreating", "PodInitializing"):
            continue
        ended = (container.get("lastState") or {}).get("terminated") or {}
        said = ended.get("message") or waiting.get("message") or ended.get("reason")
        yield make_trouble(reason, said, name, container.get("name", ""))


def make_trouble(reason: object, message: object, pod: str, container: str = "") -> Trouble:
    text = " ".join(str(message or "").split())
    if len(text) > MAX_MESSAGE:
        text = "…" + text[-MAX_MESSAGE:]  # the end says most: the error, after its traceback
    return Trouble(str(reason or "Unknown"), text, pod, container, 1)


def merge_troubles(troubles: Iterable[Trouble]) -> list[Trouble]:
    """One of each kind, with the number of pods that have it; those of most pods first."""
    merged: dict[tuple[str, str], Trouble] = {}
    for trouble in troubles:
        key = (trouble.reason, trouble.container)
        known = merged.get(key)
        merged[key] = known._replace(pods=known.pods + 1) if known else trouble
    return sorted(merged.values(), key=lambda t: (-t.pods, t.reason))[:MAX_TROUBLES]
