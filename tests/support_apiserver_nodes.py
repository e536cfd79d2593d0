"""Kubelets that are not there: Nodes are made up, and the pods that the scheduler binds to them are played.

What a script says happens to a pod's containers; without one they run and are ready. Volume claims get a volume, as a
provisioner would give them one. Everything else (binding, rollouts, counting) is done by the real controllers.
"""

import asyncio
import ipaddress
import itertools
import json
import ssl
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from support_apiserver_access import ADMIN_TOKEN, Api, Object

COMPONENT = "app.kubernetes.io/component"
STARTED_AT = "2026-01-01T00:00:00Z"
STORAGE_CLASS = "played"
RETRY_S = 0.3


@dataclass(frozen=True)
class Running:
    pass


@dataclass(frozen=True)
class Waits:
    """A container that does not start: `ImagePullBackOff`, `CreateContainerConfigError`, …"""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Crashes:
    """Restarts for ever; `last_words` as `terminationMessagePolicy: FallbackToLogsOnError` leaves them."""

    last_words: str = ""
    reason: str = "Error"  # or OOMKilled
    exit_code: int = 1
    restarts: int = 5


Play = Running | Waits | Crashes


def add_node(
    api: Api,
    name: str,
    pod_cidr: str,
    *,
    arch: str = "amd64",
    labels: Mapping[str, str] = {},
    taints: list[dict[str, str]] = [],  # noqa: B006
) -> None:
    ours = {"kubernetes.io/os": "linux", "kubernetes.io/arch": arch, "kubernetes.io/hostname": name}
    manifest: Object = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**ours, **labels}},
        "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
    }
    created = api.create(manifest)
    room = {"cpu": "512", "memory": "4Ti", "pods": "20000", "ephemeral-storage": "4Ti"}
    created["status"] = {
        "capacity": room,
        "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": node_address(pod_cidr)}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": STARTED_AT, "lastTransitionTime": STARTED_AT}],
        "nodeInfo": {"architecture": arch, "operatingSystem": "linux", "kubeletVersion": "v1.34.4", "kernelVersion": "6.18.0", "osImage": "played", "containerRuntimeVersion": "played://1", "kubeProxyVersion": "", "bootID": "", "machineID": "", "systemUUID": ""},
    }  # fmt: skip
    api.replace(created, "status")
    # Admission taints every new Node as not ready, and nobody here would take that back.
    api.merge(f"/api/v1/nodes/{name}", {"spec": {"taints": taints or None}})


def node_address(pod_cidr: str) -> str:
    third = ipaddress.ip_network(pod_cidr).network_address.packed[2]
    return f"192.0.2.{third + 10}"


def add_storage_class(api: Api) -> None:
    api.create({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "test.invalid/played",
        "allowVolumeExpansion": True,
    })  # fmt: skip


