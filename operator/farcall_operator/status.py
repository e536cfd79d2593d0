"""The status of a TracingConfig from all that one pass saw. Pure; every condition is decided here and nowhere else.

Ready is never claimed from what we did, only from what the workloads say of their current generation. kstatus reads
Stalled as failed and Reconciling as in progress, so exactly one of Ready, Reconciling and Stalled is True, but for a
paused resource, whose Ready is Unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from farcall_operator.cluster.port import Manifest
from farcall_operator.conditions import (
    CACHE,
    EXPORTER,
    PROBES,
    READY,
    RECONCILING,
    STALLED,
    Condition,
    read_false_since,
    render_conditions,
)
from farcall_operator.problems import Problem
from farcall_operator.rollout import read_rollout
from farcall_operator.troubles import Trouble

# Longer than an image takes to be pulled; a Deployment's own deadline is as long.
STUCK_AFTER = timedelta(minutes=10)
CARRIED = ("effective", "nodes", "configGenerations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One workload in the words of the status. `one`, `many`: of its pods."""

    condition: str
    component: str  # as in the label
    kind: str
    suffix: str
    one: str
    many: str


PARTS = (
    Part(condition=PROBES, component="probe", kind="DaemonSet", suffix="probe", one="agent", many="agents"),
    Part(condition=CACHE, component="dns-cache", kind="StatefulSet", suffix="redis", one="cache", many="caches"),
    Part(condition=EXPORTER, component="exporter", kind="Deployment", suffix="exporter", one="exporter", many="exporters"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What one pass saw. `described`: effective, nodes, configGenerations, where they were found out anew."""

    config: Manifest
    now: datetime
    version: str
    before: Manifest  # the status as it stands
    workloads: Mapping[str, Manifest] = field(default_factory=dict)  # by component
    troubles: Mapping[str, Trouble] = field(default_factory=dict)  # by component
    unwatched: Mapping[str, str] = field(default_factory=dict)  # by component: why, a sentence
    problems: Sequence[Problem] = ()
    waiting: Sequence[str] = ()
    notes: Sequence[str] = ()
    described: Mapping[str, object] = field(default_factory=dict)
    paused: bool = False

    @property
    def generation(self) -> int:
        return int(self.config["metadata"].get("generation", 0))


def build_status(picture: Picture) -> Manifest:
    parts = [_add_unwatched(_judge_part(part, picture), part, picture) for part in PARTS]
    conditions = [*_judge_whole(picture, parts), *parts]
    carried = {name: picture.before[name] for name in CARRIED if name in picture.before}
    probe = picture.workloads.get("probe")
    return {
        "conditions": render_conditions(
            conditions, picture.before, picture.generation, picture.now
        ),
        **carried,
        **picture.described,
        "observedGeneration": picture.generation,
        "probes": _count_probes(probe),
        "version": picture.version,
    }


def _count_probes(probe: Manifest | None) -> str:
    if probe is None:
        return "0/0"
    rollout = read_rollout(probe)
    return f"{rollout.available}/{rollout.wanted}"


def _judge_part(part: Part, picture: Picture) -> Condition:
    workload = picture.workloads.get(part.component)
    if workload is None:
        return _judge_absent(part, picture)
    rollout = read_rollout(workload)
    if part.kind == "DaemonSet" and rollout.is_current and not rollout.wanted:
        return _part(part, "NoNodes", _explain_no_nodes(picture))
    trouble = picture.troubles.get(part.component)
    if rollout.is_complete and trouble is None:
        found = (
            f"{_count(rollout.wanted, part)} can serve." if rollout.wanted else "None is wanted."
        )
        return Condition(type=part.condition, status="True", reason="Available", message=found)
    if not rollout.is_current:
        told = f"{part.kind} {workload['metadata']['name']} has not been looked at by its controller yet."
    elif not rollout.is_updated:
        old = f"; {rollout.surplus} old ones are still to go" if rollout.surplus > 0 else ""
        told = f"{rollout.updated} of {_count(rollout.wanted, part)} updated, {rollout.available} can serve{old}."
    else:
        told = f"{rollout.available} of {_count(rollout.wanted, part)} can serve."
    reason = "NotAvailable" if rollout.is_updated else "RollingOut"
    if trouble is None:
        return _part(part, reason, told)
    # A pod that is merely starting is no cause of its own.
    reason = reason if trouble.reason == "NotReady" else trouble.reason
    return _part(part, reason, f"{told} {trouble.message}")


def _add_unwatched(condition: Condition, part: Part, picture: Picture) -> Condition:
    remark = picture.unwatched.get(part.component)
    return replace(condition, message=f"{condition.message} {remark}") if remark else condition


def _judge_absent(part: Part, picture: Picture) -> Condition:
    for problem in picture.problems:
        if problem.ref is not None and problem.ref.kind == part.kind:
            return _part(part, problem.reason, problem.message)
    if picture.problems or picture.paused:
        return _part(part, "NotApplied", f"There is no {part.kind} yet.")
    return _part(part, "Creating", f"The {part.kind} is being created.")


def _explain_no_nodes(picture: Picture) -> str:
    nodes = picture.described.get("nodes")
    left_out = nodes.get("leftOut") if isinstance(nodes, dict) else None
    if not left_out:
        return "No node is to get an agent: there is none, or none that the DaemonSet's placement admits."
    counts = ", ".join(f"{number} by {reason}" for reason, number in sorted(left_out.items()))
    return f"No node is to get an agent. Left out: {counts}."


def _part(part: Part, reason: str, message: str) -> Condition:
    return Condition(type=part.condition, status="False", reason=reason, message=message)


def _count(number: int, part: Part) -> str:
    return f"{number} {part.one if number == 1 else part.many}"


def _judge_whole(picture: Picture, parts: Sequence[Condition]) -> list[Condition]:
    """Ready, Reconciling and Stalled."""
    if stalled := _find_stall(picture, parts):
        return [
            Condition(type=READY, status="False", reason=stalled.reason, message=stalled.message),
            Condition(type=RECONCILING, status="False", reason="Stalled", message=stalled.message),
            Condition(type=STALLED, status="True", reason=stalled.reason, message=stalled.message),
        ]
    if picture.paused:
        told = "spec.paused is true: nothing is changed until it is taken away."
        return [
            Condition(type=READY, status="Unknown", reason="Paused", message=told),
            Condition(type=RECONCILING, status="False", reason="Paused", message=told),
            Condition(type=STALLED, status="False", reason="Paused", message=told),
        ]
    if missing := _find_missing(picture, parts):
        reason, message = missing
        return [
            Condition(type=READY, status="False", reason=reason, message=message),
            Condition(type=RECONCILING, status="True", reason=reason, message=message),
            Condition(type=STALLED, status="False", reason="Progressing", message=""),
        ]
    told = " ".join([f"{' '.join(part.message for part in parts)}", *picture.notes])
    return [
        Condition(type=READY, status="True", reason="Ready", message=told),
        Condition(type=RECONCILING, status="False", reason="Ready", message=""),
        Condition(type=STALLED, status="False", reason="Ready", message=""),
    ]


def _find_stall(picture: Picture, parts: Sequence[Condition]) -> Problem | None:
    """What somebody must act upon; all of it, under the reason of the first."""
    found = [problem for problem in picture.problems if not problem.is_transient]
    if not picture.paused:
        found += [p for part in parts if (p := _find_stuck(part, picture))]
    if not found:
        return None
    message = " ".join(dict.fromkeys(problem.message for problem in found))
    return Problem(reason=found[0].reason, message=message)


def _find_stuck(condition: Condition, picture: Picture) -> Problem | None:
    component = next(part.component for part in PARTS if part.condition == condition.type)
    trouble = picture.troubles.get(component)
    if condition.status == "True" or trouble is None:
        return None
    since = read_false_since(picture.before, condition.type)
    is_old = since is not None and picture.now - since >= STUCK_AFTER
    if trouble.is_final or is_old:
        return Problem(reason=trouble.reason, message=condition.message)
    return None


def _find_missing(picture: Picture, parts: Sequence[Condition]) -> tuple[str, str] | None:
    """Reason and message of what is yet to come; None when there is nothing."""
    if picture.problems:
        return picture.problems[0].reason, " ".join(p.message for p in picture.problems)
    unready = [part for part in parts if part.status != "True"]
    messages = [*(part.message for part in unready), *picture.waiting]
    if not messages:
        return None
    return (unready[0].reason if unready else "Waiting"), " ".join(messages)
