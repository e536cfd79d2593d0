"""Several real exporters at one real store, and two agents' senders that share the calls of one flow among them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from farcall.effective import EffectiveConfig, ExporterConfig, write_effective
from farcall_probes.arrowreading import convert
from farcall_probes.dispatch import Dispatcher
from support_exporter import BOOT, NS, OTHER_BOOT, identified, seen_from_server, to_table
from support_exporter_process import START_WITHIN_S, RedisProcess
from support_ports import find_free_port
from support_status import make_agent_status
from support_store import StoreProcess

EPOCH_NS = 4 * NS
PATIENT = ExporterConfig(join_hold_s=20.0)  # so that a slow machine is no cause of doubles
GLUED = 20  # of so many calls one whose server read more than its request: joined by overlap


@dataclass
class Fleet:
    """Exporters by address, on one port. `config` is everything but their own addresses."""

    store: StoreProcess
    redis: RedisProcess
    config: EffectiveConfig
    port: int = field(default_factory=find_free_port)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://exporters.test:{self.port}"

    def start(self, *addresses: str) -> None:
        for at in addresses:
            self.running[at] = self._spawn(at)
        for at in addresses:
            deadline = time.monotonic() + START_WITHIN_S
            while not self._path(at, "ready").exists():
                assert self.running[at].poll() is None and time.monotonic() < deadline, self.log(at)
                time.sleep(0.05)

    def _spawn(self, at: str) -> subprocess.Popen[bytes]:
        endpoints = self.config.endpoints.model_copy(
            update={
                "exporter_ingest": f"http://{at}:{self.port}",
                "exporter_otlp_http": f"http://{at}:{find_free_port()}",
                "exporter_members": self.url,
            }
        )
        config = self.config.model_copy(update={"node": at, "endpoints": endpoints})
        write_effective(config, self._path(at, "json"))
        command = [
            *(sys.executable, "-m", "farcall.commands", "exporter"),
            *("--config", str(self._path(at, "json"))),
            *("--ready-file", str(self._path(at, "ready"))),
        ]
        with self._path(at, "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def _path(self, at: str, kind: str) -> Path:
        return self.store.folder / f"exporter-{at}.{kind}"

    def log(self, at: str) -> str:
        return self._path(at, "log").read_text(encoding="utf-8", errors="replace")

    def end(self, at: str, number: signal.Signals) -> None:
        process = self.running.pop(at)
        os.kill(process.pid, number)
        process.wait(60)

    def end_all(self) -> None:
        for at in list(self.running):
            self.end(at, signal.SIGKILL)


@contextmanager
def running_fleet(folder: Path) -> Iterator[Fleet]:
    store = StoreProcess(folder)
    cache = RedisProcess(folder, folder / "secrets")
    endpoints = store.config.endpoints.model_copy(update={"redis": cache.url})
    config = store.config.model_copy(
        update={
            "endpoints": endpoints,
            "exporter": PATIENT,
            "cluster_cidrs": ["10.244.0.0/16", "10.96.0.0/12"],
        }
    )
    fleet = Fleet(store, cache, config)
    try:
        store.start()
        cache.start()
        yield fleet
    finally:
        fleet.end_all()
        cache.kill()
        store.kill()


class Agent:
    """A node's sender. It sees the exporters that it is told of."""

    def __init__(self, fleet: Fleet, node: str, boot: str, found: list[str]) -> None:
        self.found = found
        self.dispatcher = Dispatcher(
            url=fleet.url,
            find=lambda: self.found,
            node=node,
            boot_id=boot,
            secrets_dir=fleet.config.secrets_dir,
            make_status=lambda: make_agent_status(node=node, boot_id=boot, time_ns=time.time_ns()),
            find_every_s=0.1,
            epoch_ns=EPOCH_NS,
        )
        self.dispatcher.start()

    def put(self, batch: pa.RecordBatch) -> None:
        self.dispatcher.put("exchanges", convert("exchanges", batch), watched_since_ns=1)


@contextmanager
def two_agents(fleet: Fleet, found: list[str]) -> Iterator[tuple[Agent, Agent]]:
    agents = Agent(fleet, "n1", BOOT, found), Agent(fleet, "n2", OTHER_BOOT, found)
    try:
        yield agents
    finally:
        for agent in agents:
            agent.dispatcher.stop(10.0)


class Flow:
    """Calls 0, 1, 2, …: each on a connection of four calls; 200 local ports that are used again and again."""

    def __init__(self, seed: int = 7) -> None:
        rng = np.random.default_rng(seed)
        self._isn = rng.integers(1, 2**32, (2, 1 << 17), dtype=np.uint64)
        client = identified(service="caller", connection_opened=None)
        self._client = to_table("exchanges", [client])
        self._server = to_table("exchanges", [seen_from_server(client, service="served")])

    def make(self, first: int, count: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """(client's rows, server's rows) of calls that began just now. A server's duration tells which call it saw."""
        calls = np.arange(first, first + count)
        start = time.time_ns() - 20_000_000 + (calls - first) * 1_000
        glued = np.where(calls % GLUED == 0, 100, 0)
        both: dict[str, Any] = {
            "isn_client": self._isn[0][calls // 4].astype(np.uint32),
            "isn_server": self._isn[1][calls // 4].astype(np.uint32),
            "sequence": (calls % 4).astype(np.uint32),
        }
        port = (40_000 + calls // 4 % 200).astype(np.uint16)
        seq = 1_000 + 120 * (calls % 4)
        client = {
            **both,
            "start": start,
            "duration_ns": np.full(count, 10_000_000, np.uint64),
            "connection_id": (calls // 4).astype(np.uint64),
            "local_port": port,
            "request_seq": seq.astype(np.uint32),
            "target": [f"/call/{n}" for n in calls.tolist()],
        }
        server = {
            **both,
            "start": start + 100_000,
            "duration_ns": (1_000_000 + calls).astype(np.uint64),
            "connection_id": (calls // 4 + (1 << 32)).astype(np.uint64),
            "peer_port": port,
            "request_seq": (seq - glued).astype(np.uint32),
            "request_bytes": np.full(count, 120, np.uint64) + glued.astype(np.uint64),
        }
        return _fill(self._client, client), _fill(self._server, server)


def _fill(template: pa.Table, columns: dict[str, Any]) -> pa.RecordBatch:
    count = len(columns["start"])
    repeated = template.take(pa.array(np.zeros(count, np.int64))).combine_chunks()
    made = []
    for field_ in repeated.schema:
        if field_.name in columns:
            values = pa.array(columns[field_.name])
            made.append(values.cast(field_.type) if values.type != field_.type else values)
        else:
            made.append(repeated.column(field_.name).combine_chunks())
    return pa.RecordBatch.from_arrays(made, schema=repeated.schema)
