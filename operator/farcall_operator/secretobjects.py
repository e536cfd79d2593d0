"""Our own Secrets of one TracingConfig: made once, completed, never taken from somebody else. Get, create and patch only.

Each write carries the version that was read, so that of two operators which both believe that they lead one comes too
late and reads again. Values are never logged, and no error holds one.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from farcall_operator.cluster.port import (
    COMPONENT_LABEL,
    MANAGED_BY,
    MANAGER,
    OWNER_LABEL,
    Cluster,
    ClusterError,
    Manifest,
    Ref,
)

MAX_TRIES = 3  # the queue above comes again anyway
Values = Mapping[str, str]
# What is there → what shall be there; None takes a key away, and what is not named stays.
Complete = Callable[[Values], Mapping[str, str | None]]


class OwnSecrets:
    """`problems` and `writes` add up over the calls."""

    def __init__(
        self, cluster: Cluster, name: str, namespace: str, owner_references: list[dict[str, Any]]
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._namespace = namespace
        self._owner_references = owner_references
        self.problems: list[str] = []
        self.writes = 0

    async def ensure(
        self, part: str, complete: Complete, *, type_: str = "Opaque"
    ) -> dict[str, str] | None:
        """What the Secret `<name>-<part>` holds afterwards; None when it is somebody else's. Raises ClusterError."""
        ref = Ref("v1", "Secret", self._namespace, f"{self._name}-{part}")
        for attempt in range(1, MAX_TRIES + 1):
            found = await self._cluster.get(ref)
            if found is not None and not self._is_ours(found):
                self.problems.append(
                    f"the Secret {ref.name} in the namespace {ref.namespace} is not of this TracingConfig:"
                    " rename or delete it, and farcall makes its own"
                )
                return None
            try:
                return await self._write(ref, type_, found, complete)
            except ClusterError as e:
                if e.status != 409 or attempt == MAX_TRIES:
                    raise
        raise AssertionError("unreachable")

    def _is_ours(self, manifest: Manifest) -> bool:
        labels = manifest["metadata"].get("labels") or {}
        return labels.get(OWNER_LABEL) == self._name and labels.get(MANAGED_BY) == MANAGER

    async def _write(
        self, ref: Ref, type_: str, found: Manifest | None, complete: Complete
    ) -> dict[str, str]:
        present = {} if found is None else decode_values(found)
        wanted = complete(present)
        changes = {key: value for key, value in wanted.items() if present.get(key) != value}
        after = {k: v for k, v in {**present, **wanted}.items() if v is not None}
        if found is None:
            await self._cluster.create(self._render(ref, type_, after))
            self.writes += 1
            return after
        patch: Manifest = {}
        if changes:
            patch["data"] = {k: None if v is None else encode(v) for k, v in changes.items()}
        metadata = found["metadata"]
        # Of a predecessor of the same name that was deleted a moment ago: the collector looks at the uid.
        if self._owner_references and metadata.get("ownerReferences") != self._owner_references:
            patch["metadata"] = {"ownerReferences": self._owner_references}
        if patch:
            version = {"resourceVersion": metadata["resourceVersion"]}
            patch["metadata"] = {**patch.get("metadata", {}), **version}
            await self._cluster.merge(ref, patch)
            self.writes += 1
        return after

    def _render(self, ref: Ref, type_: str, values: Values) -> Manifest:
        metadata: dict[str, Any] = {
            "name": ref.name,
            "namespace": ref.namespace,
            "labels": {
                "app.kubernetes.io/name": "farcall",
                "app.kubernetes.io/instance": self._name,
                COMPONENT_LABEL: "credentials",
                "app.kubernetes.io/part-of": "farcall",
                MANAGED_BY: MANAGER,
                OWNER_LABEL: self._name,
            },
        }
        if self._owner_references:
            metadata["ownerReferences"] = self._owner_references
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": type_,
            "data": {key: encode(value) for key, value in values.items()},
        }


def encode(value: str) -> str:
    return base64.b64encode(value.encode()).decode("ascii")


def decode_values(manifest: Manifest) -> dict[str, str]:
    """A Secret's values as text. What is no UTF-8 text comes out with escapes, and fails wherever it is checked."""
    found: dict[str, str] = {}
    for key, value in (manifest.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value).decode("utf-8", "surrogateescape")
        except (binascii.Error, ValueError):
            found[key] = ""
    return found
