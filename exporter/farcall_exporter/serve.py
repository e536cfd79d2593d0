"""`farcall exporter`: builds the parts, listens, and stops in order. The only module here that knows them all."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

import uvloop

from farcall import journal
from farcall.cacheacl import EXPORTER
from farcall.cachereader import CacheReader, connect_redis
from farcall.component import STOP_WITHIN_S, Launch, parse_launch, refuse
from farcall.effective import EffectiveConfig, EffectiveConfigError
from farcall.secretfiles import INGEST_TOKEN, SecretError, read_secret
from farcall.storeport import StoreError, Writer
from farcall.tlsfiles import CA, TlsFileError
from farcall_exporter.asgi import TokenCheck
from farcall_exporter.chores import Chores, restore_sights
from farcall_exporter.cluster.apiserver import ApiServer
from farcall_exporter.cluster.watching import ClusterWatch
from farcall_exporter.context import Context, Settings
from farcall_exporter.counters import Counters
from farcall_exporter.ingest import IngestApp
from farcall_exporter.listeners import ListenError, Listeners, bind, read_identity
from farcall_exporter.lookups import Lookups
from farcall_exporter.otlpgrpc import OtlpGrpc
from farcall_exporter.otlphttp import OtlpApp
from farcall_exporter.otlpout import OtlpOut
from farcall_exporter.pipeline import Pipeline
from farcall_exporter.selfstatus import SelfStatus
from farcall_exporter.storelink import connect_writer

log = journal.get_log("exporter")

POLL_FILES_S = 1.0
RETRY_STORE_S = 1.0
LIST_WITHIN_S = 10.0  # the cluster's objects, so that the first spans find their names; without them it starts all the same
AGENTS = "the agents' listener"


def main(argv: Sequence[str]) -> int:
    launch = parse_launch("exporter", "receive, resolve, link, store", argv)
    journal.configure("exporter")
    config = launch.watcher.current
    try:
        exporter = Exporter(config, connect_writer(config))
    except (SecretError, ListenError) as e:
        refuse("exporter", str(e))
    uvloop.run(exporter.run(launch))
    return 0


class Exporter:
    """Sockets are bound and secrets read here, so that what is missing is said before anything starts."""

    def __init__(self, config: EffectiveConfig, writer: Writer) -> None:
        counters = Counters()
        cache = connect_cache(config)
        context = Context(
            settings=Settings.of(config),
            counters=counters,
            lookups=Lookups(cache, counters, clock=time.monotonic),
            clock=time.monotonic,
            version=installed_version("farcall"),
            peers=writer if config.endpoints.exporter_members else None,
        )
        self._watch = make_watch(config, context)
        self.pipeline = Pipeline(writer, context)
        self._out = OtlpOut(config.exporter, counters)
        self.pipeline.on_committed = self._out.offer
        status = SelfStatus(self.pipeline, node=config.node)  # it says which run this is
        self.pipeline.add_task(Chores(self.pipeline).run)
        self.pipeline.add_task(status.run)
        self._listeners = Listeners()
        ingest, otlp = config.endpoints.exporter_ingest, config.endpoints.exporter_otlp_http
        token = TokenCheck(config.secrets_dir, INGEST_TOKEN)
        self._identity = read_identity(config, ingest, AGENTS)
        listener = bind(config, ingest, AGENTS)
        self._listeners.add(IngestApp(self.pipeline, token), listener, self._identity)
        self._listeners.add(OtlpApp(self.pipeline), bind(config, otlp, "the OTLP listener"))
        grpc = config.endpoints.exporter_otlp_grpc
        self._grpc = OtlpGrpc(self.pipeline, config, grpc) if grpc is not None else None

    async def run(self, launch: Launch) -> None:
        stop, started = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if not await self._restore(stop):
            return
        if self._watch is not None:
            self._watch.start()
            await asyncio.to_thread(self._watch.wait_listed, LIST_WITHIN_S)
        self.pipeline.start()
        self._out.start()
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(self._listeners.serve(stop, on_started=started))
                watching = group.create_task(self._watch_files(launch))
                await started.wait()
                if self._grpc is not None:
                    self._grpc.start()
                launch.mark_ready()
                log.info("ready")
                await serving
                watching.cancel()
        finally:
            if self._grpc is not None:
                await asyncio.to_thread(self._grpc.stop)
            await asyncio.to_thread(self.pipeline.stop, STOP_WITHIN_S / 2)
            self._out.stop()
            if self._watch is not None:
                await asyncio.to_thread(self._watch.stop)
            log.info("stopped")

    async def _restore(self, stop: asyncio.Event) -> bool:
        """Waits for the store and reads back what waited; connections queue at the socket meanwhile. False when stopped."""
        while not stop.is_set():
            try:
                await asyncio.to_thread(restore_sights, self.pipeline)
                return True
            except StoreError as e:
                log.warning("store unavailable", error=str(e), retry_in_s=RETRY_STORE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RETRY_STORE_S)
        return False

    async def _watch_files(self, launch: Launch) -> None:
        while True:
            await asyncio.sleep(POLL_FILES_S)
            self._poll_config(launch)
            self._poll_certificate()

    def _poll_config(self, launch: Launch) -> None:
        try:
            config = launch.watcher.poll()
        except EffectiveConfigError as e:
            self.pipeline.context.counters.add("config_refused", 1)
            log.error("the config is broken; the one before stays in force", error=str(e))
            return
        if config is not None:
            self.pipeline.context.settings = Settings.of(config)
            log.info("config applied", generation=config.generation, revision=config.revision)

    def _poll_certificate(self) -> None:
        try:
            if self._identity is not None and self._identity.poll():
                log.info("the new certificate is in force")
        except TlsFileError as e:
            self.pipeline.context.counters.add("certificate_refused", 1)
            log.error("the new certificate is unusable; the one before stays", error=str(e))


def make_watch(config: EffectiveConfig, context: Context) -> ClusterWatch | None:
    """Outside Kubernetes there is nothing to watch. A pod without access is no reason not to start: names degrade, and it is said."""
    if config.mode != "kubernetes":
        return None
    context.watch = ClusterWatch(ApiServer.in_cluster, context.catalog, context.counters)
    return context.watch


def connect_cache(config: EffectiveConfig) -> CacheReader:
    """Connects at the first question, not here. Raises SecretError."""
    password = read_secret(config.secrets_dir, EXPORTER.password_file)
    ca_file = Path(config.secrets_dir) / CA
    return CacheReader(
        connect_redis(
            config.endpoints.redis, username=EXPORTER.name, password=password, ca_file=ca_file
        )
    )
