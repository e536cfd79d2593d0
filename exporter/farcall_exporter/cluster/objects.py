"""What is kept of the API server's objects: names, labels, owners, addresses and ports. Environment, commands and all else
of a pod's spec are dropped here, as they are read.

Pure: JSON in, small records out. An object that lacks what names it raises ObjectError; a field that is not what
Kubernetes' API says it is counts as absent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from sys import intern
from typing import Any, NamedTuple

Json = Mapping[str, Any]

MAX_TEXT = 253  # names of objects are DNS subdomains at most; labels' values are shorter (63)
MAX_LABELS = 64
MAX_PORTS = 256
MAX_ADDRESSES = 16
NS = 10**9
_FINISHED = ("Succeeded", "Failed")  # its address may already be another's, though the object stays
_MIRROR_UID = (
    "kubernetes.io/config.hash"  # of a static pod: what its node calls it, in cgroups and folders
)

_SERVICE_NAME = "resource.opentelemetry.io/service.name"  # semantic conventions for Kubernetes


class ObjectError(ValueError):
    """The object has no name or UID."""


class Owner(NamedTuple):
    kind: str
    name: str
    uid: str


class PodPort(NamedTuple):
    name: str
    number: int
    host_port: int  # 0: none


class ServicePort(NamedTuple):
    number: int
    target: int | str  # a port of the pod, or the name of one
    node_port: int  # 0: none


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    uid: str
    name: str
    namespace: str
    node: str  # "" until it is scheduled
    addresses: tuple[str, ...]
    is_host_network: bool  # then its addresses are the node's
    is_finished: bool
    labels: Mapping[str, str]
    owner: Owner | None  # its controller
    ports: tuple[PodPort, ...]
    started_ns: int  # it had no address before
    node_uid: str  # as its node calls it: the UID, but of static pods
    declared: str = ""  # the service's name by annotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    uid: str
    name: str
    namespace: str
    addresses: tuple[str, ...]  # cluster IPs
    is_headless: bool
    external_name: str
    selector: Mapping[str, str]
    ports: tuple[ServicePort, ...]
    created_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    uid: str
    name: str
    addresses: tuple[str, ...]
    created_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """A ReplicaSet or a Job: of interest only for who made it."""

    kind: str
    uid: str
    name: str
    owner: Owner | None


Fact = Pod | Service | Node | Controller


def kind_of(fact: Fact) -> str:
    """As in Kubernetes' API."""
    return fact.kind if isinstance(fact, Controller) else type(fact).__name__


def parse_pod(item: Json) -> Pod:
    metadata, spec, status = (_dict(item, part) for part in ("metadata", "spec", "status"))
    uid = _need(metadata, "uid")
    is_host_network = spec.get("hostNetwork") is True
    containers = [*_list(spec, "containers"), *_list(spec, "initContainers")]
    annotations = _dict(metadata, "annotations")
    return Pod(
        uid=uid,
        name=_need(metadata, "name"),
        namespace=_need(metadata, "namespace"),
        node=intern(_text(spec.get("nodeName"))),
        addresses=_addresses(
            [_get(entry, "ip") for entry in _list(status, "podIPs")] or [status.get("podIP")]
        ),
        is_host_network=is_host_network,
        is_finished=status.get("phase") in _FINISHED,
        labels=_labels(metadata.get("labels")),
        owner=_controller(metadata),
        ports=_pod_ports(containers, is_host_network),
        started_ns=parse_time_ns(status.get("startTime")) or _created(metadata),
        node_uid=_text(annotations.get(_MIRROR_UID)) or uid,
        declared=_text(annotations.get(_SERVICE_NAME)),
    )


def parse_service(item: Json) -> Service:
    metadata, spec = _dict(item, "metadata"), _dict(item, "spec")
    given = _list(spec, "clusterIPs") or [spec.get("clusterIP")]
    return Service(
        uid=_need(metadata, "uid"),
        name=_need(metadata, "name"),
        namespace=_need(metadata, "namespace"),
        addresses=_addresses(given),
        is_headless=given[0] == "None",
        external_name=_text(spec.get("externalName")),
        selector=_labels(spec.get("selector")),
        ports=_service_ports(spec),
        created_ns=_created(metadata),
    )


