"""What the watches have told so far: TracingConfigs, their children in our namespace, nodes. No I/O.

A manifest goes in as it came and is never changed; managedFields are left out, they are half of an object's size.
"""

from collections.abc import Mapping
from types import MappingProxyType

from farcall.tracingconfig import KIND
from farcall_operator.cluster.port import OWNER_LABEL, Manifest, Ref, ref_of

_NOTHING: Mapping[Ref, Manifest] = MappingProxyType({})


class World:
    """`put` and `drop` return the names of the TracingConfigs that the change may concern."""

    def __init__(self) -> None:
        self._configs: dict[str, Manifest] = {}
        self._children: dict[str, dict[Ref, Manifest]] = {}
        self._nodes: dict[str, Manifest] = {}

    def put(self, manifest: Manifest) -> set[str]:
        slim = drop_managed_fields(manifest)
        ref = ref_of(slim)
        if ref.kind == KIND:
            self._configs[ref.name] = slim
            return {ref.name}
        if ref.kind == "Node":
            before = self._nodes.get(ref.name)
            self._nodes[ref.name] = slim
            return set(self._configs) if is_other_node(before, slim) else set()
        owner = slim["metadata"].get("labels", {}).get(OWNER_LABEL)
        if not owner:
            return set()
        self._children.setdefault(owner, {})[ref] = slim
        return {owner}

    def drop(self, manifest: Manifest) -> set[str]:
        ref = ref_of(manifest)
        if ref.kind == KIND:
            self._configs.pop(ref.name, None)
            return set(self._configs) | {ref.name}  # one that overlapped may go on now
        if ref.kind == "Node":
            return set(self._configs) if self._nodes.pop(ref.name, None) else set()
        owner = manifest["metadata"].get("labels", {}).get(OWNER_LABEL)
        if not owner:
            return set()
        children = self._children.get(owner, {})
        children.pop(ref, None)
        if not children:
            self._children.pop(owner, None)
        return {owner}

    def config(self, name: str) -> Manifest | None:
        return self._configs.get(name)

    def configs(self) -> Mapping[str, Manifest]:
        return MappingProxyType(self._configs)

    def children(self, name: str) -> Mapping[Ref, Manifest]:
        return MappingProxyType(self._children[name]) if name in self._children else _NOTHING

    def nodes(self) -> Mapping[str, Manifest]:
        return MappingProxyType(self._nodes)


def drop_managed_fields(manifest: Manifest) -> Manifest:
    metadata = {k: v for k, v in manifest["metadata"].items() if k != "managedFields"}
    return {**manifest, "metadata": metadata}


def is_other_node(before: Manifest | None, now: Manifest) -> bool:
    """Whether what we read of a node changed; its heartbeat, every few seconds, is no change."""
    return before is None or pick_node(before) != pick_node(now)


def pick_node(node: Manifest) -> object:
    spec, status = node.get("spec", {}), node.get("status", {})
    return (
        node["metadata"].get("labels"),
        spec.get("podCIDRs"),
        spec.get("taints"),
        spec.get("unschedulable"),
        status.get("addresses"),
        (status.get("nodeInfo") or {}).get("architecture"),
    )
