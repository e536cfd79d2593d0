"""kopf, embedded: it keeps the watch streams, and what is listed and heard goes into World and a key into the queue.

Only `on.event`, which writes nothing: no finalizer, no annotation, no Kubernetes event, no storage of kopf's. It must not
decide anything. Secrets are never watched: their contents have no place in this process's memory for longer than a use.
"""

import asyncio
from collections.abc import Awaitable, Callable, Set
from typing import Any

import kopf

from farcall.tracingconfig import API_VERSION, KIND
from farcall_operator.cluster.access import Access
from farcall_operator.cluster.port import MANAGED_BY, MANAGER, Manifest
from farcall_operator.cluster.session import CountRequest, open_session
from farcall_operator.cluster.world import World
from farcall_operator.running.forgetful import NoDiffBase, NoMemories, NoProgress
from farcall_operator.running.streams import Streams, Watched

OURS = f"{MANAGED_BY}={MANAGER}"
WATCHED = (
    Watched(API_VERSION, KIND, "tracingconfigs"),
    Watched("v1", "Node", "nodes"),
    Watched("v1", "ServiceAccount", "serviceaccounts", OURS),
    Watched("v1", "ConfigMap", "configmaps", OURS),
    Watched("v1", "Service", "services", OURS),
    Watched("v1", "PersistentVolumeClaim", "persistentvolumeclaims", OURS),
    Watched("v1", "Pod", "pods", OURS),
    Watched("apps/v1", "StatefulSet", "statefulsets", OURS),
    Watched("apps/v1", "DaemonSet", "daemonsets", OURS),
    Watched("apps/v1", "Deployment", "deployments", OURS),
    Watched("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", OURS),
    Watched("networking.k8s.io/v1", "Ingress", "ingresses", OURS),
    Watched("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", OURS),
    Watched("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", OURS),
)
# A restarted API server is back within half a minute; kopf's own steps grow to 21 s, and the last would be slept through.
RETRY_AFTER_S = (0.2, 0.5, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3)
PAGE = 100  # objects; a page is in memory whole while it is read, those of a dozen kinds at once
# kopf runs a task for each object that something happened to. Its default lets all of 16,000 live at once, for 5 s each.
OBJECTS_AT_ONCE = 200
IDLE_S = 0.01
STOP_WITHIN_S = 3.0
CALM_S = 0.2  # of drift repair's patience; an edit of the spec waits for nothing

Handler = Callable[..., Awaitable[None]]


class Watching:
    """`run` until cancelled; it raises what kopf cannot mend, and then the process has to end."""

    def __init__(
        self,
        access: Access,
        world: World,
        *,
        namespace: str,
        add: Callable[[str, float], None],
        count: CountRequest,
    ) -> None:
        self._access = access
        self._world = world
        self._namespace = namespace
        self._add = add
        self._count = count
        clock = asyncio.get_running_loop().time
        self.streams = Streams(WATCHED, find=self._find, conclude=self._keep_only, clock=clock)

    async def run(self, ready: asyncio.Event) -> None:
        """`ready` is set once kopf took over the process's signals, so that the caller can take them back."""
        await kopf.operator(
            registry=self.build_registry(),
            settings=build_settings(),
            memories=NoMemories(),
            standalone=True,  # no peering: the lease decides who works
            namespaces=[self._namespace],
            ready_flag=ready,
        )

    def build_registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(id="access", registry=registry)(self._log_in)
        for watched in WATCHED:
            kopf.on.event(
                watched.group,
                watched.version,
                watched.plural,
                id=f"hear-{watched.plural}",
                registry=registry,
            )(self._build_handler(watched))
        return registry

    async def _log_in(self, **_: Any) -> kopf.AiohttpSession:
        """Told of a 401, kopf would close this session under the other streams, which then end the process. As a failed
        connection it is asked again, each time with the token that the file holds by then."""
        session = open_session(
            self._access,
            count=self._count,
            inner=(self.streams.read_along,),
            hides_refusal=True,
            connections=2 * len(WATCHED),  # each watch holds one for minutes, and may list beside
        )
        return kopf.AiohttpSession(
            server=self._access.server,
            default_namespace=self._namespace,
            aiohttp_session=session,
        )

    def _build_handler(self, watched: Watched) -> Handler:
        async def hear(event: Any, **_: Any) -> None:
            manifest: Manifest = event["object"]
            if event["type"] == "DELETED":
                self._drop(manifest)
            elif self.streams.is_news(watched, manifest):
                self._put(manifest)

        return hear

    def _find(self, manifest: Manifest) -> None:
        self._put(manifest, listed=True)

    def _put(self, manifest: Manifest, *, listed: bool = False) -> None:
        delay_s = CALM_S if self._can_wait(manifest) else 0.0
        self._call(self._world.put(manifest, listed=listed), delay_s)

    def _can_wait(self, manifest: Manifest) -> bool:
        """All but what a user wrote: most else is the echo of our own writes, two dozen after one edit."""
        if manifest["kind"] != KIND or not self.streams.are_listed:
            return True
        before = self._world.config(manifest["metadata"]["name"])
        return before is not None and _generation_of(before) == _generation_of(manifest)

    def _drop(self, manifest: Manifest) -> None:
        self._call(self._world.drop(manifest), 0.0 if manifest["kind"] == KIND else CALM_S)

    def _keep_only(self, watched: Watched, uids: Set[str], version: str) -> None:
        """kopf itself never tells of what was deleted while a stream was cut: it is simply not in the next list."""
        api_version, kind = watched.api_version, watched.kind
        for gone in self._world.conclude(api_version, kind, uids, version):
            self._drop(gone)

    def _call(self, names: set[str], delay_s: float) -> None:
        for name in names:
            self._add(name, delay_s)


def _generation_of(config: Manifest) -> tuple[str | None, int | None]:
    metadata = config["metadata"]
    return metadata.get("uid"), metadata.get("generation")


def build_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # no rights on namespaces and CRDs are needed
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.process.ultimate_exiting_timeout = None  # the process ends itself
    settings.networking.error_backoffs = RETRY_AFTER_S
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = PAGE
    settings.queueing.worker_limit = OBJECTS_AT_ONCE
    settings.queueing.idle_timeout = IDLE_S
    settings.queueing.exit_timeout = 0.5
    for watched in WATCHED:
        if watched.label_selector:
            key = (watched.group, watched.version, watched.plural)
            settings.watching.label_selectors[key] = watched.label_selector
    return settings