def parse_node(item: Json) -> Node:
    metadata, status = _dict(item, "metadata"), _dict(item, "status")
    return Node(
        uid=_need(metadata, "uid"),
        name=_need(metadata, "name"),
        addresses=_addresses(
            _get(entry, "address")
            for entry in _list(status, "addresses")
            if _get(entry, "type") in ("InternalIP", "ExternalIP")
        ),
        created_ns=_created(metadata),
    )


def parse_replica_set(item: Json) -> Controller:
    return _parse_controller("ReplicaSet", item)


def parse_job(item: Json) -> Controller:
    return _parse_controller("Job", item)


def _parse_controller(kind: str, item: Json) -> Controller:
    metadata = _dict(item, "metadata")
    return Controller(
        kind=kind,
        uid=_need(metadata, "uid"),
        name=_need(metadata, "name"),
        owner=_controller(metadata),
    )


def parse_time_ns(text: object) -> int:
    """RFC 3339 as the API writes it; 0 for what is none."""
    if not isinstance(text, str) or len(text) > 64:
        return 0
    try:
        at = datetime.fromisoformat(text)
        return max(int(at.timestamp()) * NS + at.microsecond * 1_000, 0) if at.tzinfo else 0
    except (ValueError, OverflowError):
        return 0


def _created(metadata: Json) -> int:
    return parse_time_ns(metadata.get("creationTimestamp"))


def _controller(metadata: Json) -> Owner | None:
    for entry in _list(metadata, "ownerReferences")[:MAX_PORTS]:
        if _get(entry, "controller") is True:
            kind, name, uid = (_text(_get(entry, key)) for key in ("kind", "name", "uid"))
            return Owner(intern(kind), name, uid) if kind and name else None
    return None


def _pod_ports(containers: Iterable[object], is_host_network: bool) -> tuple[PodPort, ...]:
    found = []
    for container in containers:
        for port in _list(container, "ports"):
            number = _port(_get(port, "containerPort"))
            if number and _get(port, "protocol") in (None, "TCP"):
                host_port = number if is_host_network else _port(_get(port, "hostPort"))
                found.append(PodPort(intern(_text(_get(port, "name"))), number, host_port))
    return tuple(found[:MAX_PORTS])


def _service_ports(spec: Json) -> tuple[ServicePort, ...]:
    found = []
    for port in _list(spec, "ports"):
        number = _port(_get(port, "port"))
        if number and _get(port, "protocol") in (None, "TCP"):
            target = _get(port, "targetPort")
            named = intern(target) if isinstance(target, str) and len(target) <= 15 else None
            found.append(
                ServicePort(number, named or _port(target) or number, _port(_get(port, "nodePort")))
            )
    return tuple(found[:MAX_PORTS])


def _addresses(given: Iterable[object]) -> tuple[str, ...]:
    """In the form that spans have (RFC 5952); what is no address (`None`, "") is left out."""
    found = []
    for text in given:
        try:
            found.append(str(ip_address(text)) if isinstance(text, str) else "")
        except ValueError:
            continue
    return tuple(dict.fromkeys(address for address in found if address))[:MAX_ADDRESSES]


def _labels(given: object) -> dict[str, str]:
    """Keys and values are shared: the pods of a workload differ in few of them."""
    if not isinstance(given, dict):
        return {}
    pairs = list(given.items())[:MAX_LABELS]
    return {intern(_text(key)): intern(_text(value)) for key, value in pairs}


def _need(metadata: Json, key: str) -> str:
    text = _text(metadata.get(key))
    if not text:
        raise ObjectError(f"metadata.{key} is missing")
    return intern(text) if key == "namespace" else text


def _text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _port(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 65_536 else 0


def _dict(item: object, key: str) -> Json:
    value = _get(item, key)
    return value if isinstance(value, dict) else {}


def _list(item: object, key: str) -> list[Any]:
    value = _get(item, key)
    return value if isinstance(value, list) else []


def _get(item: object, key: str) -> Any:
    return item.get(key) if isinstance(item, dict) else None
