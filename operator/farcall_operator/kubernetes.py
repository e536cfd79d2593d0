"""The Kubernetes backend of the desired state: one TracingConfig to the objects that run it. Pure.

Here is decided what differs per tier and per field; how an object looks is in the templates. Secrets are only ever
referred to: the operator makes them, and no value of one passes through here.
"""

import dataclasses
import hashlib
import json
from typing import Any

from farcall.effective import EffectiveConfig, Endpoints, render_effective
from farcall.sections import Section
from farcall.tiers import TIERS
from farcall.tracingconfig import API_VERSION, KIND, TracingConfig
from farcall.workloadspec import AutoscalingSpec, PersistenceSpec
from farcall_operator.cluster.port import DESIRED_HASH
from farcall_operator.context import Context, Discovery
from farcall_operator.desired import Desired, Place, build_desired, is_redis_persistent
from farcall_operator.layout import (
    CONFIG_DIR,
    DATA_DIR,
    PORTS,
    READY_DIR,
    SECRETS_DIR,
    STORE_DIR,
)
from farcall_operator.manifests import Manifest, render_objects
from farcall_operator.placement import build_placement
from farcall_operator.redisconf import render_redis_conf
from farcall_operator.redisscripts import render_ready_script, render_start_script
from farcall_operator.sizes import (
    Container,
    Quantities,
    all_resources,
    override_resources,
    share_resources,
)
from farcall_operator.transport import REDIS_PLAIN, REDIS_TLS, find_host, has_tls
from farcall_operator.view import Scaling, View

TEMPLATES = (
    "accounts.yaml.j2",
    "config.yaml.j2",
    "redis.yaml.j2",
    "exporter.yaml.j2",
    "availability.yaml.j2",
    "probe.yaml.j2",
    "services.yaml.j2",
    "ingress.yaml.j2",
    "monitoring.yaml.j2",
    "networkpolicies.yaml.j2",
)
# A cache that is to be kept although the tier would not: as large as the cache may grow, with its append-only file
# being rewritten beside it, and some room.
SMALL_VOLUME = "1Gi"
# Of the effective config: what no agent reads. Where spans go afterwards must not roll every node.
UNSEEN_BY_PROBE = frozenset(
    {
        "exporter",
        "state_dir",
        "endpoints.exporter_otlp_http",
        "endpoints.exporter_otlp_grpc",
        "endpoints.store",
        "endpoints.console",
    }
)
# What is left of the request carries the load until another replica is ready, a minute or two.
SCALE_AT_CPU_PERCENT = 70
MAX_REPLICAS = 10  # of the exporter: 250,000 spans/s at what Scale requests


def build_manifests(config: TracingConfig, context: Context) -> list[Manifest]:
    return [mark_desired(m) for m in render_objects(TEMPLATES, build_view(config, context))]


