"""A cluster in memory, for tests of what decides: server-side apply, owner references and watches in small.

It implements the operator's port and feeds a World as watches would. No controllers: a test says what becomes of pods.
What real API servers do beyond this is the business of the tests against one.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from farcall.tracingconfig import KIND
from farcall_operator.cluster.port import (
    MANAGED_BY,
    MANAGER,
    Applied,
    Cluster,
    ClusterError,
    Manifest,
    Propagation,
    Ref,
    ref_of,
)
from farcall_operator.cluster.world import World

WATCHED = (KIND, "Node")
# Keys of lists that are merged; the others are replaced whole.
LIST_KEYS = {"containers": "name", "volumes": "name", "env": "name", "ports": "name", "ownerReferences": "uid",
             "conditions": "type", "volumeMounts": "mountPath", "initContainers": "name"}  # fmt: skip
IMMUTABLE = {"Deployment": ("selector",), "DaemonSet": ("selector",), "Service": ("clusterIP",),
             "StatefulSet": ("selector", "serviceName", "volumeClaimTemplates")}  # fmt: skip

Fault = Callable[[str, Ref], ClusterError | None]


@dataclass
class FakeCluster(Cluster):
    """`calls` are the requests; `writes` those that may change something. `fault` may refuse any of them.

    With `lags` the world learns of nothing until `catch_up` is called.
    """

    world: World = field(default_factory=World)
    lags: bool = False
    fault: Fault = lambda verb, ref: None
    warn: Callable[[Manifest], tuple[str, ...]] = lambda manifest: ()
    mutate: Callable[[Manifest], None] = lambda manifest: None  # an admission webhook
    objects: dict[Ref, Manifest] = field(default_factory=dict)
    calls: list[tuple[str, Ref]] = field(default_factory=list)
    kinds_missing: set[str] = field(default_factory=lambda: {"ServiceMonitor"})
    _applied: dict[Ref, Manifest] = field(default_factory=dict)
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _missed: list[tuple[str, Manifest]] = field(default_factory=list)

    @property
    def writes(self) -> list[tuple[str, Ref]]:
        return [call for call in self.calls if call[0] not in ("get", "list", "dry-run")]

    def forget_calls(self) -> None:
        self.calls.clear()

    # ---- The port ---------------------------------------------------------------------------------------------

    async def get(self, ref: Ref) -> Manifest | None:
        self._ask("get", ref)
        return copy.deepcopy(self.objects.get(ref))

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
    ) -> list[Manifest]:
        self._ask("list", Ref(api_version, kind, namespace, ""))
        if kind in self.kinds_missing:
            raise ClusterError(404, "NotFound", f"no kind {kind}")
        wanted = dict(pair.split("=") for pair in fields.split(",") if pair)
        return [
            copy.deepcopy(found)
            for ref, found in self.objects.items()
            if (ref.kind, ref.namespace) == (kind, namespace)
            and all(found.get(key) == value for key, value in wanted.items())
        ]

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        ref = ref_of(manifest)
        self._ask("dry-run" if dry_run else "apply", ref)
        before = self.objects.get(ref)
        after = merge_applied(before or {}, self._applied.get(ref), manifest)
        fill_in(after)
        self.mutate(after)
        if before is not None:
            refuse_immutable(before, after)
        if dry_run:
            return Applied(live=after)
        self._applied[ref] = copy.deepcopy(manifest)
        self._store(ref, after)
        return Applied(live=copy.deepcopy(self.objects[ref]), warnings=self.warn(manifest))

    async def apply_status(self, manifest: Manifest) -> Manifest:
        ref = ref_of(manifest)
        self._ask("apply-status", ref)
        if ref not in self.objects:
            raise ClusterError(404, "NotFound", "gone")
        self._store(ref, {**self.objects[ref], "status": copy.deepcopy(manifest["status"])})
        return copy.deepcopy(self.objects[ref])

    async def create(self, manifest: Manifest) -> Manifest:
        ref = ref_of(manifest)
        self._ask("create", ref)
        if ref in self.objects:
            raise ClusterError(409, "AlreadyExists", f"{ref.name} exists")
        return self.put(manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        self._ask("replace", ref_of(manifest))
        return self.put(manifest)

    async def merge(self, ref: Ref, patch: Manifest) -> Manifest:
        self._ask("merge", ref)
        if ref not in self.objects:
            raise ClusterError(404, "NotFound", "gone")
        self._store(ref, merge_patch(self.objects[ref], patch))
        return copy.deepcopy(self.objects[ref])

    async def delete(
        self, ref: Ref, *, uid: str | None = None, propagation: Propagation = "Background"
    ) -> None:
        self._ask(f"delete {propagation}", ref)
        found = self.objects.get(ref)
        if found is None:
            return
        if uid is not None and found["metadata"]["uid"] != uid:
            raise ClusterError(409, "Conflict", "another uid")
        self.remove(ref)

    # ---- What happens in the cluster --------------------------------------------------------------------------

    def put(self, manifest: Manifest) -> Manifest:
        """Somebody else made or changed it."""
        self._store(ref_of(manifest), copy.deepcopy(manifest))
        return copy.deepcopy(self.objects[ref_of(manifest)])

    def edit(self, ref: Ref, change: Callable[[Manifest], object]) -> None:
        manifest = copy.deepcopy(self.objects[ref])
        change(manifest)
        self._store(ref, manifest)

    def remove(self, ref: Ref) -> None:
        gone = self.objects.pop(ref)
        self._applied.pop(ref, None)
        self._show("drop", gone)

    def catch_up(self) -> None:
        missed, self._missed = self._missed, []
        for what, manifest in missed:
            (self.world.put if what == "put" else self.world.drop)(manifest)

    def find(self, kind: str, name: str) -> Manifest:
        return next(m for ref, m in self.objects.items() if (ref.kind, ref.name) == (kind, name))

    def ref(self, kind: str, name: str) -> Ref:
        return next(ref for ref in self.objects if (ref.kind, ref.name) == (kind, name))

    def _ask(self, verb: str, ref: Ref) -> None:
        self.calls.append((verb, ref))
        if error := self.fault(verb, ref):
            raise error

    def _store(self, ref: Ref, manifest: Manifest) -> None:
        before = self.objects.get(ref)
        metadata = manifest["metadata"]
        if before is not None and strip_version(before) == strip_version(manifest):
            return  # nothing changed: the server counts no new version either
        metadata["uid"] = (
            before["metadata"]["uid"]
            if before
            else metadata.get("uid") or f"uid-{next(self._versions)}"
        )
        metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        changed = before is None or before.get("spec") != manifest.get("spec")
        generation = before["metadata"].get("generation", 0) if before else 0
        metadata["generation"] = generation + 1 if changed else generation
        metadata["resourceVersion"] = str(next(self._versions))
        self.objects[ref] = manifest
        self._show("put", manifest)

    def _show(self, what: str, manifest: Manifest) -> None:
        if manifest["kind"] == "Secret":
            return
        labels = manifest["metadata"].get("labels") or {}
        if manifest["kind"] not in WATCHED and labels.get(MANAGED_BY) != MANAGER:
            what = "drop"  # as a watch with a selector tells it
        if self.lags:
            self._missed.append((what, copy.deepcopy(manifest)))
        else:
            (self.world.put if what == "put" else self.world.drop)(copy.deepcopy(manifest))


def strip_version(manifest: Manifest) -> Manifest:
    metadata = {
        k: v for k, v in manifest["metadata"].items()
        if k not in ("resourceVersion", "generation", "uid", "creationTimestamp")
    }  # fmt: skip
    return {**manifest, "metadata": metadata}


def merge_applied(live: Any, before: Any, wanted: Any, key: str = "") -> Any:
    """What server-side apply makes of `live`: our fields of last time that are wanted no more go, the others stay."""
    if isinstance(wanted, dict):
        found = dict(live) if isinstance(live, dict) else {}
        old = before if isinstance(before, dict) else {}
        for name in old.keys() - wanted.keys():
            found.pop(name, None)
        for name, value in wanted.items():
            found[name] = merge_applied(found.get(name), old.get(name), value, name)
        return found
    if isinstance(wanted, list) and (by := LIST_KEYS.get(key)) and all(by in e for e in wanted):
        return merge_applied_list(live or [], before or [], wanted, by)
    return copy.deepcopy(wanted)


def merge_applied_list(live: list[Any], before: list[Any], wanted: list[Any], by: str) -> list[Any]:
    def index(entries: list[Any]) -> dict[Any, Any]:
        return {entry.get(by): entry for entry in entries}

    found, old, new = index(live), index(before), index(wanted)
    merged = [merge_applied(found.get(k), old.get(k), entry) for k, entry in new.items()]
    return merged + [entry for k, entry in found.items() if k not in new and k not in old]


def merge_patch(live: Manifest, patch: Manifest) -> Manifest:
    found = dict(live)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = (
                merge_patch(found.get(key) or {}, value) if isinstance(value, dict) else value
            )
    return found


def fill_in(manifest: Manifest) -> None:
    """Some of what the API server's defaulting adds."""
    template = manifest.get("spec", {}).get("template")
    if template is None:
        return
    template["spec"].setdefault("restartPolicy", "Always")
    for container in template["spec"]["containers"]:
        container.setdefault("terminationMessagePath", "/dev/termination-log")
    for template in manifest["spec"].get("volumeClaimTemplates") or ():
        template.setdefault("status", {"phase": "Pending"})
        template["spec"].setdefault("volumeMode", "Filesystem")


