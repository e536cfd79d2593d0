"""What the cluster holds, and held in the last minutes. Watchers write from their threads, the pipeline reads: one lock.

Keys of the timelines: an address, whatever the port, as no two services share a cluster IP; ("node", name, port) for a
port of a node that a pod has taken; ("node port", port) for one that leads to a service from every node.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from farcall_exporter.cluster.objects import (
    Controller,
    Fact,
    Node,
    Owner,
    Pod,
    Service,
    kind_of,
)
from farcall_exporter.cluster.timelines import Segments, Timelines

KEEP_NS = (
    900 * 10**9
)  # spans older than that are not waited for (an agent's queue holds ten minutes)
MAX_PODS = 200_000  # about 1.5 kB each


class Holder(NamedTuple):
    """Who holds an address: `what` is pod, service or node; `key` its UID, (namespace, name) or name."""

    what: str
    key: str | tuple[str, str]


@dataclass(slots=True)
class _Group:
    """Pods of one controller, whose labels are the template's: one of them speaks for all."""

    owner: Owner
    labels: Mapping[str, str]
    uids: set[str]


_Pair = tuple[str, str]  # a label, or a term of a selector


@dataclass(slots=True)
class _Namespace:
    """Services lie by one term of their selector, groups by each of their labels: nobody looks through a thousand."""

    services: dict[_Pair, dict[str, Service]] = field(default_factory=dict)
    groups: dict[str, _Group] = field(default_factory=dict)
    groups_by_label: dict[_Pair, set[str]] = field(default_factory=dict)

    def add_service(self, service: Service) -> None:
        if service.selector:
            self.services.setdefault(_first_term(service), {})[service.name] = service

    def remove_service(self, service: Service) -> None:
        if service.selector:
            term = _first_term(service)
            self.services.get(term, {}).pop(service.name, None)
            if not self.services.get(term):
                self.services.pop(term, None)

    def add_to_group(self, owner: Owner, pod: Pod) -> None:
        group = self.groups.get(owner.uid)
        if group is None:
            group = self.groups[owner.uid] = _Group(owner, {}, set())
        for pair in pod.labels.items() - group.labels.items():
            self.groups_by_label.setdefault(pair, set()).add(owner.uid)
        for pair in group.labels.items() - pod.labels.items():
            self._forget_label(pair, owner.uid)
        group.labels = pod.labels
        group.uids.add(pod.uid)

    def remove_from_group(self, owner: Owner, pod: Pod) -> None:
        group = self.groups.get(owner.uid)
        if group is None:
            return
        group.uids.discard(pod.uid)
        if not group.uids:
            del self.groups[owner.uid]
            for pair in group.labels.items():
                self._forget_label(pair, owner.uid)

    def _forget_label(self, pair: _Pair, uid: str) -> None:
        held = self.groups_by_label.get(pair, set())
        held.discard(uid)
        if not held:
            self.groups_by_label.pop(pair, None)


def _first_term(service: Service) -> _Pair:
    """Always the same one. The longest text very probably is the rarest: `app.kubernetes.io/…=checkout`, not `tier=web`."""
    return max(service.selector.items(), key=lambda pair: (len(pair[0]) + len(pair[1]), pair))


