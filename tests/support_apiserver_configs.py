"""TracingConfigs in the cluster under test: apply, wait, look at the children, forget the rest."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from support_apiserver import wait_until
from support_apiserver_access import Api, Object
from support_apiserver_operator import NAMESPACE, OperatorProcess

OWNER = "farcall.dev/tracingconfig"
PART_OF = "app.kubernetes.io/part-of"
SETTLE_S = 1.5  # longer than the operator gathers what happened before it writes status
CONFIGS = "/apis/farcall.dev/v1alpha1/tracingconfigs"
# Whatever may be a child, Secrets too.
CHILD_PATHS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Ingress": "/apis/networking.k8s.io/v1/namespaces/{}/ingresses",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
}
WORKLOADS = ("DaemonSet", "Deployment", "StatefulSet")
Key = tuple[str, str]  # kind, name


def build_config(name: str, **spec: Any) -> Object:
    """Its `include` list holds one namespace of its own, so that it stands beside any other."""
    return {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": name},
        "spec": {"tier": "Hobby", "namespaces": {"include": [name]}, **spec},
    }


@dataclass
class Configs:
    """As a user of kubectl. `check_alive` is called while anything is awaited."""

    api: Api
    operator: OperatorProcess
    made: list[str] = field(default_factory=list)

    def apply(self, name: str, **spec: Any) -> Object:
        """What the file says now; a field that it held before and no longer holds is gone."""
        self.made.append(name)
        return self.api.apply(build_config(name, **spec), manager="kubectl")

    def get(self, name: str) -> Object:
        return self.api.get(f"{CONFIGS}/{name}")

    def conditions(self, name: str) -> dict[str, Object]:
        found = self.get(name).get("status", {}).get("conditions", [])
        return {condition["type"]: condition for condition in found}

    def kstatus(self, name: str) -> str:
        """As the kstatus library judges an object with conditions."""
        config = self.get(name)
        status = config.get("status", {})
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        if config["metadata"].get("deletionTimestamp"):
            return "Terminating"
        if status.get("observedGeneration") != config["metadata"]["generation"]:
            return "InProgress"
        if conditions.get("Stalled") == "True":
            return "Failed"
        if conditions.get("Reconciling") == "True" or conditions.get("Ready") != "True":
            return "InProgress"
        return "Current"

    def wait_for(self, name: str, verdict: str, *, within_s: float = 180) -> Object:
        self.wait(lambda: self.kstatus(name) == verdict, name, verdict, within_s=within_s)
        return self.get(name)

    def wait_ready(self, name: str) -> Object:
        return self.wait_for(name, "Current")

    def wait_for_observed(self, name: str) -> Object:
        """Until status speaks of the newest generation, whatever it says."""

        def is_observed() -> bool:
            found = self.get(name)
            observed = found.get("status", {}).get("observedGeneration")
            return bool(observed == found["metadata"]["generation"])

        self.wait(is_observed, name, "its generation is observed")
        return self.get(name)

    def wait_settled(self, name: str) -> Object:
        """Ready, and neither the resource nor a child was written to for a while."""
        self.wait_ready(name)
        deadline = time.monotonic() + 90
        before: object = None
        while before != (before := self._snapshot(name)):
            assert time.monotonic() < deadline, f"{name} does not settle\n{self.describe(name)}"
            time.sleep(SETTLE_S)
        return self.wait_ready(name)

    def _snapshot(self, name: str) -> object:
        children = {
            key: child["metadata"]["resourceVersion"] for key, child in self.children(name).items()
        }
        return self.get(name)["metadata"]["resourceVersion"], children

    def nudge(self, name: str) -> None:
        """Makes the operator look again, and returns once it has: it repairs a label that was taken away."""
        child = f"{name}-config"
        path = self.path("ConfigMap", child)
        before = self.child("ConfigMap", child)["metadata"]["labels"]
        self.api.merge(path, {"metadata": {"labels": {PART_OF: "nudged"}}})
        self.wait(
            lambda: self.child("ConfigMap", child)["metadata"]["labels"] == before,
            name,
            "a label of its ConfigMap is repaired",
        )

    def wait_condition(self, name: str, kind: str, reason: str, *, within_s: float = 180) -> str:
        """Until that condition has that reason; its message."""
        self.wait(
            lambda: self.conditions(name).get(kind, {}).get("reason") == reason,
            name,
            f"{kind} says {reason}",
            within_s=within_s,
        )
        return str(self.conditions(name)[kind]["message"])

    def wait(self, holds: Any, name: str, what: str, *, within_s: float = 180) -> None:
        wait_until(
            holds,
            f"{name}: {what}",
            self.operator.check_alive,
            within_s=within_s,
            describe=lambda: self.describe(name),
        )

    def describe(self, name: str) -> str:
        found = self.api.find(f"{CONFIGS}/{name}")
        if found is None:
            return "(it is gone)"
        lines = [
            f"{c['type']}={c['status']} {c['reason']}: {c.get('message', '')}"
            for c in found.get("status", {}).get("conditions", [])
        ]
        generation = found["metadata"]["generation"]
        return "\n".join([f"generation {generation}", *lines, self.operator.tail(12)])

    def children(self, name: str) -> dict[Key, Object]:
        found: dict[Key, Object] = {}
        for kind, path in CHILD_PATHS.items():
            for item in self.api.list(path.format(NAMESPACE), labelSelector=f"{OWNER}={name}"):
                found[kind, item["metadata"]["name"]] = item
        return found

    def child(self, kind: str, name: str) -> Object:
        return self.api.get(f"{CHILD_PATHS[kind].format(NAMESPACE)}/{name}")

    def find_child(self, kind: str, name: str) -> Object | None:
        return self.api.find(f"{CHILD_PATHS[kind].format(NAMESPACE)}/{name}")

    def path(self, kind: str, name: str) -> str:
        return f"{CHILD_PATHS[kind].format(NAMESPACE)}/{name}"

    def delete(self, name: str) -> None:
        self.api.delete(f"{CONFIGS}/{name}")

    def forget(self) -> None:
        """Deletes whatever this test made, and waits until nothing of it is left."""
        names = sorted(set(self.made))
        if not names:
            return
        for name in names:
            self.delete(name)
        # Claims outlive their TracingConfig where its policy, or the StatefulSet's, says so.
        claims = CHILD_PATHS["PersistentVolumeClaim"].format(NAMESPACE)
        for claim in self.api.list(claims):
            if claim["metadata"].get("labels", {}).get("app.kubernetes.io/instance") in names:
                self.api.delete(f"{claims}/{claim['metadata']['name']}")
        selector = f"{OWNER} in ({','.join(names)})"
        for path in (*CHILD_PATHS.values(), "/api/v1/namespaces/{}/pods"):
            self._wait_gone(path.format(NAMESPACE), selector)

    def _wait_gone(self, path: str, selector: str) -> None:
        wait_until(
            lambda: not self.api.list(path, labelSelector=selector),
            f"nothing is left of {path}",
            within_s=120,
            describe=lambda: [i["metadata"]["name"] for i in self.api.list(path, labelSelector=selector)],
        )  # fmt: skip


def strip(manifest: Object) -> Object:
    """What was asked for, without what the server or a controller counts."""
    metadata = {
        key: value
        for key, value in manifest["metadata"].items()
        if key not in ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
    }
    annotations = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        if not key.startswith(("deployment.kubernetes.io/", "deprecated.daemonset."))
    }
    left_out = ("status", "metadata", "apiVersion", "kind")  # a list's items do not bear the latter
    rest = {key: value for key, value in manifest.items() if key not in left_out}
    return {**rest, "metadata": {**metadata, "annotations": annotations}}


def strip_all(children: Mapping[Key, Object]) -> dict[Key, Object]:
    return {key: strip(child) for key, child in children.items()}


def versions(children: Mapping[Key, Object]) -> dict[Key, tuple[str, object]]:
    """Changes when somebody wrote to the object's spec or data; a controller's status is no such write."""
    return {
        key: (child["metadata"]["uid"], child["metadata"].get("generation", strip(child)))
        for key, child in children.items()
    }
