"""What can happen to a cluster: pods and containers killed, an operator elsewhere, nodes that go. And a second TracingConfig."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from support_cluster import NAMESPACE, PATIENCE_S, Cluster, Object, docker, wait_until

SECOND = "canary"
SMALL = "small"
# What a TracingConfig leaves when it goes, in all kinds that may be a child.
KINDS = "ds,sts,deploy,pods,cm,svc,sa,secrets,pvc,netpol,pdb,hpa,ingress"
OPERATOR = "app.kubernetes.io/component=operator"


def second_config(**spec: object) -> Object:
    """Stands beside the first: its namespaces are its own."""
    return {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": SECOND},
        "spec": {"tier": "Hobby", "namespaces": {"include": [SECOND]}, **spec},
    }


def children_of(cluster: Cluster, name: str, kinds: str = KINDS) -> list[str]:
    found = cluster.items(kinds, "-l", f"farcall.dev/tracingconfig={name}")
    return sorted(f"{one['kind']}/{one['metadata']['name']}" for one in found)


def kill(cluster: Cluster, component: str) -> None:
    """As a node's out-of-memory killer would: no goodbye."""
    selector = f"app.kubernetes.io/component={component}"
    cluster.kubectl(
        *("-n", NAMESPACE, "delete", "pods", "-l", selector),
        *("--grace-period", "0", "--force", "--wait=false"),
    )


def kill_container(node: str, name: str) -> None:
    """Its processes alone: the pod stays, and the kubelet starts it again."""
    tell_container(node, name, "kill", "--signal", "SIGKILL")


@contextmanager
def frozen(node: str, name: str) -> Iterator[None]:
    """The container's processes stand still, as on a node without a core to spare."""
    tell_container(node, name, "pause")
    try:
        yield
    finally:
        tell_container(node, name, "resume")


def tell_container(node: str, name: str, *task: str) -> None:
    ctr = ("exec", node, "ctr", "--namespace", "k8s.io")
    label = f'labels."io.kubernetes.container.name"=={name}'
    known = docker(*ctr, "containers", "list", "--quiet", label).split()
    running = docker(*ctr, "tasks", "list", "--quiet").split()
    found = [container for container in known if container in running]
    assert found, f"no container {name} runs on {node}"
    for container in found:
        docker(*ctr, "tasks", *task, container)


def operator_pods(cluster: Cluster) -> list[Object]:
    found = cluster.items("pods", "-l", OPERATOR)
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def read_leader(cluster: Cluster) -> str:
    """The name of the operator's pod that holds the lease, "" when none of those there does."""
    holder = cluster.get("lease", "farcall-operator")["spec"].get("holderIdentity") or ""
    names = [pod["metadata"]["name"] for pod in operator_pods(cluster)]
    return next((name for name in names if name in holder), "")


@contextmanager
def operator_on(cluster: Cluster, node: str) -> Iterator[None]:
    """The operator on that node, whoever else may not go there."""
    toleration = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}
    here = {"nodeSelector": {"kubernetes.io/hostname": node}, "tolerations": [toleration]}
    _place_operator(cluster, here)
    try:
        yield
    finally:
        _place_operator(cluster, dict.fromkeys(here))


def _place_operator(cluster: Cluster, placement: Object) -> None:
    deployment = "deployment/farcall-operator"
    patch = {"spec": {"template": {"spec": placement}}}
    cluster.kubectl("-n", NAMESPACE, "patch", deployment, "-p", json.dumps(patch))
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", deployment, "--timeout=100s")


def wait_node(cluster: Cluster, name: str, *, ready: bool) -> None:
    def look() -> bool:
        conditions = cluster.get("node", name)["status"]["conditions"]
        status = next(c["status"] for c in conditions if c["type"] == "Ready")
        assert (status == "True") == ready, f"Ready is {status}"
        return True

    wait_until(look, f"{name} is {'' if ready else 'not '}Ready")


@contextmanager
def cut_off(cluster: Cluster, node: str, pod: str) -> Iterator[None]:
    """The node's pods cannot reach that pod, which knows nothing of it and stays Ready."""
    address = cluster.get("pod", pod)["status"]["podIP"]
    route = ("blackhole", f"{address}/32")
    docker("exec", node, "ip", "route", "add", *route)
    try:
        yield
    finally:
        docker("exec", node, "ip", "route", "del", *route)


def wait_told(
    cluster: Cluster,
    config: str,
    condition: str,
    reason: str,
    *words: str,
    within_s: float = PATIENCE_S,
) -> None:
    """Until that condition is False for that reason, in these words."""

    def look() -> bool:
        found = cluster.conditions(config).get(condition, {})
        assert (found.get("status"), found.get("reason")) == ("False", reason), str(found)
        assert all(word in found["message"] for word in words), str(found)
        return True

    wait_until(look, f"{condition} of {config} says {reason}", within_s=within_s)


@contextmanager
def small_volumes(cluster: Cluster, node: str, claims: dict[str, int]) -> Iterator[None]:
    """A storage class `small` whose volumes are as large as they say, which those of a host path are not.

    `claims`: name of the volume claim that gets one, MiB.
    """
    cluster.apply(
        {
            **_head("storage.k8s.io/v1", "StorageClass", SMALL),
            "provisioner": "kubernetes.io/no-provisioner",
        }
    )
    for claim, size in claims.items():
        docker("exec", node, "mkdir", "--parents", small_path(claim))
        options = f"size={size}m,mode=1777"
        docker("exec", node, "mount", "-t", "tmpfs", "-o", options, "small", small_path(claim))
        cluster.apply(_build_small_volume(node, claim))
    try:
        yield
    finally:
        for claim in claims:
            cluster.kubectl("delete", "pv", claim, "--ignore-not-found", "--timeout=60s")
            docker("exec", node, "umount", small_path(claim))


def small_path(claim: str) -> str:
    return f"/var/small/{claim}"


def _build_small_volume(node: str, claim: str) -> Object:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        **_head("v1", "PersistentVolume", claim),
        "spec": {
            "storageClassName": SMALL,
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": NAMESPACE, "name": claim},
            "local": {"path": small_path(claim)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


def _head(version: str, kind: str, name: str) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}
