"""Every right that an installation grants, with its reason. Pure data: the manifests and docs/rbac.md are made of it.

The rules are few on purpose: nothing cluster-wide may be written but the status of our own resource, nothing is `*`, and
nobody may hand on rights (`bind`, `escalate`, `impersonate`). Server-side apply needs `patch`, and `create` for an
object that is not there yet; pruning needs `delete`; the watches `list` and `watch`.
"""

from dataclasses import dataclass
from typing import Any

from farcall.tracingconfig import GROUP
from farcall_operator.layout import EXPORTER_ACCOUNT

WATCH = ("list", "watch")
READ = ("get", *WATCH)
CHILD = (*READ, "create", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a role. `group` as in the API, empty for the core."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    reason: str

    def build(self) -> dict[str, Any]:
        return {
            "apiGroups": [self.group],
            "resources": list(self.resources),
            "verbs": list(self.verbs),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """`namespace`: `own` is the one that farcall is installed into; empty, it is a ClusterRole."""

    name: str
    account: str
    namespace: str
    brief: str
    rules: tuple[Rule, ...]

    def build_rules(self) -> list[dict[str, Any]]:
        return [rule.build() for rule in self.rules]


OWN_NAMESPACE = "own"
EVENTS_NAMESPACE = "default"  # events about objects without a namespace live there
OPERATOR_ACCOUNT = "farcall-operator"

_CHILDREN = (
    Rule(
        group="",
        resources=("configmaps", "serviceaccounts", "services"),
        verbs=CHILD,
        reason="Children of a TracingConfig: configuration, accounts, addresses.",
    ),
    Rule(
        group="",
        resources=("persistentvolumeclaims",),
        verbs=(*READ, "create", "patch"),
        reason="Children: volumes. They are made and grown, and never deleted: what they hold can't be made again.",
    ),
    Rule(
        group="apps",
        resources=("daemonsets", "deployments", "statefulsets"),
        verbs=CHILD,
        reason="Children: the node agent, the exporter, the DNS cache.",
    ),
    Rule(
        group="networking.k8s.io",
        resources=("ingresses", "networkpolicies"),
        verbs=CHILD,
        reason="Children: who may connect to whom, and the way to the console.",
    ),
    Rule(
        group="policy",
        resources=("poddisruptionbudgets",),
        verbs=CHILD,
        reason="A child where the exporter has several replicas.",
    ),
    Rule(
        group="autoscaling",
        resources=("horizontalpodautoscalers",),
        verbs=CHILD,
        reason="A child where the exporter scales by itself.",
    ),
    Rule(
        group="monitoring.coreos.com",
        resources=("servicemonitors",),
        verbs=("get", "list", "create", "patch", "delete"),
        reason="A child where the Prometheus operator is installed; without it the rule grants nothing. Not watched: the kind may not exist.",
    ),
)
_BESIDE_CHILDREN = (
    Rule(
        group="",
        resources=("secrets",),
        verbs=("get", "create", "patch"),
        reason="Credentials are made once, renewed, and read by name. No list and no watch: the operator can't look around.",
    ),
    Rule(
        group="",
        resources=("pods",),
        verbs=WATCH,
        reason="The children's pods, watched by label: what their containers say, for the conditions of the TracingConfig.",
    ),
    Rule(
        group="",
        resources=("events",),
        verbs=("list",),
        reason="Why something does not start (no node fits, no volume, refused), asked for only when something does not.",
    ),
    Rule(
        group="coordination.k8s.io",
        resources=("leases",),
        verbs=("get", "create", "update"),
        reason="One of several replicas leads.",
    ),
)

ROLES = (
    Role(
        name="farcall-operator",
        account=OPERATOR_ACCOUNT,
        namespace=OWN_NAMESPACE,
        brief="what the operator may do in the namespace that it is installed into",
        rules=(*_CHILDREN, *_BESIDE_CHILDREN),
    ),
    Role(
        name="farcall-operator-events",
        account=OPERATOR_ACCOUNT,
        namespace=EVENTS_NAMESPACE,
        brief="events about TracingConfigs, which have no namespace",
        rules=(
            Rule(
                group="",
                resources=("events",),
                verbs=("create",),
                reason="Say what changed. Each event has a name of its own, so none is written to again.",
            ),
        ),
    ),
    Role(
        name="farcall-operator",
        account=OPERATOR_ACCOUNT,
        namespace="",
        brief="what the operator may read of the whole cluster, and the one thing that it writes there",
        rules=(
            Rule(
                group=GROUP,
                resources=("tracingconfigs",),
                verbs=WATCH,
                reason="What to do. The operator never changes a TracingConfig's spec or metadata.",
            ),
            Rule(
                group=GROUP,
                resources=("tracingconfigs/status",),
                verbs=("patch",),
                reason="What has been done. The only cluster-wide write.",
            ),
            Rule(
                group="",
                resources=("nodes",),
                verbs=WATCH,
                reason="Pod networks and node addresses count as inside; which nodes have no agent, and why.",
            ),
            Rule(
                group="networking.k8s.io",
                resources=("servicecidrs",),
                verbs=("list",),
                reason="Service networks count as inside.",
            ),
            Rule(
                group="storage.k8s.io",
                resources=("storageclasses",),
                verbs=("get",),
                reason="Whether the class of a volume lets it grow.",
            ),
        ),
    ),
    Role(
        name="farcall-exporter",
        account=EXPORTER_ACCOUNT,
        namespace="",
        brief="which workload an address belongs to",
        rules=(
            Rule(
                group="",
                resources=("nodes", "pods", "services"),
                verbs=WATCH,
                reason="Destinations inside the cluster are labelled by their Kubernetes identity. Metadata and addresses are what is used.",
            ),
            Rule(
                group="apps",
                resources=("replicasets",),
                verbs=WATCH,
                reason="A pod's owner is a ReplicaSet, and its owner is the Deployment that people know. Only their metadata is asked for.",
            ),
            Rule(
                group="batch",
                resources=("jobs",),
                verbs=WATCH,
                reason="The same for Jobs, whose owner is a CronJob.",
            ),
        ),
    ),
)


def list_granted(role: Role) -> set[tuple[str, str, str]]:
    """(group, resource, verb), one by one."""
    return {
        (rule.group, resource, verb)
        for rule in role.rules
        for resource in rule.resources
        for verb in rule.verbs
    }
