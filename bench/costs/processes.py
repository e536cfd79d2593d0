"""Children that end with their block, and what a process used: CPU, memory, BPF maps. Reads /proc, decides nothing."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

# Two cores: the server has one, its clients the other; the agent goes where it finds room, as on a node.
_CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, CLIENT_CPU = _CPUS[0], _CPUS[-1]
_ENDING_S = 0.3
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A part of the benchmark does not run; the message says which."""


@contextmanager
def running(
    argv: Sequence[str | Path],
    *,
    cpu: int | None = None,
    log: Path | None = None,  # takes its stderr
    stop_within_s: float = 15,
) -> Iterator["subprocess.Popen[str]"]:
    """A child, and its own children, as long as the block lasts; it also ends when the benchmark is killed."""
    words = [str(word) for word in argv]
    if shutil.which("setpriv"):
        words = ["setpriv", "--pdeathsig", "TERM", "--", *words]
    if cpu is not None:
        words = ["taskset", "-c", str(cpu), *words]
    with open(log, "ab") if log else nullcontext() as stderr:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=stop_within_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def wait_for(what: str, condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {within_s:g} s")
        time.sleep(0.01)


def read_family(pid: int) -> list[int]:
    """The process and those that came of it and live."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def read_cpu_ns(*pids: int) -> int:
    """On-CPU time of all threads that live, to the nanosecond (/proc/PID/stat counts in ticks of 10 ms)."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # it, or a thread, ended meanwhile
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
    return total


def read_family_cpu_ns(pid: int) -> int:
    """With children that ended, in ticks: for servers that have a process for each connection."""
    time.sleep(_ENDING_S)  # those of the last load are ending
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = sum(int(word) for word in words[13:15])  # cutime, cstime
    return ended * _TICK_NS + read_cpu_ns(*read_family(pid))


def read_rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def read_bpf_maps_mb(*pids: int) -> float:
    """Kernel memory of the BPF maps that the processes hold, each once."""
    sizes: dict[str, int] = {}
    for pid in pids:
        for path in Path(f"/proc/{pid}/fdinfo").iterdir():
            try:
                lines = path.read_text().splitlines()
            except OSError:
                continue
            fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            if "map_type" in fields:
                sizes[fields["map_id"]] = int(fields["memlock"])
    return sum(sizes.values()) / 1e6