def refuse_immutable(before: Manifest, after: Manifest) -> None:
    for name in IMMUTABLE.get(before["kind"], ()):
        if before["spec"].get(name) != after["spec"].get(name):
            raise ClusterError(422, "Invalid", f"spec.{name}: Invalid value: field is immutable")


# ---- Workloads that do as they are told ---------------------------------------------------------------------------


def roll_out(cluster: FakeCluster, kind: str, *, nodes: int = 3) -> None:
    """The controller and the kubelets have done all of it."""
    for ref, found in list(cluster.objects.items()):
        if ref.kind == kind:
            cluster.edit(ref, lambda m, found=found: m.update(status=tell_done(found, nodes)))


def tell_done(workload: Manifest, nodes: int) -> Manifest:
    generation = workload["metadata"]["generation"]
    if workload["kind"] == "DaemonSet":
        return {"observedGeneration": generation, "desiredNumberScheduled": nodes, "numberAvailable": nodes,
                "updatedNumberScheduled": nodes, "numberReady": nodes}  # fmt: skip
    wanted = workload["spec"].get("replicas", 1)
    return {"observedGeneration": generation, "replicas": wanted, "updatedReplicas": wanted,
            "availableReplicas": wanted, "readyReplicas": wanted}  # fmt: skip


def roll_out_all(cluster: FakeCluster, *, nodes: int = 3) -> None:
    for kind in ("StatefulSet", "Deployment", "DaemonSet"):
        roll_out(cluster, kind, nodes=nodes)
    for ref in [ref for ref in cluster.objects if ref.kind == "PersistentVolumeClaim"]:
        cluster.edit(ref, lambda m: m.update(status={"phase": "Bound"}))


@dataclass
class Clock:
    now: datetime = datetime(2026, 11, 25, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
