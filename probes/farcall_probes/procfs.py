"""What /proc says of a process. Every reader takes the directory, returns None for a process that is gone, and is bounded.

A process is its tgid *and* its start time: a reused tgid is another process, so callers compare `start_ticks`.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

MAX_ENVIRON = 256 * 1024  # above the kernel's usual total of arguments and environment
MAX_SMALL = 16 * 1024
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
NS_PER_TICK = 1_000_000_000 // TICKS_PER_S
Extent = tuple[bytes, bytes]
ADDR_NO_RANDOMIZE = 0x0040000  # personality(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    """proc_pid_stat(5). `exec_mark` is equal for two processes only when both come from one execve."""

    comm: str
    parent_tgid: int
    start_ticks: int
    exec_mark: tuple[int, ...] | None  # None: not readable, or not randomised


def read_stat(proc: Path, tgid: int) -> ProcessStat | None:
    raw = read_bounded(proc / str(tgid) / "stat")
    if raw is None:
        return None
    opening, closing = raw.find(b"("), raw.rfind(b")")
    fields = raw[closing + 2 :].split()
    if opening < 0 or closing < 0 or len(fields) < 46:
        return None
    try:
        # fields[i] is field i + 3 of the manual page.
        mark = tuple(int(fields[number - 3]) for number in (26, 28, 45, 47))
        return ProcessStat(
            comm=raw[opening + 1 : closing].decode("utf-8", "replace"),
            parent_tgid=int(fields[1]),
            start_ticks=int(fields[19]),
            exec_mark=mark if mark[1] > 1 and _is_randomised(proc, tgid) else None,
        )
    except ValueError:
        return None


def read_age_s(proc: Path, tgid: int) -> float:
    """Seconds since the process began; 0.0 for one that is gone, or says nothing."""
    raw = read_bounded(f"{proc}/{tgid}/stat") or b""
    fields = raw[raw.rfind(b")") + 2 :].split()
    if len(fields) < 20 or not fields[19].isdigit():
        return 0.0
    begun_ns = int(fields[19]) * NS_PER_TICK
    return max(0.0, (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - begun_ns) / 1e9)


def read_extent(proc: Path, tgid: int) -> Extent | None:
    """How large all that the process maps is, and its program's code: what maps another file changes the first, nearly always.
    At a twentieth of what its mappings cost to read."""
    try:
        fd = os.open(f"{proc}/{tgid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fields = os.read(fd, 256).split()
    except OSError:
        return None
    finally:
        os.close(fd)
    return (fields[0], fields[3]) if len(fields) > 3 else None


def _is_randomised(proc: Path, tgid: int) -> bool:
    """Whether execve placed stack and heap at random: only then equal addresses mean one execve."""
    system = read_bounded(proc / "sys/kernel/randomize_va_space", 16)
    personality = read_bounded(proc / str(tgid) / "personality", 16)
    if system is None or personality is None:
        return False
    return system.strip() != b"0" and not int(personality, 16) & ADDR_NO_RANDOMIZE


def read_executable(proc: Path, tgid: int) -> str | None:
    """File name of the executable."""
    try:
        target = os.readlink(proc / str(tgid) / "exe")
    except OSError:
        return None
    return os.path.basename(target.removesuffix(" (deleted)")) or None


def read_arguments(proc: Path, tgid: int) -> list[str]:
    raw = read_bounded(proc / str(tgid) / "cmdline") or b""
    return [a.decode("utf-8", "replace") for a in raw.split(b"\0")[:64]]


def read_environment(proc: Path, tgid: int, names: tuple[str, ...]) -> dict[str, str]:
    """Only the variables asked for; the rest of the environment is never kept."""
    raw = read_bounded(proc / str(tgid) / "environ", MAX_ENVIRON) or b""
    wanted = tuple(n.encode("ascii") + b"=" for n in names)
    found: dict[str, str] = {}
    for entry in raw.split(b"\0"):
        if entry.startswith(wanted):
            name, _, value = entry.partition(b"=")
            found.setdefault(name.decode("ascii"), value.decode("utf-8", "replace")[:256])
    return found


def read_cgroup_lines(proc: Path, tgid: int) -> list[str]:
    raw = read_bounded(proc / str(tgid) / "cgroup") or b""
    return raw.decode("utf-8", "replace").splitlines()


def read_bounded(path: Path | str, limit: int = MAX_SMALL) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            chunks: list[bytes] = []
            while limit > 0 and (chunk := file.read(limit)):
                chunks.append(chunk)
                limit -= len(chunk)
    except OSError:
        return None
    return b"".join(chunks)
