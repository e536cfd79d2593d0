"""Local mode's run directory: where `farcall up` keeps what the other commands need to find it.

    /run/farcall/<instance>/          mode 0700
        effective.json                the effective config that every component watches
        secrets/                      farcall.secretfiles
        redis.sock                    the DNS cache
        pids/<component>              decimal pid of the running process
        ready/<component>             exists once the component said that it is ready
        logs/<component>.log          JSON lines

Data that outlives a run (the store's) is in /var/lib/farcall/<instance>/.
"""

import os
from pathlib import Path

RUN_ROOT = Path("/run/farcall")
STATE_ROOT = Path("/var/lib/farcall")
COMPONENTS = ("redis", "store", "exporter", "console", "agent", "demo")


class RunDirError(Exception):
    """No instance, or more than one, runs here; the message says what to do."""


class RunDir:
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def instance(self) -> str:
        return self.path.name

    @property
    def effective(self) -> Path:
        return self.path / "effective.json"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def redis_socket(self) -> Path:
        return self.path / "redis.sock"

    def pid_file(self, component: str) -> Path:
        return self.path / "pids" / component

    def ready_file(self, component: str) -> Path:
        return self.path / "ready" / component

    def log_file(self, component: str) -> Path:
        return self.path / "logs" / f"{component}.log"

    def make(self) -> None:
        """Creates the directory and its parts. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(self.path, 0o700)
        for part in ("secrets", "pids", "ready", "logs"):
            (self.path / part).mkdir(exist_ok=True, mode=0o700)


def find_rundir(instance: str | None = None, *, root: Path = RUN_ROOT) -> RunDir:
    """The run directory of `instance`, or of the only one there is. Raises RunDirError."""
    if instance is not None:
        if not is_instance_name(instance) or instance not in _list_instances(root):
            raise RunDirError(
                f"no farcall instance {instance!r} runs here; start one with: farcall up -f FILE"
            )
        return RunDir(root / instance)
    running = _list_instances(root)
    if not running:
        raise RunDirError(
            "no farcall runs here; start it with: farcall up -f FILE, or name a server with --url"
        )
    if len(running) > 1:
        raise RunDirError(
            f"several instances run here: choose one with --instance ({', '.join(running)})"
        )
    return RunDir(root / running[0])


def is_instance_name(text: str) -> bool:
    """A directory's name below the root, and nothing that leads out of it."""
    return text not in ("", ".", "..") and "/" not in text and "\0" not in text


def _list_instances(root: Path) -> list[str]:
    """Raises RunDirError when they cannot be read: pathlib's glob would call that "none"."""
    try:
        entries = sorted(os.listdir(root))
        return [name for name in entries if _has_file(root / name / "effective.json")]
    except FileNotFoundError:
        return []
    except OSError as e:
        raise RunDirError(f"{e.filename}: {e.strerror}; run this as root") from e


def _has_file(path: Path) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
