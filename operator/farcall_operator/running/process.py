"""`farcall operator`: from start to SIGTERM. Watches, and works once it has the lease; ends when any of it cannot go on.

A standby watches like the leader, so that it knows everything by the time it leads.

A process that lost its lease or its watches ends with a code that is not 0 and is started again: everything is
level-triggered, so a new start is the one recovery that is always right.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from farcall import journal
from farcall.commands import EXIT_FAULT, EXIT_OK, EXIT_USAGE
from farcall.footprint import trim_memory
from farcall.tracingconfig import API_VERSION, KIND
from farcall_operator.cluster.access import Access, AccessError, load_access
from farcall_operator.cluster.client import ApiCluster
from farcall_operator.cluster.port import (
    Cluster,
    ClusterError,
    Manifest,
    Observed,
    Reconciler,
    Wake,
)
from farcall_operator.cluster.world import World
from farcall_operator.running.health import Health, start_server
from farcall_operator.running.lease import Lease, LeaseLostError
from farcall_operator.running.metrics import Counters
from farcall_operator.running.options import Options, parse_options
from farcall_operator.running.watching import CALM_S, STOP_WITHIN_S, Watching
from farcall_operator.running.workqueue import Workqueue

ASK_AGAIN_S = 2.0
REPEAT_AFTER_S = 30.0  # forwarded log lines that begin alike
TRIM_EVERY_S = 60.0
ALIKE = 16  # characters: `Request attempt `
MAX_ALIKE = 256

BuildReconciler = Callable[[Cluster, Observed, str, Wake], Reconciler]


def main(argv: Sequence[str]) -> int:
    options = parse_options(argv)
    journal.configure("operator", as_text=options.as_text)
    forward_logs()
    try:
        access = load_access(options.kubeconfig)
    except AccessError as e:
        sys.stderr.write(f"farcall operator: {e}\n")
        return EXIT_USAGE
    return asyncio.run(run_operator(options, access, build_reconciler))


def build_reconciler(
    cluster: Cluster, observed: Observed, namespace: str, wake: Wake
) -> Reconciler:
    # Here, so that tests of the process need neither templates nor the rest of the operator.
    from farcall_operator.reconcile import ClusterReconciler

    return ClusterReconciler(cluster=cluster, observed=observed, namespace=namespace, wake=wake)


async def run_operator(options: Options, access: Access, build: BuildReconciler) -> int:
    """The exit code."""
    operator = Operator(options, access, build)
    operator.catch_signals()
    try:
        return await operator.run()
    except OSError as e:  # the port is taken
        operator.log.error("cannot start", error=str(e))
        return EXIT_FAULT


class Operator:
    def __init__(self, options: Options, access: Access, build: BuildReconciler) -> None:
        self._options = options
        self._access = access
        self._build = build
        self._namespace = options.namespace or access.namespace
        self._stop = asyncio.Event()
        self._health = Health(counters=Counters())
        self.log = journal.get_log("process")

    def catch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    async def run(self) -> int:
        count = self._health.counters.count_request
        async with AsyncExitStack() as stack:
            runner, port = await start_server(self._health, self._options.host, self._options.port)
            stack.push_async_callback(runner.cleanup)
            self.log.info(
                "listening", port=port, namespace=self._namespace, cluster=self._access.source
            )
            plain = await stack.enter_async_context(ApiCluster(self._access, count=count))
            lease = Lease(plain, namespace=self._namespace, identity=_name_ourselves())
            fenced = await stack.enter_async_context(
                ApiCluster(self._access, count=count, may_write=lease.is_held)
            )
            return await self._live(plain, fenced, lease)

    async def _live(self, plain: ApiCluster, fenced: ApiCluster, lease: Lease) -> int:
        """Ends with the first of: a stop, a lost lease, a failed watch, a fault of ours."""
        leading = asyncio.ensure_future(self._lead(plain, fenced, lease))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            code = await self._settle(leading)
            stopping.cancel()
        return code

    async def _settle(self, leading: asyncio.Future[None]) -> int:
        if not leading.done():
            self.log.info("stopping")
            leading.cancel()
            await asyncio.wait({leading}, timeout=STOP_WITHIN_S)
            return EXIT_OK
        fault = leading.exception()
        for one in _flatten(fault):
            is_lost = isinstance(one, LeaseLostError)
            self.log.error("ending", error=str(one) or repr(one), exc_info=None if is_lost else one)
        return EXIT_FAULT

    async def _lead(self, plain: ApiCluster, fenced: ApiCluster, lease: Lease) -> None:
        await self._reach(plain)
        await self._wait_for_kind(plain)
        world = World()
        queue = Workqueue(
            self._build(fenced, world, self._namespace, lambda name: queue.add(name, CALM_S)),
            watcher=self._health.counters,
            keeps=lambda name: world.config(name) is not None,
            resync_s=self._options.resync_s,
        )
        watching = Watching(
            self._access,
            world,
            namespace=self._namespace,
            add=lambda name, delay_s: queue.add(name, delay_s) if self._health.leading else None,
            count=self._health.counters.count_request,
        )
        self._health.world, self._health.streams = world, watching.streams
        async with asyncio.TaskGroup() as group:
            # kopf ends every task that is younger than itself when it ends, so ours come first.
            serving = group.create_task(self._serve(watching, world, queue, lease), name="queue")
            group.create_task(self._watch(watching, serving), name="watching")

    async def _reach(self, cluster: ApiCluster) -> None:
        while True:
            try:
                version = await cluster.version()
            except ClusterError as e:
                self.log.warning("API server not reached", reason=e.reason, error=e.message)
                await asyncio.sleep(ASK_AGAIN_S)
            else:
                self._health.reached = True
                self.log.info("API server reached", version=version)
                return

    async def _wait_for_kind(self, cluster: ApiCluster) -> None:
        """kopf looks once, and never sees a CRD that is installed after it."""
        told = False
        while True:
            try:
                if await cluster.serves(API_VERSION, KIND):
                    return
                if not told:
                    self.log.warning(
                        "the CRD is missing: kubectl apply -f crds/tracingconfigs.yaml"
                    )
                    told = True
            except ClusterError as e:
                self.log.warning("API server not reached", reason=e.reason, error=e.message)
            await asyncio.sleep(ASK_AGAIN_S)

    async def _serve(
        self, watching: Watching, world: World, queue: Workqueue, lease: Lease
    ) -> None:
        """Nobody reconciles before all first lists are in: prune would decide on half a picture."""
        await lease.acquire(lambda: watching.streams.are_listed)
        self._health.leading, self._health.queue = True, queue
        for name, config in world.configs().items():
            queue.add(name, 0.0 if is_behind(config) else CALM_S)
        self.log.info("watching", depth=len(world.configs()))
        # What was read at start stays: later collections need not look at it.
        gc.collect()
        gc.freeze()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(lease.hold(), name="lease")
                group.create_task(queue.run(self._options.workers), name="workers")
                group.create_task(_trim(), name="trim")
        finally:
            self._health.leading = False
            await lease.release()

    async def _watch(self, watching: Watching, serving: asyncio.Task[None]) -> None:
        """Stopped, it goes on until `serving` has ended: with kopf would go the task that writes the lease's release."""
        ready = asyncio.Event()
        running = asyncio.ensure_future(watching.run(ready))
        try:
            await asyncio.wait(
                {running, asyncio.ensure_future(ready.wait())}, return_when=asyncio.FIRST_COMPLETED
            )
            self.catch_signals()  # kopf took them
            gone = asyncio.ensure_future(watching.streams.gone.wait())
            await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self.log.error("a kind is gone: was the CRD deleted?")
                serving.cancel()
                await asyncio.wait({serving})
            else:
                await running
        except asyncio.CancelledError:
            await asyncio.wait({serving})
            raise
        finally:
            running.cancel()
        raise RuntimeError("the watches have ended")


