"""Keeps the catalog true: for each kind of object a thread that lists, then watches from there, for ever.

After a cut the watch goes on from the last version seen; when the server knows that no more (410), everything is listed
again and what is missing has ended. While the API server can't be read, what was known stays: an address that nobody else
has claimed very probably is still its pod's. How long that has lasted is said (`state`), counted, and shown.
"""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from farcall.journal import get_log
from farcall_exporter.cluster.apiserver import ApiError, ApiServer, GoneError
from farcall_exporter.cluster.catalog import Catalog
from farcall_exporter.cluster.objects import (
    Fact,
    Json,
    ObjectError,
    parse_job,
    parse_node,
    parse_pod,
    parse_replica_set,
    parse_service,
)
from farcall_exporter.counters import Counters

log = get_log("exporter")

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 30.0
REFUSED_RETRY_S = 60.0  # 401 and 403: somebody must grant something
TROUBLE_AFTER_S = 10.0  # a cut that heals sooner is no news
STOP_WITHIN_S = 2.0

JSON = "application/json"
# Of these kinds only who owns them is of interest: not their specs, which are most of them.
METADATA = "application/json;as=PartialObjectMetadata{list};g=meta.k8s.io;v=v1,application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    kind: str
    path: str
    parse: Callable[[Json], Fact]
    selector: str = ""
    is_metadata: bool = False

    def accept(self, *, is_list: bool) -> str:
        return METADATA.format(list="List" if is_list else "") if self.is_metadata else JSON

    @property
    def query(self) -> dict[str, str]:
        return {"fieldSelector": self.selector} if self.selector else {}


RESOURCES = (
    Resource(kind="Node", path="/api/v1/nodes", parse=parse_node),
    Resource(kind="Service", path="/api/v1/services", parse=parse_service),
    Resource(
        kind="ReplicaSet",
        path="/apis/apps/v1/replicasets",
        parse=parse_replica_set,
        is_metadata=True,
    ),
    Resource(kind="Job", path="/apis/batch/v1/jobs", parse=parse_job, is_metadata=True),
    # Of Jobs long done there may be thousands; their addresses are free.
    Resource(
        kind="Pod",
        path="/api/v1/pods",
        parse=parse_pod,
        selector="status.phase!=Succeeded,status.phase!=Failed",
    ),
)


