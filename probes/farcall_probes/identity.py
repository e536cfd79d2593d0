"""Who a record speaks of: the process, its container and pod, and the client whose DNS answers count for it.

The client is the container. Outside containers it is the process that was *started*, inherited over fork:

    a process without an exec of its own belongs to the client of the process that exec'd the program.

So a forked worker finds what its parent looked up, and two programs started by one shell share nothing. "Without an exec
of its own" is read from the addresses that execve chose at random (stack, heap, code: proc_pid_stat, fields 28, 47, 26, 45);
fork copies them. The client is named after the oldest ancestor that is alive and has the same addresses; a mark once seen
keeps its client, so workers whose parent has ended stay with it for as long as this agent runs. Where addresses are not
randomised, or cannot be read, each process is its own client: a miss, never a wrong name.
"""

import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from farcall_probes import procfs
from farcall_probes.cgroups import CgroupTree, Container, PodLogs, parse_membership, parse_path
from farcall_probes.wire.outcomes import text

MAX_IDENTITIES = 8192  # processes; about 600 bytes each
MAX_ANCESTORS = 32
MAX_MEMBERS = 64  # processes of a container that are asked for their start
LIFE_NS = 60_000_000_000  # after an exec or a renamed service, the new name shows within a minute
_SERVICE_VARIABLES = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
_INTERPRETER = re.compile(
    r"(?:python|pypy|node|nodejs|ruby|perl|php|bash|sh|dash|java|lua|Rscript)(?:-?[0-9.]+)?"
)
_OPTIONS_WITH_VALUE = frozenset(("-W", "-X", "-r", "--require", "-cp", "-classpath", "-I"))
_SCRIPT_ENDINGS = re.compile(r"\.(?:py|pyc|js|mjs|cjs|rb|pl|php|sh|jar|lua|R)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    client_key: str
    tgid: int
    executable: str
    service: str
    container_id: str | None
    pod_uid: str | None
    pod: str | None
    namespace: str | None
    container: str | None
    client_started_ns: (
        int  # CLOCK_BOOTTIME: since when there was someone who could have looked names up
    )
    known_cgroup: bool  # False: no cgroup of this node, so another node's process or one long gone


class Seen(NamedTuple):
    """What a record says of its process."""

    tgid: int
    start_ns: int  # CLOCK_BOOTTIME
    parent_tgid: int
    cgroup_id: int
    comm: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    identity: Identity
    read_ns: int


class Identities:
    """Finds identities and remembers them; the files of a process are read once a minute at most."""

    def __init__(
        self,
        *,
        node: str,
        proc: Path = Path("/proc"),
        cgroups: CgroupTree | None = None,
        pods: PodLogs | None = None,
    ) -> None:
        self._node = node
        self._proc = proc
        self._cgroups = cgroups or CgroupTree()
        self._pods = pods or PodLogs()
        self._known: OrderedDict[tuple[int, int], _Entry] = OrderedDict()
        self._roots: OrderedDict[tuple[int, ...], tuple[str, int]] = OrderedDict()
        self.gone = 0  # processes that had ended before their first record was read

    def __len__(self) -> int:
        return len(self._known)

    def find(self, seen: Seen, *, now_ns: int) -> Identity:
        key = (seen.tgid, seen.start_ns // procfs.NS_PER_TICK)
        entry = self._known.get(key)
        if entry is not None and now_ns - entry.read_ns < LIFE_NS:
            return entry.identity
        identity = self._read(seen, known=entry.identity if entry else None)
        self._known[key] = _Entry(identity=identity, read_ns=now_ns)
        self._known.move_to_end(key)
        if len(self._known) > MAX_IDENTITIES:
            self._known.popitem(last=False)
        return identity

    def find_client(self, tgid: int) -> str | None:
        """The client that a running process belongs to, before any record spoke of it; None when it is gone."""
        stat = procfs.read_stat(self._proc, tgid)
        if stat is None:
            return None
        container, _ = parse_membership(procfs.read_cgroup_lines(self._proc, tgid))
        if container is not None:
            return f"c:{container.container_id}"
        start_ns = stat.start_ticks * procfs.NS_PER_TICK
        # Of a process' own cgroup the kernel's ID is not known here: one of our own container is not found, which is a miss.
        seen = Seen(tgid, start_ns, stat.parent_tgid, 0, b"")
        return self._client(seen, stat)[0]

    def _read(self, seen: Seen, *, known: Identity | None) -> Identity:
        stat = procfs.read_stat(self._proc, seen.tgid)
        if stat is None or stat.start_ticks != seen.start_ns // procfs.NS_PER_TICK:
            if known is None:
                self.gone += 1
            return known or self._read_gone(seen)
        container, path = parse_membership(procfs.read_cgroup_lines(self._proc, seen.tgid))
        if container is None and path == "/":
            # A cgroup namespace of our own hides the path; the kernel's ID does not.
            container = parse_path(self._cgroups.find(seen.cgroup_id) or "/")
        if container is None:
            client_key, started_ns = self._client(seen, stat)
        else:
            client_key, started_ns = f"c:{container.container_id}", self._container_start(seen)
        arguments = procfs.read_arguments(self._proc, seen.tgid)
        executable = name_of_program(
            procfs.read_executable(self._proc, seen.tgid), stat.comm, arguments
        )
        return self._build(
            seen,
            container,
            client_key,
            started_ns,
            text(executable.encode(), 128),
            arguments,
            procfs.read_environment(self._proc, seen.tgid, _SERVICE_VARIABLES),
        )

    def _read_gone(self, seen: Seen) -> Identity:
        """The process has ended: the record and the cgroup tree are all there is."""
        path = self._cgroups.find(seen.cgroup_id)
        container = parse_path(path) if path is not None else None
        client_key = (
            f"c:{container.container_id}" if container else self._key(seen.tgid, seen.start_ns)
        )
        started_ns = self._container_start(seen) if container else seen.start_ns
        name = text(seen.comm, 16) or "?"
        return self._build(
            seen, container, client_key, started_ns, name, [], {}, known_cgroup=path is not None
        )

    def _build(
        self,
        seen: Seen,
        container: Container | None,
        client_key: str,
        started_ns: int,
        executable: str,
        arguments: list[str],
        environment: dict[str, str],
        *,
        known_cgroup: bool = True,
    ) -> Identity:
        names = self._pods.find(container) if container else None
        service = (
            service_of_environment(environment)
            or (names.container if names else None)
            or service_of_arguments(executable, arguments)
        )
        return Identity(
            client_key=client_key,
            tgid=seen.tgid,
            executable=executable,
            service=text(service.encode(), 128),
            container_id=container.container_id if container else None,
            pod_uid=container.pod_uid if container else None,
            pod=names.pod if names else None,
            namespace=names.namespace if names else None,
            container=names.container if names else None,
            client_started_ns=started_ns,
            known_cgroup=known_cgroup,
        )

    def _key(self, tgid: int, start_ns: int) -> str:
        return f"p:{self._node}:{tgid}:{start_ns // procfs.NS_PER_TICK}"

    def _client(self, seen: Seen, stat: procfs.ProcessStat) -> tuple[str, int]:
        """The client outside containers, and when it was started."""
        mark = stat.exec_mark
        own = self._key(seen.tgid, seen.start_ns), seen.start_ns
        if mark is None:
            return own
        root = self._roots.get(mark)
        if root is None:
            root = self._oldest_ancestor(mark, stat.parent_tgid) or own
            self._roots[mark] = root
            if len(self._roots) > MAX_IDENTITIES:
                self._roots.popitem(last=False)
        self._roots.move_to_end(mark)
        return root

    def _oldest_ancestor(self, mark: tuple[int, ...], tgid: int) -> tuple[str, int] | None:
        oldest: tuple[str, int] | None = None
        for _ in range(MAX_ANCESTORS):
            stat = procfs.read_stat(self._proc, tgid)
            if stat is None or stat.exec_mark != mark:
                break
            start_ns = stat.start_ticks * procfs.NS_PER_TICK
            oldest = self._key(tgid, start_ns), start_ns
            tgid = stat.parent_tgid
        return oldest

    def _container_start(self, seen: Seen) -> int:
        """The oldest process of the container: who else in it could have looked a name up before we watched."""
        starts = [seen.start_ns]
        self._cgroups.find(seen.cgroup_id)  # reads the tree when the group is new
        for tgid in self._cgroups.members(seen.cgroup_id)[:MAX_MEMBERS]:
            stat = procfs.read_stat(self._proc, tgid)
            if stat is not None:
                starts.append(stat.start_ticks * procfs.NS_PER_TICK)
        return min(starts)


def name_of_program(executable: str | None, comm: str, arguments: list[str]) -> str:
    """The executable's file name, or the name it was called by where that file has many: Debian's redis-server is a link to
    redis-check-rdb, everything of BusyBox one to busybox. comm is what execve was given, cut to 15 bytes, unless renamed since."""
    if executable is None:
        return comm
    called = os.path.basename(arguments[0].split(" ")[0]) if arguments else ""
    was_called = bool(comm) and called.startswith(comm)
    return called if was_called and not executable.startswith(comm) else executable


def service_of_environment(environment: dict[str, str]) -> str | None:
    """OpenTelemetry's own order: OTEL_SERVICE_NAME, then service.name in OTEL_RESOURCE_ATTRIBUTES."""
    if name := environment.get("OTEL_SERVICE_NAME"):
        return name
    for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name" and value.strip():
            return value.strip()
    return None


def service_of_arguments(executable: str, arguments: list[str]) -> str:
    """The script's or module's name behind an interpreter, else the executable's: `python3 inventory.py` → `inventory`."""
    if _INTERPRETER.fullmatch(executable) is None:
        return executable
    rest = iter(arguments[1:])
    for argument in rest:
        if argument in ("-m", "-jar"):
            return _script_name(next(rest, "")) or executable
        if argument in ("-c", "-e"):
            return executable
        if argument in _OPTIONS_WITH_VALUE:
            next(rest, None)
        elif argument and not argument.startswith("-"):
            return _script_name(argument) or executable
    return executable


def _script_name(argument: str) -> str:
    return _SCRIPT_ENDINGS.sub("", os.path.basename(argument))
