"""One reconciler over a cluster in memory, with discovery, credentials and agents played."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from farcall.tracingconfig import API_VERSION, KIND, TracingConfig
from farcall_operator.agents import AgentsAnswer
from farcall_operator.cluster.port import Cluster, ClusterError, Manifest, Outcome, Ref
from farcall_operator.context import AgentRun, Credentials, Discovery
from farcall_operator.kubernetes import build_manifests
from farcall_operator.reconcile import Build, ClusterReconciler
from support_fake_cluster import Clock, FakeCluster, roll_out_all

NAMESPACE = "farcall"
HOBBY: Manifest = {"tier": "Hobby"}
DISCOVERY = Discovery(cidrs=("10.244.0.0/16",), sources=("nodes' podCIDRs",))
CREDENTIALS = Credentials(hashes={"probe": "a", "exporter": "a", "dns-cache": "a"})


@dataclass
class Stage:
    cluster: FakeCluster = field(default_factory=FakeCluster)
    clock: Clock = field(default_factory=Clock)
    discovery: Discovery = DISCOVERY
    credentials: Credentials = CREDENTIALS
    runs: Sequence[AgentRun] = ()
    unreachable: bool = True
    store_trouble: str = ""
    silent: bool = False  # the exporter takes the question and gives no answer
    asked: int = 0  # for credentials
    build: Build = build_manifests
    reconciler: ClusterReconciler = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process: it remembers nothing."""
        self.reconciler = ClusterReconciler(
            cluster=self.cluster,
            observed=self.cluster.world,
            namespace=NAMESPACE,
            discover=self.discover,
            ensure_credentials=self.ensure,
            fetch=self.fetch,
            build=self.build,
            clock=self.clock,
            version="1.2.3",
        )

    async def discover(self) -> Discovery:
        return self.discovery

    async def ensure(
        self, cluster: Cluster, config: TracingConfig, namespace: str, owners: Any, now: datetime
    ) -> Credentials:
        self.asked += 1
        return self.credentials

    async def fetch(self, url: str, token: str, ca_pem: str) -> AgentsAnswer:
        if self.silent:
            await asyncio.Event().wait()
        problem = "no" if self.unreachable else ""
        return AgentsAnswer(
            runs=tuple(self.runs), problem=problem, store_trouble=self.store_trouble
        )

    # ---- What a person does -----------------------------------------------------------------------------------

    def write(self, name: str = "main", spec: Manifest | None = None, **metadata: Any) -> None:
        """kubectl apply: a new resource, or another spec of the same."""
        ref = Ref(API_VERSION, KIND, "", name)
        if ref in self.cluster.objects:
            self.cluster.edit(ref, lambda m: m.update(spec=spec or HOBBY))
            return
        self.cluster.put(
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": name, **metadata},
                "spec": spec or HOBBY,
            }
        )

    def add_nodes(self, number: int = 3, **labels: str) -> None:
        for index in range(number):
            name = f"node-{len(self.cluster.world.nodes())}-{index}"
            found = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", **labels}
            status = {"conditions": [{"type": "Ready", "status": "True"}]}
            self.cluster.put(
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": name, "labels": found},
                    "status": status,
                }
            )

    # ---- What the operator does -------------------------------------------------------------------------------

    def reconcile(self, name: str = "main") -> Outcome:
        return asyncio.run(self.reconciler.reconcile(name))

    def reconcile_failing(self, name: str = "main") -> ClusterError:
        try:
            asyncio.run(self.reconciler.reconcile(name))
        except ClusterError as e:
            return e
        raise AssertionError("nothing was raised")

    def hear_exporter(self, name: str = "main") -> None:
        """A pass after what it says now has come. Asking again by itself is tested with Exporters alone."""
        config = self.cluster.objects[Ref(API_VERSION, KIND, "", name)]
        self.reconciler.exporters.forget(config["metadata"]["uid"])
        self.reconcile(name)

    def settle(self, name: str = "main", *, nodes: int = 3) -> None:
        """Until everything runs and nothing is left to be written."""
        for _ in range(5):
            self.reconcile(name)
            roll_out_all(self.cluster, nodes=nodes)
        self.reconcile(name)
        self.cluster.forget_calls()

    # ---- What it says -----------------------------------------------------------------------------------------

    def status(self, name: str = "main") -> Manifest:
        found: Manifest = self.cluster.objects[Ref(API_VERSION, KIND, "", name)].get("status", {})
        return found

    def condition(self, type_: str, name: str = "main") -> Manifest:
        return next(c for c in self.status(name)["conditions"] if c["type"] == type_)

    def truth(self, type_: str, name: str = "main") -> tuple[str, str]:
        found = self.condition(type_, name)
        return found["status"], found["reason"]

    def events(self) -> list[Manifest]:
        return [
            m
            for ref, m in self.cluster.objects.items()
            if ref.kind == "Event" and ref.namespace == "default"
        ]


def play_pod(
    stage: Stage,
    component: str,
    name: str,
    status: Manifest,
    *,
    node: str = "node-a",
    spec: Manifest | None = None,
) -> None:
    labels = {
        "app.kubernetes.io/managed-by": "farcall-operator",
        "farcall.dev/tracingconfig": "main",
        "app.kubernetes.io/component": component,
    }
    stage.cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "spec": {"nodeName": node, **(spec or {})},
            "status": status,
        }
    )
