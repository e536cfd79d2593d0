"""Each field of TracingConfig changes a manifest, or is known to be for a part that does not exist yet."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from farcall.tracingconfig import TracingConfigSpec
from farcall.workloadspec import DigestsSpec
from farcall_operator.kubernetes import build_manifests, build_view
from support_render import BASE, CONTEXT, make

pytestmark = pytest.mark.golden

# Fields that no manifest of this version depends on; each is for a part that does not exist yet.
INERT = {
    "logs.enabled",
    "logs.exclude",
    "logs.paths",
    "exporter.clickhouse.secretRef",
    "exporter.otlp.tls",
    "exporter.otlp.headersSecretRef",
    "console.oidc",
    "console.publicShare",
    "paused",
}
# path in the spec → what it is changed to, on top of BASE
CHANGES: dict[str, Any] = {
    "tier": "Scale",
    "clusterCIDRs": ["10.1.0.0/16"],
    "retention.traces": "9d",
    "retention.logs": "9d",
    "retention.maxSize": "9Gi",
    "dns.holdWhileConnected": True,
    "dns.resolvers": ["10.96.0.10"],
    "namespaces.include": ["shop"],
    "namespaces.exclude": ["shop"],
    "capture.protocols": ["http"],
    "capture.hostProcesses": True,
    "capture.headers": ["x-a"],
    "capture.masking.enabled": False,
    **{
        f"{part}.{field}": value
        for part in ("probe", "dnsCache", "exporter")
        for field, value in {
            "resources.requests.cpu": "1",
            "resources.requests.memory": "7Gi",
            "resources.requests.ephemeral-storage": "1Gi",
            "resources.limits.cpu": "1",
            "resources.limits.memory": "7Gi",
            "resources.limits.ephemeral-storage": "1Gi",
            "tolerations": [{"key": "dedicated"}],
            "nodeSelector": {"a": "b"},
            "affinity": {"podAffinity": {}},
            "priorityClassName": "high",
            "podAnnotations": {"a": "b"},
        }.items()
    },
    "dnsCache.topologySpreadConstraints": [{"maxSkew": 1}],
    "exporter.topologySpreadConstraints": [{"maxSkew": 1}],
    "probe.updateStrategy": {"type": "OnDelete"},
    "probe.privileged": True,
    "dnsCache.image": "other/redis:1",
    "dnsCache.persistence.enabled": True,
    "dnsCache.persistence.size": "99Gi",
    "dnsCache.persistence.storageClassName": "fast",
    "dnsCache.existingSecret": "ours",
    "exporter.replicas": 5,
    "exporter.autoscaling.minReplicas": 3,
    "exporter.autoscaling.maxReplicas": 9,
    "exporter.autoscaling.targetCPUUtilizationPercentage": 50,
    "exporter.clickhouse.url": "http://c:8123",
    "exporter.storage.enabled": False,
    "exporter.storage.size": "99Gi",
    "exporter.storage.storageClassName": "fast",
    "exporter.otlp.endpoint": "http://o:4318",
    "console.ingress.host": "h",
    "console.ingress.className": "nginx",
    "console.ingress.annotations": {"a": "b"},
    "console.ingress.tlsSecretName": "cert",
    "images.registry": "r.example.com",
    **{f"images.digests.{name}": f"sha256:{'0' * 64}" for name in DigestsSpec.model_fields},
    "images.pullSecrets": ["p"],
    "tls.mode": "disabled",
    "tls.secretRef": "certs",
    "deletionPolicy": "Retain",
}
# A field means something only beside another: the longest prefix of its path → what is there before the change.
BESIDE: dict[str, dict[str, Any]] = {
    "tls.secretRef": {"tls": {"mode": "secret", "secretRef": "theirs"}},
    "deletionPolicy": {"dnsCache": {"persistence": {"enabled": True}}},
    "dnsCache.persistence.size": {"dnsCache": {"persistence": {"enabled": True}}},
    "dnsCache.persistence.storageClassName": {"dnsCache": {"persistence": {"enabled": True}}},
    "exporter.replicas": {"exporter": {"clickhouse": {"url": "http://c:8123"}}},
    "exporter.autoscaling": {
        "exporter": {"clickhouse": {"url": "http://c:8123"}, "autoscaling": {"maxReplicas": 4}}
    },
    "console.ingress": {"console": {"ingress": {"host": "calls"}}},
}


def find_base(path: str) -> dict[str, Any]:
    beside = next((spec for prefix, spec in BESIDE.items() if path.startswith(prefix)), {})
    return copy.deepcopy({**BASE, **beside})


def put(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`spec` with that one field set."""
    *parents, last = path.split(".")
    part = spec
    for name in parents:
        part = part.setdefault(name, {})
    part[last] = value
    return spec


@pytest.mark.parametrize("path", CHANGES)
def test_a_changed_field_changes_a_manifest(path: str) -> None:
    base = find_base(path)
    before = build_manifests(make(base), CONTEXT)

    after = build_manifests(make(put(find_base(path), path, CHANGES[path])), CONTEXT)
    assert after != before
    assert build_manifests(make(find_base(path)), CONTEXT) == before


def test_every_field_changes_a_manifest_or_is_known_to_be_inert() -> None:
    known = {*CHANGES, *INERT}
    missing = [
        path
        for path in list_fields(TracingConfigSpec)
        if not any(k == path or k.startswith(f"{path}.") or path.startswith(f"{k}.") for k in known)
    ]

    assert missing == []


def list_fields(model: Any, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        yield path
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if hasattr(kind, "model_fields"):
                yield from list_fields(kind, f"{path}.")


def test_a_live_field_does_not_replace_pods_and_a_restart_field_does() -> None:
    def hashes(spec: dict[str, Any]) -> dict[str, str]:
        return build_view(make(spec), CONTEXT).restart_hashes

    base = hashes(BASE)
    assert hashes({**BASE, "clusterCIDRs": ["10.1.0.0/16"]}) == base
    assert hashes({**BASE, "retention": {"traces": "9d"}}) == base
    otlp = hashes({**BASE, "exporter": {"otlp": {"endpoint": "http://o:4318"}}})
    assert otlp["exporter"] != base["exporter"]
    assert otlp["redis"] == base["redis"]
    assert hashes({**BASE, "tier": "Scale"})["redis"] != base["redis"]


def test_several_replicas_come_only_with_a_clickhouse_server() -> None:
    def find(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        return next(m for m in build_manifests(make(spec), CONTEXT) if m["kind"] == kind)

    embedded = find("Deployment", BASE)["spec"]
    assert (embedded["replicas"], embedded["strategy"]) == (1, {"type": "Recreate"})
    assert [c["name"] for c in embedded["template"]["spec"]["containers"]] == [
        "store",
        "exporter",
        "console",
    ]

    outgrown = {**BASE, "exporter": {"clickhouse": {"url": "http://c:8123"}}}
    deployment = find("Deployment", outgrown)["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (2, "RollingUpdate")
    assert [c["name"] for c in deployment["template"]["spec"]["containers"]] == [
        "exporter",
        "console",
    ]
    assert (
        find("PodDisruptionBudget", outgrown)["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    )
