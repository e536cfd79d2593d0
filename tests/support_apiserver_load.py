"""For the operator's benchmark: a thousand TracingConfigs whose workloads are said to be ready, and a clock on changes.

No controllers and no pods: what is measured is the operator and the API server that it asks, nothing beside them.
"""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from support_apiserver import ControlPlane
from support_apiserver_access import ADMIN_TOKEN, Api, Object
from support_apiserver_configs import CONFIGS, build_config
from support_apiserver_operator import NAMESPACE

WORKLOADS = ("deployments", "statefulsets", "daemonsets")
CONFIGMAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
HANDS = 8  # requests at once while many resources are made
NODES = 3


def build_status(manifest: Object) -> Object:
    """What the workload's controller would say once all its pods are ready."""
    generation = manifest["metadata"]["generation"]
    if manifest["kind"] == "DaemonSet":
        names = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberReady", "numberAvailable")  # fmt: skip
        return {
            "observedGeneration": generation,
            "numberMisscheduled": 0,
            **dict.fromkeys(names, NODES),
        }
    replicas = manifest["spec"].get("replicas", 1)
    names = ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
    return {"observedGeneration": generation, **dict.fromkeys(names, replicas)}


class Background:
    """Coroutines that follow the API server, in a thread of their own."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._loop = asyncio.new_event_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, build: Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
        async def guarded() -> None:
            async with httpx.AsyncClient(
                base_url=self._plane.url,
                verify=ssl.create_default_context(cafile=str(self._plane.pki.ca)),
                headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
                timeout=httpx.Timeout(60, read=None),
            ) as http:
                await build(http)

        async def start() -> None:
            self._tasks.append(asyncio.ensure_future(guarded()))

        asyncio.run_coroutine_threadsafe(start(), self._loop).result(30)

    def stop(self) -> None:
        async def cancel() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()


async def follow(http: httpx.AsyncClient, path: str, hear: Callable[[Object], None]) -> None:
    """Every object as it is, then as it changes."""
    listed = (await http.get(path)).json()
    kind = listed["kind"].removesuffix("List")
    for item in listed["items"]:
        hear({**item, "kind": kind})
    version = listed["metadata"]["resourceVersion"]
    while True:
        parameters = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        async with http.stream("GET", path, params=parameters) as answer:
            async for line in answer.aiter_lines():
                event = json.loads(line)
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] in ("ADDED", "MODIFIED"):
                    hear(event["object"])


def play_workloads(kind: str) -> Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]:
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}"

    async def play(http: httpx.AsyncClient) -> None:
        waiting: asyncio.Queue[Object] = asyncio.Queue()

        async def answer() -> None:
            while True:
                manifest = await waiting.get()
                body = json.dumps({"status": build_status(manifest)})
                headers = {"Content-Type": "application/merge-patch+json"}
                await http.patch(f"{path}/{manifest['metadata']['name']}/status", content=body, headers=headers)  # fmt: skip

        def hear(manifest: Object) -> None:
            observed = manifest.get("status", {}).get("observedGeneration")
            if observed != manifest["metadata"]["generation"]:
                waiting.put_nowait(manifest)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(answer())
            group.create_task(follow(http, path, hear))

    return play


@dataclass
class Sightings:
    """When which object was seen in which state, by this process' own clock (`time.perf_counter_ns`)."""

    path: str
    seen_ns: dict[tuple[str, str], int] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    async def watch(self, http: httpx.AsyncClient) -> None:
        await follow(http, self.path, self._hear)

    def _hear(self, manifest: Object) -> None:
        now = time.perf_counter_ns()
        metadata = manifest["metadata"]
        with self._changed:
            self.seen_ns[metadata["name"], metadata["resourceVersion"]] = now
            self._changed.notify_all()

    def known(self, name: str) -> set[tuple[str, str]]:
        with self._changed:
            return {key for key in self.seen_ns if key[0] == name}

    def wait_newer(self, name: str, before: set[tuple[str, str]], within_s: float = 60) -> int:
        """When the first state beyond `before` was seen."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while True:
                found = [ns for key, ns in self.seen_ns.items() if key[0] == name and key not in before]  # fmt: skip
                if found:
                    return min(found)
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise AssertionError(f"{name} did not change within {within_s} s")


def name_of(number: int) -> str:
    return f"load-{number:04}"


def make_configs(
    api: Api,
    numbers: range,
    alive: Callable[[], None],
    tell: Callable[[str], None] = lambda _text: None,
) -> None:
    with ThreadPoolExecutor(HANDS) as hands:
        list(hands.map(lambda n: api.apply(build_config(name_of(n)), manager="kubectl"), numbers))
    wait_all_ready(api, len(numbers), alive, tell)


def wait_all_ready(
    api: Api,
    number: int,
    alive: Callable[[], None],
    tell: Callable[[str], None] = lambda _text: None,
    within_s: float = 1_800,
) -> None:
    """Looks seldom where there are many: a list of a thousand costs the API server what an edit costs."""
    deadline, told = time.monotonic() + within_s, -1
    while (ready := count_ready(api)) < number:
        alive()
        assert time.monotonic() < deadline, f"only {ready} of {number} are ready in {within_s} s"
        if ready != told:
            tell(f"{ready} of {number} TracingConfigs are ready")
            told = ready
        time.sleep(min(5.0, 0.2 + number / 400))


def count_ready(api: Api) -> int:
    return sum(1 for item in api.list(CONFIGS) if is_ready(item))


def is_ready(config: Object) -> bool:
    status = config.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    current = status.get("observedGeneration") == config["metadata"]["generation"]
    return bool(current and conditions.get("Ready") == "True")
