"""A cluster that holds Secrets in memory, with versions, and tells which requests were made."""

import base64
import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from farcall.tracingconfig import TracingConfig
from farcall_operator.cluster.port import (
    MANAGED_BY,
    MANAGER,
    OWNER_LABEL,
    Applied,
    ClusterError,
    Manifest,
    Propagation,
    Ref,
    ref_of,
)
from farcall_operator.context import Credentials
from farcall_operator.credentials import ensure_credentials

NAMESPACE = "tracing"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
OWNER = {"apiVersion": "farcall.dev/v1alpha1", "kind": "TracingConfig", "name": "main", "uid": "u1", "controller": True}  # fmt: skip


class SecretsOnly:
    """What credentials may ask for; everything else fails the test. `before_write` may meddle in between."""

    def __init__(self) -> None:
        self.secrets: dict[str, Manifest] = {}
        self.requests: list[tuple[str, str]] = []
        self.before_write: list[Any] = []
        self._version = 0

    def put(self, name: str, values: dict[str, str], labels: dict[str, str] | None = None) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels or {}}
        self._store({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def _store(self, manifest: Manifest) -> Manifest:
        self._version += 1
        kept = copy.deepcopy(manifest)
        kept["metadata"]["resourceVersion"] = str(self._version)
        self.secrets[kept["metadata"]["name"]] = kept
        return copy.deepcopy(kept)

    def values(self, name: str) -> dict[str, str]:
        data = self.secrets[name]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def _meddle(self) -> None:
        if self.before_write:
            self.before_write.pop(0)()

    async def get(self, ref: Ref) -> Manifest | None:
        assert (ref.api_version, ref.kind, ref.namespace) == ("v1", "Secret", NAMESPACE)
        self.requests.append(("get", ref.name))
        return copy.deepcopy(self.secrets.get(ref.name))

    async def create(self, manifest: Manifest) -> Manifest:
        self._meddle()
        name = ref_of(manifest).name
        self.requests.append(("create", name))
        if name in self.secrets:
            raise ClusterError(409, "AlreadyExists", f"secrets {name!r} already exists")
        return self._store(manifest)

    async def merge(self, ref: Ref, patch: Manifest) -> Manifest:
        self._meddle()
        self.requests.append(("patch", ref.name))
        live = self.secrets[ref.name]
        if patch["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            raise ClusterError(409, "Conflict", "the object has been modified")
        return self._store(merge_patch(live, patch))

    async def list(
        self, api_version: str, kind: str, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> list[Manifest]:  # fmt: skip
        raise AssertionError("Secrets are never listed")

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        raise AssertionError("not asked for")

    async def apply_status(self, manifest: Manifest) -> Manifest:
        raise AssertionError("not asked for")

    async def replace(self, manifest: Manifest) -> Manifest:
        raise AssertionError("not asked for")

    async def delete(
        self, ref: Ref, *, uid: str | None = None, propagation: Propagation = "Background"
    ) -> None:
        raise AssertionError("Secrets are never deleted")


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def make_config(**spec: Any) -> TracingConfig:
    return TracingConfig.model_validate(
        {
            "apiVersion": "farcall.dev/v1alpha1",
            "kind": "TracingConfig",
            "metadata": {"name": "main"},
            "spec": {"tier": "Hobby", **spec},
        }
    )


async def ensure(
    cluster: SecretsOnly, now: datetime = NOW, owner: dict[str, Any] = OWNER, **spec: Any
) -> Credentials:
    return await ensure_credentials(cluster, make_config(**spec), NAMESPACE, [owner], now)


OURS = {OWNER_LABEL: "main", MANAGED_BY: MANAGER}
