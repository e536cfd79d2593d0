"""What is inside the cluster, asked of a real API server with the operator's own rights."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farcall_operator.cluster.access import load_access
from farcall_operator.cluster.client import ApiCluster
from farcall_operator.cluster.port import ClusterError, Manifest
from farcall_operator.cluster.world import World
from farcall_operator.context import Discovery
from farcall_operator.discovery import HINT_NAME, Discoverer
from support_apiserver import SERVICE_RANGE, ControlPlane
from support_apiserver_access import Api
from support_apiserver_operator import NAMESPACE, write_account_kubeconfig

pytestmark = pytest.mark.apiserver

PODS = {"10.244.0.0/23", "10.244.2.0/24"}  # of the three nodes, neighbours as one


class OldCluster(ApiCluster):
    """As before Kubernetes 1.33: there are no ServiceCIDR objects."""

    async def list(self, api_version: str, kind: str, *args: str, **more: str) -> list[Manifest]:
        if kind == "ServiceCIDR":
            raise ClusterError(404, "NotFound", "the server could not find the requested resource")
        return await super().list(api_version, kind, *args, **more)


@pytest.fixture
def kubeconfig(plane: ControlPlane, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    write_account_kubeconfig(plane, path)
    return path


def discover(
    kubeconfig: Path, tmp_path: Path, make: Callable[..., ApiCluster] = ApiCluster
) -> Discovery:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 10.96.0.10\n")

    async def run() -> Discovery:
        async with make(load_access(kubeconfig)) as cluster:
            world = World()
            for node in await cluster.list("v1", "Node"):
                world.put(node)
            discoverer = Discoverer(
                cluster,
                world,
                namespace=NAMESPACE,
                environment={"KUBERNETES_SERVICE_HOST": "10.96.0.1"},
                resolv_conf=resolv_conf,
            )
            return await discoverer.discover()

    return asyncio.run(run())


def test_the_ranges_of_a_real_cluster_are_found(kubeconfig: Path, tmp_path: Path) -> None:
    found = discover(kubeconfig, tmp_path)

    assert {*PODS, SERVICE_RANGE} <= set(found.cidrs)
    assert "ServiceCIDR kubernetes" in found.sources
    assert found.resolvers == ("10.96.0.10",)
    assert found.problems == ()


def test_the_refusal_of_a_dry_run_tells_the_range_on_older_clusters(
    kubeconfig: Path, tmp_path: Path, api: Api
) -> None:
    found = discover(kubeconfig, tmp_path, OldCluster)

    assert {*PODS, SERVICE_RANGE} <= set(found.cidrs)
    assert "the API server's hint of its Service range" in found.sources
    assert found.problems == ()
    services: list[Any] = api.list(f"/api/v1/namespaces/{NAMESPACE}/services")
    assert HINT_NAME not in {s["metadata"]["name"] for s in services}
