"""Writes the status of one TracingConfig from what one pass saw, once, and only when it says something else.

Looks around for causes only where something is not as it should be. What the words are is decided in pure modules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from farcall_operator.applying import Report
from farcall_operator.children import Memory, Owner, judge_standing
from farcall_operator.cluster.packed import pack
from farcall_operator.cluster.port import (
    COMPONENT_LABEL,
    MANAGED_BY,
    MANAGER,
    OWNER_LABEL,
    Cluster,
    ClusterError,
    Manifest,
    Observed,
    Ref,
    ref_of,
)
from farcall_operator.conditions import RECONCILING, STALLED, list_transitions, read_conditions
from farcall_operator.context import Credentials, Discovery
from farcall_operator.describing import (
    describe_effective,
    describe_nodes,
    describe_runs,
    read_config,
    read_selector,
)
from farcall_operator.exporters import Exporters, Question
from farcall_operator.notices import Notices
from farcall_operator.problems import describe_ref
from farcall_operator.rollout import read_rollout
from farcall_operator.status import PARTS, Part, Picture, build_status
from farcall_operator.surroundings import Surroundings
from farcall_operator.troubles import (
    Scene,
    Trouble,
    find_trouble,
    tell_cache_trouble,
    tell_store_trouble,
)
from farcall_operator.volumes import claim_ref, read_templates


@dataclass(slots=True, kw_only=True)
class Pass:
    """What one reconciliation gathers. `desired` None: nothing was to be applied, or it could not be computed."""

    config: Manifest
    memory: Memory
    now: datetime
    children: Mapping[Ref, Manifest]
    before: Manifest
    report: Report = field(default_factory=Report)
    desired: list[Manifest] | None = None
    discovery: Discovery = field(default_factory=Discovery)
    credentials: Credentials = field(default_factory=Credentials)
    architectures: Sequence[str] = ()
    paused: bool = False
    rest_s: float | None = (
        None  # how long yet the credentials count as read, when they were not read anew
    )
    unwatched: dict[str, str] = field(default_factory=dict)  # by component: why, a sentence
    unpacked: bytes | None = None  # the question whose answer was rendered anew

    @property
    def name(self) -> str:
        return str(self.config["metadata"]["name"])

    @property
    def generation(self) -> int:
        return int(self.config["metadata"].get("generation", 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    cluster: Cluster
    observed: Observed
    surroundings: Surroundings
    exporters: Exporters
    notices: Notices
    version: str

    async def tell(self, work: Pass) -> Manifest:
        workloads = await self._find_workloads(work)
        described = await self._describe(work, workloads)
        if described is None and work.before:
            return work.before
        picture = Picture(
            config=work.config,
            now=work.now,
            version=self.version,
            before=work.before,
            workloads=workloads,
            troubles=await self._find_troubles(work, workloads),
            unwatched=work.unwatched,
            problems=work.report.problems,
            waiting=work.report.waiting,
            notes=work.report.notes,
            described=described or {},
            paused=work.paused,
        )
        status = drop_empty(build_status(picture))
        await self._write_status(work, status)
        return status

    async def _find_workloads(self, work: Pass) -> dict[str, Manifest]:
        """By component: what this pass left, else what the watch told; never somebody else's of that name.

        Known by their names: a label may be taken away by anybody, and an earlier version may have set none.
        """
        owner = Owner(name=work.name, uid=work.memory.uid)
        refs = {(ref.kind, ref.name): ref for ref in (*work.children, *work.report.live)}
        found: dict[str, Manifest] = {}
        for part in PARTS:
            name = f"{work.name}-{part.suffix}"
            ref = refs.get((part.kind, name))
            if ref is None:
                manifest = await self._ask_unwatched(work, part, name)
            else:
                manifest = work.report.live.get(ref) or work.children[ref]
            if manifest is None or judge_standing(manifest, owner) != "ours":
                continue
            found[part.component] = manifest
            if lost := ref is None and list_lost_labels(manifest, work.name):
                work.unwatched[part.component] = tell_unwatched(ref_of(manifest), lost)
        return found

    async def _ask_unwatched(self, work: Pass, part: Part, name: str) -> Manifest | None:
        """The watches are filtered by label, and where nothing is applied nobody else asks for what lost its labels."""
        if work.desired is not None:
            return None
        ref = Ref("apps/v1", part.kind, self.surroundings.namespace, name)
        try:
            return await self.cluster.get(ref)
        except ClusterError as e:
            work.report.note(e, ref, "read")
            return None

    async def _find_troubles(
        self, work: Pass, workloads: Mapping[str, Manifest]
    ) -> dict[str, Trouble]:
        found: dict[str, Trouble] = {}
        for part in PARTS:
            workload = workloads.get(part.component)
            if workload is None:
                continue
            if read_rollout(workload).is_complete:
                if trouble := self._hear_trouble(work, part.component):
                    found[part.component] = trouble
                continue
            scene = Scene(
                workload=workload,
                pods=list_children(work.children, "Pod", part.component),
                claims=await self._list_claims(work, workload, part.component),
                events=await self.surroundings.list_warnings(work.now),
                warnings=work.memory.warnings.get(ref_of(workload), ()),
                nodes=self.observed.nodes(),
                wanted=read_rollout(workload).wanted,
            )
            if trouble := find_trouble(scene, work.now):
                found[part.component] = trouble
        return found

    async def _list_claims(
        self, work: Pass, workload: Manifest, component: str
    ) -> Sequence[Manifest]:
        told = list_children(work.children, "PersistentVolumeClaim", component)
        if told or not read_templates(workload):
            return told
        refs = [claim_ref(workload, t["metadata"]["name"]) for t in read_templates(workload)]
        try:
            return [claim for ref in refs if (claim := await self.cluster.get(ref)) is not None]
        except ClusterError:
            return []

    def _hear_trouble(self, work: Pass, component: str) -> Trouble | None:
        """Of a part whose pods are well, in the words of those that use it."""
        answer = self.exporters.answer(work.memory.uid)
        if answer is None:
            return None
        if component == "exporter" and answer.store_trouble:
            return tell_store_trouble(answer.store_trouble)
        troubles = [run.cache_trouble for run in answer.runs if run.cache_trouble]
        if component == "dns-cache" and troubles:
            return tell_cache_trouble(len(troubles), max(troubles, key=troubles.count))
        return None

    async def _describe(
        self, work: Pass, workloads: Mapping[str, Manifest]
    ) -> dict[str, object] | None:
        """None while the exporter has not said its first word to this process: what the one before wrote holds until then,
        or a new leader would take from each status what it cannot know yet, and write it again a moment later."""
        if work.desired is None:
            return {}
        nodes = describe_nodes(
            self.observed.nodes(),
            workloads.get("probe"),
            read_selector(work.desired),
            work.architectures,
        )
        found: dict[str, object] = {
            "effective": describe_effective(work.desired, work.discovery.sources),
            "nodes": nodes,
        }
        exporter = workloads.get("exporter")
        url = read_config(work.desired).get("endpoints", {}).get("exporter_ingest", "")
        if exporter is None or not read_rollout(exporter).available or not url:
            return found
        question = Question(
            name=work.name,
            url=url,
            token=work.credentials.ingest_token,
            ca_pem=work.credentials.ca_pem,
            generation=work.generation,
        )
        answer = await self.exporters.ask(work.memory.uid, question)
        if answer is None:
            return None
        if answer.problem:
            return found
        return {**found, "configGenerations": describe_runs(answer.runs)}

    async def _write_status(self, work: Pass, status: Manifest) -> None:
        if is_same_status(status, work.before):
            return
        manifest = {
            "apiVersion": work.config["apiVersion"],
            "kind": work.config["kind"],
            "metadata": {"name": work.name},
            "status": status,
        }
        try:
            work.report.writes += 1
            written = await self.cluster.apply_status(manifest)
        except ClusterError as e:
            if e.status != 404:  # deleted meanwhile: nobody is left to be told
                work.report.errors.append(e)
            return
        work.memory.status = pack(written)
        self.observed.note(written)
        known = self.notices.written
        await self.notices.tell(work.config, list_transitions(work.before, status), work.now)
        work.report.writes += self.notices.written - known


def list_children(
    children: Mapping[Ref, Manifest], kind: str, component: str
) -> Sequence[Manifest]:
    """Looks only at that kind: the others need not be unpacked."""
    found = [children[ref] for ref in children if ref.kind == kind]
    return [
        child
        for child in found
        if (child["metadata"].get("labels") or {}).get(COMPONENT_LABEL) == component
    ]


def list_lost_labels(child: Manifest, owner: str) -> list[str]:
    """Of those by which the watches find a child and whose it is."""
    wanted = {MANAGED_BY: MANAGER, OWNER_LABEL: owner}
    labels = child["metadata"].get("labels") or {}
    return [f"{key}={value}" for key, value in wanted.items() if labels.get(key) != value]


def tell_unwatched(ref: Ref, lost: Sequence[str]) -> str:
    return (
        f"{describe_ref(ref)} has lost the label {' and '.join(lost)}: what changes in it is seen within a minute only, "
        "and the label comes back when the resource is reconciled again."
    )


def list_reasons(status: Manifest) -> tuple[str, ...]:
    """Of what is not well, for metrics and logs."""
    conditions = read_conditions(status)
    reasons = [c.reason for name, c in conditions.items() if c.status == "True" and name == STALLED]
    reasons += [
        condition.reason
        for name, condition in conditions.items()
        if condition.status != "True" and name not in (STALLED, RECONCILING)
    ]
    return tuple(dict.fromkeys(reasons))


def drop_empty(status: Mapping[str, Any]) -> Manifest:
    """Without empty lists and maps: the API server need not keep them, and then status would differ for ever."""
    inner = {k: drop_empty(v) if isinstance(v, dict) else v for k, v in status.items()}
    return {key: value for key, value in inner.items() if value not in ({}, [])}


def is_same_status(one: Manifest, other: Manifest) -> bool:
    """The order of conditions is the API server's."""
    return _by_type(one) == _by_type(other)


def _by_type(status: Manifest) -> Manifest:
    return {**status, "conditions": {c["type"]: c for c in status.get("conditions") or ()}}
