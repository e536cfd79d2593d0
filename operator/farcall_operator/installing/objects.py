"""The objects of an installation, for all shapes of it. Pure.

How they look is in farcall_templates/install. A shape that leaves something to the user (the Helm chart) puts its own
words into the fields of the view; everything else is the same, whoever installs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from typing import Any, ClassVar

from farcall.crd import build_crd
from farcall_operator.installing.rights import (
    OPERATOR_ACCOUNT,
    OWN_NAMESPACE,
    ROLES,
    Role,
)
from farcall_operator.layout import EXPORTER_ACCOUNT, IMAGE_PREFIX, USER_ID
from farcall_operator.manifests import Manifest, render_objects

NAMESPACE = "farcall"
PORT = 8080
# In the order in which they are applied.
PARTS: Mapping[str, tuple[str, ...]] = {
    "namespace": ("namespace.yaml.j2",),
    "crd": (),
    "rbac": ("rbac.yaml.j2",),
    "operator": ("operator.yaml.j2",),
    "networkpolicy": ("networkpolicy.yaml.j2",),
}
HIGH_AVAILABILITY = "poddisruptionbudget.yaml.j2"
RESOURCES: Mapping[str, Any] = {
    "requests": {"cpu": "100m", "memory": "96Mi"},
    "limits": {"memory": "256Mi"},  # no limit on CPU: a throttled operator looks like a stuck one
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallView:
    """Everything the templates print. `…_extras` are fields that a plain installation does not have."""

    namespace: str = NAMESPACE
    image: str = f"{IMAGE_PREFIX}/operator:{installed_version('farcall')}"
    pull_policy: str = "IfNotPresent"
    replicas: int | str = 1
    resources: object = field(default_factory=lambda: dict(RESOURCES))
    node_selector: object = field(default_factory=lambda: {"kubernetes.io/os": "linux"})
    pod_extras: Sequence[tuple[str, object]] = ()
    pod_metadata_extras: Sequence[tuple[str, object]] = ()
    label_extras: Mapping[str, object] = field(default_factory=dict)
    pod_label_extras: Mapping[str, object] = field(default_factory=dict)
    port: ClassVar[int] = PORT
    user_id: ClassVar[int] = USER_ID
    roles: ClassVar[tuple[Role, ...]] = ROLES
    accounts: ClassVar[dict[str, str]] = {
        OPERATOR_ACCOUNT: "operator",
        EXPORTER_ACCOUNT: "exporter",
    }
    # The kubelet fills in the namespace, so that the same Deployment works in any.
    arguments: ClassVar[tuple[str, ...]] = ("--namespace", "$(NAMESPACE)", "--listen", f":{PORT}")

    def metadata(self, name: str, component: str) -> dict[str, Any]:
        return {"name": name, "namespace": self.namespace, "labels": self.labels(component)}

    def selector(self, component: str) -> dict[str, str]:
        """Immutable once the Deployment exists: it may never gain a label."""
        return {"app.kubernetes.io/name": "farcall", "app.kubernetes.io/component": component}

    def labels(self, component: str) -> dict[str, object]:
        """Not `managed-by: farcall-operator`: that is how the operator knows its children, and these are none."""
        return {
            **self.selector(component),
            "app.kubernetes.io/part-of": "farcall",
            "app.kubernetes.io/version": installed_version("farcall"),
            **self.label_extras,
        }

    def pod_labels(self, component: str) -> dict[str, object]:
        return {**self.labels(component), **self.pod_label_extras}

    def role_kind(self, role: Role) -> str:
        return "Role" if role.namespace else "ClusterRole"

    def binding_kind(self, role: Role) -> str:
        return f"{self.role_kind(role)}Binding"

    def role_metadata(self, role: Role) -> dict[str, Any]:
        component = self.accounts[role.account]
        found: dict[str, Any] = {"name": role.name, "labels": self.labels(component)}
        if not role.namespace:
            return found
        own = role.namespace == OWN_NAMESPACE
        return {**found, "namespace": self.namespace if own else role.namespace}


def build_part(part: str, view: InstallView) -> list[Manifest]:
    if part == "crd":
        return [build_crd()]
    return list(render_objects(PARTS[part], view, folder="install"))


def build_budget(view: InstallView) -> list[Manifest]:
    return list(render_objects((HIGH_AVAILABILITY,), view, folder="install"))


def build_installation(view: InstallView) -> list[Manifest]:
    return [manifest for part in PARTS for manifest in build_part(part, view)]
