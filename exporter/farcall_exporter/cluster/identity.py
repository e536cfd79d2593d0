"""What an address means to a person: the service, else the workload, else the pod. Pure, over what the catalog holds.

A service is named only when it is certain: it selects the pod and publishes the port, and where several do, the name that
the client used decides, else the one with an address of its own. A workload is never wrong, so it stands in where a
service would be a guess. Where two may have held the address, only what is true of both is said.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from farcall_exporter.cluster.catalog import Catalog, Holder
from farcall_exporter.cluster.objects import Owner, Pod, Service
from farcall_exporter.cluster.timelines import Owners

# Kind of a controller → its attribute by the semantic conventions. Others (a Rollout, a custom one) have none.
WORKLOAD_ATTRIBUTES = {
    "Deployment": "k8s.deployment.name",
    "StatefulSet": "k8s.statefulset.name",
    "DaemonSet": "k8s.daemonset.name",
    "ReplicaSet": "k8s.replicaset.name",
    "Job": "k8s.job.name",
    "CronJob": "k8s.cronjob.name",
}
MAX_KNOWN = 32_768  # about 15 MB
_TEMPLATE_HASH = "pod-template-hash"  # set by the Deployment controller, which ends the ReplicaSet's name with it


class Workload(NamedTuple):
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Empty texts for what is not known, or not meant: a cluster IP has no pod."""

    label: str
    namespace: str = ""
    service: str = ""
    workload: Workload | None = None
    pod: str = ""
    node: str = ""
    declared: str = ""  # the service's name by the pod's annotation

    @property
    def is_node(self) -> bool:
        """Only that it is on this node: whoever listens there says more by his own sight."""
        return not self.namespace


class Identities:
    """What was found out stays true until the catalog changes: calls go to the same few endpoints, batch after batch."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._version = -1
        self._known: dict[tuple[Owners, int, str | None], Identity | None] = {}

    def of(self, owners: Owners, port: int, asked: str | None) -> Identity | None:
        """To be asked under the catalog's lock."""
        if self._version != self.catalog.version or len(self._known) > MAX_KNOWN:
            self._version = self.catalog.version
            self._known.clear()
        key = (owners, port, asked)
        if key not in self._known:
            self._known[key] = identify(self.catalog, owners, port, asked)
        return self._known[key]


def identify(catalog: Catalog, owners: Owners, port: int, asked: str | None) -> Identity | None:
    """Who the holders of an endpoint are to a caller that used the name `asked`."""
    found = [_identify(catalog, owner, port, asked) for owner in owners]
    known = [identity for identity in found if identity is not None]
    if not known or len(known) < len(found):
        return None
    return known[0] if len(known) == 1 else _common(known)


def find_workload(catalog: Catalog, owner: Owner | None, labels: object = None) -> Workload | None:
    """The controller that people know: a pod's ReplicaSet belongs to a Deployment, its Job to a CronJob."""
    if owner is None:
        return None
    controller = catalog.controller(owner.uid)
    if controller is not None and controller.owner is not None:
        return Workload(controller.owner.kind, controller.owner.name)
    hashed = labels.get(_TEMPLATE_HASH) if isinstance(labels, dict) else None
    if controller is None and owner.kind == "ReplicaSet" and hashed:
        name = owner.name.removesuffix(f"-{hashed}")
        if name != owner.name:
            return Workload("Deployment", name)
    return Workload(owner.kind, owner.name)


def identify_pod(catalog: Catalog, pod: Pod, port: int, asked: str | None) -> Identity:
    workload = find_workload(catalog, pod.owner, pod.labels)
    service = choose_service(catalog.services_of(pod), pod, port, asked)
    return Identity(
        label=service.name if service else workload.name if workload else pod.name,
        namespace=pod.namespace,
        service=service.name if service else "",
        workload=workload,
        pod=pod.name,
        node=pod.node,
        declared=pod.declared,
    )


def choose_service(
    services: list[Service], pod: Pod, port: int, asked: str | None
) -> Service | None:
    """Of those that select the pod, the one that was called; None when that is not certain."""
    published = [s for s in services if _publishes(s, pod, port)]
    named = [s for s in published if asked and _is_asked_for(s, asked)] or published
    addressed = named if len(named) == 1 else [s for s in named if not s.is_headless]
    return addressed[0] if len(addressed) == 1 else None


def _identify(catalog: Catalog, owner: Hashable, port: int, asked: str | None) -> Identity | None:
    if not isinstance(owner, Holder):
        return None
    if owner.what == "node":
        return Identity(label=str(owner.key), node=str(owner.key))
    if isinstance(owner.key, tuple):
        service = catalog.service(owner.key)
        return _identify_service(catalog, service) if service else None
    pod = catalog.pod(owner.key)
    return identify_pod(catalog, pod, port, asked) if pod else None


def _identify_service(catalog: Catalog, service: Service) -> Identity:
    behind = {find_workload(catalog, o) for o in catalog.owners_behind(service)}
    return Identity(
        label=service.name,
        namespace=service.namespace,
        service=service.name,
        workload=behind.pop() if len(behind) == 1 else None,
    )


def _publishes(service: Service, pod: Pod, port: int) -> bool:
    """A headless service may list no ports at all; then every port of its pods is meant."""
    if not service.ports:
        return service.is_headless
    named = {p.name for p in pod.ports if p.number == port}
    return any(p.target == port or p.target in named for p in service.ports)


def _is_asked_for(service: Service, asked: str) -> bool:
    """`service`, `service.namespace…`, or `pod.service.namespace…`."""
    labels = asked.lower().split(".")
    own = [service.name, service.namespace]
    return labels == own[:1] or labels[:2] == own or labels[1:3] == own


def _common(known: list[Identity]) -> Identity | None:
    first, others = known[0], known[1:]
    if any(other.namespace != first.namespace or other.is_node for other in others):
        return None
    service = first.service if all(o.service == first.service for o in others) else ""
    workload = first.workload if all(o.workload == first.workload for o in others) else None
    if not service and workload is None:
        return None
    return Identity(
        label=service or (workload.name if workload else ""),
        namespace=first.namespace,
        service=service,
        workload=workload,
    )
