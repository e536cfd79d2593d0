"""One process group per component: starting it, telling how it ended, and ending all of it."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from farcall_operator.desired import Component
from farcall_operator.local import launch
from farcall_operator.local.logfiles import open_log


class Running(Protocol):
    """A started component, as the supervisor sees it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative for the signal that ended it. Ends its group."""

    def terminate(self) -> None:
        """Asks it to end."""

    def kill(self) -> None:
        """Ends it and its whole group."""


class Spawner(Protocol):
    def spawn(self, component: Component) -> Running:
        """Raises OSError."""


@dataclass(slots=True)
class ProcessGroup:
    """The leader is told when to stop and stops its own; what is left of the group is killed with it."""

    _process: subprocess.Popen[bytes]
    _exit_code: int | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        if self._exit_code is None and self._has_ended():
            # While the leader is a zombie, its group's number cannot be anybody else's.
            self._kill_group()
            self._exit_code = self._process.wait()
        return self._exit_code

    def terminate(self) -> None:
        if self._exit_code is None:
            self._process.terminate()

    def kill(self) -> None:
        if self._exit_code is None:
            self._kill_group()

    def _has_ended(self) -> bool:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def _kill_group(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nobody of it is left


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpawner:
    """`outside` is the cgroup directory of a traced component; the others stay where this process is."""

    logs: Path
    outside: Path | None = None
    captured: frozenset[str] = frozenset()  # whose standard output goes to a file of its own

    def spawn(self, component: Component) -> Running:
        cgroup = str(self.outside) if component.traced and self.outside else launch.NO_CGROUP
        shim = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), cgroup)
        log = open_log(self.logs / f"{component.name}.log")
        out = log if component.name not in self.captured else open_log(self.output(component.name))
        try:
            process = subprocess.Popen(
                (*shim, *component.argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd="/",
                env={**os.environ, **dict(component.environment)},
                start_new_session=True,
            )
        finally:
            for handle in {log, out}:
                os.close(handle)
        return ProcessGroup(process)

    def output(self, name: str) -> Path:
        return self.logs / f"{name}.out"


def describe_exit(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
