"""What local mode knows about a component beside its process: ready file, pid file, Redis' answer, last words."""

import socket
from pathlib import Path

from farcall.cacheacl import EXPORTER
from farcall.rundir import RunDir
from farcall.secretfiles import SecretError, read_secret
from farcall_operator.desired import Component, ReadyFile
from farcall_operator.local.logfiles import read_last_words
from farcall_operator.local.supervisor import Hooks

PING_TIMEOUT_S = 0.5  # on a Unix socket; while it loads its file it answers, with an error
MAX_REPLY_BYTES = 512


class LocalHooks(Hooks):
    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._log_starts: dict[
            str, int
        ] = {}  # so that last words are never those of an earlier run

    def before_start(self, component: Component) -> None:
        self._ready_file(component).unlink(missing_ok=True)
        try:
            self._log_starts[component.name] = self._log(component).stat().st_size
        except FileNotFoundError:
            self._log_starts[component.name] = 0

    def has_started(self, component: Component, pid: int) -> None:
        write_pid(self._run_dir.pid_file(component.name), pid)

    def has_ended(self, component: Component) -> None:
        self._run_dir.pid_file(component.name).unlink(missing_ok=True)
        self._ready_file(component).unlink(missing_ok=True)

    def is_ready(self, component: Component) -> bool:
        if isinstance(component.readiness, ReadyFile):
            return Path(component.readiness.path).exists()
        ready = is_redis_ready(self._run_dir.redis_socket, self._run_dir.secrets)
        if ready:
            self._ready_file(component).write_text("ready\n", encoding="ascii")
        return ready

    def last_words(self, component: Component) -> str:
        since = self._log_starts.get(component.name, 0)
        return read_last_words(self._log(component), since=since)

    def _log(self, component: Component) -> Path:
        return self._run_dir.log_file(component.name)

    def _ready_file(self, component: Component) -> Path:
        return self._run_dir.ready_file(component.name)


def write_pid(path: Path, pid: int) -> None:
    """In one step: who reads it finds all of it, or no file."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(f"{pid}\n", encoding="ascii")
    temporary.replace(path)


def is_redis_ready(path: Path, secrets_dir: Path) -> bool:
    """Whether Redis answers PING with PONG. As a user, because the default user may not even ask."""
    try:
        password = read_secret(secrets_dir, EXPORTER.password_file)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PING_TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(f"AUTH {EXPORTER.name} {password}\r\nPING\r\nQUIT\r\n".encode())
            return b"+PONG" in _read_to_end(connection)
    except (OSError, SecretError):
        return False


def _read_to_end(connection: socket.socket) -> bytes:
    reply = b""
    while len(reply) < MAX_REPLY_BYTES and (more := connection.recv(MAX_REPLY_BYTES)):
        reply += more
    return reply
