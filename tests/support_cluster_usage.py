"""What each container of the cluster takes of processor and memory, as its node's kubelet reads it from the cgroups."""

import json
import re
from dataclasses import dataclass
from typing import NamedTuple

from support_cluster import Cluster

# Of the kubelet's /metrics/resource: the labels, the value, and when it was read (milliseconds).
_SAMPLE = re.compile(
    r"^container_(cpu_usage_seconds_total|memory_working_set_bytes)"
    r'\{container="([^"]+)",namespace="([^"]+)",pod="([^"]+)"\} (\S+) (\d+)$',
    re.MULTILINE,
)


class Container(NamedTuple):
    node: str
    namespace: str
    pod: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    at_s: float  # when the kubelet read the processor time
    cpu_s: float  # since the container's start
    working_set_bytes: float  # counts against its limit: BPF maps and used page cache too
    rss_bytes: float  # anonymous memory alone


def read_usage(cluster: Cluster) -> dict[Container, Usage]:
    """Of the containers that run, a few seconds old: a kubelet reads every ten or so."""
    found: dict[Container, Usage] = {}
    for node in cluster.nodes():
        proxy = f"/api/v1/nodes/{node}/proxy"
        resident = read_resident(cluster.kubectl("get", "--raw", f"{proxy}/stats/summary"), node)
        samples = read_samples(cluster.kubectl("get", "--raw", f"{proxy}/metrics/resource"), node)
        for container, parts in samples.items():
            if len(parts) == 2 and container in resident:
                (cpu_s, at_s), (working_set, _) = parts["cpu_usage_seconds_total"], parts["memory_working_set_bytes"]  # fmt: skip
                found[container] = Usage(
                    at_s=at_s,
                    cpu_s=cpu_s,
                    working_set_bytes=working_set,
                    rss_bytes=resident[container],
                )
    return found


def read_samples(text: str, node: str) -> dict[Container, dict[str, tuple[float, float]]]:
    """By container and metric: the value, and when it was read in Unix seconds."""
    found: dict[Container, dict[str, tuple[float, float]]] = {}
    for metric, container, namespace, pod, value, at_ms in _SAMPLE.findall(text):
        key = Container(node, namespace, pod, container)
        found.setdefault(key, {})[metric] = (float(value), int(at_ms) / 1000)
    return found


def read_resident(text: str, node: str) -> dict[Container, float]:
    return {
        Container(node, pod["podRef"]["namespace"], pod["podRef"]["name"], one["name"]): float(
            one["memory"]["rssBytes"]
        )
        for pod in json.loads(text)["pods"]
        for one in pod.get("containers", [])
        if "rssBytes" in one.get("memory", {})
    }
