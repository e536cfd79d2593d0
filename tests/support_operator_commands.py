"""A cluster as `farcall status|diff|open` finds it: a TracingConfig whose rollout has come half-way."""

import base64
from typing import Any

from farcall_operator.cluster.port import COMPONENT_LABEL, MANAGED_BY, MANAGER, OWNER_LABEL

Json = dict[str, Any]
NAMESPACE = "farcall"
ADMIN = "a" * 40


def make_config(name: str = "main", *, ready: bool = False, **spec: Any) -> Json:
    reason, message = (
        ("AllReady", "Everything runs.")
        if ready
        else ("ProbesNotReady", "2 of 3 probes are ready: node-c cannot pull the image.")
    )
    state = "True" if ready else "False"
    return {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": name, "creationTimestamp": "2026-11-20T08:00:00Z"},
        "spec": {"tier": "Hobby", **spec},
        "status": {
            "observedGeneration": 1,
            "version": "0.1.0",
            "probes": "3/3" if ready else "2/3",
            "nodes": {"total": 4, "traced": 3, "leftOut": {"Windows": 1}},
            "configGenerations": [{"generation": 1, "agents": 3}],
            "effective": {
                "tier": "Hobby",
                "dnsTTLSeconds": 3600,
                "retention": {"traces": "3d", "logs": "3d", "maxSize": "8Gi"},
                "clusterCIDRs": [f"10.{i}.0.0/16" for i in range(8)],
                "clusterCIDRsTotal": 12,
                "clusterCIDRsFrom": ["nodes' podCIDRs", "ServiceCIDR kubernetes"],
            },
            "conditions": [
                make_condition("Ready", state, reason, message),
                make_condition("Reconciling", "False" if ready else "True", reason, message),
                make_condition("Stalled", "False", "Progressing", "Nothing needs you."),
            ],
        },
    }


def make_condition(kind: str, status: str, reason: str, message: str) -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-25T12:00:00Z",
        "observedGeneration": 1,
    }


def make_child(
    api_version: str, kind: str, name: str, component: str, owner: str = "main", **rest: Any
) -> Json:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {
                OWNER_LABEL: owner,
                COMPONENT_LABEL: component,
                MANAGED_BY: MANAGER,
            },
        },
        **rest,
    }


def make_workloads(owner: str = "main") -> list[Json]:
    counts = {"desiredNumberScheduled": 3, "numberReady": 2, "updatedNumberScheduled": 3}
    one = {"readyReplicas": 1, "updatedReplicas": 1, "observedGeneration": 1}
    return [
        make_child("apps/v1", "Deployment", f"{owner}-exporter", "exporter", owner,
                   spec={"replicas": 1}, status={"replicas": 1, "observedGeneration": 0}),
        make_child("apps/v1", "DaemonSet", f"{owner}-probe", "probe", owner, spec={}, status={**counts, "observedGeneration": 1}),
        make_child("apps/v1", "StatefulSet", f"{owner}-redis", "dns-cache", owner, spec={"replicas": 1}, status=one),
    ]  # fmt: skip


def make_pod(name: str, component: str, status: Json, owner: str = "main") -> Json:
    return make_child("v1", "Pod", name, component, owner, spec={}, status=status)


def waiting(container: str, reason: str, *, said: str = "", restarts: int = 0) -> Json:
    last = {"terminated": {"message": said, "reason": "Error"}} if said else {}
    return {
        "name": container,
        "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": f"{reason} of {container}"}},
        "lastState": last,
    }


def make_pods(owner: str = "main") -> list[Json]:
    pull = waiting("probe", "ImagePullBackOff")
    crash = waiting("exporter", "CrashLoopBackOff", said="farcall exporter: no space left\x1b[2J", restarts=7)  # fmt: skip
    return [
        make_pod(f"{owner}-probe-{i}", "probe", {"containerStatuses": [pull]}, owner)
        for i in range(2)
    ] + [
        make_pod(f"{owner}-exporter-x", "exporter", {"containerStatuses": [crash]}, owner),
    ]


def make_secret(owner: str = "main") -> Json:
    value = base64.b64encode(ADMIN.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{owner}-secrets", "namespace": NAMESPACE},
        "data": {"admin-secret": value},
    }
