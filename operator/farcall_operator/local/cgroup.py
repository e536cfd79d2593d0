"""farcall's own cgroup: whatever runs in it is not traced. `farcall/<instance>.<number>` at the hierarchy's root.

At the root and not below the session's own, so that every instance finds all others: two that traced each other's batches
would never come to rest. The price: the session's limits do not hold for it. On a machine with both hierarchies the v2 one counts, because that is what the kernel tells a BPF program first.
`farcall up` lives in it as well: the components inherit it before they exist, and their first call is not traced.
"""

import os
import signal
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

REMOVE_WITHIN_S = 5.0
POLL_S = 0.02
MAKE_ATTEMPTS = 5
SHARED = "farcall"


class CgroupError(Exception):
    """No cgroup can be made here; the message says why. farcall's own calls are then traced as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """`mount` is where it is mounted, `key` the middle field of its line in /proc/PID/cgroup."""

    mount: Path
    key: str


def find_hierarchy(mountinfo: str) -> Hierarchy | None:
    """Version 2 wherever it is mounted, else version 1's memory controller. `mountinfo` as in /proc/self/mountinfo."""
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if len(left) < 5 or len(right) < 3:
            continue
        mount = Path(left[4].replace("\\040", " "))
        if right[0] == "cgroup2":
            found.setdefault("v2", Hierarchy(mount=mount, key=""))
        elif right[0] == "cgroup" and "memory" in right[2].split(","):
            found.setdefault("v1", Hierarchy(mount=mount, key="memory"))
    return found.get("v2") or found.get("v1")


def find_current(hierarchy: Hierarchy, own: str) -> Path:
    """The directory that /proc/self/cgroup (`own`) names; the mount itself where a container hides the path."""
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if hierarchy.key in (controllers.split(",") if hierarchy.key else [controllers]):
            current = hierarchy.mount / path.lstrip("/")
            return current if current.is_dir() else hierarchy.mount
    return hierarchy.mount


class OwnCgroup:
    """`path` is this instance's, `shared` that of all instances, `outside` is where a traced process goes."""

    def __init__(self, path: Path, outside: Path) -> None:
        self.path = path
        self.shared = path.parent
        self.outside = outside

    def enter(self) -> None:
        """Ends what a killed run left in it, then moves this process in. Raises CgroupError."""
        try:
            self._make()
            self.end_others()
            self._move_self(self.path)
        except OSError as e:
            raise CgroupError(f"{self.path}: {e.strerror}") from e

    def leave(self) -> None:
        """Ends whatever else is in it, moves this process out and removes it."""
        self.end_others()
        try:
            self._move_self(self.outside)
        except OSError:
            return  # the next run of this instance uses the directory again
        if self._remove():
            try:
                self.shared.rmdir()
            except OSError:
                pass  # another instance is in it

    def _make(self) -> None:
        for attempt in range(MAKE_ATTEMPTS):
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                return
            except (
                FileNotFoundError
            ):  # another instance was the last in `shared`, and removed it meanwhile
                if attempt == MAKE_ATTEMPTS - 1:
                    raise

    def _remove(self) -> bool:
        deadline = time.monotonic() + REMOVE_WITHIN_S
        while time.monotonic() < deadline:
            try:
                self.path.rmdir()
                return True
            except FileNotFoundError:
                return True
            except OSError:  # busy until the kernel has let go of the last process
                time.sleep(POLL_S)
        return False

    def end_others(self) -> None:
        deadline = time.monotonic() + REMOVE_WITHIN_S
        while (others := self.list_pids() - {os.getpid()}) and time.monotonic() < deadline:
            for pid in others:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(POLL_S)

    def list_pids(self) -> set[int]:
        try:
            return {int(pid) for pid in (self.path / "cgroup.procs").read_text().split()}
        except OSError:
            return set()

    def _move_self(self, target: Path) -> None:
        (target / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def open_own_cgroup(run_dir: Path) -> OwnCgroup:
    """The cgroup of the instance in `run_dir`, not entered yet. Raises CgroupError.

    Its name is the run directory's: that is locked, so whatever is found in the cgroup was left by a killed run. The
    instance's name alone would be another's too, with another run root.
    """
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError as e:
        raise CgroupError(f"/proc/self: {e.strerror}") from e
    hierarchy = find_hierarchy(mountinfo)
    if hierarchy is None:
        raise CgroupError("neither cgroup v2 nor v1's memory controller is mounted")
    number = zlib.crc32(os.fsencode(run_dir))
    name = f"{run_dir.name}.{number:08x}"
    return OwnCgroup(hierarchy.mount / SHARED / name, find_current(hierarchy, own))
