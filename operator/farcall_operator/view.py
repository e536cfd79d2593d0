"""What the Kubernetes templates print, as one object. Their own logic ends at `if` and `for`."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import Any, ClassVar

from farcall.meaning import OTLP_CA, OTLP_HEADERS_DIR
from farcall.tracingconfig import TracingConfig, TracingConfigSpec
from farcall.workloadspec import IngressSpec, OtlpSpec, PlacementSpec
from farcall_operator.cluster.port import COMPONENT_LABEL, MANAGED_BY, MANAGER, OWNER_LABEL
from farcall_operator.context import Context
from farcall_operator.desired import Component, Desired
from farcall_operator.layout import (
    CLICKHOUSE_KEYS,
    CONFIG_DIR,
    DATA_DIR,
    EXPORTER_ACCOUNT,
    IMAGE_PREFIX,
    OPERATOR_SELECTOR,
    POD_CONTAINERS,
    PORTS,
    PROBE_CAPABILITIES,
    READY_DIR,
    REDIS_FILES,
    REDIS_IMAGE,
    REDIS_USER_ID,
    SECRET_FILES,
    SECRETS_DIR,
    STORE_MOUNT,
    USER_ID,
    PodContainer,
)
from farcall_operator.sizes import Quantities
from farcall_operator.transport import TLS_FILES, find_tls_secret

VERSION = installed_version("farcall")  # once: reading it takes as long as rendering a template
RESTART_HASH = "farcall.dev/restart-hash"
SECRETS_HASH = "farcall.dev/secrets-hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Of the exporter, by what its container uses."""

    most_replicas: int
    cpu_percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything the templates print. Their logic ends at `if` and `for`."""

    name: str
    context: Context
    desired: Desired
    owner_references: list[dict[str, Any]]
    files: dict[str, str]  # the ConfigMap
    restart_hashes: dict[str, str]  # by workload
    resources: dict[str, Quantities]
    placements: dict[str, dict[str, Any]]  # by workload: fields of the pod's spec
    redis_volume: dict[str, Any] | None  # None: emptyDir
    store_volume: dict[str, Any] | None
    has_store: bool
    replicas: int  # the least of them, when they scale
    scaling: Scaling | None
    ports: ClassVar[dict[str, int]] = PORTS
    user_id: ClassVar[int] = USER_ID
    redis_user_id: ClassVar[int] = REDIS_USER_ID
    config_dir: ClassVar[str] = CONFIG_DIR
    secrets_dir: ClassVar[str] = SECRETS_DIR
    ready_dir: ClassVar[str] = READY_DIR
    store_mount: ClassVar[str] = STORE_MOUNT
    redis_data_dir: ClassVar[str] = DATA_DIR
    otlp_headers_dir: ClassVar[str] = OTLP_HEADERS_DIR
    exporter_account: ClassVar[str] = EXPORTER_ACCOUNT
    operator_selector: ClassVar[dict[str, str]] = OPERATOR_SELECTOR

    @property
    def namespace(self) -> str:
        return self.context.namespace

    @property
    def spec(self) -> TracingConfigSpec:
        return self.desired.config.spec

    def child(self, part: str) -> str:
        return f"{self.name}-{part}"

    def metadata(self, part: str, component: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": self.child(part),
            "namespace": self.namespace,
            "labels": self.labels(component),
        }
        return (
            {**found, "ownerReferences": self.owner_references} if self.owner_references else found
        )

    def ingress_metadata(self) -> dict[str, Any]:
        metadata = self.metadata("console", "exporter")
        given = self.ingress.annotations if self.ingress else None
        return {**metadata, "annotations": dict(given)} if given else metadata

    def volume_metadata(self, part: str, component: str) -> dict[str, Any]:
        """Without an owner where it is to be kept: whoever collects what the resource leaves would collect it too."""
        metadata = self.metadata(part, component)
        if self.deletion_policy() == "Retain":
            metadata.pop("ownerReferences", None)
        return metadata

    def annotations(self, workload: str) -> dict[str, str]:
        """Of a pod template: when they change, the pods are replaced."""
        credentials = self.context.credentials
        secrets = credentials.hashes.get(workload) if credentials else None
        return {
            **self._pod_annotations(workload),
            RESTART_HASH: self.restart_hashes[workload],
            **({SECRETS_HASH: secrets} if secrets else {}),
        }

    def _pod_annotations(self, workload: str) -> dict[str, str]:
        part: PlacementSpec | None = {
            "probe": self.spec.probe,
            "redis": self.spec.dns_cache,
            "exporter": self.spec.exporter,
        }[workload]
        return dict(part.pod_annotations or {}) if part else {}

    def labels(self, component: str) -> dict[str, str]:
        return {
            **self.selector(component),
            "app.kubernetes.io/part-of": "farcall",
            MANAGED_BY: MANAGER,
            OWNER_LABEL: self.name,
        }

    def selector(self, component: str) -> dict[str, str]:
        """Immutable once a workload exists: it may never gain a label."""
        return {
            "app.kubernetes.io/name": "farcall",
            "app.kubernetes.io/instance": self.name,
            COMPONENT_LABEL: component,
        }

    def component(self, name: str) -> Component:
        return self.desired.find(name)

    def ready_file(self, name: str) -> str:
        return f"{self.ready_dir}/{name}"

    def environment(self, name: str) -> list[dict[str, str]]:
        return [{"name": key, "value": value} for key, value in self.component(name).environment]

    def exporter_containers(self) -> tuple["PodContainer", ...]:
        return tuple(c for c in POD_CONTAINERS if self.has_store or not c.has_data)

    def exporter_strategy(self) -> dict[str, Any]:
        if self.has_store:
            return {"type": "Recreate"}
        return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}

    def probe_security(self) -> dict[str, Any]:
        base = {"runAsUser": 0, "runAsGroup": 0, "readOnlyRootFilesystem": True}
        if self.spec.probe and self.spec.probe.privileged:
            return {**base, "privileged": True}
        return {
            **base,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": list(PROBE_CAPABILITIES)},
            "seccompProfile": {"type": "RuntimeDefault"},
        }

    def redis_probe(self, *, period_s: int, failures: int) -> dict[str, Any]:
        return {
            "exec": {"command": ["/bin/sh", f"{self.config_dir}/ready-redis.sh"]},
            "periodSeconds": period_s,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        }

    def deletion_policy(self) -> str:
        return self.spec.deletion_policy or "Delete"

    def image(self, name: str) -> str:
        return find_image(self.desired.config, name)

    def pull_secrets(self) -> list[dict[str, str]]:
        images = self.spec.images
        return [{"name": name} for name in (images.pull_secrets or [])] if images else []

    def update_strategy(self) -> dict[str, Any]:
        """Of the probe. One node after the other would take hours on a large cluster."""
        given = self.spec.probe.update_strategy if self.spec.probe else None
        return given or {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}

    @property
    def ingress(self) -> IngressSpec | None:
        return self.spec.console.ingress if self.spec.console else None

    def secret_volume(self, component: str) -> dict[str, Any]:
        """A projected volume of the files that `component` may see; mode 0440, its group is the pod's."""
        ours, theirs = split_secret_files(self.desired.config, SECRET_FILES[component])
        sources = [_project(self.child("secrets"), ours)]
        existing = self.spec.dns_cache.existing_secret if self.spec.dns_cache else None
        if theirs and existing:
            sources.append(_project(existing, theirs))
        clickhouse = self.spec.exporter.clickhouse if self.spec.exporter else None
        if component == "exporter" and clickhouse and clickhouse.secret_ref:
            sources.append(_project_keys(clickhouse.secret_ref, CLICKHOUSE_KEYS))
        otlp = self._otlp()
        if component == "exporter" and otlp and otlp.tls and (ca := otlp.tls.ca_secret_ref):
            sources.append(_project_keys(ca.name, {ca.key: OTLP_CA}))
        if tls := find_tls_secret(self.desired.config, component):
            sources.append(_project(tls, TLS_FILES[component]))
        return {"projected": {"defaultMode": 0o440, "sources": [s for s in sources if s]}}

    def _otlp(self) -> OtlpSpec | None:
        return self.spec.exporter.otlp if self.spec.exporter else None

    def otlp_headers_secret(self) -> str | None:
        otlp = self._otlp()
        return otlp.headers_secret_ref if otlp else None