async def _trim() -> None:
    """The C library keeps what a first pass or an hour of edits has freed in between: 15 of 108 MB after twenty minutes of churn."""
    while True:
        trim_memory()
        await asyncio.sleep(TRIM_EVERY_S)


def _flatten(fault: BaseException | None) -> list[BaseException | None]:
    """What the task groups, one in the other, have gathered."""
    if isinstance(fault, BaseExceptionGroup):
        return [inner for one in fault.exceptions for inner in _flatten(one)]
    return [fault]


def is_behind(config: Manifest) -> bool:
    """Whether somebody edited it and nobody has looked at that yet: it goes before the others."""
    generation = config["metadata"].get("generation")
    return bool((config.get("status") or {}).get("observedGeneration") != generation)


def _name_ourselves() -> str:
    """Unique to this process, so that a restarted one does not take its predecessor's lease for its own."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"


def forward_logs() -> None:
    """What kopf and aiohttp have to say, from warnings up, goes where ours goes."""
    root = logging.getLogger()
    root.handlers[:] = [ForwardedLogs()]
    root.setLevel(logging.WARNING)


class ForwardedLogs(logging.Handler):
    """An API server that is away makes kopf say the same of a dozen streams every few seconds: once in a while is enough."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], tuple[float, int]] = {}  # when, and how often since

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        key = (record.name, message[:ALIKE])
        said_at, unsaid = self._said.get(key, (-REPEAT_AFTER_S, 0))
        now = self._clock()
        if record.exc_info is None and now - said_at < REPEAT_AFTER_S:
            self._said[key] = (said_at, unsaid + 1)
            return
        if len(self._said) >= MAX_ALIKE:
            self._said.clear()
        self._said[key] = (now, 0)
        log = journal.get_log(record.name)
        say = log.error if record.levelno >= logging.ERROR else log.warning
        say(message, alike=unsaid, exc_info=record.exc_info[1] if record.exc_info else None)
