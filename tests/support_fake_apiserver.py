"""A scripted API server, for faults that a real one cannot be made to show: it refuses, cuts, keeps silent, on order.

It runs in a thread of its own, on a free port. A fault is a rule: which requests it meets, what happens to them, and how
often. `requests` remembers everything that was asked. What is no fault is answered as support_fake_objects says.
"""

import asyncio
import contextlib
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from farcall_operator.cluster.paths import PLURALS
from support_fake_faults import Cut, CutStream, Fault, Garbage, Gone, Refuse, Rule, Silent, Slow
from support_fake_objects import Event, Json, Objects, Place, Refusal, is_inside, is_selected
from support_ports import find_free_port

POLL_S = 0.02
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
CLUSTER_WIDE = {
    "namespaces", "nodes", "customresourcedefinitions", "servicecidrs", "clusterroles", "clusterrolebindings",
    "storageclasses", "tracingconfigs",
}  # fmt: skip
_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+)(?=/[a-z]))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>[a-z]+))?"
)


class Severed(Exception):
    """The connection is to end here."""


@dataclass(slots=True, kw_only=True)
class Stream:
    """One open watch. `number`: how many began before it."""

    number: int
    place: Place
    query: dict[str, str]
    fault: Fault | None
    is_severed: bool = False

    def wants(self, event: Event) -> bool:
        labels, fields = (self.query.get(k, "") for k in ("labelSelector", "fieldSelector"))
        return is_inside(event.place, self.place) and is_selected(event.object, labels, fields)


class Request(NamedTuple):
    asked: str
    method: str
    path: str
    query: dict[str, str]
    token: str
    at: float


