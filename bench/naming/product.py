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
from collections.abc import Callable
from pathlib import Path

from farcall.api import Evidence, Span, SpanQuery, Window
from farcall.client import ApiClient, ApiError, find_server
from farcall.effective import EffectiveConfig, read_effective, write_effective
from farcall.rundir import RunDir
from farcall_demo.processes import die_with_parent
from naming.network import RESOLVER, SELF_LOOPBACK, STUB

INSTANCE = "naming"
START_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0
COMPONENTS = ("redis", "store", "exporter", "console", "agent")
PAGE = 1_000
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


def with_own(config: EffectiveConfig, cgroup: str) -> EffectiveConfig:
    own = [*config.capture.own_cgroups, cgroup]
    return config.model_copy(
        update={"capture": config.capture.model_copy(update={"own_cgroups": own})}
    )
