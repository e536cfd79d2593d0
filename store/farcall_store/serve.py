"""`farcall store`: owns the data folder and answers on loopback HTTP until it is told to stop.

One writer, four readers, one admin and one control handle; a second process on the same folder is refused.
"""

import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from farcall import component, journal
from farcall.commands import EXIT_OK, EXIT_USAGE
from farcall.effective import EffectiveConfig
from farcall.secretfiles import SecretError, read_secret
from farcall_store.claimfiles import end_on_false_claims
from farcall_store.engine import DATABASE, Engine, EngineError, FolderInUseError, Pool
from farcall_store.gate import learn_table_functions
from farcall_store.roles import (
    PASSWORD_FILES,
    Limits,
    Role,
    admin_settings,
    reader_settings,
    writer_settings,
)
from farcall_store.schema import SchemaError, migrate
from farcall_store.surface import Pools, Surface
from farcall_store.upkeep import Upkeep, Watchdog, apply_retention

log = journal.get_log("store")

NAME = "store"
READERS = 4  # reads scaled up to 4 on 2 cores; one handle serialises
WAITING = {"writer": 16, "reader": 64, "admin": 8, "control": 64}
KEEP_ALIVE_S = 600  # idle connections of our own clients; closing them early costs a failed request
STOP_STEP_S = 3.0  # answers, upkeep, handles: three of these are less than component.STOP_WITHIN_S
MIN_MEMORY, MAX_MEMORY = 512 << 20, 8 << 30


def main(argv: Sequence[str]) -> int:
    launch = component.parse_launch(NAME, "the embedded store behind HTTP", argv)
    journal.configure(NAME)
    config = launch.watcher.current
    try:
        passwords = {role: read_secret(config.secrets_dir, PASSWORD_FILES[role]) for role in Role}
        listener = bind(config.endpoints.store)
    except (SecretError, OSError, ValueError) as e:
        component.refuse(NAME, str(e))
    started_ns = time.time_ns()
    engine, pools = open_store(config)
    folder = Path(config.state_dir)
    surface = Surface(
        pools,
        passwords,
        read_free_bytes=lambda: shutil.disk_usage(folder).free,
        after_failed_insert=lambda: end_on_false_claims(folder),
    )
    surface.counters["inserts_forgotten"] += engine.amends.forgotten
    surface.counters["insert_records_unreadable"] += engine.amends.unreadable
    upkeep = Upkeep(pools.admin, launch.watcher, surface.counters, started_ns=started_ns)
    watchdog = Watchdog(pools.control)
    server = Server(surface, launch)
    component.on_stop(server.stop)
    upkeep.start()
    watchdog.start()
    log.info("store serves", endpoint=config.endpoints.store, folder=config.state_dir)
    server.run([listener])
    watchdog.stop()
    upkeep.stop(STOP_STEP_S)
    close_store(engine, pools, EXIT_OK)
    log.info("store stopped")
    return 0


def bind(endpoint: str) -> socket.socket:
    """The listening socket of http://host:port. Raises OSError, ValueError, each with a sentence."""
    parts = urlsplit(endpoint)
    if parts.scheme != "http" or not parts.hostname or not parts.port:
        raise ValueError(f"endpoints.store: must be http://host:port (it is {endpoint!r})")
    family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((parts.hostname, parts.port))
    except OSError as e:
        listener.close()
        raise OSError(
            f"cannot listen on {endpoint}: {e.strerror}; is another store running?"
        ) from e
    return listener


def open_store(config: EffectiveConfig) -> tuple[Engine, Pools]:
    """The engine with its schema and retention in place, and the pools. Exits with 2 when the folder is not usable."""
    try:
        engine = Engine(Path(config.state_dir), memory_bytes=choose_memory_bytes())
    except (FolderInUseError, EngineError, OSError) as e:
        component.refuse(NAME, str(e))
    pools = open_pools(engine)
    try:
        steps = migrate(lambda sql, params: pools.admin.run(sql, params), config.retention)
        apply_retention(pools.admin, config.retention)
    except (SchemaError, EngineError, TimeoutError) as e:
        close_store(engine, pools, EXIT_USAGE, f"farcall {NAME}: {e}")
        component.refuse(NAME, str(e))
    log.info("schema ready", steps=steps)
    return engine, pools


def close_store(engine: Engine, pools: Pools, code: int, last_words: str = "") -> None:
    """Closes every handle, then the engine. Ends the process at once with `code` when a handle hangs: an interpreter
    that shuts down around an open engine crashes, and the data is safe without a goodbye."""
    every = (pools.reader, pools.writer, pools.admin, pools.control)
    if not all(pool.close(STOP_STEP_S / 2) for pool in every):
        sys.stderr.write(last_words + "\n" if last_words else "")
        sys.stderr.flush()
        os._exit(code)
    engine.close()


def open_pools(engine: Engine) -> Pools:
    limits = Limits()
    first = engine.connect([f"CREATE DATABASE IF NOT EXISTS {DATABASE}"])
    first.close()

    def pool(name: str, settings: list[str], size: int = 1) -> Pool:
        connections = [engine.connect(settings) for _ in range(size)]
        return Pool(name, connections, waiting=WAITING[name])

    pools = Pools(
        writer=pool("writer", writer_settings(limits)),
        reader=pool("reader", reader_settings(limits), READERS),
        admin=pool("admin", admin_settings(limits)),
        control=pool("control", admin_settings(limits)),
    )
    learn_table_functions(
        pools.admin.run("SELECT name FROM system.table_functions").decode().split()
    )
    return pools


def choose_memory_bytes() -> int:
    """Six tenths of what this process may have; the engine's code and Python's own need the rest."""
    limits = []
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path(file).read_text(encoding="ascii")))
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) * 1024)
    return max(MIN_MEMORY, min(MAX_MEMORY, min(limits) * 6 // 10))


class Server(uvicorn.Server):
    """uvicorn without its signal handlers (they would end the process by the signal) and with our ready file."""

    def __init__(self, surface: Surface, launch: component.Launch) -> None:
        super().__init__(
            uvicorn.Config(
                surface,
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(STOP_STEP_S),
            )
        )
        self._launch = launch

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._launch.mark_ready()

    def stop(self) -> None:
        self.should_exit = True
