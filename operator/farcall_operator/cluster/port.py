"""The border between what the operator decides and the API server it asks. Types and protocols only; no I/O.

Whoever decides (reconcile, status, discovery, credentials) takes a `Cluster`; `client.py` is the real one, and tests may
write another. Manifests are what the API server speaks: plain JSON objects.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

Manifest = dict[str, Any]
FIELD_MANAGER = (
    "farcall-operator"  # one, for ever: server-side apply remembers who owns which field
)
# On every child; watches are filtered by the first, so that the operator's memory does not grow with the cluster.
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "farcall-operator"
OWNER_LABEL = "farcall.dev/tracingconfig"
COMPONENT_LABEL = "app.kubernetes.io/component"
# SHA-256 (16 hex digits) of the manifest as it was desired, on every child: equal and untouched means nothing to apply.
DESIRED_HASH = "farcall.dev/desired-hash"


class Ref(NamedTuple):
    """Which object. `namespace` is empty for those that have none."""

    api_version: str
    kind: str
    namespace: str
    name: str


def ref_of(manifest: Manifest) -> Ref:
    metadata = manifest["metadata"]
    return Ref(
        manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"]
    )


class Cause(NamedTuple):
    """One of `details.causes` of a 422: `field` as the API server writes it."""

    reason: str
    field: str
    message: str


class ClusterError(Exception):
    """The API server refused, or could not be asked (`status` 0).

    `reason` is the Status' (`Conflict`, `Forbidden`, `Invalid`, …), or `Unreachable` or `Timeout` when there was no answer.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        causes: tuple[Cause, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes
        self.retry_after_s = retry_after_s
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What the server holds now, and what it warned of (PodSecurity, deprecations)."""

    live: Manifest
    warnings: tuple[str, ...] = ()


Propagation = Literal["Background", "Foreground", "Orphan"]


class Cluster(Protocol):
    """Every call may raise ClusterError. None of them retries more than a few seconds: the queue above does."""

    async def get(self, ref: Ref) -> Manifest | None:
        """None when there is no such object, or no such kind."""

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
    ) -> list[Manifest]:
        """Whole, however many pages it takes; each with `apiVersion` and `kind`. Raises 404 when the kind is unknown."""

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        """Server-side apply as FIELD_MANAGER, forced: what we want of a child of ours is so."""

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply on the status subresource."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Raises 409 AlreadyExists."""

    async def replace(self, manifest: Manifest) -> Manifest:
        """With `metadata.resourceVersion`: raises 409 Conflict when another was faster."""

    async def merge(self, ref: Ref, patch: Manifest) -> Manifest:
        """A merge patch (RFC 7386), for the few objects of which others own the rest."""

    async def delete(
        self, ref: Ref, *, uid: str | None = None, propagation: Propagation = "Background"
    ) -> None:
        """Silent when it is gone; with `uid` only that very object (409 otherwise)."""


class Observed(Protocol):
    """What the watches have told; reading it costs no request. May be a moment old."""

    def config(self, name: str) -> Manifest | None: ...

    def configs(self) -> Mapping[str, Manifest]: ...

    def children(self, name: str) -> Mapping[Ref, Manifest]:
        """Labelled objects of that TracingConfig in our namespace, pods included; Secrets are not watched."""

    def nodes(self) -> Mapping[str, Manifest]: ...

    def note(self, manifest: Manifest) -> None:
        """The API server's answer to a write of ours, of a kind that is watched: so it is, until the watch tells more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one reconciliation. `again_in_s`: come back though nobody calls (a rollout to watch, a certificate to renew)."""

    again_in_s: float | None = None
    writes: int = 0  # requests that changed something
    reasons: tuple[str, ...] = field(
        default=()
    )  # of conditions that are not true, for metrics and logs


Wake = Callable[[str], None]  # the name of a TracingConfig that is to be looked at again


class Reconciler(Protocol):
    """Level-triggered: told which resource, never what happened to it. One call per name at a time."""

    async def reconcile(self, name: str) -> Outcome: ...
