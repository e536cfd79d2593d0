"""What a TracingConfig means here, as status publishes it: read back from what is desired. Pure.

From the manifests and not from the spec, so that it cannot say anything else than what is applied.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from farcall_operator.cluster.port import Manifest
from farcall_operator.context import AgentRun
from farcall_operator.rollout import read_rollout

MAX_LISTED = 64  # as the CRD bounds them
MAX_GENERATIONS = 16
OS_LABEL, ARCH_LABEL = "kubernetes.io/os", "kubernetes.io/arch"
_UNITS = ((604_800, "w"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_SIZES = ((1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki"), (1, ""))


def describe_effective(desired: Sequence[Manifest], sources: Sequence[str]) -> dict[str, object]:
    config = read_config(desired)
    containers = list(_list_containers(desired))
    cidrs = config.get("cluster_cidrs", [])
    given = config.get("cluster_cidrs_source") == "given"
    found: dict[str, object] = {
        "tier": config.get("tier", ""),
        "dnsTTLSeconds": read_ttl(config),
        "clusterCIDRs": cidrs[:MAX_LISTED],
        "clusterCIDRsTotal": len(cidrs),
        "clusterCIDRsFrom": ["spec.clusterCIDRs"] if given else list(sources)[:MAX_LISTED],
        "retention": _describe_retention(config.get("retention", {})),
        "images": {container["name"]: container.get("image", "") for container in containers},
        "resources": {
            container["name"]: _describe_resources(container.get("resources") or {})
            for container in containers
        },
        "volumes": dict(_list_volumes(desired)),
    }
    replicas = [m["spec"].get("replicas") for m in desired if m["kind"] == "Deployment"]
    return {**found, **({"replicas": replicas[0]} if replicas and replicas[0] is not None else {})}


def read_config(desired: Sequence[Manifest]) -> dict[str, Any]:
    """The effective config, from the ConfigMap that carries it."""
    for manifest in desired:
        if manifest["kind"] == "ConfigMap" and "effective.json" in manifest.get("data", {}):
            found: dict[str, Any] = json.loads(manifest["data"]["effective.json"])
            return found
    return {}


def read_ttl(config: Mapping[str, Any]) -> int:
    dns = config.get("dns", {})
    return int(dns.get("ttl_override_s") or dns.get("ttl_s") or 0)


def read_override(desired: Sequence[Manifest]) -> str:
    """The sentence about a time to live that is not the tier's; empty when there is none."""
    dns = read_config(desired).get("dns", {})
    if not dns.get("ttl_override_s"):
        return ""
    return (
        f"For tests, DNS answers are kept for {dns['ttl_override_s']} s instead of the tier's "
        f"{dns.get('ttl_s')} s."
    )


def _describe_retention(retention: Mapping[str, int]) -> dict[str, str]:
    return {
        "traces": render_unit(retention.get("traces_s", 0), _UNITS),
        "logs": render_unit(retention.get("logs_s", 0), _UNITS),
        "maxSize": render_unit(retention.get("max_size_bytes", 0), _SIZES),
    }


def render_unit(number: int, units: Sequence[tuple[int, str]]) -> str:
    """In the largest unit that divides it; weeks are written as days where they are not whole."""
    factor, unit = next((f, u) for f, u in units if number % f == 0 and (number or f == 1))
    return f"{number // factor}{unit}"


def _describe_resources(resources: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, str]]:
    return {
        part: {name: str(value) for name, value in (resources.get(part) or {}).items()}
        for part in ("requests", "limits")
        if resources.get(part)
    }


def _list_containers(desired: Sequence[Manifest]) -> Iterator[dict[str, Any]]:
    for manifest in desired:
        yield from (
            manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        )


def _list_volumes(desired: Sequence[Manifest]) -> Iterator[tuple[str, str]]:
    for manifest in desired:
        if manifest["kind"] == "PersistentVolumeClaim":
            yield manifest["metadata"]["name"], _read_size(manifest)
        for template in manifest.get("spec", {}).get("volumeClaimTemplates") or ():
            yield (
                f"{template['metadata']['name']}-{manifest['metadata']['name']}-0",
                _read_size(template),
            )


def _read_size(claim: Manifest) -> str:
    return str(claim["spec"]["resources"]["requests"]["storage"])


# ---- Nodes and agents -------------------------------------------------------------------------------------------


def describe_nodes(
    nodes: Mapping[str, Manifest],
    probe: Manifest | None,
    selector: Mapping[str, str],
    architectures: Sequence[str],
) -> dict[str, object]:
    """`leftOut` by the first reason that holds; `placement` is what affinity and taints keep away beyond those."""
    reasons = Counter(
        reason
        for node in nodes.values()
        if (reason := _why_left_out(node, selector, architectures))
    )
    rollout = read_rollout(probe) if probe is not None else None
    if rollout is None or not rollout.is_current:
        return {"total": len(nodes), "leftOut": dict(reasons)}
    rest = len(nodes) - rollout.wanted - sum(reasons.values())
    if rest > 0:
        reasons["placement"] = rest
    return {"total": len(nodes), "traced": rollout.wanted, "leftOut": dict(reasons)}


def _why_left_out(node: Manifest, selector: Mapping[str, str], architectures: Sequence[str]) -> str:
    labels = node["metadata"].get("labels") or {}
    info = (node.get("status") or {}).get("nodeInfo") or {}
    if labels.get(OS_LABEL, info.get("operatingSystem", "linux")) != "linux":
        return "operatingSystem"
    architecture = labels.get(ARCH_LABEL, info.get("architecture", ""))
    if architecture and architecture not in architectures:
        return "architecture"
    if any(labels.get(key) != value for key, value in selector.items()):
        return "nodeSelector"
    return ""


def read_selector(desired: Sequence[Manifest]) -> dict[str, str]:
    for manifest in desired:
        if manifest["kind"] == "DaemonSet":
            return dict(manifest["spec"]["template"]["spec"].get("nodeSelector") or {})
    return {}


def describe_runs(runs: Sequence[AgentRun]) -> list[dict[str, int]]:
    counts = Counter(run.config_generation for run in runs)
    newest = sorted(counts.items(), reverse=True)[:MAX_GENERATIONS]
    return [{"generation": generation, "agents": number} for generation, number in newest]
