"""The children of one TracingConfig: whose an object is, and what is known of each between two reconciliations.

No requests in here. Nothing in a `Memory` is needed: after a restart the cluster tells it all again, at the price of
one server-side apply that changes nothing.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from farcall.tracingconfig import GROUP, KIND
from farcall_operator.cluster.packed import Packed, is_newer_version
from farcall_operator.cluster.port import (
    MANAGED_BY,
    MANAGER,
    OWNER_LABEL,
    Manifest,
    Ref,
)
from farcall_operator.comparing import Difference

Standing = Literal["ours", "previous", "foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The TracingConfig, as owner references name it."""

    name: str
    uid: str


def judge_standing(live: Manifest, owner: Owner) -> Standing:
    """Whose `live` is. `previous`: of a TracingConfig of that name that is gone, so it will be collected soon.

    Without a controller the label decides: a kept volume claim, or what `--cascade=orphan` left, is taken up again.
    """
    reference = find_controller(live)
    if reference is None:
        labels = live["metadata"].get("labels") or {}
        is_labelled = labels.get(OWNER_LABEL) == owner.name and labels.get(MANAGED_BY) == MANAGER
        return "ours" if is_labelled else "foreign"
    if reference.get("uid") == owner.uid:
        return "ours"
    is_namesake = (
        reference.get("kind") == KIND
        and str(reference.get("apiVersion")).startswith(f"{GROUP}/")
        and reference.get("name") == owner.name
    )
    return "previous" if is_namesake else "foreign"


def find_controller(live: Manifest) -> dict[str, object] | None:
    references = live["metadata"].get("ownerReferences") or ()
    return next((reference for reference in references if reference.get("controller")), None)


def describe_owner(live: Manifest) -> str:
    reference = find_controller(live)
    if reference is None:
        return "not farcall's"
    return f"controlled by {reference.get('kind')} {reference.get('name')}"


@dataclass(slots=True, kw_only=True)
class Memory:
    """Of one TracingConfig (by uid), for as long as this process lives."""

    uid: str
    # What the server makes of our manifest in its own way (a webhook that rewrites images): by the desired hash.
    accepted: dict[Ref, tuple[str, frozenset[Difference]]] = field(default_factory=dict)
    asked: dict[Ref, tuple[datetime, Manifest]] = field(default_factory=dict)  # of unwatched kinds
    warnings: dict[Ref, tuple[str, ...]] = field(default_factory=dict)  # of the last apply
    rolled: dict[Ref, datetime] = field(default_factory=dict)  # when its pod template changed last
    claims: dict[Ref, str] = field(default_factory=dict)  # size that a volume claim was seen with
    rendered: tuple[bytes, bytes] | None = None  # what was asked (hashed), the manifests (packed)
    status: Packed | None = None  # as it was written last

    def forget(self, ref: Ref) -> None:
        for known in (
            self.accepted,
            self.asked,
            self.warnings,
            self.rolled,
            self.claims,
        ):
            known.pop(ref, None)


def is_newer(ours: Packed, told: Manifest) -> bool:
    return is_newer_version(ours.version, str(told["metadata"].get("resourceVersion", "")))