class Catalog:
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pods: dict[str, Pod] = {}
        self._by_node_uid: dict[str, str] = {}  # of static pods
        self._services: dict[tuple[str, str], Service] = {}
        self._nodes: dict[str, Node] = {}
        self._controllers: dict[str, Controller] = {}
        self._namespaces: dict[str, _Namespace] = {}
        self._gone: deque[tuple[int, str]] = deque()  # UIDs of pods, kept for their last spans
        self._dead: set[str] = set()
        self.timelines = Timelines()
        self.version = 0  # of everything: who remembers what it found forgets it when this changes
        self.refused = 0  # objects that found no room

    # ---- what watchers say ----

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self._lock:
            yield

    def put(self, fact: Fact, seen_ns: int) -> None:
        with self._lock:
            self.version += 1
            _PUT[type(fact)](self, fact, seen_ns)

    def remove(self, fact: Fact, seen_ns: int) -> None:
        with self._lock:
            self.version += 1
            if isinstance(fact, Pod):
                self._end_pod(fact.uid, seen_ns)
            elif isinstance(fact, Service):
                self._end_service((fact.namespace, fact.name), seen_ns)
            elif isinstance(fact, Node):
                self._end_node(fact.name, seen_ns)
            else:
                self._controllers.pop(fact.uid, None)

    def keep_only(self, kind: str, uids: set[str], seen_ns: int) -> None:
        """After a list: what of `kind` is not among `uids` ended some time before."""
        with self._lock:
            for fact in [f for f in self._all(kind) if f.uid not in uids]:
                self.remove(fact, seen_ns)

    def forget(self, now_ns: int) -> None:
        """Lets go of what ended long ago."""
        with self._lock:
            before = now_ns - KEEP_NS
            self.timelines.forget(before)
            while self._gone and self._gone[0][0] < before:
                _, uid = self._gone.popleft()
                if uid in self._dead:
                    self._dead.discard(uid)
                    self._drop_pod(uid)

    def _all(self, kind: str) -> list[Fact]:
        living = [pod for uid, pod in self._pods.items() if uid not in self._dead]
        facts: list[Fact] = [*living, *self._services.values(), *self._nodes.values()]
        return [f for f in (*facts, *self._controllers.values()) if kind_of(f) == kind]

    # ---- pods ----

    def _put_pod(self, pod: Pod, seen_ns: int) -> None:
        if pod.is_finished:
            self._end_pod(pod.uid, seen_ns)
            return
        known = self._pods.get(pod.uid)
        if known is None and len(self._pods) >= MAX_PODS:
            self.refused += 1
            return
        if known is not None:
            self._leave_group(known)
            for key in _pod_keys(known) - _pod_keys(pod):
                self.timelines.release(key, Holder("pod", pod.uid), end_ns=seen_ns)
        self._dead.discard(pod.uid)
        self._pods[pod.uid] = pod
        if pod.node_uid != pod.uid:
            self._by_node_uid[pod.node_uid] = pod.uid
        self._join_group(pod)
        for key in _pod_keys(pod):
            self._claim(key, Holder("pod", pod.uid), pod.started_ns, seen_ns)

    def _end_pod(self, uid: str, seen_ns: int) -> None:
        pod = self._pods.get(uid)
        if pod is None or uid in self._dead:
            return
        for key in _pod_keys(pod):
            self.timelines.release(key, Holder("pod", uid), end_ns=seen_ns)
        self._leave_group(pod)
        self._dead.add(uid)
        self._gone.append((seen_ns, uid))

    def _drop_pod(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None and self._by_node_uid.get(pod.node_uid) == uid:
            del self._by_node_uid[pod.node_uid]

    def _namespace(self, name: str) -> _Namespace:
        return self._namespaces.setdefault(name, _Namespace())

    def _join_group(self, pod: Pod) -> None:
        if pod.owner is not None:
            self._namespace(pod.namespace).add_to_group(pod.owner, pod)

    def _leave_group(self, pod: Pod) -> None:
        if pod.owner is not None:
            self._namespace(pod.namespace).remove_from_group(pod.owner, pod)

    # ---- services, nodes, controllers ----

    def _put_service(self, service: Service, seen_ns: int) -> None:
        key = (service.namespace, service.name)
        known = self._services.get(key)
        if known is not None:
            for taken in _service_keys(known) - _service_keys(service):
                self.timelines.release(taken, Holder("service", key), end_ns=seen_ns)
            self._namespace(known.namespace).remove_service(known)
        self._services[key] = service
        self._namespace(service.namespace).add_service(service)
        for taken in _service_keys(service):
            self._claim(taken, Holder("service", key), service.created_ns, seen_ns)

    def _end_service(self, key: tuple[str, str], seen_ns: int) -> None:
        service = self._services.pop(key, None)
        if service is None:
            return
        self._namespace(service.namespace).remove_service(service)
        for taken in _service_keys(service):
            self.timelines.release(taken, Holder("service", key), end_ns=seen_ns)

    def _put_node(self, node: Node, seen_ns: int) -> None:
        known = self._nodes.get(node.name)
        holder = Holder("node", node.name)
        if known is not None:
            for address in set(known.addresses) - set(node.addresses):
                self.timelines.release(address, holder, end_ns=seen_ns)
        self._nodes[node.name] = node
        for address in node.addresses:
            self._claim(address, holder, node.created_ns, seen_ns)

    def _end_node(self, name: str, seen_ns: int) -> None:
        node = self._nodes.pop(name, None)
        for address in node.addresses if node else ():
            self.timelines.release(address, Holder("node", name), end_ns=seen_ns)

    def _put_controller(self, controller: Controller, _seen_ns: int) -> None:
        self._controllers[controller.uid] = controller

    def _claim(self, key: Hashable, holder: Holder, start_ns: int, seen_ns: int) -> None:
        if not self.timelines.claim(key, holder, start_ns=start_ns, seen_ns=seen_ns):
            self.refused += 1

    # ---- what the pipeline asks, under `locked` ----

    @property
    def counts(self) -> dict[str, int]:
        with self._lock:
            return {
                "pods": len(self._pods) - len(self._dead),
                "services": len(self._services),
                "nodes": len(self._nodes),
                "controllers": len(self._controllers),
            }

    def segments(self, address: str, port: int) -> Segments | None:
        """Who held the endpoint. On a node's address the port decides, where somebody has taken it."""
        found = self.timelines.segments(address)
        if found is None:
            return None
        for owners in reversed(found.owners):
            for holder in owners:
                if isinstance(holder, Holder) and holder.what == "node":
                    taken = ("node", holder.key, port)
                    of_port = self.timelines.segments(taken)
                    return of_port or self.timelines.segments(("node port", port)) or found
        return found

    def node_at(self, address: str, time_ns: int) -> str:
        """The name of the node that the address was on; "" when that is not known."""
        found = self.timelines.segments(address)
        for holder in reversed(found.at(time_ns) if found else ()):
            if isinstance(holder, Holder) and holder.what == "node":
                return str(holder.key)
            if isinstance(holder, Holder) and holder.what == "pod":
                pod = self._pods.get(str(holder.key))
                return pod.node if pod else ""
        return ""

    def holds(self, address: str) -> bool:
        return address in self.timelines

    def pod(self, uid: str) -> Pod | None:
        """By its UID, or by what its node calls it."""
        return self._pods.get(uid) or self._pods.get(self._by_node_uid.get(uid, ""))

    def find_pod(self, uid: str) -> Holder | None:
        pod = self.pod(uid)
        return Holder("pod", pod.uid) if pod else None

    def service(self, key: tuple[str, str]) -> Service | None:
        return self._services.get(key)

    def controller(self, uid: str) -> Controller | None:
        return self._controllers.get(uid)

    def services_of(self, pod: Pod) -> list[Service]:
        """Services whose selector the pod's labels meet, by name."""
        namespace = self._namespaces.get(pod.namespace)
        if namespace is None:
            return []
        labels = pod.labels.items()
        found = [
            service
            for pair in labels
            for service in namespace.services.get(pair, {}).values()
            if service.selector.items() <= labels
        ]
        return sorted(found, key=lambda service: service.name)

    def owners_behind(self, service: Service) -> list[Owner]:
        """The controllers of the pods that the service selects."""
        namespace = self._namespaces.get(service.namespace)
        if namespace is None or not service.selector:
            return []
        selector = service.selector.items()
        fewest = min((namespace.groups_by_label.get(p, set()) for p in selector), key=len)
        groups = [namespace.groups[uid] for uid in fewest]
        return [g.owner for g in groups if selector <= g.labels.items()]


_PUT: dict[type, Callable[[Catalog, object, int], None]] = {
    Pod: Catalog._put_pod,  # type: ignore[dict-item]
    Service: Catalog._put_service,  # type: ignore[dict-item]
    Node: Catalog._put_node,  # type: ignore[dict-item]
    Controller: Catalog._put_controller,  # type: ignore[dict-item]
}


def _pod_keys(pod: Pod) -> set[Hashable]:
    ports = {("node", pod.node, p.host_port) for p in pod.ports if p.host_port and pod.node}
    return {*ports} if pod.is_host_network else {*ports, *pod.addresses}


def _service_keys(service: Service) -> set[Hashable]:
    return {*service.addresses, *(("node port", p.node_port) for p in service.ports if p.node_port)}
