"""What each watch stream is at: listed or not, when it gave a sign of life, what its lists hold.

It stands in kopf's HTTP session as a middleware. kopf tells its handlers of each object, but not that a list has ended, not
of objects that are missing from a later list (they were deleted while the stream was cut), and not of bookmarks; prune,
World and /healthz need all three. So lists are read here and kopf gets them without their items, which also spares it a
queue and a task for each of 17,000 objects: most of what a start cost. Watches it reads itself, and we only read along.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import aiohttp

from farcall_operator.cluster.packed import is_newer_version
from farcall_operator.cluster.port import Manifest
from farcall_operator.cluster.session import asked_of

# kopf asks again at once when a stream ends; a server or proxy that cuts each one would be asked thousands of times a second.
REWATCH_AFTER_S = 0.5
# Bookmarks come each minute and kopf reconnects after 70 s of silence: three times that is no accident.
STALE_AFTER_S = 210.0
GONE = 404


class Watched(NamedTuple):
    """A kind to watch. `label_selector` is the server's to apply."""

    api_version: str
    kind: str
    plural: str
    label_selector: str = ""

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(slots=True)
class Stream:
    watched: Watched
    alive_at: float
    failures: int = 0
    lists: int = 0
    watch_began_at: float | None = None
    listed: bool = False  # once is enough: after that, World holds a whole picture of some moment
    version: str = ""  # of the last list that was begun
    uids: set[str] = field(default_factory=set)  # of the list that is being read


class Streams:
    """`find` is called with each object that a list holds, `conclude` at the list's end with their UIDs and its version."""

    def __init__(
        self,
        watched: Sequence[Watched],
        *,
        find: Callable[[Manifest], None],
        conclude: Callable[[Watched, Set[str], str], None],
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._find = find
        self._conclude = conclude
        self._by_resource = {w.resource: Stream(w, clock()) for w in watched}
        self._all_listed = asyncio.Event()
        self.gone = asyncio.Event()  # a kind that was watched: its CRD was deleted

    def all(self) -> list[Stream]:
        return list(self._by_resource.values())

    def age_s(self, stream: Stream) -> float:
        return self._clock() - stream.alive_at

    def find_stale(self) -> list[str]:
        return [s.watched.kind for s in self.all() if self.age_s(s) > STALE_AFTER_S]

    @property
    def are_listed(self) -> bool:
        return self._all_listed.is_set()

    async def wait_until_listed(self) -> None:
        """Until everything that the first lists held has been handed over."""
        await self._all_listed.wait()

    def is_news(self, watched: Watched, manifest: Manifest) -> bool:
        """Of what a watch tells, put or changed. kopf still hands over what it heard before it had to list anew; the list
        knew better."""
        version = str(manifest["metadata"].get("resourceVersion", ""))
        return not is_newer_version(self._by_resource[watched.resource].version, version)

    async def read_along(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """The middleware."""
        verb, resource = asked_of(request)
        stream = self._by_resource.get(resource)
        if stream is None or verb not in ("list", "watch"):
            return await handler(request)
        if verb == "watch":
            await self._pace(stream)
        try:
            response = await handler(request)
        except (aiohttp.ClientError, OSError, TimeoutError):
            stream.failures += 1
            raise
        if response.status == GONE:
            # kopf gives such a stream up, stops itself and tasks of ours, and hangs. It need not know: the process ends.
            self.gone.set()
            await asyncio.Event().wait()
        if response.status != 200:
            stream.failures += 1
        elif verb == "list":
            await self._read_page(stream, request, response)
        else:
            self._follow(stream, response)
        return response

    async def _pace(self, stream: Stream) -> None:
        began = stream.watch_began_at
        if began is not None:
            await asyncio.sleep(max(0.0, began + REWATCH_AFTER_S - self._clock()))
        stream.watch_began_at = self._clock()

    async def _read_page(
        self, stream: Stream, request: aiohttp.ClientRequest, response: aiohttp.ClientResponse
    ) -> None:
        page = json.loads(await response.read())
        metadata = page.get("metadata") or {}
        stream.alive_at = self._clock()
        if "continue" not in request.url.query:
            stream.lists += 1
            stream.uids = set()
            stream.version = str(metadata.get("resourceVersion", ""))
        watched = stream.watched
        for item in page.get("items") or ():
            stream.uids.add(item["metadata"]["uid"])
            # A list says once what all its items are.
            self._find({"apiVersion": watched.api_version, "kind": watched.kind, **item})
        if not metadata.get("continue"):
            self._conclude(watched, stream.uids, stream.version)
            stream.uids = set()
            stream.listed = True
            if all(s.listed for s in self._by_resource.values()):
                self._all_listed.set()
        # aiohttp keeps what was read for whoever asks next, which is kopf.
        response._body = json.dumps({**page, "items": []}).encode()

    def _follow(self, stream: Stream, response: aiohttp.ClientResponse) -> None:
        def note_life() -> None:
            stream.alive_at = self._clock()

        note_life()
        response.content = cast(aiohttp.StreamReader, _Followed(response.content, note_life))


class _Followed:
    """A response's body that tells when something of it came. Everything else is the body's own."""

    def __init__(self, body: aiohttp.StreamReader, note_life: Callable[[], None]) -> None:
        self._body = body
        self._note_life = note_life

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        async for chunk in self._body.iter_chunked(size):
            self._note_life()
            yield chunk