class Watcher:
    """One kind of object. `run` is a thread's; everything else may be asked from others."""

    def __init__(
        self,
        resource: Resource,
        server: Callable[[], ApiServer],
        catalog: Catalog,
        counters: Counters,
        stopping: threading.Event,
    ) -> None:
        self.resource = resource
        self._connect = server
        self._catalog = catalog
        self._counters = counters
        self._stopping = stopping
        self._version = ""
        self._response: Any = None
        self.listed = threading.Event()
        self.failed_since = 0.0  # monotonic; 0: it can be read
        self.failure = ""

    def run(self) -> None:
        retry_s = FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                if not self._version:
                    self._list()
                self._succeed()
                began = time.monotonic()
                self._watch()
                # One that ends at once, again and again, must not become a busy loop.
                pause_s = 0.0 if time.monotonic() - began > FIRST_RETRY_S else FIRST_RETRY_S
                retry_s = FIRST_RETRY_S
            except GoneError:
                self._version = ""
                self._counters.add("kubernetes_relists", 1)
                pause_s = random.uniform(0, FIRST_RETRY_S)
            except ApiError as e:
                self._fail(str(e))
                is_refused = e.status in (401, 403)
                pause_s = REFUSED_RETRY_S if is_refused else random.uniform(retry_s / 2, retry_s)
                retry_s = min(retry_s * 2, MAX_RETRY_S)
            except Exception as e:  # a fault of ours must not end the watch for good
                self._counters.add("internal_errors", 1)
                log.exception("the watch failed", kind=self.resource.kind)
                self._fail(f"{type(e).__name__}: {e}")
                self._version = ""
                pause_s = MAX_RETRY_S
            self._stopping.wait(pause_s)

    def close(self) -> None:
        """Ends a watch that is waiting for its next line."""
        response = self._response
        if response is not None:
            with suppress(Exception):
                response.shutdown()

    def _list(self) -> None:
        resource = self.resource
        began_ns = time.time_ns()
        uids: set[str] = set()
        token = ""
        while not self._stopping.is_set():
            page = self._connect().list_page(
                resource.path,
                accept=resource.accept(is_list=True),
                query=resource.query,
                token=token,
            )
            uids.update(self._take("ADDED", item, began_ns) for item in page.items)
            token = page.token
            if not token:
                # What began to exist after the first page is told by the watch, from the first page's version on.
                self._catalog.keep_only(resource.kind, uids, time.time_ns())
                self._version = page.version
                self._counters.add("kubernetes_lists", 1)
                self.listed.set()
                return

    def _watch(self) -> None:
        resource = self.resource
        events = self._connect().watch(
            resource.path,
            accept=resource.accept(is_list=False),
            query=resource.query,
            version=self._version,
            on_open=self._keep_response,
        )
        for kind, item in events:
            if self._stopping.is_set():
                return
            if kind != "BOOKMARK":
                self._counters.add("kubernetes_events", 1)
                self._take(kind, item, time.time_ns())
            self._succeed()
            metadata = item.get("metadata")
            version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
            if isinstance(version, str) and version:
                self._version = version

    def _keep_response(self, response: Any) -> None:
        self._response = response

    def _take(self, kind: str, item: Json, seen_ns: int) -> str:
        """Its UID; an object that cannot be understood is counted and left out."""
        try:
            fact = self.resource.parse(item)
        except ObjectError as e:
            self._counters.add("kubernetes_objects_refused", 1)
            log.warning("an object cannot be read", kind=self.resource.kind, why=str(e))
            return ""
        if kind == "DELETED":
            self._catalog.remove(fact, seen_ns)
        else:
            self._catalog.put(fact, seen_ns)
        return fact.uid

    def _succeed(self) -> None:
        if self.failed_since and self.failure:
            log.info("the API server can be read again", kind=self.resource.kind)
        self.failed_since, self.failure = 0.0, ""

    def _fail(self, why: str) -> None:
        if self._stopping.is_set():
            return
        self._counters.add("kubernetes_failures", 1)
        if not self.failure:
            log.warning("the API server cannot be read", kind=self.resource.kind, why=why)
        self.failed_since = self.failed_since or time.monotonic()
        self.failure = why


class _Once:
    """One client for all watchers, made by the first that needs it and gets it."""

    def __init__(self, connect: Callable[[], ApiServer]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._made: ApiServer | None = None

    def __call__(self) -> ApiServer:
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made


class ClusterWatch:
    """All watchers. Without one (local mode) there is nothing to start, and the catalog stays empty."""

    def __init__(
        self, connect: Callable[[], ApiServer], catalog: Catalog, counters: Counters
    ) -> None:
        """`connect` may raise ApiError, and is then tried again."""
        self._stopping = threading.Event()
        server = _Once(connect)
        self.watchers = [
            Watcher(resource, server, catalog, counters, self._stopping) for resource in RESOURCES
        ]
        self._threads = [
            threading.Thread(target=w.run, name=f"watch-{w.resource.kind.lower()}", daemon=True)
            for w in self.watchers
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_listed(self, within_s: float) -> bool:
        """True once every kind was read as a whole; the first spans then find their names."""
        deadline = time.monotonic() + within_s
        return all(w.listed.wait(max(0.0, deadline - time.monotonic())) for w in self.watchers)

    def stop(self) -> None:
        self._stopping.set()
        for watcher in self.watchers:
            watcher.close()
        deadline = time.monotonic() + STOP_WITHIN_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def trouble(self) -> str:
        """Why names of the cluster may be missing or old, in a sentence; empty when all is well."""
        now = time.monotonic()
        failing = [
            w for w in self.watchers
            if w.failure and (not w.listed.is_set() or now - w.failed_since > TROUBLE_AFTER_S)
        ]  # fmt: skip
        if not failing:
            return ""
        kinds = ", ".join(sorted(w.resource.kind for w in failing))
        return f"the API server cannot be read ({kinds}): {failing[0].failure}"[:256]
