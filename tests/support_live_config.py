"""A Redis on a socket with farcall's users, and a ConfigMap's volume as the kubelet keeps it."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from farcall.cacheacl import AGENT, USERS, render_acl_rule
from farcall.dnscache import CacheWriter
from farcall.effective import EffectiveConfig, render_effective
from farcall.redislink import RedisLink
from support_agent import PASSWORD

# Which component applies which live field; a test for each component has an effect to show for every one of its own, and
# another that none is left over. `generation` is what a status says of itself, everywhere.
AGENT_FIELDS = {
    "generation",
    "dns.ttl_s",
    "dns.ttl_override_s",
    "dns.hold_while_connected",
    "dns.resolvers",
    "capture.protocols",
    "capture.host_processes",
    "capture.masking",
    "capture.answer_timeout_s",
    "capture.tls",
    "capture.records_per_s",
    "capture.cpu_millicores",
    "capture.namespaces_include",
    "capture.namespaces_exclude",
    "capture.own_cgroups",
}
EXPORTER_FIELDS = {
    "generation",
    "cluster_cidrs",
    "dns.ttl_s",
    "dns.ttl_override_s",
    "dns.hold_while_connected",
    "exporter.join_hold_s",
    "selection.percent",
    "selection.slower_than_s",
    "selection.drop",
    "selection.spans_per_second",
}
STORE_FIELDS = {
    "generation",
    "retention.traces_s",
    "retention.logs_s",
    "retention.max_size_bytes",
}
CONSOLE_FIELDS = {
    "generation",
    "tier",
    "cluster_cidrs",
    "cluster_cidrs_source",
    "dns.ttl_s",
    "dns.ttl_override_s",
}
# The agent's parser follows it, and what it reads is not in the exchange record yet.
WITHOUT_EFFECT = {"capture.headers"}


def change(config: EffectiveConfig, field: str, value: object) -> EffectiveConfig:
    """`config` with one field changed, its generation counted on."""
    name, _, inner = field.partition(".")
    found = getattr(config, name).model_copy(update={inner: value}) if inner else value
    return config.model_copy(update={"generation": config.generation + 1, name: found})


class RedisServer:
    def __init__(self, directory: Path) -> None:
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        rules = "\n".join(render_acl_rule(user, PASSWORD) for user in USERS)
        conf = directory / "redis.conf"
        conf.write_text(f'port 0\nunixsocket {self.socket}\nsave ""\ndir {directory}\n{rules}\n')
        self.process = subprocess.Popen(["redis-server", str(conf)], stdout=subprocess.DEVNULL)
        self.admin = redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)

    def is_answering(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.RedisError:
            return False

    def connect(self) -> CacheWriter:
        return CacheWriter(RedisLink(self.url, username=AGENT.name, password=PASSWORD))

    def lives(self, pattern: str = "fc1:*") -> dict[str, float]:
        """Seconds that each key has left, but for those that tell how far a pass is."""
        keys = [k for k in self.admin.scan_iter(pattern, count=5_000) if not k.startswith("fc1:e")]
        pipe = self.admin.pipeline(transaction=False)
        for key in keys:
            pipe.pttl(key)
        return {k: ms / 1000 for k, ms in zip(keys, pipe.execute(), strict=True) if ms != -2}


@contextmanager
def running_redis(directory: Path) -> Iterator[RedisServer]:
    server = RedisServer(directory)
    try:
        wait(server.is_answering)
        yield server
    finally:
        server.admin.close()
        server.process.terminate()
        server.process.wait(60)


def wait(condition: Callable[[], object], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class ConfigVolume:
    """`effective.json` is a link into `..data`, which is turned to a new folder in one step."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.path = directory / "effective.json"
        self._versions = 0

    def publish(self, config: EffectiveConfig | bytes) -> Path:
        self._versions += 1
        folder = self.directory / f"..2026_{self._versions}"
        folder.mkdir()
        raw = config if isinstance(config, bytes) else render_effective(config).encode()
        (folder / "effective.json").write_bytes(raw)
        link, data = self.directory / "..data_tmp", self.directory / "..data"
        old = data.resolve() if data.is_symlink() else None
        link.symlink_to(folder.name)
        link.rename(data)
        if old is not None:
            shutil.rmtree(old)
        else:
            self.path.symlink_to("..data/effective.json")
        return self.path
