"""A shop in the cluster whose pods call each other and servers outside, each pod one thing, so that a span tells whose it is.

Outside are containers on the nodes' network, which is in no cluster CIDR, with names in a zone that the cluster's DNS
answers. Two names lead to one address, as they do at any cloud.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from support_cluster import INSTRUMENTED, ROOT, WORKLOAD, Cluster, Object, run_outside, wait_until

SHOP = "shop"
CONFIG = "main"
ZONE = "partner.test"
NODE_PORT = 30080
OTLP = f"http://{CONFIG}-exporter.farcall:4318"
DOWNWARD = {
    "NAMESPACE": "metadata.namespace",
    "POD": "metadata.name",
    "NODE": "spec.nodeName",
}
# No clusterCIDRs: the networks are discovered, and the addresses of nodes are among them.
SPEC: Object = {"tier": "Hobby", "namespaces": {"include": [SHOP]}}


@dataclass(frozen=True)
class Shop:
    """Addresses of the servers outside, and the nodes (the control plane first)."""

    redis: str  # carts.partner.test and stock.partner.test
    rates: str  # rates.partner.test, a Redis
    web: str  # pay.partner.test, HTTP
    nodes: list[str]
    api_cluster_ip: str


@contextmanager
def open_shop(cluster: Cluster) -> Iterator[Shop]:
    with ExitStack() as stack:
        redis_command = (
            "redis-server",
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
            "--save",
            "",
        )
        redis = stack.enter_context(run_outside("farcall-e2e-redis", *redis_command))
        rates = stack.enter_context(run_outside("farcall-e2e-rates", *redis_command))
        serve = ("python3", "/app/workload.py", "serve", "8080")
        web = stack.enter_context(run_outside("farcall-e2e-web", *serve))
        name_outside(cluster, {redis: ["carts", "stock"], rates: ["rates"], web: ["pay"]})
        cluster.kubectl("delete", "tracingconfig", CONFIG, "--ignore-not-found", "--wait")
        cluster.kubectl("delete", "namespace", SHOP, "--ignore-not-found", "--wait")
        nodes = cluster.nodes()
        api_ip = open_servers(cluster, nodes)
        # Before any agent: it asked for nothing that an agent could have seen.
        cluster.apply(caller("early", nodes[1], f"redis://{rates}/early"))
        wait_ready(cluster)
        cluster.apply(build_config())
        cluster.wait_current(CONFIG)
        shop = Shop(redis=redis, rates=rates, web=web, nodes=nodes, api_cluster_ip=api_ip)
        cluster.apply(*callers(cluster, shop))
        wait_ready(cluster)
        visit = f"http://{cluster.node_address(nodes[0])}:{NODE_PORT}/outside/"
        command = ("python3", "/app/workload.py", "call", visit)
        stack.enter_context(run_outside("farcall-e2e-visitor", *command))
        yield shop


def build_config(**spec: object) -> Object:
    return {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": CONFIG},
        "spec": {**SPEC, **spec},
    }


def name_outside(cluster: Cluster, names: dict[str, list[str]]) -> None:
    """The zone as one more server block of CoreDNS."""
    config = cluster.get("configmap", "coredns", namespace="kube-system")
    corefile, _, _ = config["data"]["Corefile"].partition(f"{ZONE}:53")
    hosts = "\n".join(
        f"      {ip} {' '.join(f'{n}.{ZONE}' for n in owned)}" for ip, owned in names.items()
    )
    block = f"{ZONE}:53 {{\n    errors\n    hosts {{\n{hosts}\n    }}\n}}\n"
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "coredns", "namespace": "kube-system"},
            "data": {"Corefile": f"{corefile.rstrip()}\n{block}"},
        },
        force=True,
    )
    cluster.kubectl("-n", "kube-system", "rollout", "restart", "deployment/coredns")
    cluster.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns")


def open_servers(cluster: Cluster, nodes: list[str]) -> str:
    """An HTTP service on both nodes and a Redis of the cluster's own. The ClusterIP of the first."""
    demo = ROOT / "examples/farcall_demo/apps"
    scripts = [ROOT / "tests/cluster/workload.py", demo / "checkout.py", demo / "pace.py"]
    selector = {"app": "api"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP}},
        {**head("v1", "ConfigMap", "workload"), "data": {s.name: s.read_text() for s in scripts}},
        *(server(f"api-{n}", node, "api") for n, node in enumerate(nodes[:2])),
        {
            **head("v1", "Service", "api"),
            "spec": {
                "type": "NodePort",
                "selector": selector,
                "ports": [{"port": 8080, "nodePort": NODE_PORT}],
            },
        },
        {
            **head("v1", "Service", "api-headless"),
            "spec": {"clusterIP": "None", "selector": selector, "ports": [{"port": 8080}]},
        },
        sessions(nodes[1]),
        {
            **head("v1", "Service", "sessions"),
            "spec": {
                "clusterIP": "None",
                "selector": {"app": "sessions"},
                "ports": [{"port": 6379}],
            },
        },
    )
    found: str = cluster.get("service", "api", namespace=SHOP)["spec"]["clusterIP"]
    return found


