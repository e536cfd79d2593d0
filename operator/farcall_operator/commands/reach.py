"""How a command reaches a cluster: as kubectl does, by the user's kubeconfig and the user's rights."""

import argparse
import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from farcall.tracingconfig import API_VERSION, KIND, TracingConfig, check_tracingconfig
from farcall_operator.cluster.port import Cluster, ClusterError, Manifest, Ref
from farcall_operator.commands.outputs import FaultError, UsageError

NAMESPACE = "farcall"
NAMESPACE_PATTERN = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123 label
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which cluster, and where in it the operator's children are. None: what kubectl would take."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str = NAMESPACE


Connect = Callable[[Target], AbstractAsyncContextManager[Cluster]]


def parse_namespace(text: str) -> str:
    if NAMESPACE_PATTERN.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a namespace: a DNS label is expected")
    return text


def add_namespace_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n",
        "--namespace",
        type=parse_namespace,
        default=NAMESPACE,
        help=f"that the operator is installed in, default {NAMESPACE}",
    )


def add_target_options(parser: argparse.ArgumentParser) -> None:
    add_namespace_option(parser)
    parser.add_argument("--kubeconfig", metavar="FILE", help="default $KUBECONFIG, ~/.kube/config")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig; its current one")


def read_target(arguments: argparse.Namespace) -> Target:
    return Target(
        kubeconfig=arguments.kubeconfig,
        context=arguments.context,
        namespace=arguments.namespace,
    )


def ask(target: Target, connect: Connect, question: Callable[[Cluster], Awaitable[T]]) -> T:
    """The answer of `question`, asked of the cluster. Raises FaultError with what the API server said."""

    async def answer() -> T:
        async with connect(target) as cluster:
            return await question(cluster)

    try:
        return asyncio.run(answer())
    except ClusterError as e:
        raise FaultError(describe_error(e)) from e


def describe_error(error: ClusterError) -> str:
    if error.reason in ("Unreachable", "Timeout"):
        return f"the cluster does not answer: {error.message}"
    if error.status == 401:
        return f"the cluster does not know you: {error.message}"
    if error.status == 403:
        return f"you may not do that in this cluster: {error.message}"
    return f"the cluster refused: {error.message}"


async def read_configs(cluster: Cluster) -> list[Manifest]:
    """Every TracingConfig, by name. Raises FaultError where the resource is unknown."""
    try:
        found = await cluster.list(API_VERSION, KIND)
    except ClusterError as e:
        if e.status == 404:
            raise FaultError(NOT_INSTALLED) from e
        raise
    return sorted(found, key=lambda manifest: str(manifest["metadata"]["name"]))


async def read_config(cluster: Cluster, name: str) -> Manifest:
    """The TracingConfig of that name; the only one when `name` is empty. Raises FaultError or UsageError."""
    found = await read_configs(cluster)
    names = [manifest["metadata"]["name"] for manifest in found]
    if name:
        if name not in names:
            raise FaultError(f"there is no TracingConfig {name}; {_list_names(names)}")
        return found[names.index(name)]
    if not found:
        raise FaultError(_list_names(names))
    if len(found) > 1:
        raise UsageError(f"say which: {_list_names(names)}")
    return found[0]


def _list_names(names: list[str]) -> str:
    return f"the cluster has {', '.join(names)}" if names else "the cluster has no TracingConfig"


NOT_INSTALLED = "the cluster does not know TracingConfigs: apply crds/tracingconfigs.yaml and install the operator"


def check_manifest(manifest: Manifest) -> TracingConfig:
    """Raises InvalidConfigError."""
    name = manifest["metadata"]["name"]
    return check_tracingconfig(manifest, source=f"TracingConfig {name} in the cluster")


async def find_live(cluster: Cluster, config: TracingConfig) -> Manifest | None:
    """The resource of that name as it is in the cluster."""
    return await cluster.get(Ref(API_VERSION, KIND, "", config.metadata.name))


@asynccontextmanager
async def connect_cluster(target: Target) -> AsyncIterator[Cluster]:
    """Raises UsageError where no cluster is known, or the kubeconfig cannot be used."""
    # Here, so that checking a file needs no HTTP client.
    from farcall_operator.cluster.access import AccessError
    from farcall_operator.cluster.client import connect

    kubeconfig = Path(target.kubeconfig) if target.kubeconfig else None
    try:
        async with connect(kubeconfig, context=target.context) as cluster:
            yield cluster
    except AccessError as e:
        raise UsageError(str(e)) from e
