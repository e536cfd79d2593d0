"""Why a workload's pods do not serve, in words that somebody can act upon. Pure.

From what the pods say, then what the workload's controller says, then events and the warnings of the last apply. What
containers, registries and webhooks say is hostile: it is bounded and escaped. Numbers that change all the time (restart
counts) are left out, or status would be written again and again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from farcall_operator.cluster.port import Manifest
from farcall_operator.conditions import parse_time
from farcall_operator.podtroubles import PodTrouble, read_pod
from farcall_operator.problems import bound_text, name_forbidden

MAX_WORDS = 400
MAX_NODES = 3
MAX_TAINTS = 5
EVENT_AGE = timedelta(minutes=30)  # the API server forgets them after an hour
CLAIM_AFTER = timedelta(seconds=30)  # before that a claim without a volume is only a new one
# The worst first: what explains the others.
ORDER = (
    "PodSecurity", "AdmissionRefused", "Quota", "FailedCreate", "StorageClassMissing", "VolumePending", "ImagePull",
    "ContainerConfig", "VolumeMount", "OOMKilled", "CrashLoop", "Evicted", "Unschedulable", "PodFailed", "NodeNotReady",
    "NotReady",
)  # fmt: skip
# No waiting helps: the same pod is refused again and again.
FINAL = frozenset(("PodSecurity", "AdmissionRefused"))
# What somebody does about it, where that is the same each time; `{}` is the namespace.
CURES = {
    "PodSecurity": "Label the namespace {} with pod-security.kubernetes.io/enforce=privileged: the agent needs it.",
    "Quota": "Raise or remove the ResourceQuota of the namespace {}, or lower the `resources`.",
    "StorageClassMissing": "Set a `storageClassName` that exists, or make one the cluster's default.",
    "OOMKilled": "Raise its memory limit in the `resources` of the TracingConfig.",
}
_DISK_FULL_CURE = " Lower `retention.maxSize`, or raise `exporter.storage.size`."
_CACHE_CURES = (  # by what farcall.cachefaults says
    ("is full", " Raise the memory in `dnsCache.resources.limits`."),
    ("its disk", " Raise `dnsCache.persistence.size`."),
)
_CREATION = frozenset(("FailedCreate", "FailedDaemonPod"))
_PROBE_SAID = "Readiness probe failed: "  # the kubelet, of an event Unhealthy
_MOUNT = frozenset(("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """The gravest one. `is_final`: it will not pass, however long one waits."""

    reason: str
    message: str

    @property
    def is_final(self) -> bool:
        return self.reason in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One workload that is not as it should be, and what is around it."""

    workload: Manifest
    pods: Sequence[Manifest] = ()
    claims: Sequence[Manifest] = ()
    events: Sequence[Manifest] = ()  # Warning events of the namespace
    warnings: Sequence[str] = ()  # of the last apply
    nodes: Mapping[str, Manifest] = field(default_factory=dict)
    wanted: int = 0


def find_trouble(scene: Scene, now: datetime) -> Trouble | None:
    found = [*_read_pods(scene, now), *_read_creation(scene, now), *_read_claims(scene, now)]
    if not found:
        return None
    worst = min(found, key=lambda trouble: ORDER.index(trouble.reason))
    cure = CURES.get(worst.reason)
    if cure is None:
        return worst
    namespace = scene.workload["metadata"].get("namespace", "")
    return Trouble(reason=worst.reason, message=f"{worst.message} {cure.format(namespace)}")


def tell_store_trouble(words: str) -> Trouble:
    """Of an exporter whose pods are well: what it says of the store behind it."""
    cure = _DISK_FULL_CURE if "disk is full" in words else ""
    told = bound_text(words, MAX_WORDS).rstrip(".")
    message = f"Nothing can be stored, and the agents keep what they can: {told}.{cure}"
    return Trouble(reason="StoreRefusesWrites", message=message)


def tell_cache_trouble(agents: int, words: str) -> Trouble:
    """Of a cache whose pod is well: what most of those agents say that cannot use it."""
    cure = next((cure for part, cure in _CACHE_CURES if part in words), "")
    told = bound_text(words, MAX_WORDS).rstrip(".")
    who = "One agent" if agents == 1 else f"{agents} agents"
    message = f"{who} cannot use it, and names that only it would know stay unknown: {told}.{cure}"
    return Trouble(reason="CacheUnavailable", message=message)


# ---- Pods -----------------------------------------------------------------------------------------------------


def _read_pods(scene: Scene, now: datetime) -> Iterator[Trouble]:
    """One sentence per cause, with how many pods have it and on which nodes."""
    pods = [pod for pod in scene.pods if not pod["metadata"].get("deletionTimestamp")]
    found = [(pod, trouble) for pod in pods if (trouble := _read_one(pod, scene, now))]
    counts = Counter((trouble.reason, trouble.words) for _, trouble in found)
    for (reason, words), number in counts.items():
        nodes = sorted(
            {name for pod, t in found if t.reason == reason and (name := read_node(pod))}
        )
        yield Trouble(reason=reason, message=_tell(number, len(pods), nodes, words))