@dataclass
class FakeApiserver:
    """Use `serve_api()`. Every method may be called from the test's thread."""

    port: int
    tokens: set[str] = field(default_factory=set)  # empty: everybody is known
    bookmark_every_s: float = 0.5
    requests: list[Request] = field(default_factory=list)
    objects: Objects = field(
        default_factory=lambda: Objects({(v, p): kind for (v, kind), p in PLURALS.items()})
    )
    _rules: list[Rule] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _cut_at: int = 0  # watches that began before are cut
    _mute_at: int = 0
    _streams: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(self, asked: str, fault: Fault, *, times: int = 1) -> Rule:
        rule = Rule(re.compile(asked), fault, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def heal(self) -> None:
        with self._lock:
            self._rules.clear()

    def cut_streams(self) -> None:
        """All watches that are open now, in the middle of a line."""
        self._cut_at = self._streams

    def mute_streams(self) -> None:
        """All watches that are open now say nothing more, and stay open."""
        self._mute_at = self._streams

    def put(self, manifest: Json) -> Json:
        """As somebody else would create or replace it."""
        place = self.place_of(manifest)
        with self._lock:
            try:
                self.objects.get(place, manifest["metadata"]["name"])
            except Refusal:
                return self.objects.create(place, manifest)
            return self.objects.replace(place, manifest)

    def find(self, api_version: str, kind: str, name: str, namespace: str = "") -> Json | None:
        place = Place(api_version, PLURALS[api_version, kind], namespace)
        with self._lock:
            try:
                return self.objects.get(place, name)
            except Refusal:
                return None

    def remove(self, api_version: str, kind: str, name: str, namespace: str = "") -> None:
        with self._lock:
            self.objects.delete(Place(api_version, PLURALS[api_version, kind], namespace), name)

    def count(self, asked: str) -> int:
        pattern = re.compile(asked)
        return sum(pattern.fullmatch(request.asked) is not None for request in self.requests)

    def place_of(self, manifest: Json) -> Place:
        version, kind = manifest["apiVersion"], manifest["kind"]
        namespace = manifest["metadata"].get("namespace", "")
        return Place(version, PLURALS[version, kind], namespace)

    def write_kubeconfig(self, path: Path, *, token_file: Path | None = None) -> Path:
        user: Json = {"tokenFile": str(token_file)} if token_file else {"token": "a-token"}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": user}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "farcall"}}],
        }  # fmt: skip
        path.write_text(json.dumps(config))
        return path

    # ---- in the server's thread -------------------------------------------------------------------------------

    async def answer(self, request: web.Request) -> web.StreamResponse:
        match = _PATH.fullmatch(request.path)
        asked = name_request(request, match)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.requests.append(
            Request(
                asked, request.method, request.path, dict(request.query), token, time.monotonic()
            )
        )
        fault = self._meet(asked)
        try:
            return await self._answer(request, match, token, fault)
        except Refusal as e:
            return render_status(e.code, e.reason, e.message)
        except Severed:
            if request.transport is not None:
                request.transport.close()
            return web.Response()  # to nobody

    def _meet(self, asked: str) -> Fault | None:
        with self._lock:
            for rule in self._rules:
                if rule.left != 0 and rule.asked.fullmatch(asked):
                    rule.left -= 1
                    rule.met += 1
                    return rule.fault
        return None

    async def _answer(
        self,
        request: web.Request,
        match: re.Match[str] | None,
        token: str,
        fault: Fault | None,
    ) -> web.StreamResponse:
        if isinstance(fault, Refuse):
            return render_status(fault.code, fault.reason, fault.message, fault.retry_after_s)
        if isinstance(fault, Garbage):
            return web.Response(text="<html>not what you asked for", content_type="text/html")
        if isinstance(fault, Slow):
            await asyncio.sleep(fault.by_s)
        if self.tokens and token not in self.tokens:
            return render_status(401, "Unauthorized", "Unauthorized")
        if isinstance(fault, Cut) and not fault.carried_out:
            raise Severed
        if match is None:
            return self._discover(request.path)
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request, place_of(match), fault)
        body = await request.read()
        with self._lock:
            answer = self._carry_out(request, match, json.loads(body) if body else {})
        if isinstance(fault, Cut):
            raise Severed
        return web.json_response(answer, status=201 if request.method == "POST" else 200)

    def _discover(self, path: str) -> web.Response:
        if path == "/version":
            return web.json_response({"major": "1", "minor": "34", "gitVersion": "v1.34.0-fake"})
        version = (
            path.removeprefix("/apis/") if path.startswith("/apis/") else path.removeprefix("/api/")
        )
        resources = [
            {
                "name": plural,
                "kind": kind,
                "namespaced": plural not in CLUSTER_WIDE,
                "verbs": VERBS,
                "singularName": kind.lower(),
                "shortNames": [],
                "categories": [],
            }
            for (v, kind), plural in PLURALS.items()
            if v == version
        ]
        if resources:
            resources += [{**r, "name": f"{r['name']}/status"} for r in resources]
            return web.json_response(
                {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
            )
        if path == "/api":
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
        if path == "/apis":
            return web.json_response({"kind": "APIGroupList", "groups": list(list_groups())})
        raise Refusal(404, "NotFound", f"the server has no {path}")

    def _carry_out(self, request: web.Request, match: re.Match[str], body: Json) -> Json:
        place, name = place_of(match), match["name"] or ""
        dry = request.query.get("dryRun") == "All"
        if (place.group_version, place.plural) not in self.objects.kinds:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        if request.method == "GET" and not name:
            return self._list(place, request)
        if request.method == "GET":
            return self.objects.get(place, name)
        if request.method == "POST":
            return self.objects.create(place, body, dry=dry)
        if request.method == "PUT":
            return self.objects.replace(place, body, dry=dry)
        if request.method == "PATCH":
            applies = "apply-patch" in request.headers.get("Content-Type", "")
            return self.objects.patch(
                place, name, body, part=match["part"] or "", creates=applies, dry=dry
            )
        uid = (body.get("preconditions") or {}).get("uid")
        return self.objects.delete(place, name, uid=uid)

    def _list(self, place: Place, request: web.Request) -> Json:
        items = self.objects.list(
            place, request.query.get("labelSelector", ""), request.query.get("fieldSelector", "")
        )
        kind = self.objects.kinds[place.group_version, place.plural]
        return {
            "apiVersion": place.group_version,
            "kind": f"{kind}List",
            "metadata": {"resourceVersion": str(self.objects.version)},
            "items": items,
        }

    async def _watch(
        self, request: web.Request, place: Place, fault: Fault | None
    ) -> web.StreamResponse:
        self._streams += 1
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if isinstance(fault, Gone):
            await write_line(
                response, "ERROR", build_status(410, "Expired", "too old resource version")
            )
            return response
        stream = Stream(number=self._streams, place=place, query=dict(request.query), fault=fault)
        with contextlib.suppress(ConnectionResetError):
            async for kind, found in self._follow(stream):
                await write_line(response, kind, found)
            if stream.is_severed:
                await response.write(b'{"type": "MODIF')
        if stream.is_severed:
            raise Severed
        return response

    async def _follow(self, stream: Stream) -> AsyncIterator[tuple[str, Json]]:
        """What there is to say, until the watch's time is over."""
        began = told = time.monotonic()
        ends = began + float(stream.query.get("timeoutSeconds", 3_600))
        position = self._find_start(stream.query.get("resourceVersion", ""))
        while time.monotonic() < ends:
            cut = (
                isinstance(stream.fault, CutStream)
                and time.monotonic() - began > stream.fault.after_s
            )
            if cut or stream.number <= self._cut_at:
                stream.is_severed = True
                return
            if isinstance(stream.fault, Silent) or stream.number <= self._mute_at:
                await asyncio.sleep(POLL_S)
                continue
            for event in self.objects.history[position:]:
                position += 1
                if stream.wants(event):
                    yield event.type, event.object
            if (
                "allowWatchBookmarks" in stream.query
                and time.monotonic() - told > self.bookmark_every_s
            ):
                told = time.monotonic()
                yield "BOOKMARK", self._build_bookmark(stream.place)
            await asyncio.sleep(POLL_S)

    def _find_start(self, version: str) -> int:
        if not version:
            return 0  # everything is new to whoever names no version
        return next(
            (i for i, e in enumerate(self.objects.history) if e.version > int(version)),
            len(self.objects.history),
        )

    def _build_bookmark(self, place: Place) -> Json:
        return {
            "apiVersion": place.group_version,
            "kind": self.objects.kinds[place.group_version, place.plural],
            "metadata": {"resourceVersion": str(self.objects.version)},
        }


def name_request(request: web.Request, match: re.Match[str] | None) -> str:
    """`VERB plural`, as rules and counts name it."""
    if match is None:
        return f"{request.method.lower()} {request.path}"
    what = match["plural"] + (f"/{match['part']}" if match["part"] else "")
    if request.method == "GET" and not match["name"]:
        return f"{'watch' if request.query.get('watch') in ('true', '1') else 'list'} {what}"
    verb = {"POST": "create", "PUT": "update"}.get(request.method, request.method.lower())
    return f"{verb} {what}"


def place_of(match: re.Match[str]) -> Place:
    return Place(match["core"] or match["group"], match["plural"], match["namespace"] or "")


def list_groups() -> Iterator[Json]:
    for version in sorted({v for v, _ in PLURALS if "/" in v}):
        name, _, short = version.partition("/")
        found = {"groupVersion": version, "version": short}
        yield {"name": name, "versions": [found], "preferredVersion": found}


def build_status(code: int, reason: str, message: str) -> Json:
    return {
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    }  # fmt: skip


def render_status(
    code: int, reason: str, message: str, retry_after_s: int | None = None
) -> web.Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return web.json_response(build_status(code, reason, message), status=code, headers=headers)


async def write_line(response: web.StreamResponse, kind: str, found: Json) -> None:
    await response.write(json.dumps({"type": kind, "object": found}).encode() + b"\n")


@contextlib.contextmanager
def serve_api(**settings: Any) -> Iterator[FakeApiserver]:
    """Listening on 127.0.0.1 until the block ends; streams that are open then are cut."""
    server = FakeApiserver(port=find_free_port(), **settings)
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_serve(server, started, stop),))
    thread.start()
    try:
        assert started.wait(60), "the fake API server did not start"
        yield server
    finally:
        server.cut_streams()
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()


async def _serve(server: FakeApiserver, started: threading.Event, stop: asyncio.Event) -> None:
    application = web.Application(client_max_size=4 << 20)
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", server.port).start()
    started.set()
    await stop.wait()
    await runner.cleanup()
