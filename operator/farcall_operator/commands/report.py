"""The state of one TracingConfig as data: what its status says, what runs, and what to do next. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from farcall_operator.cluster.port import Manifest
from farcall_operator.commands.parts import Part, Trouble, list_parts

IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
LIVE_WITHIN_S = 90  # how soon a live field reaches a running agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`ready` is the Ready condition's status, `Unknown` before there is one. `next`: a sentence each, first things first."""

    name: str
    tier: str
    paused: bool
    created: str
    generation: int
    observed_generation: int
    version: str
    ready: str
    reason: str
    message: str
    probes: str
    conditions: list[dict[str, Any]]
    parts: list[Part]
    nodes: dict[str, Any]
    config_generations: list[dict[str, int]]
    effective: dict[str, Any]
    next: list[str]


def build_report(
    config: Manifest, workloads: Sequence[Manifest], pods: Sequence[Manifest], namespace: str
) -> Report:
    metadata, spec = config["metadata"], config.get("spec") or {}
    status = config.get("status") or {}
    conditions = status.get("conditions") or []
    ready = find_condition(conditions, "Ready")
    parts = list_parts(config, workloads, pods)
    return Report(
        name=metadata["name"],
        tier=str(spec.get("tier", "")),
        paused=bool(spec.get("paused")),
        created=str(metadata.get("creationTimestamp") or ""),
        generation=int(metadata.get("generation", 0)),
        observed_generation=int(status.get("observedGeneration", 0)),
        version=str(status.get("version") or ""),
        ready=str(ready.get("status", "Unknown")),
        reason=str(ready.get("reason", "NoStatus")),
        message=str(ready.get("message", "")),
        probes=str(status.get("probes") or ""),
        conditions=conditions,
        parts=parts,
        nodes=status.get("nodes") or {},
        config_generations=status.get("configGenerations") or [],
        effective=status.get("effective") or {},
        next=list(advise(config, parts, namespace)),
    )


def plain_report(report: Report) -> dict[str, Any]:
    """What `-o json` prints."""
    plain = asdict(report)
    for part, source in zip(plain["parts"], report.parts, strict=True):
        part["troubles"] = [trouble._asdict() for trouble in source.troubles]
    return plain


def find_condition(conditions: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any]:
    return next((c for c in conditions if c.get("type") == kind), {})


def advise(config: Manifest, parts: Sequence[Part], namespace: str) -> Iterator[str]:
    """First things first: an operator that is away explains all that follows."""
    status, spec = config.get("status") or {}, config.get("spec") or {}
    name, generation = config["metadata"]["name"], int(config["metadata"].get("generation", 0))
    observed = int(status.get("observedGeneration", 0))
    operator = f"kubectl -n {namespace} get deployment farcall-operator"
    if spec.get("paused"):
        yield "It is paused, and nothing is reconciled: set spec.paused to false to go on."
    elif not status:
        yield f"The operator has not seen it yet. If it stays so, see whether it runs: {operator}"
    elif observed < generation:
        yield f"The operator has seen generation {observed}, not {generation} yet. If it stays so: {operator}"
    stalled = find_condition(status.get("conditions") or [], "Stalled")
    if stalled.get("status") == "True":
        yield f"It needs you ({stalled.get('reason')}): {stalled.get('message')}"
    for part in parts:
        for trouble in part.troubles:
            yield advise_trouble(part, trouble, name, namespace)
    yield from advise_agents(status, generation)


def advise_trouble(part: Part, trouble: Trouble, name: str, namespace: str) -> str:
    count = f"{trouble.pods} pods" if trouble.pods > 1 else "a pod"
    said = f" ({trouble.message})" if trouble.message else ""
    head = f"{part.part}, {count}, {trouble.reason}{said}: "
    if trouble.reason in IMAGE_REASONS:
        return head + (
            f"the nodes cannot pull the image. `kubectl get tcfg {name} -o yaml | farcall images -f -` lists all that are "
            "needed; spec.images has registry, digests and pullSecrets."
        )
    if trouble.reason == "Unschedulable":
        return head + (
            "no node takes it. Make room, or change requests, nodeSelector or tolerations; "
            f"kubectl -n {namespace} describe pod {trouble.pod}"
        )
    if trouble.container and trouble.reason == "CrashLoopBackOff":
        return head + f"kubectl -n {namespace} logs {trouble.pod} -c {trouble.container} --previous"
    return head + f"kubectl -n {namespace} describe pod {trouble.pod}"


def advise_agents(status: Mapping[str, Any], generation: int) -> Iterator[str]:
    behind = sum(
        int(entry.get("agents", 0))
        for entry in status.get("configGenerations") or []
        if int(entry.get("generation", 0)) < generation
    )
    if behind:
        yield (
            f"{behind} agents run an older config. A change reaches them within {LIVE_WITHIN_S} s; "
            "what needs new pods takes as long as the rollout."
        )
