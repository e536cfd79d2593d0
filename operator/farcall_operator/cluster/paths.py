"""Which path of the API belongs to which kind, and back: what a request asks of which resource. Pure.

The kinds that farcall knows stand here; of others (ServiceMonitor) the client asks the API server's discovery.
"""

from collections.abc import Mapping
from typing import NamedTuple

from farcall.tracingconfig import API_VERSION, KIND

PLURALS: Mapping[tuple[str, str], str] = {
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "Event"): "events",
    ("v1", "Namespace"): "namespaces",
    ("v1", "Node"): "nodes",
    ("v1", "PersistentVolumeClaim"): "persistentvolumeclaims",
    ("v1", "Pod"): "pods",
    ("v1", "Secret"): "secrets",
    ("v1", "Service"): "services",
    ("v1", "ServiceAccount"): "serviceaccounts",
    ("apps/v1", "DaemonSet"): "daemonsets",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "ReplicaSet"): "replicasets",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): "customresourcedefinitions",
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "horizontalpodautoscalers",
    ("batch/v1", "Job"): "jobs",
    ("coordination.k8s.io/v1", "Lease"): "leases",
    ("discovery.k8s.io/v1", "EndpointSlice"): "endpointslices",
    ("events.k8s.io/v1", "Event"): "events",
    ("networking.k8s.io/v1", "Ingress"): "ingresses",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("networking.k8s.io/v1", "ServiceCIDR"): "servicecidrs",
    ("networking.k8s.io/v1beta1", "ServiceCIDR"): "servicecidrs",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): "clusterroles",
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): "clusterrolebindings",
    ("rbac.authorization.k8s.io/v1", "Role"): "roles",
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): "rolebindings",
    ("storage.k8s.io/v1", "StorageClass"): "storageclasses",
    (API_VERSION, KIND): "tracingconfigs",
}
_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch"}


class Asked(NamedTuple):
    """A request in the words of RBAC: `resource` as `deployments.apps` or `tracingconfigs.farcall.dev/status`."""

    verb: str
    resource: str


def build_root(api_version: str) -> str:
    """Of a group and version: `/api/v1` or `/apis/apps/v1`."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def build_path(
    api_version: str, plural: str, namespace: str = "", name: str = "", subresource: str = ""
) -> str:
    parts = [build_root(api_version)]
    if namespace:
        parts += ["namespaces", namespace]
    parts += [part for part in (plural, name, subresource) if part]
    return "/".join(parts)


def describe_request(method: str, path: str, *, watch: bool) -> Asked:
    """For metrics and the audit of rights; what is no resource (discovery, /version) is `other`."""
    parts = [part for part in path.split("/") if part]
    group = parts[1] if parts[:1] == ["apis"] and len(parts) > 3 else ""
    if parts[:1] == ["api"] and len(parts) > 2:
        rest = parts[2:]
    elif group:
        rest = parts[3:]
    else:
        return Asked(method.lower(), "other")
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    resource = f"{rest[0]}.{group}" if group else rest[0]
    named = len(rest) > 1
    return Asked(
        _name_verb(method, named=named, watch=watch),
        f"{resource}/{rest[2]}" if len(rest) > 2 else resource,
    )


def _name_verb(method: str, *, named: bool, watch: bool) -> str:
    if method == "GET":
        return "get" if named else "watch" if watch else "list"
    if method == "DELETE":
        return "delete" if named else "deletecollection"
    return _WRITES.get(method, method.lower())
