"""A small API server for tests of the operator's process: lists, watches, leases, server-side apply as a merge.

It stands in for transport alone: pages, bookmarks, cut streams, 410, refusals. What the API server means by
what it answers is tested against the real one (tests/apiserver).
"""

import asyncio
import copy
import itertools
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from farcall_operator.cluster.paths import PLURALS, build_root, describe_request
from farcall_operator.running.watching import WATCHED

Object = dict[str, Any]
KINDS = {(build_root(v), plural): (v, kind) for (v, kind), plural in PLURALS.items()}
CLUSTER_SCOPED = {"TracingConfig", "Node", "Namespace", "CustomResourceDefinition"}


class FakeServer:
    """`objects` by path. Each change gets the next resource version and goes to the watches that want it."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.tokens: set[str] = set()
        self.hidden: set[str] = set()  # kinds that are not served
        self.refuse: Callable[[web.Request], web.Response | None] = lambda _request: None
        self.cuts_at_once = False  # each watch ends as soon as it begins
        self._versions = itertools.count(100)
        self.version = 1
        self.watches: dict[asyncio.Queue[Object | None], tuple[str, str]] = {}
        self.url = ""

    # -- the test's side --

    def put(self, path: str, manifest: Object) -> Object:
        before = self.objects.get(path)
        after = copy.deepcopy(manifest)
        self.version = next(self._versions)
        metadata = after.setdefault("metadata", {})
        metadata["resourceVersion"] = str(self.version)
        metadata["uid"] = before["metadata"]["uid"] if before else f"uid-{self.version}"
        if "spec" in after:
            is_same = before is not None and before.get("spec") == after["spec"]
            metadata["generation"] = (before or after)["metadata"].get("generation", 0) + (
                not is_same
            )
        self.objects[path] = after
        self.tell("MODIFIED" if before else "ADDED", path, after)
        return after

    def delete(self, path: str, *, tell: bool = True) -> None:
        gone = self.objects.pop(path)
        self.version = next(self._versions)
        if tell:
            self.tell("DELETED", path, gone)

    def cut_watches(self, last: Object | None = None) -> None:
        """All of them, after `last` when given."""
        for queue in list(self.watches):
            if last is not None:
                queue.put_nowait(last)
            queue.put_nowait(None)

    def bookmark(self) -> None:
        for queue, (_, kind) in self.watches.items():
            bookmark = {"kind": kind, "metadata": {"resourceVersion": str(self.version)}}
            queue.put_nowait({"type": "BOOKMARK", "object": bookmark})

    def tell(self, event: str, path: str, manifest: Object) -> None:
        collection = path.rpartition("/")[0]
        for queue, (watched, _) in self.watches.items():
            if watched == collection:
                queue.put_nowait({"type": event, "object": manifest})

    # -- the operator's side --

    async def answer(self, request: web.Request) -> web.StreamResponse:
        is_watch = request.query.get("watch") == "true"
        self.asked[tuple(describe_request(request.method, request.path, watch=is_watch))] += 1
        if self.tokens and request.headers.get("Authorization", "")[7:] not in self.tokens:
            return fail(401, "Unauthorized")
        refused = self.refuse(request)
        if refused is not None:
            return refused
        if request.path == "/version":
            return web.json_response({"gitVersion": "v1.34.4"})
        discovered = self._discover(request.path)
        if discovered is not None:
            return web.json_response(discovered)
        if request.method == "GET":
            return await self._read(request, is_watch)
        return await self._write(request)

    def _discover(self, path: str) -> Object | None:
        roots: dict[str, list[Object]] = {}
        for (root, plural), (_, kind) in KINDS.items():
            namespaced = kind not in CLUSTER_SCOPED
            entry = {"name": plural, "singularName": kind.lower(), "kind": kind, "namespaced": namespaced,
                     "verbs": ["get", "list", "watch", "patch", "create", "update", "delete"]}  # fmt: skip
            if kind not in self.hidden:
                roots.setdefault(root, []).append(entry)
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return {"kind": "APIGroupList", "groups": _list_groups(roots)}
        if path in roots:
            return {"kind": "APIResourceList", "resources": roots[path]}
        group = next((g for g in _list_groups(roots) if path == f"/apis/{g['name']}"), None)
        return group

    async def _read(self, request: web.Request, is_watch: bool) -> web.StreamResponse:
        if request.path in self.objects:
            return web.json_response(self.objects[request.path])
        kind = find_kind(request.path)
        if kind is None or kind[1] in self.hidden:
            return fail(404, "NotFound")
        if is_watch:
            return await self._watch(request, kind[1])
        return self._list(request, kind)

    def _list(self, request: web.Request, kind: tuple[str, str]) -> web.Response:
        matched = [
            manifest
            for path, manifest in self.objects.items()
            if path.rpartition("/")[0] == request.path and is_selected(request, manifest)
        ]
        start = int(request.query.get("continue", 0))
        end = start + int(request.query.get("limit", len(matched) or 1))
        metadata = {"resourceVersion": str(self.version)}
        if end < len(matched):
            metadata["continue"] = str(end)
        body = {"apiVersion": kind[0], "kind": f"{kind[1]}List", "metadata": metadata}
        return web.json_response({**body, "items": matched[start:end]})

    async def _watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        queue: asyncio.Queue[Object | None] = asyncio.Queue()
        self.watches[queue] = (request.path, kind)
        since = int(request.query.get("resourceVersion", 0))
        for path, manifest in self.objects.items():  # what changed between list and watch
            newer = int(manifest["metadata"]["resourceVersion"]) > since
            if path.rpartition("/")[0] == request.path and newer:
                queue.put_nowait({"type": "ADDED", "object": manifest})
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
            if self.cuts_at_once:
                return response
            while (event := await queue.get()) is not None:
                if event["type"] in ("BOOKMARK", "ERROR") or is_selected(request, event["object"]):
                    await response.write(json.dumps(event).encode() + b"\n")
        finally:
            del self.watches[queue]
        return response

    async def _write(self, request: web.Request) -> web.Response:
        if request.method == "DELETE":
            if request.path not in self.objects:
                return fail(404, "NotFound")
            self.delete(request.path)
            return web.json_response({"kind": "Status", "status": "Success"})
        body = await request.json()
        if request.method == "POST":
            path = f"{request.path}/{body['metadata']['name']}"
            if path in self.objects:
                return fail(409, "AlreadyExists")
            return web.json_response(self.put(path, body), status=201)
        before = self.objects.get(request.path)
        if request.method == "PUT":
            if before is None:
                return fail(404, "NotFound")
            if body["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
                return fail(409, "Conflict")
            return web.json_response(self.put(request.path, body))
        path = request.path.removesuffix("/status")
        before = self.objects.get(path)
        after = merge(before or {}, body)
        if after == before:  # as the real one: nothing changes and nobody is told
            return web.json_response(before)
        return web.json_response(self.put(path, after))


def merge(before: Object, patch: Object) -> Object:
    merged = dict(before)
    for key, value in patch.items():
        old = merged.get(key)
        merged[key] = (
            merge(old, value) if isinstance(value, dict) and isinstance(old, dict) else value
        )
    return merged


def find_kind(path: str) -> tuple[str, str] | None:
    head, _, plural = path.rpartition("/")
    return KINDS.get((head.partition("/namespaces/")[0], plural))


def is_selected(request: web.Request, manifest: Object) -> bool:
    key, _, value = request.query.get("labelSelector", "").partition("=")
    return not key or manifest["metadata"].get("labels", {}).get(key) == value


def fail(code: int, reason: str, message: str = "", **more: Any) -> web.Response:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message or reason}
    return web.json_response({**body, **more}, status=code)


def _list_groups(roots: dict[str, list[Object]]) -> list[Object]:
    groups: dict[str, list[Object]] = {}
    for root in roots:
        if root.startswith("/apis/"):
            group, version = root.removeprefix("/apis/").split("/")
            groups.setdefault(group, []).append(
                {"groupVersion": f"{group}/{version}", "version": version}
            )
    return [
        {"name": name, "versions": versions, "preferredVersion": versions[0]}
        for name, versions in groups.items()
    ]


@asynccontextmanager
async def serving(fake: FakeServer) -> AsyncIterator[FakeServer]:
    runner = web.AppRunner(build_app(fake), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        fake.cut_watches()
        await runner.cleanup()


def build_app(fake: FakeServer) -> web.Application:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.answer)
    return application


class Served:
    """The fake in a thread of its own, for tests that watch processes. `call` runs something in its loop."""

    def __init__(self) -> None:
        self.fake = FakeServer()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._up.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        self._loop.close()

    def call(self, act: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        async def run() -> Any:
            return act(*arguments, **more)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    def _run(self) -> None:
        async def serve() -> None:
            async with serving(self.fake):
                self._up.set()
                await self._stop.wait()

        self._loop.run_until_complete(serve())


def write_kubeconfig(path: Path, url: str, token_file: Path | None = None) -> Path:
    document = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"tokenFile": str(token_file)} if token_file else {}}],
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def config_path(name: str) -> str:
    return f"/apis/farcall.dev/v1alpha1/tracingconfigs/{name}"


def child_path(plural: str, name: str, namespace: str = "farcall") -> str:
    version = next(w.api_version for w in WATCHED if w.plural == plural)
    return f"{build_root(version)}/namespaces/{namespace}/{plural}/{name}"