def find_image(config: TracingConfig, name: str) -> str:
    """`registry/name:version`, or `@digest` where one is pinned."""
    images, cache = config.spec.images, config.spec.dns_cache
    if name == "redis" and cache and cache.image:
        return cache.image
    digest: str | None = getattr(images.digests, name) if images and images.digests else None
    registry = images.registry if images and images.registry else None
    if name == "redis":
        repository, _, tag = REDIS_IMAGE.partition(":")
        path = f"{registry}/{repository}" if registry else repository
    else:
        path, tag = f"{registry or IMAGE_PREFIX}/{name}", VERSION
    return f"{path}@{digest}" if digest else f"{path}:{tag}"


def split_secret_files(
    config: TracingConfig, files: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those in the operator's Secret, and those in the user's `dnsCache.existingSecret`."""
    cache = config.spec.dns_cache
    theirs = REDIS_FILES if cache and cache.existing_secret else set()
    return tuple(f for f in files if f not in theirs), tuple(f for f in files if f in theirs)


def _project(secret: str, files: tuple[str, ...]) -> dict[str, Any] | None:
    return _project_keys(secret, {file: file for file in files}) if files else None


def _project_keys(secret: str, paths: Mapping[str, str]) -> dict[str, Any]:
    items = [{"key": key, "path": path} for key, path in paths.items()]
    return {"secret": {"name": secret, "items": items}}
