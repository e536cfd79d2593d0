"""What the watches have told so far: TracingConfigs, their children in our namespace, nodes. No I/O.

A manifest that comes out must not be changed. What nobody reads is left out, and children lie packed: 16,000 of them
take 25 MB so.
"""

import sys
from collections.abc import Iterator, Mapping, Set
from types import MappingProxyType

from farcall.tracingconfig import KIND
from farcall_operator.cluster.packed import (
    Packed,
    drop_managed_fields,
    is_newer_version,
    pack,
    share_strings,
    unpack,
)
from farcall_operator.cluster.port import OWNER_LABEL, Manifest, Ref, ref_of
from farcall_operator.overlap import read_included

# Of a node's status, which a large node fills with 50 KB about images and disks.
NODE_STATUS = ("addresses", "allocatable", "capacity", "conditions", "nodeInfo")

MAX_GONE = 4_096


class Children(Mapping[Ref, Manifest]):
    """As they were when it was made; each is unpacked when it is asked for, once."""

    def __init__(self, packed: Mapping[Ref, Packed]) -> None:
        self._packed = dict(packed)
        self._unpacked: dict[Ref, Manifest] = {}

    def __getitem__(self, ref: Ref) -> Manifest:
        if ref not in self._unpacked:
            self._unpacked[ref] = unpack(self._packed[ref])
        return self._unpacked[ref]

    def __iter__(self) -> Iterator[Ref]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, ref: object) -> bool:
        return ref in self._packed


class World:
    """`put` and `drop` return the names of the TracingConfigs that the change may concern.

    Events of one object come in order; those of an object and of its successor by the same name may not. What we wrote
    ourselves is `note`d as the API server answered it: the watch, which tells of it a little later, then tells nothing new.
    """

    def __init__(self) -> None:
        self._noted: dict[str, str] = {}  # TracingConfigs: the version that our status made
        self._gone: dict[Ref, str] = {}  # children: the version that they had when they went
        self._listed: dict[tuple[str, str], str] = {}  # by API version and kind: the last list's
        self._configs: dict[str, Manifest] = {}
        self._children: dict[str, dict[Ref, Packed]] = {}
        self._owners: dict[Ref, str] = {}
        self._nodes: dict[str, Manifest] = {}

    def put(self, manifest: Manifest, *, listed: bool = False) -> set[str]:
        """`listed`: so it is now, also when it was newer before (an API server whose store was put back)."""
        ref = ref_of(manifest)
        if ref.kind == KIND:
            return self._put_config(ref.name, share_strings(drop_managed_fields(manifest)))
        if ref.kind == "Node":
            before, slim = self._nodes.get(ref.name), slim_node(manifest)
            self._nodes[ref.name] = slim
            return set(self._configs) if is_other_node(before, slim) else set()
        return self._put_child(Ref(*map(sys.intern, ref)), manifest, listed=listed)

    def note(self, manifest: Manifest) -> None:
        """The answer to a write of ours, of a kind that is watched. The watch may have been faster."""
        ref, version = ref_of(manifest), str(manifest["metadata"].get("resourceVersion", ""))
        if ref.kind == KIND:
            if ref.name in self._configs:
                self._noted[ref.name] = version
            return
        gone, listed = self._gone.get(ref), self._listed.get((ref.api_version, ref.kind), "")
        is_late = is_newer_version(listed, version)
        if not is_late and (gone is None or is_newer_version(version, gone)):
            self._put_child(Ref(*map(sys.intern, ref)), manifest)

    def drop(self, manifest: Manifest) -> set[str]:
        ref = ref_of(manifest)
        uid = manifest["metadata"].get("uid")
        if ref.kind == KIND:
            if _is_same(self._configs.get(ref.name), uid):
                del self._configs[ref.name]
                self._noted.pop(ref.name, None)
            return set(self._configs) | {ref.name}  # one that overlapped may go on now
        if ref.kind == "Node":
            if _is_same(self._nodes.get(ref.name), uid):
                del self._nodes[ref.name]
                return set(self._configs)
            return set()
        return self._drop_child(ref, manifest)

    def conclude(self, api_version: str, kind: str, uids: Set[str], version: str) -> list[Manifest]:
        """At the end of a list of one kind, whose version it was: what is held and not among its `uids`, as `drop` takes it.

        What we wrote while the list was read is missing too; the watch, which begins where the list ended, tells of it.
        """
        self._listed[api_version, kind] = version
        found = [*_list_uids(self._configs), *_list_uids(self._nodes)]
        found += [(ref, self._children[owner][ref].uid) for ref, owner in self._owners.items()]
        return [
            _build_identity(ref, uid, version)
            for ref, uid in found
            if ref.kind == kind and ref.api_version == api_version and uid not in uids
        ]

    def config(self, name: str) -> Manifest | None:
        return self._configs.get(name)

    def configs(self) -> Mapping[str, Manifest]:
        return MappingProxyType(self._configs)

    def children(self, name: str) -> Mapping[Ref, Manifest]:
        return Children(self._children.get(name, {}))

    def nodes(self) -> Mapping[str, Manifest]:
        return MappingProxyType(self._nodes)

    def _put_config(self, name: str, manifest: Manifest) -> set[str]:
        before = self._configs.get(name)
        if before is not None and _is_older_successor(
            manifest, before["metadata"].get("uid"), before["metadata"].get("resourceVersion")
        ):
            return set()
        self._configs[name] = manifest
        noted = self._noted.get(name)
        if noted is not None and noted == manifest["metadata"].get("resourceVersion"):
            del self._noted[name]
            if before is not None and _pick_config(before) == _pick_config(manifest):
                return set()  # but for the status, which is ours
        if before is not None and read_included(before) != read_included(manifest):
            return set(self._configs)  # others may overlap with it now, or no more
        return {name}

    def _put_child(self, ref: Ref, manifest: Manifest, *, listed: bool = False) -> set[str]:
        before_owner = self._owners.get(ref)
        owner = manifest["metadata"].get("labels", {}).get(OWNER_LABEL)
        before = self._children[before_owner][ref] if before_owner is not None else None
        if before is not None and _is_no_news(manifest, before, listed=listed):
            return set()
        if before_owner is not None and before_owner != owner:
            self._forget(ref)
        if owner:
            owner = sys.intern(owner)  # like the parts of `ref`: else each object has its own
            self._owners[ref] = owner
            self._children.setdefault(owner, {})[ref] = pack(manifest)
            self._gone.pop(ref, None)
        return {name for name in (before_owner, owner) if name}

    def _drop_child(self, ref: Ref, manifest: Manifest) -> set[str]:
        uid = manifest["metadata"].get("uid")
        self._remember_gone(ref, str(manifest["metadata"].get("resourceVersion", "")))
        owner = self._owners.get(ref)
        if owner is None:
            return set()
        if uid is None or self._children[owner][ref].uid == uid:
            self._forget(ref)
        return {owner}

    def _remember_gone(self, ref: Ref, version: str) -> None:
        """For as long as an answer may be on its way; the oldest goes first."""
        self._gone.pop(ref, None)
        self._gone[ref] = version
        if len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]

    def _forget(self, ref: Ref) -> None:
        owner = self._owners.pop(ref)
        del self._children[owner][ref]
        if not self._children[owner]:
            del self._children[owner]