def mark_desired(manifest: Manifest) -> Manifest:
    """With its own hash on it: whoever reads the object back knows whether it is the one that is desired now."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), DESIRED_HASH: hash_manifest(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def hash_manifest(manifest: Manifest) -> str:
    """Of everything but the annotation that it becomes."""
    metadata = dict(manifest["metadata"])
    if others := {k: v for k, v in metadata.pop("annotations", {}).items() if k != DESIRED_HASH}:
        metadata["annotations"] = others
    return hash_text(json.dumps({**manifest, "metadata": metadata}, sort_keys=True))


def build_view(config: TracingConfig, context: Context) -> View:
    spec = config.spec
    has_store = not (spec.exporter and spec.exporter.clickhouse)
    desired = build_desired(config, build_place(config, context, has_store=has_store))
    tier = TIERS[config.spec.tier]
    files = build_files(desired)
    return View(
        name=config.metadata.name,
        context=context,
        desired=desired,
        owner_references=build_owner_references(config),
        files=files,
        restart_hashes=build_restart_hashes(desired.effective, files),
        resources=build_resources(config, has_store=has_store),
        placements=build_placements(config, context),
        redis_volume=build_claim(
            spec.dns_cache.persistence if spec.dns_cache else None,
            tier.redis.volume or SMALL_VOLUME,
        )
        if is_redis_persistent(config)
        else None,
        store_volume=build_claim(
            spec.exporter.storage if spec.exporter else None, tier.store_volume
        )
        if has_store
        else None,
        has_store=has_store,
        replicas=count_replicas(config, has_store=has_store),
        scaling=build_scaling(spec.exporter.autoscaling if spec.exporter else None),
    )


def build_place(config: TracingConfig, context: Context, *, has_store: bool) -> Place:
    namespace, discovery = context.namespace, context.discovery or Discovery()
    clickhouse = config.spec.exporter.clickhouse if config.spec.exporter else None
    name, tls = config.metadata.name, has_tls(config)
    exporter = find_host(name, namespace, "exporter")
    headless = find_host(name, namespace, "exporter-headless")
    redis = find_host(name, namespace, "redis")
    scheme = "https" if tls else "http"
    return Place(
        mode="kubernetes",
        endpoints=Endpoints(
            exporter_ingest=f"{scheme}://{exporter}:{PORTS['ingest']}",
            # The embedded store has one exporter for ever; with a server of its own there may be several.
            exporter_members=None if has_store else f"{scheme}://{headless}:{PORTS['ingest']}",
            exporter_otlp_http=f"http://{exporter}:{PORTS['otlp']}",
            exporter_otlp_grpc=f"http://{exporter}:{PORTS['otlp-grpc']}",
            redis=f"{'rediss' if tls else 'redis'}://{redis}:{PORTS['redis']}",
            # The store is beside its clients in one pod, and nobody else may reach it.
            store=clickhouse.url if clickhouse else f"http://127.0.0.1:{PORTS['store']}",
            console=f"http://{name}-console.{namespace}.svc:{PORTS['console']}",
            agent_metrics=f"http://0.0.0.0:{PORTS['metrics']}",
        ),
        farcall=("farcall",),
        redis_server="/bin/sh",
        redis_conf=f"{CONFIG_DIR}/start-redis.sh",
        redis_listen=REDIS_TLS if tls else REDIS_PLAIN,
        redis_data_dir=DATA_DIR,
        redis_survives_crash=False,
        config_file=f"{CONFIG_DIR}/effective.json",
        ready_dir=READY_DIR,
        run_dir=READY_DIR,
        secrets_dir=SECRETS_DIR,
        state_dir=STORE_DIR,
        # Where nobody looked nothing is inside, and `farcall render` says so.
        cluster_cidrs=discovery.cidrs,
        resolvers=discovery.resolvers,
        own_namespace=namespace,
    )


def build_owner_references(config: TracingConfig) -> list[dict[str, Any]]:
    """Garbage collection needs the uid, which only a resource that is in a cluster has."""
    if not config.metadata.uid:
        return []
    return [
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": config.metadata.name,
            "uid": config.metadata.uid,
            "controller": True,
            # It would ask for the right to update the resource's finalizers; nothing waits for the children.
            "blockOwnerDeletion": False,
        }
    ]


def build_files(desired: Desired) -> dict[str, str]:
    return {
        "effective.json": render_effective(desired.effective),
        "redis.conf": render_redis_conf(desired.redis, acl_lines=("aclfile /run/redis/users.acl",)),
        "start-redis.sh": render_start_script(),
        "ready-redis.sh": render_ready_script(tls=has_tls(desired.config)),
    }


def build_resources(config: TracingConfig, *, has_store: bool) -> dict[str, Quantities]:
    tier = TIERS[config.spec.tier]
    spec = config.spec
    memory = {"memory": tier.redis.memory}
    containers: tuple[Container, ...] = ("store", "exporter", "console")
    found = {c: share_resources(tier.exporter, c, has_store=has_store) for c in containers}
    shared: dict[str, Quantities] = {str(container): found[container] for container in containers}
    return {
        **shared,
        "exporter": override_resources(
            found["exporter"], spec.exporter.resources if spec.exporter else None
        ),
        "probe": override_resources(
            all_resources(tier.probe), spec.probe.resources if spec.probe else None
        ),
        "redis": override_resources(
            Quantities(requests={"cpu": "50m", **memory}, limits=memory),
            spec.dns_cache.resources if spec.dns_cache else None,
        ),
    }


def build_placements(config: TracingConfig, context: Context) -> dict[str, dict[str, Any]]:
    """By workload, as in layout.SECRET_FILES."""
    spec, architectures = config.spec, context.architectures
    return {
        # A node that is not traced is a hole in every trace: whatever its taints are.
        "probe": build_placement(spec.probe, architectures, tolerations=[{"operator": "Exists"}]),
        "redis": build_placement(spec.dns_cache, architectures),
        "exporter": build_placement(spec.exporter, architectures),
    }


def build_claim(given: PersistenceSpec | None, size: str) -> dict[str, Any] | None:
    """The spec of a volume claim; None where the resource switches it off."""
    if given is None:
        given = PersistenceSpec.model_validate({})
    if given.enabled is False:
        return None
    storage_class = given.storage_class_name
    return {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": given.size or size}},
        **({"storageClassName": storage_class} if storage_class else {}),
    }


def count_replicas(config: TracingConfig, *, has_store: bool) -> int:
    """The embedded store has one writer; without it two, so that one may go. The least of them when they scale."""
    exporter = config.spec.exporter
    if exporter and exporter.autoscaling:
        scaling = exporter.autoscaling
        return scaling.min_replicas or min(2, scaling.max_replicas or MAX_REPLICAS)
    given = exporter.replicas if exporter else None
    return given or (1 if has_store else 2)


def build_scaling(given: AutoscalingSpec | None) -> Scaling | None:
    if given is None:
        return None
    return Scaling(
        most_replicas=given.max_replicas or max(MAX_REPLICAS, given.min_replicas or 1),
        cpu_percent=given.target_cpu_utilization_percentage or SCALE_AT_CPU_PERCENT,
    )


def build_restart_hashes(effective: EffectiveConfig, files: dict[str, str]) -> dict[str, str]:
    """By workload, as in layout.SECRET_FILES. Redis knows only its own files, and must not lose its memory over anything else."""
    exporter = hash_text(json.dumps(pick_restart_fields(effective), sort_keys=True))
    probe = hash_text(json.dumps(pick_restart_fields(effective, UNSEEN_BY_PROBE), sort_keys=True))
    redis = hash_text("".join(files[name] for name in ("redis.conf", "start-redis.sh")))
    return {"probe": probe, "exporter": exporter, "redis": redis}


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pick_restart_fields(
    section: Section, unseen: frozenset[str] = frozenset(), prefix: str = ""
) -> dict[str, Any]:
    """Those that are marked `restart`, but for the `unseen`: a change of a live field must not roll the fleet."""
    picked: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        name, value = field.name, getattr(section, field.name)
        if prefix + name in unseen:
            continue
        if isinstance(value, Section):
            picked[name] = pick_restart_fields(value, unseen, f"{prefix}{name}.")
        elif field.metadata["json_schema_extra"]["farcall.applies"] == "restart":
            picked[name] = value
    return picked
