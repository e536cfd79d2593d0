"""What the operator knows beyond a TracingConfig, read off what is in force, so that a command renders as it would.

By the user's rights, and without secrets: discovered networks come from the live config, hashes of secrets from the live
workloads. What is not in force yet is left out, and said.
"""

import json
from dataclasses import dataclass
from typing import Any

from farcall.tracingconfig import TracingConfig
from farcall_operator.cluster.port import Cluster, ClusterError, Manifest, Ref
from farcall_operator.commands import reach
from farcall_operator.commands.parts import WORKLOADS
from farcall_operator.context import Context, Credentials, Discovery
from farcall_operator.view import SECRETS_HASH

SERVICE_MONITORS = ("monitoring.coreos.com/v1", "ServiceMonitor")
NOT_LOOKED = "no config is in force yet: what the operator discovers (networks, DNS servers) is left out here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """`config` with the identity it has in the cluster; `notes`: what could not be known, a sentence each."""

    config: TracingConfig
    live: Manifest | None  # the TracingConfig itself
    context: Context
    notes: tuple[str, ...] = ()


async def read_known(cluster: Cluster, config: TracingConfig, namespace: str) -> Known:
    live = await reach.find_live(cluster, config)
    discovery = read_discovery(await read_effective(cluster, config, namespace))
    context = Context(
        namespace=namespace,
        discovery=discovery,
        credentials=Credentials(hashes=await read_hashes(cluster, config, namespace)),
        has_service_monitors=await has_service_monitors(cluster, namespace),
    )
    given = config.spec.cluster_cidrs is not None
    return Known(
        config=identify(config, live),
        live=live,
        context=context,
        notes=() if discovery is not None or given else (NOT_LOOKED,),
    )


def ask_known(target: reach.Target, name: str) -> Known:
    """A TracingConfig of the cluster, with what the operator knows beyond it."""

    async def question(cluster: Cluster) -> Known:
        config = reach.check_manifest(await reach.read_config(cluster, name))
        return await read_known(cluster, config, target.namespace)

    return reach.ask(target, reach.connect_cluster, question)


def identify(config: TracingConfig, live: Manifest | None) -> TracingConfig:
    """Applied over `live`, the resource keeps its uid, and its generation goes up when the spec differs."""
    if live is None:
        return config
    spec = config.spec.model_dump(by_alias=True, exclude_none=True)
    metadata = live["metadata"]
    update = {
        "uid": metadata.get("uid", ""),
        "generation": int(metadata.get("generation", 1)) + (spec != live.get("spec")),
    }
    return config.model_copy(update={"metadata": config.metadata.model_copy(update=update)})


async def read_effective(
    cluster: Cluster, config: TracingConfig, namespace: str
) -> dict[str, Any] | None:
    """The effective config that is in force. Not checked by the model: an older operator may have written it."""
    found = await cluster.get(Ref("v1", "ConfigMap", namespace, f"{config.metadata.name}-config"))
    try:
        value = json.loads(((found or {}).get("data") or {})["effective.json"])
    except (KeyError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def read_discovery(effective: dict[str, Any] | None) -> Discovery | None:
    """None where nothing is in force, or what is in force was given and not discovered."""
    if effective is None or effective.get("cluster_cidrs_source") != "discovered":
        return None
    resolvers = (effective.get("dns") or {}).get("resolvers") or []
    return Discovery(
        cidrs=tuple(map(str, effective.get("cluster_cidrs") or [])),
        resolvers=tuple(map(str, resolvers)),
    )


async def read_hashes(cluster: Cluster, config: TracingConfig, namespace: str) -> dict[str, str]:
    """By workload, as its pods carry them now: this command neither reads nor changes a secret."""
    hashes = {}
    for workload in WORKLOADS:
        live = await cluster.get(workload.ref(config.metadata.name, namespace))
        template = ((live or {}).get("spec") or {}).get("template") or {}
        annotations = (template.get("metadata") or {}).get("annotations") or {}
        if SECRETS_HASH in annotations:
            hashes[workload.suffix] = str(annotations[SECRETS_HASH])
    return hashes


async def has_service_monitors(cluster: Cluster, namespace: str) -> bool:
    try:
        await cluster.list(*SERVICE_MONITORS, namespace, labels="app.kubernetes.io/part-of=farcall")
    except ClusterError as e:
        if e.status == 404:
            return False
        if e.status == 403:
            return True  # there is such a kind, though not for this user to see
        raise
    return True