def _is_no_news(manifest: Manifest, before: Packed, *, listed: bool) -> bool:
    metadata = manifest["metadata"]
    version = str(metadata.get("resourceVersion", ""))
    if str(metadata.get("uid", "")) != before.uid:
        return _is_older_successor(manifest, before.uid, before.version)
    if version == before.version:
        return bool(version)
    return not listed and is_newer_version(before.version, version)


def _list_uids(held: Mapping[str, Manifest]) -> Iterator[tuple[Ref, str]]:
    for manifest in held.values():
        yield ref_of(manifest), str(manifest["metadata"].get("uid", ""))


def _build_identity(ref: Ref, uid: str, version: str) -> Manifest:
    metadata = {"name": ref.name, "uid": uid, "resourceVersion": version}
    if ref.namespace:
        metadata["namespace"] = ref.namespace
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata}


def _pick_config(config: Manifest) -> object:
    metadata = config["metadata"]
    return [metadata.get(key) for key in ("uid", "generation", "deletionTimestamp")]


def _is_same(before: Manifest | None, uid: str | None) -> bool:
    return before is not None and (uid is None or before["metadata"].get("uid") == uid)


def _is_older_successor(manifest: Manifest, uid: str | None, version: str | None) -> bool:
    """Whether `manifest` is another object than the one known by its name, and older: it is gone already."""
    metadata = manifest["metadata"]
    if metadata.get("uid") == uid:
        return False
    return is_newer_version(str(version or ""), str(metadata.get("resourceVersion", "")))


def slim_node(node: Manifest) -> Manifest:
    slim = drop_managed_fields(node)
    slim["metadata"].pop("annotations", None)
    status = node.get("status", {})
    return {**slim, "status": {key: status[key] for key in NODE_STATUS if key in status}}


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
