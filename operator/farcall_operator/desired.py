"""Desired state: what a TracingConfig asks to run, as data. Pure; it reads no clock, no file and no cluster.

Two backends make it real: `kubernetes` renders it to manifests, `local` runs it as processes. Both take the same
components with the same command lines and the same effective config; what differs between them is the Place.
"""

from dataclasses import dataclass
from typing import Literal

from farcall.effective import EffectiveConfig, Endpoints
from farcall.meaning import build_effective
from farcall.tiers import TIERS
from farcall.tracingconfig import TracingConfig
from farcall_operator.redisconf import RedisSettings, build_redis_settings
from farcall_operator.sizes import find_cache_memory

Workload = Literal["none", "demo", "once"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyFile:
    """The component creates this file once it can serve."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisPong:
    """Redis answers PING with PONG: one that is still loading does not."""


Readiness = ReadyFile | RedisPong


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """Waits `first_s`, doubling up to `most_s`, each moved by up to `jitter` of itself.

    A component that lived for `settled_s` begins anew. On Kubernetes the kubelet has its own policy.
    """

    first_s: float = 0.2  # a single crash should be over within a second
    most_s: float = 30.0
    jitter: float = 0.25  # so that two which died together do not come back together for ever
    settled_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One process. `dependencies` are names that must have been ready once before it starts.

    `restart` None: it runs once. `traced`: its own calls are to be seen, which farcall's components' are not.
    """

    name: str
    argv: tuple[str, ...]
    readiness: Readiness
    dependencies: tuple[str, ...] = ()
    restart: RestartPolicy | None = RestartPolicy()
    environment: tuple[tuple[str, str], ...] = ()
    traced: bool = False
    ready_within_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a backend knows and the TracingConfig does not: paths, addresses, and what was discovered."""

    mode: Literal["kubernetes", "local"]
    endpoints: Endpoints
    farcall: tuple[str, ...]  # how `farcall` is called
    redis_server: str
    redis_conf: str
    redis_listen: tuple[str, ...]
    redis_data_dir: str
    redis_survives_crash: (
        bool  # appends whatever the tier says; where to, is the data dir's business
    )
    config_file: str
    ready_dir: str
    run_dir: str  # local mode: for the demo
    secrets_dir: str
    state_dir: str
    node: str = ""
    cluster_cidrs: tuple[str, ...] | None = None
    resolvers: tuple[str, ...] = ()
    own_cgroups: tuple[str, ...] = ()
    own_namespace: str = ""  # Kubernetes: farcall's own pods are never traced


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    config: TracingConfig
    effective: EffectiveConfig
    redis: RedisSettings
    components: tuple[Component, ...]  # each after those it depends on

    def find(self, name: str) -> Component:
        return next(c for c in self.components if c.name == name)


def build_desired(config: TracingConfig, place: Place, *, workload: Workload = "none") -> Desired:
    cache, sizing = config.spec.dns_cache, TIERS[config.spec.tier].redis
    return Desired(
        config=config,
        effective=exclude_own_namespace(build_effective_at(config, place), place.own_namespace),
        redis=build_redis_settings(
            sizing,
            memory_bytes=find_cache_memory(sizing, cache.resources if cache else None),
            listen=place.redis_listen,
            data_dir=place.redis_data_dir,
            append_only=place.redis_survives_crash or is_redis_persistent(config),
        ),
        components=build_components(place, workload, list_host_names(config, place)),
    )


def build_effective_at(config: TracingConfig, place: Place) -> EffectiveConfig:
    return build_effective(
        config,
        mode=place.mode,
        endpoints=place.endpoints,
        secrets_dir=place.secrets_dir,
        state_dir=place.state_dir,
        node=place.node,
        discovered_cidrs=None if place.cluster_cidrs is None else list(place.cluster_cidrs),
        discovered_resolvers=list(place.resolvers),
        own_cgroups=list(place.own_cgroups),
    )


def exclude_own_namespace(effective: EffectiveConfig, namespace: str) -> EffectiveConfig:
    """The agent knows a pod by its namespace; farcall's calls about calls would never end."""
    if not namespace:
        return effective
    capture = effective.capture
    excluded = sorted({*capture.namespaces_exclude, namespace})
    return effective.model_copy(
        update={"capture": capture.model_copy(update={"namespaces_exclude": excluded})}
    )


def is_redis_persistent(config: TracingConfig) -> bool:
    """What the resource says, else what the tier says."""
    given = config.spec.dns_cache and config.spec.dns_cache.persistence
    if given and given.enabled is not None:
        return given.enabled
    return TIERS[config.spec.tier].redis.append_only


def list_host_names(config: TracingConfig, place: Place) -> tuple[str, ...]:
    """Names that people open the console by, beside its own."""
    ingress = config.spec.console.ingress if config.spec.console else None
    return (ingress.host,) if ingress and place.mode == "kubernetes" else ()


def build_components(
    place: Place, workload: Workload, host_names: tuple[str, ...] = ()
) -> tuple[Component, ...]:
    components = [
        Component(name="redis", argv=(place.redis_server, place.redis_conf), readiness=RedisPong()),
        _farcall_component(place, "store"),
        _farcall_component(place, "exporter", dependencies=("redis", "store")),
        _farcall_component(
            place,
            "console",
            dependencies=("store",),
            options=tuple(word for name in host_names for word in ("--allow-host", name)),
        ),
        _farcall_component(place, "agent", dependencies=("redis", "exporter")),
    ]
    if workload != "none":
        components.append(_demo_component(place, workload))
    return tuple(components)


def _farcall_component(
    place: Place, name: str, dependencies: tuple[str, ...] = (), options: tuple[str, ...] = ()
) -> Component:
    ready = f"{place.ready_dir}/{name}"
    return Component(
        name=name,
        argv=(*place.farcall, name, "--config", place.config_file, "--ready-file", ready, *options),
        dependencies=dependencies,
        readiness=ReadyFile(path=ready),
        environment=(("PYTHONUNBUFFERED", "1"),),
    )


def _demo_component(place: Place, workload: Workload) -> Component:
    """After the agent and the console: it calls only when the calls can be seen, and asks what was seen."""
    base = _farcall_component(place, "demo", dependencies=("agent", "console"))
    once = workload == "once"
    return Component(
        name=base.name,
        argv=(*base.argv, "--run-dir", place.run_dir, *(("--once",) if once else ())),
        dependencies=base.dependencies,
        readiness=base.readiness,
        restart=None if once else base.restart,
        environment=base.environment,
        traced=True,
    )
