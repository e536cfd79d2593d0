"""Containers and pods from cgroup paths and log folder names. No API server, no runtime socket: only the node's own files.

Paths as the drivers write them:

    cgroupfs   /kubepods/burstable/pod<uid>/<64 hex>                              /docker/<64 hex>
    systemd    /kubepods.slice/…/kubepods-burstable-pod<uid>.slice/cri-containerd-<64 hex>.scope
               (uid with _ for -)   crio-<64 hex>.scope   docker-<64 hex>.scope   libpod-<64 hex>.scope
    containerd as a unit   …/kubepods-besteffort-pod<uid>.slice:cri-containerd:<64 hex>
"""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from farcall_probes.procfs import read_bounded

MAX_DIRECTORIES = 20_000  # of one walk; a node has a few thousand
RESCAN_AFTER_S = (
    1.0  # an unknown ID starts a walk at most this often: it costs about 5 µs a directory
)
_CONTAINER = re.compile(r"(?:^|[-:/])([0-9a-f]{64})(?:\.scope)?(?=/|$)")
_POD = re.compile(
    r"(?:^|[-/])pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?=\.slice|[/:]|$)"
)
# Version 1: the hierarchy that every runtime fills; version 2 is hierarchy 0 with no controllers.
_PREFERRED = ("", "memory", "name=systemd", "pids", "cpu,cpuacct", "cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    container_id: str
    pod_uid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNames:
    namespace: str
    pod: str
    container: str | None


def parse_path(path: str) -> Container | None:
    """The innermost container of a cgroup path; None outside containers."""
    containers = _CONTAINER.findall(path)
    if not containers:
        return None
    pods = _POD.findall(path)
    return Container(
        container_id=containers[-1], pod_uid=pods[-1].replace("_", "-") if pods else None
    )


def parse_membership(lines: list[str]) -> tuple[Container | None, str]:
    """From the lines of /proc/TGID/cgroup: the container, and the path that it was read from."""
    paths: dict[str, str] = {}
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths[controllers] = path
    ordered = [paths[c] for c in _PREFERRED if c in paths]
    for path in ordered or list(paths.values()):
        if (container := parse_path(path)) is not None:
            return container, path
    return None, next((p for p in ordered if p != "/"), "/")


class CgroupTree:
    """cgroup ID → path. The ID is the inode of the directory: in the v2 tree, else in the memory hierarchy."""

    def __init__(
        self, root: Path = Path("/sys/fs/cgroup"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._trees = [t for t in (root / "unified", root / "memory") if t.is_dir()] or [root]
        self._paths: dict[int, str] = {}
        self._clock = clock
        self._scanned_at = float("-inf")

    def find(self, cgroup_id: int) -> str | None:
        """The path below its hierarchy's root, None for a group that is not (or no more) of this node."""
        path = self._paths.get(cgroup_id)
        if path is None and self._clock() - self._scanned_at >= RESCAN_AFTER_S:
            self.scan()
            path = self._paths.get(cgroup_id)
        return path

    def scan(self) -> None:
        """Reads the trees anew; a container that ended in between stays known, for records still on their way."""
        self._scanned_at = self._clock()
        found: dict[int, str] = {}
        for tree in self._trees:
            _walk(tree, found)
        kept = dict(list(self._paths.items())[-MAX_DIRECTORIES:])
        self._paths = {**kept, **found}

    def members(self, cgroup_id: int) -> list[int]:
        """Processes of a known group; empty when it is gone."""
        path = self._paths.get(cgroup_id)
        if path is None:
            return []
        for tree in self._trees:
            raw = read_bounded(Path(f"{tree}{path}") / "cgroup.procs")
            if raw:
                return [int(line) for line in raw.split() if line.isdigit()]
        return []

    def ids_below(self, directory: str) -> set[int]:
        """IDs of a directory and all below it, in every hierarchy that has it. Absolute, or below a hierarchy's root."""
        ids: set[int] = set()
        for tree in self._trees:
            for start in (Path(directory), tree / directory.lstrip("/")):
                if start.is_dir() and start.is_relative_to(tree):
                    found: dict[int, str] = {}
                    _walk(start, found)
                    ids.update(found)
        return ids


def _walk(top: Path, found: dict[int, str]) -> None:
    pending = [str(top)]
    skip = len(str(top))
    while pending and len(found) < MAX_DIRECTORIES:
        directory = pending.pop()
        try:
            found[os.stat(directory).st_ino] = directory[skip:] or "/"
            with os.scandir(directory) as entries:
                pending += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # removed while we walked


class PodLogs:
    """Names of pods from the kubelet's log folders: /var/log/pods/<namespace>_<pod>_<uid>/<container>/."""

    def __init__(self, logs: Path = Path("/var/log")) -> None:
        self._logs = logs

    def find(self, container: Container) -> PodNames | None:
        if container.pod_uid is None:
            return None
        for folder in self._folders(container.pod_uid):
            namespace, _, rest = folder.name.partition("_")
            pod = rest.rpartition("_")[0]
            if namespace and pod:
                return PodNames(
                    namespace=namespace,
                    pod=pod,
                    container=self._container_name(container.container_id, folder),
                )
        return None

    def _folders(self, pod_uid: str) -> list[Path]:
        # A static pod's folder has its uid without dashes, as its cgroup has.
        try:
            return [f for f in (self._logs / "pods").iterdir() if f.name.endswith("_" + pod_uid)]
        except OSError:
            return []

    def _container_name(self, container_id: str, folder: Path) -> str | None:
        """By ID from /var/log/containers/<pod>_<namespace>_<container>-<id>.log, else the only folder's name."""
        for link in (self._logs / "containers").glob(f"*-{container_id}.log"):
            return link.name.removesuffix(f"-{container_id}.log").rpartition("_")[2] or None
        try:
            names = [d.name for d in folder.iterdir() if d.is_dir()]
        except OSError:
            return None
        return names[0] if len(names) == 1 else None
