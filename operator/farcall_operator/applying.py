"""Makes the cluster hold what is desired: apply what differs, recreate what cannot change, delete what is no longer wanted.

What does not differ is not touched and not asked for. One object that is refused does not keep the others from being
applied. Never deleted are volume claims and Secrets: what they hold cannot be made again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from farcall_operator.children import Memory, Owner, describe_owner, judge_standing
from farcall_operator.cluster.port import (
    DESIRED_HASH,
    Cluster,
    ClusterError,
    Manifest,
    Propagation,
    Ref,
    ref_of,
)
from farcall_operator.comparing import list_differences
from farcall_operator.problems import Problem, describe_ref, explain_error
from farcall_operator.rollout import read_rollout

# In the order of their rollouts: an agent must find an exporter that understands it, and both a cache.
WORKLOADS = ("StatefulSet", "Deployment", "DaemonSet")
KEPT_KINDS = frozenset(("Secret", "PersistentVolumeClaim"))
NEVER_PRUNED = KEPT_KINDS | {"Pod"}
# A rollout that has not come through by then never will without help, and what it holds back may be the cure.
HELD_FOR = timedelta(minutes=10)
UNWATCHED = frozenset(("ServiceMonitor",))  # a watch of a kind that may not exist would never rest
ASKED_FOR = timedelta(minutes=5)
# How the API server's validation puts it that a field may not change.
_IMMUTABLE = ("immutable", "updates to statefulset spec", "may not change once set")


@dataclass(slots=True, kw_only=True)
class Report:
    """Of one pass. `live`: what stands now, of all that is desired and exists. `waiting`: one sentence each."""

    live: dict[Ref, Manifest] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # worth knowing, and no fault
    errors: list[ClusterError] = field(default_factory=list)  # that may pass
    writes: int = 0

    def note(self, error: ClusterError, ref: Ref | None, doing: str) -> None:
        problem = explain_error(error, ref, doing)
        self.problems.append(problem)
        if problem.is_transient:
            self.errors.append(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applier:
    """For one pass over one TracingConfig."""

    cluster: Cluster
    owner: Owner
    observed: Mapping[Ref, Manifest]
    note: Callable[[Manifest], None]  # for what was written
    memory: Memory
    now: datetime
    report: Report = field(default_factory=Report)

    async def apply(self, desired: Sequence[Manifest]) -> None:
        """All but the workloads side by side; those after, since they refer to the rest, and one after the other."""
        async with asyncio.TaskGroup() as group:
            for manifest in desired:
                if manifest["kind"] not in WORKLOADS:
                    group.create_task(self._apply_noting(manifest))
        rolling: list[str] = []
        for manifest in sort_workloads(desired):
            await self._apply_noting(manifest, rolling)
            if self._is_rolling(ref_of(manifest)):
                rolling.append(describe_ref(ref_of(manifest)))

    async def _apply_noting(self, manifest: Manifest, rolling: Sequence[str] = ()) -> None:
        try:
            await self._apply_one(manifest, rolling)
        except ClusterError as e:
            self.report.note(e, ref_of(manifest), "apply")

    async def _apply_one(self, manifest: Manifest, rolling: Sequence[str]) -> None:
        ref = ref_of(manifest)
        live = self.observed.get(ref) or await self._ask(ref)
        if live is None:
            await self._write(manifest)
            return
        if not self._may_touch(ref, live):
            return
        self.report.live[ref] = live
        if self._is_accepted(manifest, live):
            return
        if rolling and await self._would_roll(manifest, live):
            others = " and ".join(rolling)
            self.report.waiting.append(f"{describe_ref(ref)} waits until {others} has rolled out.")
            return
        await self._change(manifest, live)

    async def _ask(self, ref: Ref) -> Manifest | None:
        """One that the watch does not tell of: usually there is none. Of an unwatched kind the answer counts for a while."""
        known = self.memory.asked.get(ref)
        if known is not None and self.now - known[0] < ASKED_FOR:
            return known[1]
        found = await self.cluster.get(ref)
        if found is not None and ref.kind in UNWATCHED:
            self.memory.asked[ref] = (self.now, found)
        return found

    async def _would_roll(self, manifest: Manifest, live: Manifest) -> bool:
        """Only the server knows what taking fields away leaves; where it refuses, the change will say so."""
        try:
            return has_other_pods((await self.cluster.apply(manifest, dry_run=True)).live, live)
        except ClusterError:
            return True

    def _may_touch(self, ref: Ref, live: Manifest) -> bool:
        standing = judge_standing(live, self.owner)
        if standing == "foreign":
            message = (
                f"{describe_ref(ref)} exists already and is {describe_owner(live)}. "
                f"Delete or rename it, or give the TracingConfig another name."
            )
            self.report.problems.append(Problem(reason="Conflict", message=message, ref=ref))
            return False
        if standing == "previous" or live["metadata"].get("deletionTimestamp"):
            self.report.waiting.append(f"{describe_ref(ref)} is still being deleted.")
            return False
        return True

    def _is_accepted(self, manifest: Manifest, live: Manifest) -> bool:
        """As desired, or as the server made of it when that very manifest was applied."""
        differences = list_differences(manifest, live)
        if not differences:
            return True
        known = self.memory.accepted.get(ref_of(manifest))
        return known is not None and known[0] == read_hash(manifest) and differences <= known[1]

    async def _change(self, manifest: Manifest, live: Manifest) -> None:
        ref = ref_of(manifest)
        try:
            await self._write(manifest)
        except ClusterError as e:
            if not is_immutable(e) or ref.kind in KEPT_KINDS:
                raise
            await self._recreate(manifest, live)
        if ref.kind in WORKLOADS and has_other_pods(self.report.live.get(ref, live), live):
            self.memory.rolled[ref] = self.now

    async def _write(self, manifest: Manifest) -> None:
        ref = ref_of(manifest)
        self.report.writes += 1
        applied = await self.cluster.apply(manifest)
        self.memory.asked.pop(ref, None)
        if ref.kind not in UNWATCHED:
            self.note(applied.live)
        self.memory.warnings.pop(ref, None)
        if applied.warnings:
            self.memory.warnings[ref] = applied.warnings
        left = list_differences(manifest, applied.live)
        if left:
            self.memory.accepted[ref] = (read_hash(manifest), left)
        else:
            self.memory.accepted.pop(ref, None)
        self.report.live[ref] = applied.live

    async def _recreate(self, manifest: Manifest, live: Manifest) -> None:
        """A StatefulSet leaves its pod and volume behind for the next one; elsewhere the pods are replaced."""
        ref = ref_of(manifest)
        propagation: Propagation = "Orphan" if can_inherit(manifest, live) else "Background"
        self.report.writes += 1
        self.report.live.pop(ref, None)
        await self.cluster.delete(ref, uid=live["metadata"]["uid"], propagation=propagation)
        self.memory.forget(ref)
        if await self.cluster.get(ref) is not None:  # its dependents are being let go of first
            self.report.waiting.append(f"{describe_ref(ref)} is being recreated.")
            return
        await self._write(manifest)

    def _is_rolling(self, ref: Ref) -> bool:
        live = self.report.live.get(ref)
        if live is None:
            return False
        rollout = read_rollout(live)
        rolled = self.memory.rolled.get(ref)
        if rollout.is_complete or rolled is None:
            # Not complete, and not changed by us in this life: a rollout that a restart of ours cut short has old
            # pods left; anything else (a pod that fails) is no reason to hold the others back.
            self.memory.rolled.pop(ref, None)
            return not rollout.is_updated and not rollout.has_failed and rolled is None
        return self.now - rolled < HELD_FOR and not rollout.has_failed

    async def prune(self, desired: Sequence[Manifest]) -> None:
        """What this very TracingConfig owns and no longer wants. Pods have other owners, and are many."""
        wanted = {ref_of(manifest) for manifest in desired}
        for ref in self.observed:
            if ref in wanted or ref.kind in NEVER_PRUNED:
                continue
            live = self.observed[ref]
            if not is_owned(live, self.owner) or live["metadata"].get("deletionTimestamp"):
                continue
            try:
                self.report.writes += 1
                await self.cluster.delete(ref, uid=live["metadata"]["uid"])
                self.memory.forget(ref)
            except ClusterError as e:
                self.report.note(e, ref, "delete")


def sort_workloads(desired: Sequence[Manifest]) -> list[Manifest]:
    found = [manifest for manifest in desired if manifest["kind"] in WORKLOADS]
    return sorted(found, key=lambda manifest: WORKLOADS.index(manifest["kind"]))


def is_owned(live: Manifest, owner: Owner) -> bool:
    references = live["metadata"].get("ownerReferences") or ()
    return any(r.get("controller") and r.get("uid") == owner.uid for r in references)


def has_other_pods(one: Manifest, other: Manifest) -> bool:
    """Whether two states of a workload, both as the server tells them, have different pod templates."""
    return bool(one["spec"]["template"] != other["spec"]["template"])


def can_inherit(manifest: Manifest, live: Manifest) -> bool:
    """Whether the next StatefulSet can go on with the pod of this one.

    Its controller tries to change the volumes of a pod that has others, which the API server always refuses; it never
    comes to replace the pod (seen with 1.34). A claim of another size is the same volume.
    """
    if manifest["kind"] != "StatefulSet":
        return False
    return list_claims(manifest) == list_claims(live) and not list_differences(
        {"selector": manifest["spec"]["selector"]}, live["spec"]
    )


def list_claims(stateful_set: Manifest) -> list[str]:
    templates = stateful_set["spec"].get("volumeClaimTemplates") or ()
    return sorted(template["metadata"]["name"] for template in templates)


def read_hash(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(DESIRED_HASH, ""))


def is_immutable(error: ClusterError) -> bool:
    if error.status != 422:
        return False
    texts = [error.message, *(cause.message for cause in error.causes)]
    return any(words in text for text in texts for words in _IMMUTABLE)
