"""Objects as an API server sends them, for what the exporter makes of them."""

import itertools
from datetime import UTC, datetime
from typing import Any

from farcall_exporter.cluster.catalog import Catalog
from farcall_exporter.cluster.objects import (
    parse_job,
    parse_node,
    parse_pod,
    parse_replica_set,
    parse_service,
)
from support_exporter import NS, T0

Json = dict[str, Any]
_uids = itertools.count(1)
_PARSE = {
    "Pod": parse_pod,
    "Service": parse_service,
    "Node": parse_node,
    "ReplicaSet": parse_replica_set,
    "Job": parse_job,
}


def time_text(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def metadata(
    name: str, namespace: str | None, created_ns: int, owner: Json | None = None, **more: Any
) -> Json:
    found = {"name": name, "uid": f"uid-{next(_uids)}", "creationTimestamp": time_text(created_ns)}
    if namespace:
        found["namespace"] = namespace
    references = [{**owner, "controller": True}] if owner else []
    return {**found, "ownerReferences": references, **more}


def owned_by(item: Json) -> Json:
    found = item["metadata"]
    return {"kind": item["kind"], "name": found["name"], "uid": found["uid"]}


def pod(
    name: str,
    address: str | None,
    *,
    namespace: str = "shop",
    labels: dict[str, str] | None = None,
    owner: Json | None = None,
    node: str = "node-1",
    ports: tuple[Json, ...] = ({"name": "http", "containerPort": 8080},),
    host_network: bool = False,
    started_ns: int = T0 - 600 * NS,
    **more: Any,
) -> Json:
    status: Json = {"phase": "Running", "startTime": time_text(started_ns)}
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    return {
        "kind": "Pod",
        "metadata": metadata(name, namespace, started_ns, owner, labels=labels or {}, **more),
        "spec": {
            "nodeName": node,
            "hostNetwork": host_network,
            "containers": [
                {"name": "app", "env": [{"name": "PASSWORD", "value": "x"}], "ports": list(ports)}
            ],
        },
        "status": status,
    }


def service(
    name: str,
    address: str = "None",
    *,
    namespace: str = "shop",
    selector: dict[str, str] | None = None,
    ports: tuple[Json, ...] = ({"port": 80, "targetPort": "http"},),
    created_ns: int = T0 - 900 * NS,
) -> Json:
    return {
        "kind": "Service",
        "metadata": metadata(name, namespace, created_ns),
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "selector": selector or {},
            "ports": list(ports),
        },
    }


def node(name: str, address: str) -> Json:
    return {
        "kind": "Node",
        "metadata": metadata(name, None, T0 - 9_000 * NS),
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": name},
            ]
        },
    }


def controller(kind: str, name: str, owner: Json | None = None, namespace: str = "shop") -> Json:
    return {"kind": kind, "metadata": metadata(name, namespace, T0 - 900 * NS, owner)}


def put(catalog: Catalog, *items: Json, seen_ns: int = T0 - 500 * NS) -> None:
    for item in items:
        catalog.put(_PARSE[item["kind"]](item), seen_ns)


def remove(catalog: Catalog, item: Json, seen_ns: int) -> None:
    catalog.remove(_PARSE[item["kind"]](item), seen_ns)
