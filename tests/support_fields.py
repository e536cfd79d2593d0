"""Every field of TracingConfig that has an effect, with a value to change it to, for the tests that change one."""

import copy
from typing import Any

from farcall.workloadspec import DigestsSpec
from support_render import BASE

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
    "capture.sampling.percent": 7,
    "capture.sampling.slowerThanMilliseconds": 9,
    "capture.filters": [{"paths": ["/health*"]}],
    "capture.rateLimits.spansPerSecond": 9,
    "capture.answerTimeoutSeconds": 7,
    "capture.tls": "Off",
    "capture.rateLimits.recordsPerSecond": 11,
    "capture.rateLimits.cpuMillicores": 350,
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
    "exporter.clickhouse.secretRef": "clickhouse",
    "exporter.storage.enabled": False,
    "exporter.storage.size": "99Gi",
    "exporter.storage.storageClassName": "fast",
    "exporter.otlp.endpoint": "http://o:4318",
    "exporter.otlp.headersSecretRef": "headers",
    "exporter.otlp.tls.caSecretRef.name": "ours",
    "exporter.otlp.tls.caSecretRef.key": "our.crt",
    "exporter.otlp.tls.insecureSkipVerify": True,
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
    "capture.sampling.": {"capture": {"sampling": {"percent": 50}}},
    "dnsCache.persistence.size": {"dnsCache": {"persistence": {"enabled": True}}},
    "dnsCache.persistence.storageClassName": {"dnsCache": {"persistence": {"enabled": True}}},
    "exporter.clickhouse.secretRef": {"exporter": {"clickhouse": {"url": "http://c:8123"}}},
    "exporter.otlp.tls.caSecretRef": {
        "exporter": {
            "otlp": {
                "endpoint": "https://o:4318",
                "tls": {"caSecretRef": {"name": "theirs", "key": "their.crt"}},
            }
        }
    },
    "exporter.otlp.": {"exporter": {"otlp": {"endpoint": "https://o:4318"}}},
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


# Fields that leave the pods as they are: live ones, and what is said of a workload and not of its pods.
QUIET = (
    "clusterCIDRs",
    "retention.",
    "dns.",
    "namespaces.",
    "capture.",
    "deletionPolicy",
    "dnsCache.persistence.size",
    "dnsCache.persistence.storageClassName",
    "exporter.replicas",
    "exporter.autoscaling.",
    "exporter.storage.size",
    "exporter.storage.storageClassName",
    "probe.updateStrategy",
    "console.ingress.className",
    "console.ingress.annotations",
    "console.ingress.tlsSecretName",
)
