"""TracingConfigs with the statuses that the operator itself writes, for whoever judges them by their conditions."""

from datetime import UTC, datetime
from typing import Any

from farcall_operator.cluster.port import Manifest
from farcall_operator.status import Picture, build_status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMPONENTS = ("probe", "dns-cache", "exporter")


def build_config(**spec: Any) -> Manifest:
    return {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": "main", "generation": 3},
        "spec": {"tier": "Hobby", **spec},
    }


def complete(kind: str) -> Manifest:
    number = {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberAvailable": 1, "numberReady": 1, "currentNumberScheduled": 1}  # fmt: skip
    replicas = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1, "currentReplicas": 1}  # fmt: skip
    return {
        "kind": kind,
        "metadata": {"name": f"main-{kind.lower()}", "generation": 1},
        "spec": {} if kind == "DaemonSet" else {"replicas": 1},
        "status": {
            "observedGeneration": 1,
            "currentRevision": "a",
            "updateRevision": "a",
            **(number if kind == "DaemonSet" else replicas),
        },
    }


def with_status(config: Manifest, **picture: Any) -> Manifest:
    """The status that the operator writes of that picture."""
    status = build_status(Picture(config=config, now=NOW, version="0.1.0", before={}, **picture))
    return {**config, "status": status}


RUNNING = {
    component: complete(kind)
    for component, kind in zip(COMPONENTS, ("DaemonSet", "StatefulSet", "Deployment"), strict=True)
}
