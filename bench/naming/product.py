"""farcall as a user starts it, and the faults that are done to it: components killed, stopped, started a second time."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import redis

from farcall.api import Evidence, Span, SpanQuery, Window
from farcall.cacheacl import AGENT, USERS, render_acl_rule
from farcall.client import ApiClient, ApiError, find_server
from farcall.dnscache import PREFIX, Answer, CacheWriter
from farcall.effective import EffectiveConfig, read_effective, write_effective
from farcall.redislink import RedisLink
from farcall.rundir import RunDir
from farcall.secretfiles import read_secret
from farcall_demo.processes import die_with_parent
from naming.network import RESOLVER, SELF_LOOPBACK, STUB

INSTANCE = "naming"
START_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0
COMPONENTS = ("redis", "store", "exporter", "console", "agent")
PAGE = 1_000
ADMIN = "user naming on nopass ~* &* +@all"
# Of Redis' memory: what is written until it gives up the oldest, and in what portions.
FILL_BYTES, FILL_AT_ONCE, FILL_AT_MOST = 256 << 10, 200, 100
CIDRS = ["10.244.0.0/16", "10.96.0.0/12", "2001:db8:f0::/46"]


class ProductError(Exception):
    """farcall did not start, or did not come back."""


class Product:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.run_dir = RunDir(folder / "run" / INSTANCE)
        self._process: subprocess.Popen[bytes] | None = None
        self._second: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        resource = {
            "apiVersion": "farcall.dev/v1alpha1",
            "kind": "TracingConfig",
            "metadata": {"name": INSTANCE},
            "spec": {
                "tier": "Hobby",
                "clusterCIDRs": CIDRS,
                # The loopback ones stand for a node whose own resolv.conf names a resolver daemon.
                "dns": {"resolvers": [RESOLVER, STUB, SELF_LOOPBACK]},
            },
        }
        config = self._folder / "tracingconfig.yaml"
        config.write_text(json.dumps(resource), encoding="ascii")
        roots = ("--run-root", self._folder / "run", "--state-root", self._folder / "state")
        command = (sys.executable, "-m", "farcall.commands", "up", "-f", config, *roots)
        self._process = self._spawn("up", *map(str, command))
        await self._wait(self._is_ready, "farcall did not start")

    def stop(self) -> None:
        for process in (self._second, self._process):
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGINT if process is self._process else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_WITHIN_S)
            if process.poll() is None:
                process.kill()
                process.wait()

    def copy_logs(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for log in [*self._folder.glob("*.log"), *(self.run_dir.path / "logs").glob("*.log")]:
            shutil.copy(log, folder)

    # ---- faults -----------------------------------------------------------------------------------------------

    async def restart(self, component: str, *, meanwhile: Callable[[], None] | None = None) -> None:
        """kill -9, as an out-of-memory kill would; farcall starts it again."""
        killed = await self.kill(component)
        if meanwhile is not None:
            meanwhile()
        await self.wait_back(component, killed)

    async def kill(self, component: str) -> int:
        pid = self._pid(component)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def wait_back(self, component: str, killed: int) -> None:
        def is_back() -> bool:
            return self._pid(component) != killed and self.run_dir.ready_file(component).exists()

        await self._wait(is_back, f"{component} did not come back")

    def lose_cache(self) -> None:
        """What a Redis without a volume does: its files are gone when it starts again."""
        for path in (self.run_dir.path / "redis").rglob("*"):
            if path.is_file():
                path.unlink(missing_ok=True)

    # ---- what is done to Redis ---------------------------------------------------------------------------------

    async def open_redis(self) -> None:
        """Restarts it with a user who may do anything: farcall's own may not break it."""
        conf = self.run_dir.path / "redis.conf"
        text = conf.read_text(encoding="utf-8")
        if ADMIN not in text:
            conf.write_text(f"{text}{ADMIN}\n", encoding="utf-8")
            await self.restart("redis")

    def administer(self) -> redis.Redis:
        socket = str(self.run_dir.redis_socket)
        return redis.Redis(unix_socket_path=socket, username="naming", decode_responses=True)

    def set_redis_users(self, password: str | None = None) -> None:
        """With this password instead of their own; their connections are cut."""
        with self.administer() as admin:
            for user in USERS:
                own = read_secret(self.run_dir.secrets, user.password_file)
                rule = render_acl_rule(user, password or own)
                admin.execute_command("ACL", "SETUSER", *rule.split()[1:])
                admin.execute_command("CLIENT", "KILL", "USER", user.name)

    def fill_redis(self, names: Sequence[str]) -> None:
        """As agents of other nodes would: until it has given up what it holds of these names. Raises ProductError."""
        password = read_secret(self.run_dir.secrets, AGENT.password_file)
        url = f"unix://{self.run_dir.redis_socket}"
        with self.administer() as admin:
            # As many as Redis lets us: it samples, and with few it now and then gives up what would have lived longer.
            admin.config_set("maxmemory-samples", 64)
            admin.config_set("maxmemory", int(admin.info("memory")["used_memory"]) + FILL_BYTES)
            link = RedisLink(url, username=AGENT.name, password=password)
            writer, now = CacheWriter(link), time.time()
            # What fills it lives longer than the names, and shorter than the tombstones that they leave.
            ttl_s = read_effective(self.run_dir.effective).dns.effective_ttl_s
            for number in range(FILL_AT_MOST):
                fill = [
                    Answer(
                        client_key=f"fill-{number}",
                        ip=f"198.18.{n // 250}.{n % 250 + 1}",
                        name="fill.example.com",
                        answered_at=now,
                        trusted=False,
                    )
                    for n in range(FILL_AT_ONCE)
                ]
                writer.write(fill, [], ttl_s=ttl_s, now=now)
                if not any(is_held(admin, name) for name in names):
                    break
            admin.config_set("maxmemory", 0)
            if any(is_held(admin, name) for name in names):
                raise ProductError("Redis did not give up what it was to")

    def signal(self, component: str, what: signal.Signals) -> None:
        os.kill(self._pid(component), what)

    async def configure(self, **dns: object) -> None:
        """Changes live fields in the file that every component watches, and waits until all have applied it."""
        config = read_effective(self.run_dir.effective)
        self.write(config.model_copy(update={"dns": config.dns.model_copy(update=dns)}))
        await self._wait_applied()

    async def exclude(self, cgroup: str) -> None:
        """The agent leaves a cgroup alone, as if it were another node's."""
        config = read_effective(self.run_dir.effective)
        self.write(with_own(config, cgroup))
        await self._wait_applied()

    def write(self, config: EffectiveConfig) -> None:
        write_effective(config, self.run_dir.effective)

    async def start_second_agent(self, node: str, foreign_cgroup: str) -> None:
        """`farcall agent` for another node, which leaves the first one's clients alone."""
        config = read_effective(self.run_dir.effective).model_copy(update={"node": node})
        own = [c for c in config.capture.own_cgroups if "naming" not in c]
        capture = config.capture.model_copy(update={"own_cgroups": own})
        path, ready = self._folder / f"{node}.json", self._folder / f"{node}.ready"
        write_effective(
            with_own(config.model_copy(update={"capture": capture}), foreign_cgroup), path
        )
        command = (sys.executable, "-m", "farcall.commands", "agent")
        files = ("--config", str(path), "--ready-file", str(ready))
        self._second = self._spawn(node, *command, *files)
        await self._wait(ready.exists, f"the agent of {node} did not start")

    # ---- what it saw ------------------------------------------------------------------------------------------

    def list_spans(self, query: str, *, since_ns: int) -> list[Span]:
        """Every page. Raises ApiError."""
        client = ApiClient(find_server(self.run_dir))
        window = Window(from_ns=since_ns, to_ns=time.time_ns() + 10**9)
        spans: list[Span] = []
        cursor: str | None = None
        while True:
            page = client.list_spans(SpanQuery(q=query, window=window, limit=PAGE, cursor=cursor))
            spans += page.items
            cursor = page.next
            if cursor is None:
                return spans

    def read_evidence(self, span: Span) -> Evidence:
        return ApiClient(find_server(self.run_dir)).read_evidence(span.trace_id, span.span_id)

    # ---- waiting ----------------------------------------------------------------------------------------------

    def _is_ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise ProductError(f"farcall up ended: {(self._folder / 'up.log').read_text()[-800:]}")
        return all(self.run_dir.ready_file(name).exists() for name in COMPONENTS)

    async def _wait_applied(self) -> None:
        """Components read the file once a second."""
        client = ApiClient(find_server(self.run_dir))

        def is_applied() -> bool:
            wanted = read_effective(self.run_dir.effective).revision
            try:
                seen = [c for c in client.read_status().components if c.alive]
            except ApiError:
                return False
            return bool(seen) and all(c.config_revision == wanted for c in seen)

        await self._wait(is_applied, "the config was not applied")

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_WITHIN_S
        while True:
            with contextlib.suppress(OSError, ValueError):
                if condition():
                    return
            if time.monotonic() > deadline:
                raise ProductError(f"{what} within {START_WITHIN_S:g} s")
            await asyncio.sleep(0.1)

    def _spawn(self, name: str, *command: str) -> "subprocess.Popen[bytes]":
        with open(self._folder / f"{name}.log", "wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def _pid(self, component: str) -> int:
        return int(self.run_dir.pid_file(component).read_text(encoding="ascii"))


def is_held(admin: redis.Redis, ip: str) -> bool:
    """Whether a client's names of this address are there."""
    return any(True for _ in admin.scan_iter(match=f"{PREFIX}a:*:{ip}", count=10_000))


def with_own(config: EffectiveConfig, cgroup: str) -> EffectiveConfig:
    own = [*config.capture.own_cgroups, cgroup]
    return config.model_copy(
        update={"capture": config.capture.model_copy(update={"own_cgroups": own})}
    )
