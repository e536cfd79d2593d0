"""A real exporter beside a real store and a real Redis on a Unix socket, each a process of its own, in one folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import redis

from farcall.cacheacl import AGENT, USERS, render_acl_rule
from farcall.cachereader import connect_redis
from farcall.dnscache import CacheWriter
from farcall.effective import EffectiveConfig
from farcall.envelope import BATCH_CONTENT_TYPE, BATCH_PATH, STATUS_PATH
from farcall.redislink import RedisLink
from farcall.secretfiles import INGEST_TOKEN, STORE_READER_PASSWORD, read_secret
from farcall_store.reader import StoreReader
from support_ports import find_free_port
from support_store import StoreProcess

START_WITHIN_S = 60


@dataclass
class RedisProcess:
    folder: Path
    secrets_dir: Path
    process: subprocess.Popen[bytes] | None = None
    more: tuple[str, ...] = ()  # lines of its configuration

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> "RedisProcess":
        conf = self.folder / "redis.conf"
        rules = [
            render_acl_rule(user, read_secret(self.secrets_dir, user.password_file))
            for user in USERS
        ]
        lines = ["port 0", f"unixsocket {self.socket}", 'save ""', f"dir {self.folder}"]
        conf.write_text("\n".join([*lines, "user default off", *rules, *self.more]) + "\n")
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(["redis-server", str(conf)], stdout=log, stderr=log)
        self._wait(START_WITHIN_S)
        return self

    def _wait(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while True:
            try:
                self.connect().ping()
                return
            except redis.RedisError:
                assert time.monotonic() < deadline, "redis-server did not start"
                time.sleep(0.02)

    def connect(self) -> "redis.Redis":
        """As the agent."""
        password = read_secret(self.secrets_dir, AGENT.password_file)
        return connect_redis(self.url, username=AGENT.name, password=password)

    def writer(self) -> CacheWriter:
        password = read_secret(self.secrets_dir, AGENT.password_file)
        return CacheWriter(RedisLink(self.url, username=AGENT.name, password=password))

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)
            self.process = None
        self.socket.unlink(missing_ok=True)


@dataclass
class ExporterProcess:
    store: StoreProcess
    redis: RedisProcess
    config: EffectiveConfig
    process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        return self.store.folder

    def write_config(self, **changes: object) -> None:
        """Live changes of the effective config."""
        self.config = self.config.model_copy(update=changes)
        self.store.write_config(self.config)

    def spawn(self, config: Path | None = None, log: Path | None = None) -> subprocess.Popen[bytes]:
        (self.folder / "exporter-ready").unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "farcall.commands", "exporter"),
            *("--config", str(config or self.folder / "effective.json")),
            *("--ready-file", str(self.folder / "exporter-ready")),
        ]
        with (log or self.folder / "exporter.log").open("ab") as file:
            return subprocess.Popen(command, stdout=file, stderr=file)

    def start(self) -> "ExporterProcess":
        self.process = self.spawn()
        deadline = time.monotonic() + START_WITHIN_S
        while not (self.folder / "exporter-ready").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the exporter did not start: {self.read_log()}")
            time.sleep(0.02)
        return self

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(60)
            self.process = None

    def read_log(self) -> str:
        return (self.folder / "exporter.log").read_text(encoding="utf-8", errors="replace")

    @property
    def token(self) -> str:
        return read_secret(self.config.secrets_dir, INGEST_TOKEN)

    def post_batch(self, body: bytes, **headers: str) -> httpx.Response:
        return self.post(BATCH_PATH, body, **{"content-type": BATCH_CONTENT_TYPE, **headers})

    def post_status(self, body: bytes) -> httpx.Response:
        return self.post(STATUS_PATH, body, **{"content-type": "application/json"})

    def post(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        url = self.config.endpoints.exporter_ingest + path
        auth = {"authorization": f"Bearer {self.token}"}
        return httpx.post(url, content=body, headers={**auth, **headers}, timeout=30)

    def post_otlp(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        url = self.config.endpoints.exporter_otlp_http + path
        return httpx.post(url, content=body, headers=headers, timeout=30)

    def reader(self) -> StoreReader:
        password = read_secret(self.config.secrets_dir, STORE_READER_PASSWORD)
        return StoreReader(self.store.url, password=password)

    @property
    def ingest_port(self) -> int:
        port = urlsplit(self.config.endpoints.exporter_ingest).port
        assert port is not None
        return port


@contextmanager
def running_exporter(
    folder: Path, *, redis_lines: tuple[str, ...] = (), **exporter_settings: object
) -> Iterator[ExporterProcess]:
    """Everything up; `exporter_settings` go into the config's exporter section, `redis_lines` into Redis' configuration."""
    store = StoreProcess(folder)
    cache = RedisProcess(folder, folder / "secrets", more=redis_lines)
    endpoints = store.config.endpoints.model_copy(
        update={
            "exporter_ingest": f"http://127.0.0.1:{find_free_port()}",
            "exporter_otlp_http": f"http://127.0.0.1:{find_free_port()}",
            "exporter_otlp_grpc": f"http://127.0.0.1:{find_free_port()}",
            "redis": cache.url,
        }
    )
    section = store.config.exporter.model_copy(update=exporter_settings)
    config = store.config.model_copy(
        update={
            "endpoints": endpoints,
            "exporter": section,
            "cluster_cidrs": ["10.244.0.0/16", "10.96.0.0/12"],
        }
    )
    exporter = ExporterProcess(store, cache, config)
    store.write_config(config)
    try:
        store.start()
        cache.start()
        yield exporter.start()
    finally:
        exporter.kill()
        cache.kill()
        store.kill()
