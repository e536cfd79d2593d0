"""How far a workload has come, from its own status. Pure: applying waits by it, and status tells it."""

from dataclasses import dataclass
from typing import Any

from farcall_operator.cluster.port import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Pods: how many there should be, are of the newest template, can serve. `surplus`: old ones still to go.

    `is_current`: the numbers speak of the generation that the object has now.
    """

    wanted: int
    updated: int
    available: int
    surplus: int = 0
    is_current: bool = True
    has_failed: bool = False  # its controller has given up waiting

    @property
    def is_updated(self) -> bool:
        return self.is_current and self.updated >= self.wanted and self.surplus <= 0

    @property
    def is_complete(self) -> bool:
        return self.is_updated and self.available >= self.wanted


def read_rollout(workload: Manifest) -> Rollout:
    status: dict[str, Any] = workload.get("status") or {}
    generation = workload["metadata"].get("generation", 0)
    is_current = bool(status.get("observedGeneration", 0) >= generation)
    if workload["kind"] == "DaemonSet":
        return Rollout(
            wanted=status.get("desiredNumberScheduled", 0),
            updated=status.get("updatedNumberScheduled", 0),
            available=status.get("numberAvailable", 0),
            is_current=is_current,
        )
    wanted = workload["spec"].get("replicas", 1)
    updated = status.get("updatedReplicas", 0)
    return Rollout(
        wanted=wanted,
        updated=updated,
        available=min(status.get("availableReplicas", 0), wanted),
        surplus=status.get("replicas", 0) - max(updated, wanted),
        is_current=is_current,
        has_failed=_has_failed(status),
    )


def _has_failed(status: dict[str, Any]) -> bool:
    return any(
        condition.get("type") == "Progressing" and condition.get("status") == "False"
        for condition in status.get("conditions") or ()
    )