def callers(cluster: Cluster, shop: Shop) -> list[Object]:
    first, second = shop.nodes[:2]
    return [
        caller("carts", second, f"redis://carts.{ZONE}/carts"),
        caller("stock", second, f"redis://stock.{ZONE}/stock"),
        caller("rates", first, f"redis://rates.{ZONE}/rates"),
        caller("payer", second, f"http://pay.{ZONE}:8080/pay/"),
        caller("bare", second, f"http://{shop.web}:8080/bare/", f"redis://{shop.redis}/bare"),
        caller("by-name", second, "http://api:8080/by-name/"),
        caller("by-ip", first, f"http://{shop.api_cluster_ip}:8080/by-ip/"),
        caller("headless", second, "http://api-headless:8080/headless/"),
        caller(
            "by-node", second, f"http://{cluster.node_address(first)}:{NODE_PORT}/by-node/"
        ),
        caller("session", first, "redis://sessions-0.sessions/session"),
        caller("on-host", second, f"http://{shop.api_cluster_ip}:8080/on-host/", on_host=True),
        *mirror(first),
        checkout(first),
    ]  # fmt: skip


def checkout(node: str) -> Object:
    """The demo's service with the OpenTelemetry SDK: it charges and reserves at the API, and logs, and sends all of that as OTLP."""
    charge, reserve = "http://api:8080/charge", "http://api:8080/reserve"
    spec = pod_spec(node, ["python", "-m", "farcall_demo.apps.checkout", charge, reserve, "1"])
    (main,) = spec["containers"]
    attributes = "k8s.namespace.name=$(NAMESPACE),k8s.pod.name=$(POD),k8s.node.name=$(NODE)"
    main |= {
        "image": INSTRUMENTED,
        "workingDir": "/app",
        "env": [
            *(field(n, path) for n, path in DOWNWARD.items()),
            {"name": "OTEL_SERVICE_NAME", "value": "checkout"},
            {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": attributes},
            {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": OTLP},
        ],
    }
    (volume,) = spec["volumes"]
    paths = {"checkout.py": "farcall_demo/apps/checkout.py", "pace.py": "farcall_demo/apps/pace.py"}
    items = [{"key": key, "path": path} for key, path in paths.items()]
    volume["configMap"] |= {"items": items}
    return deployment("checkout", "checkout", spec)


def field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def head(version: str, kind: str, name: str) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": SHOP},
    }


def pod_spec(node: str, command: list[str]) -> Object:
    """Restricted, as the pods of most clusters are."""
    return {
        "nodeName": node,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 999,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "main",
                "image": WORKLOAD,
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "workload", "mountPath": "/app"}],
            }
        ],
        "volumes": [{"name": "workload", "configMap": {"name": "workload"}}],
    }


def deployment(name: str, app: str, spec: Object) -> Object:
    return {
        **head("apps/v1", "Deployment", name),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"deployment": name}},
            "template": {"metadata": {"labels": {"deployment": name, "app": app}}, "spec": spec},
        },
    }


def server(name: str, node: str, app: str) -> Object:
    return deployment(name, app, pod_spec(node, ["python3", "/app/workload.py", "serve", "8080"]))


def caller(name: str, node: str, *urls: str, on_host: bool = False) -> Object:
    spec = pod_spec(node, ["python3", "/app/workload.py", "call", *urls])
    return deployment(name, name, {**spec, "hostNetwork": on_host})


def mirror(node: str) -> list[Object]:
    """A pod that calls itself through its own Service, so that the node sends the packets back where they came from."""
    program = "python3 /app/workload.py"
    command = f"{program} serve 8080 & exec {program} call http://mirror:8080/hairpin/"
    service = {"selector": {"app": "mirror"}, "ports": [{"port": 8080}]}
    return [
        deployment("mirror", "mirror", pod_spec(node, ["sh", "-c", command])),
        {**head("v1", "Service", "mirror"), "spec": service},
    ]


def sessions(node: str) -> Object:
    spec = pod_spec(
        node, ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
    )
    return {
        **head("apps/v1", "StatefulSet", "sessions"),
        "spec": {
            "serviceName": "sessions",
            "replicas": 1,
            "selector": {"matchLabels": {"app": "sessions"}},
            "template": {"metadata": {"labels": {"app": "sessions"}}, "spec": spec},
        },
    }


def wait_ready(cluster: Cluster) -> None:
    def look() -> bool:
        waiting = [
            d["metadata"]["name"]
            for d in cluster.items("deployments,statefulsets", namespace=SHOP)
            if d["status"].get("readyReplicas") != d["spec"]["replicas"]
        ]
        assert not waiting, f"not ready: {waiting}"
        return True

    wait_until(look, "every pod of the shop is ready")
