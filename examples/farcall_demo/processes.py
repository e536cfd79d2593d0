"""Starts the demo's processes in their namespaces and ends all of them, whatever happens to the demo.

Every process is told by the kernel when its parent is gone (PR_SET_PDEATHSIG), so that a killed demo leaves none.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farcall_demo.network import find_tool

PR_SET_PDEATHSIG = 1
STOP_WITHIN_S = 3.0
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Between fork and exec. The signal outlives exec, because nothing here is set-user-ID."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One program of the workload. `host` None: the machine's own namespace."""

    name: str
    host: str | None
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def python_app(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"farcall_demo.apps.{module}", *arguments)


class Processes:
    """Those that run. Standard error of each goes to `logs`/demo-<name>.log."""

    def __init__(self, *, prefix: str, logs: Path) -> None:
        self._prefix = prefix
        self._logs = logs
        self._running: dict[str, tuple[App, subprocess.Popen[bytes]]] = {}
        self._once: list[subprocess.Popen[bytes]] = []

    def start(self, app: App) -> None:
        self._running[app.name] = (app, self._open(app))

    def start_once(self, app: App) -> None:
        """A job that ends by itself, as a CronJob's pod does."""
        self._once = [process for process in self._once if process.poll() is None]
        self._once.append(self._open(app))

    def restart_ended(self) -> list[str]:
        """Starts again what should run and does not; their names."""
        ended = [name for name, (_, process) in self._running.items() if process.poll() is not None]
        for name in ended:
            self.start(self._running[name][0])
        return ended

    def stop(self) -> None:
        processes = [process for _, process in self._running.values()] + self._once
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + STOP_WITHIN_S
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        self._once.clear()

    def _open(self, app: App) -> subprocess.Popen[bytes]:
        command: Sequence[str] = app.command
        if app.host is not None:
            command = (find_tool("ip") or "ip", "netns", "exec", self._prefix + app.host, *command)
        with open(self._logs / f"demo-{app.name}.log", "ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._environment(app),
                preexec_fn=die_with_parent,
            )

    @staticmethod
    def _environment(app: App) -> dict[str, str]:
        """Few variables on purpose: a proxy of the user's shell would redirect the calls that are to be shown."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH") if key in os.environ}
        return {**kept, "OTEL_SERVICE_NAME": app.name, "PYTHONUNBUFFERED": "1", **app.environment}
