"""TCP ports of loopback: which are free, who holds one, and holding one for as long as this process lives.

A component dies and comes back on the same port, so its port must not be one that an outgoing connection may be
given: scanning starts below the kernel's ephemeral range. A port is claimed by an abstract socket of that name, so
that two instances started in the same moment do not choose the same one.
"""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"
SCAN = 200  # as many neighbours are tried; more would be a machine with other troubles
LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


class PortTakenError(Exception):
    """The message says which port, and who holds it where that can be seen."""


@dataclass(slots=True)
class PortClaims:
    """Ports that this process has chosen; nobody else who asks this way gets them while it lives."""

    _held: dict[int, socket.socket] = field(default_factory=dict)

    def claim(self, port: int) -> None:
        """Raises PortTakenError."""
        if port in self._held or not is_free(port) or not self._hold(port):
            raise PortTakenError(describe_taken(port))

    def claim_from(self, first: int) -> int:
        """The first free port at or above `first`. Raises PortTakenError."""
        for port in range(first, min(first + SCAN, 65_536)):
            if port not in self._held and is_free(port) and self._hold(port):
                return port
        raise PortTakenError(f"none of the ports {first} to {first + SCAN - 1} is free")

    def release(self) -> None:
        for holder in self._held.values():
            holder.close()
        self._held.clear()

    def _hold(self, port: int) -> bool:
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            holder.bind(f"\0farcall-port-{port}")
        except OSError:
            holder.close()
            return False
        self._held[port] = holder
        return True


def is_free(port: int) -> bool:
    """Whether somebody could listen there. Connections of the past (TIME_WAIT) do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()  # bind alone succeeds beside a listener that set SO_REUSEADDR and does not listen yet
        except OSError:
            return False
    return True


def describe_taken(port: int) -> str:
    holder = find_holder(port)
    if holder is None:
        return f"port {port} is taken"
    pid, name = holder
    return f"port {port} is taken by {name} (pid {pid})"


def find_holder(port: int) -> tuple[int, str] | None:
    """The process that listens on `port`, as far as this process may see it."""
    sockets = {f"socket:[{inode}]" for inode in _list_listeners(port)}
    if not sockets:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _holds(process, sockets):
            return int(process.name), _read_name(process)
    return None


def _list_listeners(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue  # no IPv6
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _holds(process: Path, sockets: set[str]) -> bool:
    try:
        return any(os.readlink(fd) in sockets for fd in (process / "fd").iterdir())
    except OSError:  # it ended meanwhile, or is somebody else's
        return False


def _read_name(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a process"
