"""The cluster as it is: the port's calls over the API server's HTTP interface.

It waits out a 429 and a connection that was cut for a few seconds and leaves every other failure to the caller as a
ClusterError. It decides nothing, and what it says of a Secret never holds what the Secret holds.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from farcall_operator.cluster import answers
from farcall_operator.cluster.access import Access, load_access
from farcall_operator.cluster.discovery import Kinds
from farcall_operator.cluster.paths import build_path, build_root
from farcall_operator.cluster.port import (
    FIELD_MANAGER,
    Applied,
    Cluster,
    ClusterError,
    Manifest,
    Propagation,
    Ref,
    ref_of,
)
from farcall_operator.cluster.session import CountRequest, count_nothing, open_session

ANSWER_WITHIN_S = 30.0  # the API server itself gives up after 60; nothing that we ask takes seconds
PATIENCE_S = 4.0  # all that one call may wait before it asks again; beyond, the queue does
CUT_RETRY_S = 0.5
PAGE = 500  # objects in a page: kubectl's own choice
JSON = "application/json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
GONE = 404
# An escaped backslash, which is skipped, or a surrogate pair.
_PAIR = re.compile(r"(\\\\)|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")
TOO_MANY = 429


@asynccontextmanager
async def connect(
    kubeconfig: Path | None = None,
    *,
    context: str | None = None,
    count: CountRequest = count_nothing,
) -> AsyncIterator["ApiCluster"]:
    """For commands: a cluster as kubectl would find it. Raises AccessError."""
    access = load_access(kubeconfig, context=context)
    async with ApiCluster(access, count=count) as cluster:
        yield cluster


class ApiCluster(Cluster):
    """Use it as an async context manager, in a running loop."""

    def __init__(
        self,
        access: Access,
        *,
        count: CountRequest = count_nothing,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self.access = access
        self._may_write = (
            may_write  # asked before each write: an operator that lost its lease writes no more
        )
        self._session = open_session(access, count=count)
        self._kinds = Kinds(self._read_json)

    async def __aenter__(self) -> "ApiCluster":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def version(self) -> str:
        """The server's `gitVersion`; also the cheapest way to learn whether it can be reached."""
        return str((await self._read_json("/version")).get("gitVersion", ""))

    async def serves(self, api_version: str, kind: str) -> bool:
        """Whether the API server knows the kind right now."""
        try:
            answer = await self._read_json(build_root(api_version))
        except ClusterError as e:
            if e.status == GONE:
                return False
            raise
        return any(resource["kind"] == kind for resource in answer.get("resources") or [])

    async def get(self, ref: Ref) -> Manifest | None:
        try:
            return await self._read_json(await self._path(ref), about=ref)
        except ClusterError as e:
            if e.status == GONE:
                return None
            raise

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
    ) -> list[Manifest]:
        path = await self._path(Ref(api_version, kind, namespace, ""))
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        items: list[Manifest] = []
        while True:
            page = await self._read_json(path, query, about=Ref(api_version, kind, namespace, ""))
            for item in page.get("items") or []:
                items.append({"apiVersion": api_version, "kind": kind, **item})
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return items
            query["continue"] = token

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        return await self._apply(manifest, "", {"dryRun": "All"} if dry_run else {})

    async def apply_status(self, manifest: Manifest) -> Manifest:
        return (await self._apply(manifest, "status", {})).live

    async def _apply(self, manifest: Manifest, part: str, more: Mapping[str, str]) -> Applied:
        ref = ref_of(manifest)
        query = {"fieldManager": FIELD_MANAGER, "force": "true", **more}
        live, warnings = await self._ask(
            "PATCH", await self._path(ref, part), query, manifest, content_type=APPLY, about=ref
        )
        return Applied(live=live, warnings=warnings)

    async def create(self, manifest: Manifest) -> Manifest:
        ref = ref_of(manifest)
        path = await self._path(ref._replace(name=""))
        query = {"fieldManager": FIELD_MANAGER}
        return (await self._ask("POST", path, query, manifest, about=ref))[0]

    async def replace(self, manifest: Manifest) -> Manifest:
        ref = ref_of(manifest)
        query = {"fieldManager": FIELD_MANAGER}
        return (await self._ask("PUT", await self._path(ref), query, manifest, about=ref))[0]

    async def merge(self, ref: Ref, patch: Manifest) -> Manifest:
        query = {"fieldManager": FIELD_MANAGER}
        path = await self._path(ref)
        return (await self._ask("PATCH", path, query, patch, content_type=MERGE, about=ref))[0]

    async def delete(
        self, ref: Ref, *, uid: str | None = None, propagation: Propagation = "Background"
    ) -> None:
        options: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            await self._ask("DELETE", await self._path(ref), {}, options, about=ref)
        except ClusterError as e:
            if e.status != GONE:
                raise

    async def _path(self, ref: Ref, part: str = "") -> str:
        plural = await self._kinds.find_plural(ref.api_version, ref.kind)
        return build_path(ref.api_version, plural, ref.namespace, ref.name, part)

    async def _read_json(
        self, path: str, query: Mapping[str, str] = {}, about: Ref | None = None
    ) -> Manifest:
        return (await self._ask("GET", path, query, None, about=about))[0]

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Manifest | None,
        *,
        content_type: str = JSON,
        about: Ref | None = None,
    ) -> tuple[Manifest, tuple[str, ...]]:
        """One call, asked again while patience lasts and asking again can help and cannot harm."""
        patience_s = PATIENCE_S
        while True:
            try:
                return await self._ask_once(method, path, query, body, content_type, about)
            except ClusterError as e:
                wait_s = find_wait(e, method)
                if wait_s is None or wait_s > patience_s:
                    raise
                patience_s -= wait_s
                await asyncio.sleep(wait_s)

    async def _ask_once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Manifest | None,
        content_type: str,
        about: Ref | None,
    ) -> tuple[Manifest, tuple[str, ...]]:
        if method != "GET" and not self._may_write():
            raise ClusterError(0, "NotLeader", "another operator may lead now; nothing was written")
        arguments: dict[str, Any] = {"params": dict(query), "headers": {"Accept": JSON}}
        if body is not None:
            arguments["data"] = render_body(body)
            arguments["headers"]["Content-Type"] = content_type
        arguments["timeout"] = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        try:
            async with self._session.request(
                method, self.access.server + path, **arguments
            ) as response:
                raw = await response.read()
        except TimeoutError as e:
            raise ClusterError(
                0, "Timeout", f"no answer from the API server within {ANSWER_WITHIN_S:.0f} s"
            ) from e
        except (aiohttp.ClientError, OSError) as e:
            raise ClusterError(0, "Unreachable", answers.cut(f"API server: {e}")) from e
        if response.status >= 400:
            raise answers.parse_error(response.status, response.headers, raw, about)
        return answers.parse_object(response.status, raw), answers.parse_warnings(response.headers)


def render_body(body: Manifest) -> bytes:
    """JSON that is also YAML, which the API server takes an apply for: YAML has no escapes of surrogate pairs, so what
    lies beyond 16 bits stands for itself. Everything else stays escaped, or YAML would refuse control characters."""
    return _PAIR.sub(_join_pair, json.dumps(body, separators=(",", ":"))).encode()


def _join_pair(match: re.Match[str]) -> str:
    return match[0] if match[1] else str(json.loads(f'"{match[0]}"'))


def find_wait(error: ClusterError, method: str) -> float | None:
    """Seconds until the same call is worth asking again; None when that is not ours to decide.

    A connection that was cut (the server restarts) may have delivered the request: harmless for all but POST.
    """
    if error.status == TOO_MANY:
        return error.retry_after_s if error.retry_after_s is not None else 1.0
    if error.status == 0 and error.reason == "Unreachable" and method != "POST":
        return CUT_RETRY_S
    return None
