"""The agent under a mixed load: keep-alive and gRPC calls, Redis, HTTPS, a connection for each request, a program for each
request. Fails when its memory grows, when a descriptor stays open, or an entry in the kernel's tables.

make soak DURATION=1800     seconds; figures go to bench/results/probes-soak.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
import psutil

from support_agent import FakeExporter
from support_agent_counts import LOSS, running_agent
from support_agent_live import child, target_redis, wait
from support_maps import read_maps

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "probes-soak.json"
# Requests a second. Both ends are traced, so the agent gets twice as many records.
RATES = {"http": 300, "redis": 200, "grpc": 100, "https": 50, "churn": 50, "processes": 4}
# Beyond what an allocator keeps for itself: the last quarter of a soak against its second.
MAY_GROW_MB = 10.0
MAY_OPEN = 2  # files that are being read when they are counted
# What is remembered of connections as they come and go; other tables are caches, which fill up and stay so.
TABLES = ("conns", "opens", "dials")
MAY_STAY = 0.05  # of the connections that were made: others on this machine have some too
CHURN_PER_S = 2 * (RATES["churn"] + RATES["processes"])  # both ends


@dataclass(slots=True)
class Samples:
    """One row each: seconds since the load began, MB of memory, descriptors but those of probes in libraries."""

    rows: list[tuple[float, float, int]] = field(default_factory=list)

    def take(self, agent: psutil.Process, elapsed_s: float) -> None:
        self.rows.append((elapsed_s, agent.memory_info().rss / 1e6, count_descriptors(agent)))

    def median(self, column: int, *, quarter: int) -> float:
        size = max(1, len(self.rows) // 4)
        part = (
            self.rows[quarter * size : (quarter + 1) * size] if quarter < 3 else self.rows[-size:]
        )
        return float(statistics.median(row[column] for row in part))

    def slope_mb_per_h(self) -> float:
        """Of the second half: what is remembered of connections has filled up by then, or nearly so."""
        half = np.array(self.rows[len(self.rows) // 2 :])
        return float(np.polyfit(half[:, 0], half[:, 1], 1)[0] * 3600) if len(half) > 2 else 0.0


def count_descriptors(agent: psutil.Process) -> int:
    """But perf events and links: they follow the libraries that programs of this machine load."""
    names = []
    for path in Path(f"/proc/{agent.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(os.readlink(path))
    return sum("perf_event" not in name and "bpf" not in name for name in names)


@contextmanager
def part(*words: str) -> Iterator["subprocess.Popen[str]"]:
    with child(sys.executable, str(HERE / "soakload.py"), *words) as process:
        yield process


def start_server(stack: ExitStack, *words: str) -> str:
    process = stack.enter_context(part("serve", *words))
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextmanager
def running_load(directory: Path) -> Iterator[None]:
    """All parts; each must still run at the end."""
    with ExitStack() as stack:
        http, grpc = start_server(stack, "http"), start_server(stack, "grpc")
        https = start_server(stack, "https", str(directory))
        redis = stack.enter_context(target_redis(directory, "127.0.0.1"))
        ports = {"redis": str(redis), "grpc": grpc, "https": https}
        running = [
            stack.enter_context(part(name, ports.get(name, http), str(rate)))
            for name, rate in RATES.items()
        ]
        yield
        ended = [name for name, p in zip(RATES, running, strict=True) if p.poll() is not None]
        if ended:
            raise SystemExit(f"parts of the load ended: {', '.join(ended)}")


class Counted:
    """Rows that an exporter got; bodies are let go."""

    def __init__(self, exporter: FakeExporter) -> None:
        self._exporter = exporter
        self.rows = 0
        self.losses = 0

    def look(self) -> None:
        with self._exporter.changed:
            posted, self._exporter.posted = self._exporter.posted, []
        for post in posted:
            if post.path.endswith("status"):
                counters = json.loads(post.body)["counters"]
                self.losses = sum(n for name, n in counters.items() if LOSS.search(name))
            else:
                header, table = post.table()
                self.rows += table.num_rows if header.kind == "exchanges" else 0


def read_entries(agent: psutil.Process) -> dict[str, int]:
    held = read_maps(agent.pid)
    return {name: held[name].entries for name in TABLES}


def run_soak(duration_s: int) -> int:
    samples = Samples()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farcall-soak-")))
        exporter = stack.enter_context(FakeExporter())
        agent = psutil.Process(stack.enter_context(running_agent(directory, exporter)).pid)
        counted = Counted(exporter)
        before = read_entries(agent)
        memory_before = sum(m.memory for m in read_maps(agent.pid).values())
        with running_load(directory):
            began = time.monotonic()
            while (elapsed_s := time.monotonic() - began) < duration_s:
                samples.take(agent, elapsed_s)
                counted.look()
                time.sleep(max(1.0, duration_s / 400))
        most = {name: n + int(MAY_STAY * CHURN_PER_S * duration_s) for name, n in before.items()}
        after = settle(agent, most)
        memory_after = sum(m.memory for m in read_maps(agent.pid).values())
        counted.look()
    figures = {
        "soak_s": duration_s,
        "rows": counted.rows,
        "lost": counted.losses,
        "rss_mb_early": round(samples.median(1, quarter=1), 1),
        "rss_mb_late": round(samples.median(1, quarter=3), 1),
        "rss_slope_mb_per_h": round(samples.slope_mb_per_h(), 2),
        "descriptors_early": samples.median(2, quarter=1),
        "descriptors_late": samples.median(2, quarter=3),
        **{f"entries_{name}_before": count for name, count in before.items()},
        **{f"entries_{name}_after": count for name, count in after.items()},
        "maps_mb": round(memory_after / 1e6, 1),
    }
    held = [name for name in TABLES if after[name] > most[name]]
    return report(figures, held, grew=memory_after > memory_before)


def settle(agent: psutil.Process, most: dict[str, int]) -> dict[str, int]:
    """The load has ended, and its connections close."""
    with suppress(AssertionError):  # report() says so
        wait(lambda: all(n <= most[name] for name, n in read_entries(agent).items()))
    return read_entries(agent)


def report(figures: dict[str, float], held: list[str], *, grew: bool) -> int:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print("probes:", ", ".join(f"{name} {value:,}" for name, value in figures.items()), flush=True)
    faults = []
    grown_mb = figures["rss_mb_late"] - figures["rss_mb_early"]
    if grown_mb > MAY_GROW_MB:
        faults.append(f"grew by {grown_mb:.1f} MB between the second and the last quarter")
    if figures["descriptors_late"] > figures["descriptors_early"] + MAY_OPEN:
        faults.append("holds more descriptors in the last quarter than in the second")
    faults += [f"still holds entries in the table `{name}` when all have closed" for name in held]
    if grew:
        faults.append("holds more of the kernel's memory in maps than at its start")
    for fault in faults:
        print(f"the agent {fault}")
    return 1 if faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("seconds", type=int)
    return run_soak(parser.parse_args().seconds)


if __name__ == "__main__":
    raise SystemExit(main())
