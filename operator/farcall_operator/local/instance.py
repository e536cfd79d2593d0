"""One instance on this machine: its directories, and the lock that keeps a second `farcall up` out of them.

The lock is on the run directory itself and belongs to the process: nothing is stale after a kill -9. Whoever gets it
removes what the killed run left.
"""

import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from farcall.rundir import RunDir

UP = "up"  # the supervisor's own pid file
MAX_SOCKET_PATH = 107  # bytes; sun_path holds 108 with its final NUL


class InstanceError(Exception):
    """The instance cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDir:
    """What outlives a run."""

    path: Path

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def redis(self) -> Path:
        return self.path / "redis"

    @property
    def kept_secrets(self) -> Path:
        return self.path / "secrets"

    def make(self) -> None:
        for part in (self.path, self.store, self.redis, self.kept_secrets):
            part.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chmod(part, 0o700)


def check_socket_path(run_dir: RunDir) -> None:
    """Raises InstanceError when Redis could not listen there."""
    if len(os.fsencode(run_dir.redis_socket)) > MAX_SOCKET_PATH:
        raise InstanceError(
            f"{run_dir.redis_socket} is too long for a Unix socket ({MAX_SOCKET_PATH} bytes);"
            " choose a shorter --run-root or --instance"
        )


class InstanceLock:
    """Held from take() to release(), or until the process ends."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._handle: int | None = None

    def take(self) -> None:
        """Makes the empty run directory and locks it. Raises InstanceError, OSError."""
        path = self._run_dir.path
        while True:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = _try_lock(path)
            if handle is None:
                raise InstanceError(describe_running(self._run_dir, _read_pid(self._run_dir)))
            if _is_same(handle, path):
                break
            os.close(handle)  # its former holder removed the directory between mkdir and lock
        self._handle = handle
        clear(path)
        self._run_dir.make()
        self._run_dir.pid_file(UP).write_text(f"{os.getpid()}\n", encoding="ascii")

    def release(self) -> None:
        """Removes the run directory, and its parent when nobody else uses it."""
        if self._handle is None:
            return
        shutil.rmtree(self._run_dir.path, ignore_errors=True)
        os.close(self._handle)
        self._handle = None
        try:
            self._run_dir.path.parent.rmdir()
        except OSError:
            pass  # another instance lives there


def describe_running(run_dir: RunDir, pid: int | None) -> str:
    who = f" as pid {pid}" if pid else ""
    stop = f": stop it with `kill {pid}`" if pid else ": stop it"
    return f"the instance {run_dir.instance!r} runs already{who}{stop}, or start another with --instance NAME"


def clear(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _try_lock(path: Path) -> int | None:
    """An open, locked handle of the directory; None when somebody else holds it. Raises OSError without it."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _read_pid(run_dir: RunDir) -> int | None:
    try:
        return int(run_dir.pid_file(UP).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
