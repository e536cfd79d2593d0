"""What can happen to a cluster: pods and containers killed, an operator elsewhere, nodes that go. And a second TracingConfig."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from support_cluster import NAMESPACE, Cluster, Object, docker, wait_until

SECOND = "canary"
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
    ctr = ("exec", node, "ctr", "--namespace", "k8s.io")
    label = f'labels."io.kubernetes.container.name"=={name}'
    known = docker(*ctr, "containers", "list", "--quiet", label).split()
    running = docker(*ctr, "tasks", "list", "--quiet").split()
    found = [container for container in known if container in running]
    assert found, f"no container {name} runs on {node}"
    for container in found:
        docker(*ctr, "tasks", "kill", "--signal", "SIGKILL", container)


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


def wait_told(cluster: Cluster, config: str, condition: str, reason: str, *words: str) -> None:
    """Until that condition is False for that reason, in these words."""

    def look() -> bool:
        found = cluster.conditions(config).get(condition, {})
        assert (found.get("status"), found.get("reason")) == ("False", reason), str(found)
        assert all(word in found["message"] for word in words), str(found)
        return True

    wait_until(look, f"{condition} of {config} says {reason}")
