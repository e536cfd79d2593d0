"""Conditions as Kubernetes keeps them: a time that moves only when the status does. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from farcall_operator.cluster.port import Manifest
from farcall_operator.problems import MAX_MESSAGE

Truth = Literal["True", "False", "Unknown"]
READY, RECONCILING, STALLED = "Ready", "Reconciling", "Stalled"
PROBES, CACHE, EXPORTER = "ProbesReady", "CacheReady", "ExporterReady"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    type: str
    status: Truth
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """`before` None: there was no such condition."""

    before: Condition | None
    now: Condition


def read_conditions(status: Manifest) -> dict[str, Condition]:
    return {
        entry["type"]: Condition(
            type=entry["type"],
            status=entry["status"],
            reason=entry.get("reason", ""),
            message=entry.get("message", ""),
        )
        for entry in status.get("conditions") or ()
    }


def read_false_since(status: Manifest, name: str) -> datetime | None:
    """None when the condition is not there, or not False."""
    for entry in status.get("conditions") or ():
        if entry["type"] == name and entry["status"] == "False":
            return parse_time(entry.get("lastTransitionTime", ""))
    return None


def render_conditions(
    conditions: Iterable[Condition], before: Manifest, generation: int, now: datetime
) -> list[Manifest]:
    known: dict[str, Manifest] = {e["type"]: e for e in before.get("conditions") or ()}
    return [_render(condition, known, generation, now) for condition in conditions]


def _render(
    condition: Condition, known: Mapping[str, Manifest], generation: int, now: datetime
) -> Manifest:
    old = known.get(condition.type)
    is_same = old is not None and old["status"] == condition.status
    return {
        "lastTransitionTime": old["lastTransitionTime"] if old and is_same else render_time(now),
        "message": condition.message[: MAX_MESSAGE * 4],
        "observedGeneration": generation,
        "reason": condition.reason,
        "status": condition.status,
        "type": condition.type,
    }


def list_transitions(before: Manifest, after: Manifest) -> list[Transition]:
    """Where status or reason changed; a message alone (`2 of 3`, `3 of 3`) is no transition."""
    old = read_conditions(before)
    return [
        Transition(before=old.get(name), now=condition)
        for name, condition in read_conditions(after).items()
        if (known := old.get(name)) is None
        or (known.status, known.reason) != (condition.status, condition.reason)
    ]


def render_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: object) -> datetime | None:
    """RFC 3339, as the API server writes it; with a fraction in events."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