def _read_one(pod: Manifest, scene: Scene, now: datetime) -> PodTrouble | None:
    trouble = read_pod(pod)
    if trouble is not None and trouble.reason == "Unschedulable" and "taint" in trouble.words:
        words = f"{trouble.words}; there are {_list_taints(scene.nodes)}"
        return PodTrouble(reason=trouble.reason, words=words)
    if trouble is None or trouble.reason != "NotReady":
        return trouble
    # A pod that merely is not ready yet: something around it may say why.
    node = scene.nodes.get(read_node(pod))
    if node is not None and not is_node_ready(node):
        return PodTrouble(reason="NodeNotReady", words="the node is not Ready")
    for event in _recent_events(scene.events, now, pod["metadata"]["name"]):
        if event.get("reason") in _MOUNT:
            return PodTrouble(reason="VolumeMount", words=bound_text(_words(event), MAX_WORDS))
        if event.get("reason") == "Unhealthy" and _words(event).startswith(_PROBE_SAID):
            said = bound_text(_words(event).removeprefix(_PROBE_SAID), MAX_WORDS).rstrip(".")
            return PodTrouble(
                reason="NotReady", words=f"{trouble.words}: {said}" if said else trouble.words
            )
    return trouble


def _list_taints(nodes: Mapping[str, Manifest]) -> str:
    """The scheduler only says that some taint was not tolerated."""
    counts = Counter(
        f"{taint.get('key')}:{taint.get('effect')}"
        for node in nodes.values()
        for taint in (node.get("spec") or {}).get("taints") or ()
        if taint.get("effect") != "PreferNoSchedule"
    )
    found = [f"{taint} on {number}" for taint, number in counts.most_common(MAX_TAINTS)]
    return bound_text(", ".join(found) or "no taints any more", MAX_WORDS)


def _tell(number: int, of: int, nodes: Sequence[str], words: str) -> str:
    more = f" and {len(nodes) - MAX_NODES} more" if len(nodes) > MAX_NODES else ""
    where = f" (on {', '.join(nodes[:MAX_NODES])}{more})" if nodes else ""
    pods = "pod" if of == 1 else "pods"
    return f"{number} of {of} {pods}{where}: {words}."


def read_node(pod: Manifest) -> str:
    """A pod of a DaemonSet that was not bound yet names its node only in its affinity."""
    spec: dict[str, Any] = pod.get("spec") or {}
    return str(spec.get("nodeName") or "")


def is_node_ready(node: Manifest) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


# ---- Pods that could not even be made ---------------------------------------------------------------------------


def _read_creation(scene: Scene, now: datetime) -> Iterator[Trouble]:
    if len(scene.pods) >= max(scene.wanted, 1):
        return
    for words in _list_refusals(scene, now):
        reason = name_forbidden(words) or "FailedCreate"
        yield Trouble(
            reason=reason, message=f"Pods cannot be created: {bound_text(words, MAX_WORDS)}"
        )
        return
    for warning in scene.warnings:
        if name_forbidden(warning) == "PodSecurity":
            yield Trouble(
                reason="PodSecurity",
                message=f"Pods will not be admitted: {bound_text(warning, MAX_WORDS)}",
            )
            return


def _list_refusals(scene: Scene, now: datetime) -> Iterator[str]:
    for condition in (scene.workload.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            yield str(condition.get("message", ""))
    name = scene.workload["metadata"]["name"]
    for event in _recent_events(scene.events, now, name):
        if event.get("reason") in _CREATION:
            yield _words(event)


def _recent_events(events: Sequence[Manifest], now: datetime, name: str) -> Iterator[Manifest]:
    """Of the object, or of one that was made from it (a ReplicaSet bears its Deployment's name); the newest first."""
    dated = [
        (moment, event)
        for event in events
        if _is_about(event, name) and (moment := _read_moment(event)) and now - moment <= EVENT_AGE
    ]
    yield from (event for _, event in sorted(dated, key=lambda entry: entry[0], reverse=True))


def _is_about(event: Manifest, name: str) -> bool:
    about = str((event.get("involvedObject") or {}).get("name", ""))
    return about == name or about.startswith(f"{name}-")


def _read_moment(event: Manifest) -> datetime | None:
    series = event.get("series") or {}
    return parse_time(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
    )


def _words(event: Manifest) -> str:
    return str(event.get("message") or "")


# ---- Volumes ----------------------------------------------------------------------------------------------------


def _read_claims(scene: Scene, now: datetime) -> Iterator[Trouble]:
    for claim in scene.claims:
        made = parse_time(claim["metadata"].get("creationTimestamp"))
        is_new = made is None or now - made < CLAIM_AFTER
        if is_new or (claim.get("status") or {}).get("phase") == "Bound":
            continue
        name = claim["metadata"]["name"]
        storage_class = (claim.get("spec") or {}).get("storageClassName")
        words = next((_words(e) for e in _recent_events(scene.events, now, name)), "")
        if not storage_class:
            told = "it names no storage class, and the cluster has no default one"
            yield Trouble(reason="StorageClassMissing", message=_tell_claim(name, words or told))
        elif "storageclass" in words.lower() and "not found" in words.lower():
            yield Trouble(reason="StorageClassMissing", message=_tell_claim(name, words))
        elif words:
            yield Trouble(reason="VolumePending", message=_tell_claim(name, words))


def _tell_claim(name: str, words: str) -> str:
    return f"The volume claim {name} has no volume: {bound_text(words, MAX_WORDS)}."
