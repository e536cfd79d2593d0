"""What an earlier version of the operator may have left behind: children that cannot be changed, and some not wanted now."""

from support_apiserver_access import Object, build_path
from support_apiserver_configs import CONFIGS, OWNER, Configs
from support_apiserver_operator import NAMESPACE

# Kinds of which an object is left over, with the least that the API server takes.
UNWANTED: tuple[tuple[str, str, Object], ...] = (
    ("v1", "ConfigMap", {"data": {"old": "yes"}}),
    ("v1", "ServiceAccount", {}),
    ("v1", "Service", {"spec": {"ports": [{"port": 1}], "selector": {"old": "yes"}}}),
    ("networking.k8s.io/v1", "NetworkPolicy", {"spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}}),
)  # fmt: skip
# Workloads under the names of today's, whose selectors are of another time.
UNCHANGEABLE = (("Deployment", "exporter"), ("DaemonSet", "probe"))


def label(name: str) -> dict[str, str]:
    return {OWNER: name, "app.kubernetes.io/managed-by": "farcall-operator"}


def leave_unwanted(configs: Configs, name: str) -> list[str]:
    """Children of this very TracingConfig that no version of today makes; their paths."""
    uid = configs.get(name)["metadata"]["uid"]
    owner = {"apiVersion": "farcall.dev/v1alpha1", "kind": "TracingConfig", "name": name, "uid": uid, "controller": True}  # fmt: skip
    paths = []
    for api_version, kind, body in UNWANTED:
        metadata = {
            "name": f"{name}-former",
            "namespace": NAMESPACE,
            "labels": label(name),
            "ownerReferences": [owner],
        }
        manifest = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}
        configs.api.create(manifest)
        paths.append(build_path(api_version, kind, NAMESPACE, f"{name}-former"))
    return paths


def leave_unchangeable(configs: Configs, name: str) -> dict[str, str]:
    """Before the TracingConfig is there, as after `--cascade=orphan`; path → uid."""
    assert configs.api.find(f"{CONFIGS}/{name}") is None
    uids = {}
    for kind, part in UNCHANGEABLE:
        selector = {"old": f"{name}-{part}"}
        pod: Object = {
            "metadata": {"labels": selector},
            "spec": {"containers": [{"name": "old", "image": "old"}]},
        }
        manifest = {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {
                "name": f"{name}-{part}",
                "namespace": NAMESPACE,
                "labels": label(name),
            },
            "spec": {"selector": {"matchLabels": selector}, "template": pod},
        }
        uids[configs.path(kind, f"{name}-{part}")] = configs.api.create(manifest)["metadata"]["uid"]
    return uids