@dataclass
class Player:
    """`start` plays in a thread of its own until `stop`. `set_script` also changes pods that already run."""

    url: str
    ca: Path
    scripts: dict[str, Play] = field(default_factory=dict)  # by component label
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._addresses = itertools.count(2)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kick: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def start(self) -> "Player":
        self._thread.start()
        assert self._started.wait(60)
        return self

    def stop(self) -> None:
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(60)

    def set_script(self, component: str, play: Play) -> None:
        self.scripts[component] = play
        assert self._loop is not None and self._kick is not None
        self._loop.call_soon_threadsafe(self._kick.set)

    def reset(self) -> None:
        for component in list(self.scripts):
            self.set_script(component, Running())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._kick = asyncio.Event()
        self._task = asyncio.current_task()
        self._started.set()
        try:
            async with httpx.AsyncClient(
                base_url=self.url,
                verify=ssl.create_default_context(cafile=str(self.ca)),
                headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
                timeout=httpx.Timeout(30, read=None),
            ) as http:
                self._http = http
                async with asyncio.TaskGroup() as group:
                    for path, handle in (
                        ("/api/v1/pods", self._play_pod),
                        ("/api/v1/persistentvolumeclaims", self._play_claim),
                    ):
                        group.create_task(self._follow(path, handle))
                    group.create_task(self._replay())
        except asyncio.CancelledError:
            pass

    async def _follow(self, path: str, handle: Any) -> None:
        """List, then watch; again from the start whenever that ends (the API server may be restarted)."""
        while True:
            try:
                async for manifest in self._watch(path):
                    await handle(manifest)
            except (httpx.HTTPError, json.JSONDecodeError) as e:
                self.errors.append(f"{path}: {e!r}")
            await asyncio.sleep(RETRY_S)

    async def _watch(self, path: str) -> AsyncIterator[Object]:
        listed = (await self._http.get(path)).json()
        for item in listed["items"]:
            yield item
        version = listed["metadata"]["resourceVersion"]
        parameters = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "600"}
        async with self._http.stream("GET", path, params=parameters) as answer:
            async for line in answer.aiter_lines():
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED"):
                    yield event["object"]
                elif event["type"] == "ERROR":
                    return

    async def _replay(self) -> None:
        assert self._kick is not None
        while True:
            await self._kick.wait()
            self._kick.clear()
            try:
                for pod in (await self._http.get("/api/v1/pods")).json()["items"]:
                    await self._play_pod(pod)
            except httpx.HTTPError as e:
                self.errors.append(repr(e))
                self._kick.set()
                await asyncio.sleep(RETRY_S)

    async def _play_pod(self, pod: Object) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if not pod["spec"].get("nodeName"):
            return
        if metadata.get("deletionTimestamp"):
            await self._http.delete(path, params={"gracePeriodSeconds": "0"})
            return
        play = self.scripts.get(metadata.get("labels", {}).get(COMPONENT, ""), Running())
        wanted = build_pod_status(pod, play)
        address = pod.get("status", {}).get("podIP") or self._next_address()
        wanted |= {"podIP": address, "podIPs": [{"ip": address}]}
        if is_played(pod.get("status", {}), wanted):
            return
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        # With its uid: a pod of that name that came later is another.
        body = json.dumps({"metadata": {"uid": metadata["uid"]}, "status": wanted})
        await self._http.patch(f"{path}/status", content=body, headers=headers)

    def _next_address(self) -> str:
        number = next(self._addresses)
        return f"10.244.{number // 250}.{number % 250 + 1}"

    async def _play_claim(self, claim: Object) -> None:
        """A volume for a claim that waits for one, and more room where more is asked for."""
        spec, status = claim["spec"], claim.get("status", {})
        metadata = claim["metadata"]
        if spec.get("storageClassName") != STORAGE_CLASS or metadata.get("deletionTimestamp"):
            return
        asked = spec["resources"]["requests"]["storage"]
        if status.get("phase") == "Pending" and not spec.get("volumeName"):
            await self._http.post("/api/v1/persistentvolumes", json=build_volume(claim, asked))
        elif status.get("phase") == "Bound" and status.get("capacity", {}).get("storage") != asked:
            headers = {"Content-Type": "application/merge-patch+json"}
            path = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}"
            body = json.dumps({"status": {"capacity": {"storage": asked}}})
            await self._http.patch(f"{path}/status", content=body, headers=headers)


def build_pod_status(pod: Object, play: Play) -> Object:
    ready = isinstance(play, Running)
    answer = "True" if ready else "False"
    conditions = [
        {"type": kind, "status": answer if kind in ("Ready", "ContainersReady") else "True", "lastTransitionTime": STARTED_AT}
        for kind in ("Initialized", "Ready", "ContainersReady")
    ]  # fmt: skip
    started = ready or isinstance(play, Crashes)
    return {
        "phase": "Running" if started else "Pending",
        "startTime": STARTED_AT,
        "hostIP": "192.0.2.10",
        "conditions": conditions,
        "containerStatuses": [build_container_status(c, play) for c in pod["spec"]["containers"]],
    }


def build_container_status(container: Object, play: Play) -> Object:
    status: Object = {
        "name": container["name"],
        "image": container["image"],
        "imageID": "" if isinstance(play, Waits) else f"played://{container['image']}",
        "ready": isinstance(play, Running),
        "started": isinstance(play, Running),
        "restartCount": play.restarts if isinstance(play, Crashes) else 0,
        "lastState": {},
    }
    if isinstance(play, Running):
        status["state"] = {"running": {"startedAt": STARTED_AT}}
    elif isinstance(play, Waits):
        status["state"] = {"waiting": {"reason": play.reason, "message": play.message}}
    else:
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}  # fmt: skip
        status["state"] = {"waiting": waiting}
        status["lastState"] = {"terminated": build_end(play)}
    return status


def build_end(play: Crashes) -> Object:
    return {
        "exitCode": play.exit_code,
        "reason": play.reason,
        "message": play.last_words,
        "startedAt": STARTED_AT,
        "finishedAt": STARTED_AT,
        "containerID": "played://0",
    }


def is_played(live: Object, wanted: Object) -> bool:
    """Whether a pod says already what it is to say; conditions by type, the scheduler has its own among them."""
    conditions = {c["type"]: c["status"] for c in live.get("conditions", [])}
    if any(conditions.get(c["type"]) != c["status"] for c in wanted["conditions"]):
        return False
    return live.get("phase") == wanted["phase"] and [
        (c.get("state"), c.get("lastState")) for c in live.get("containerStatuses", [])
    ] == [(c["state"], c["lastState"]) for c in wanted["containerStatuses"]]


def build_volume(claim: Object, size: str) -> Object:
    metadata = claim["metadata"]
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"played-{metadata['uid']}"},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
            "claimRef": reference,
            "hostPath": {
                "path": f"/tmp/{metadata['uid']}"
            },  # the controller deletes none elsewhere
        },
    }
