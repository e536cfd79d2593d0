"""The operator at size: 1,000 TracingConfigs with disjoint `include` lists, against a real API server on this machine.

Measured from outside, by this process' clock. An edit counts from before the request that makes it until a watch has told
of the changed child. What the API server alone costs of that is measured in the same run: the same kind of write by hand
until a watch tells of it, twice, since an edit is two writes one after the other (the resource, then the child).
Workloads are said to be ready by this process; no controllers and no pods run.

    make bench-operator              figures go to bench/results/operator.json; QUICK=1: 100 of them, and shorter
    python bench/bench_operator.py --soak 3600     churn for an hour; fails when the operator's memory grows
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import psutil

from support_apiserver import (
    COLLECTORS,
    ControlPlane,
    read_audit,
    running_control_plane,
    wait_until,
)
from support_apiserver_access import Api, build_path
from support_apiserver_configs import CONFIGS, build_config
from support_apiserver_load import (
    CONFIGMAPS,
    NODES,
    WORKLOADS,
    Background,
    Sightings,
    count_ready,
    make_configs,
    name_of,
    play_workloads,
    wait_all_ready,
)
from support_apiserver_nodes import add_node
from support_apiserver_operator import (
    NAMESPACE,
    USER,
    OperatorProcess,
    install,
    wait_for_leader,
)

RESULTS = Path(__file__).parent / "results" / "operator.json"
QUICK = os.environ.get("QUICK") == "1"
NUMBER = 100 if QUICK else 1_000
EDITS = 60 if QUICK else 300
QUIET_S = 15 if QUICK else int(os.environ.get("QUIET_S", "120" if os.environ.get("CI") else "600"))
UNRELATED = 200 if QUICK else 2_000
SETTLE_S = 5 if QUICK else 30
SOAK_CONFIGS = 60
# Beyond what an allocator keeps for itself: the last quarter of a soak against its second.
MAY_GROW_MB = 10.0
WRITES = ("create", "update", "patch", "delete")
Figures = dict[str, float]


@dataclass
class Bench:
    plane: ControlPlane
    api: Api
    operator: OperatorProcess
    background: Background

    def rss_mb(self) -> float:
        return round(psutil.Process(self.operator.pid).memory_info().rss / 2**20, 1)

    def cpu_s(self) -> float:
        times = psutil.Process(self.operator.pid).cpu_times()
        return float(times.user + times.system)

    def count_writes(self) -> int:
        """But the Lease's, which is written for as long as somebody leads."""
        return sum(
            event["verb"] in WRITES and (event.get("objectRef") or {}).get("resource") != "leases"  # type: ignore[attr-defined]
            for event in read_audit(self.plane.audit_log, USER)
        )

    def settle(self) -> None:
        before = -1
        while before != (before := self.count_writes()):
            time.sleep(SETTLE_S)


@contextmanager
def started(controllers: tuple[str, ...] = ()) -> Iterator[Bench]:
    with (
        tempfile.TemporaryDirectory(prefix="farcall-bench-") as folder,
        running_control_plane(Path(folder), controllers=controllers) as plane,
        plane.api() as api,
    ):
        for number in range(NODES):
            add_node(api, f"node-{number}", f"10.244.{number}.0/24")
        install(plane)
        background = Background(plane)
        operator = OperatorProcess(plane)
        try:
            for kind in WORKLOADS:
                background.run(play_workloads(kind))
            yield Bench(plane, api, operator.start(), background)
        finally:
            background.stop()
            if operator.is_running():
                operator.stop()


def measure_creation(bench: Bench) -> Figures:
    began = time.perf_counter()
    make_configs(bench.api, range(NUMBER), bench.operator.check_alive)
    return {"create_all_s": round(time.perf_counter() - began, 1), "configs": NUMBER}


def edit(api: Api, name: str, days: int) -> None:
    api.apply(build_config(name, retention={"traces": f"{days}d"}), manager="kubectl")


def measure_edits(bench: Bench) -> Figures:
    """One at a time, so that it is a latency and no throughput."""
    children = Sightings(CONFIGMAPS)
    bench.background.run(children.watch)
    choose = random.Random(1)
    times: list[float] = []
    for number in range(EDITS):
        name = name_of(choose.randrange(NUMBER))
        wait_until(lambda: bool(children.known(f"{name}-config")), "the child is known")  # noqa: B023
        before = children.known(f"{name}-config")
        began = time.perf_counter_ns()
        edit(
            bench.api, name, 4 + number
        )  # another value each time: the same one again would change nothing
        times.append((children.wait_newer(f"{name}-config", before) - began) / 1e6)
        time.sleep(0.05)
    return {**percentiles("edit_to_child_ms", times), **measure_api(bench, children)}


def measure_api(bench: Bench, children: Sightings) -> Figures:
    """The floor: the same two writes by hand, each until a watch has told of it."""
    configs = Sightings(CONFIGS)
    bench.background.run(configs.watch)
    times: list[float] = []
    body = {"effective.json": "x" * 4_000}
    for number in range(EDITS):
        name = f"direct-{number}"
        config_map = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "data": body,
        }
        bench.api.apply(config_map)
        children.wait_newer(name, set())
        before = children.known(name)
        began = time.perf_counter_ns()
        bench.api.apply({**config_map, "data": {**body, "n": str(number)}})
        times.append((children.wait_newer(name, before) - began) / 1e6)
    written = measure_config_writes(bench, configs)
    both = [a + b for a, b in zip(sorted(times), sorted(written), strict=True)]
    return percentiles("api_alone_ms", both)


def measure_config_writes(bench: Bench, configs: Sightings) -> list[float]:
    """With a spec that changes nothing below: an annotation, which the operator does not read."""
    times = []
    for number in range(EDITS):
        name = name_of(number % NUMBER)
        wait_until(lambda: bool(configs.known(name)), "the resource is known")  # noqa: B023
        before = configs.known(name)
        note = {"metadata": {"annotations": {"example.com/bench": str(number)}}}
        began = time.perf_counter_ns()
        bench.api.merge(f"{CONFIGS}/{name}", note)
        times.append((configs.wait_newer(name, before) - began) / 1e6)
    return times


def percentiles(name: str, times: list[float]) -> Figures:
    ordered = sorted(times)
    return {
        f"{name}_p50": round(statistics.median(ordered), 1),
        f"{name}_p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
    }


def measure_quiet(bench: Bench) -> Figures:
    bench.settle()
    writes, cpu, began = bench.count_writes(), bench.cpu_s(), time.monotonic()
    time.sleep(QUIET_S)
    return {
        "quiet_s": QUIET_S,
        "quiet_writes": bench.count_writes() - writes,
        "quiet_cpu_percent": round((bench.cpu_s() - cpu) / (time.monotonic() - began) * 100, 1),
    }


def measure_resync(bench: Bench) -> Figures:
    """From the start of a new process until it has looked at every TracingConfig; it has nothing to change."""
    bench.operator.stop()
    before = bench.count_writes()
    began = time.perf_counter()
    bench.operator.start()
    wait_until(
        lambda: count_reconciled(bench.operator) >= NUMBER,
        "every TracingConfig is reconciled",
        bench.operator.check_alive,
        within_s=600,
    )
    took_s = round(time.perf_counter() - began, 1)
    return {"resync_s": took_s, "resync_writes": bench.count_writes() - before}


def count_reconciled(operator: OperatorProcess) -> int:
    line = 'farcall_operator_reconcile_total{result="ok"} '
    found = [row for row in operator.metrics().splitlines() if row.startswith(line)]
    return int(float(found[0].removeprefix(line))) if found else 0


def measure_unrelated(bench: Bench) -> Figures:
    """Memory is to follow our objects, not the cluster's."""
    before = bench.rss_mb()
    for number in range(UNRELATED):
        bench.api.create(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"stranger-{number}", "namespace": NAMESPACE},
                "data": {"text": "x" * 10_000},
            }
        )
    time.sleep(SETTLE_S)
    return {"rss_mb": bench.rss_mb(), "unrelated_rss_mb": round(bench.rss_mb() - before, 1)}


def measure_failover(bench: Bench) -> Figures:
    """The leader is killed, as a node dies; until a change made after that has reached its child."""
    second = OperatorProcess(bench.plane, name="operator-b").start()
    try:
        wait_for_leader(bench.api, bench.operator, alive=bench.operator.check_alive)
        path = build_path("v1", "ConfigMap", NAMESPACE, f"{name_of(0)}-config")
        before = bench.api.get(path)["metadata"]["resourceVersion"]
        began = time.perf_counter()
        bench.operator.kill()
        edit(bench.api, name_of(0), 91)
        wait_until(
            lambda: bench.api.get(path)["metadata"]["resourceVersion"] != before,
            "the other operator works",
            second.check_alive,
        )
        return {"failover_s": round(time.perf_counter() - began, 1)}
    finally:
        second.stop()


def run_soak(duration_s: int) -> int:
    """Edits, deletions and new ones without a pause; the operator's memory is read every few seconds."""
    choose = random.Random(2)
    with started(COLLECTORS) as bench:
        make_configs(bench.api, range(SOAK_CONFIGS), bench.operator.check_alive)
        began = time.monotonic()
        samples: list[tuple[float, float]] = []
        changes = 0
        while (elapsed := time.monotonic() - began) < duration_s:
            bench.operator.check_alive()
            name = name_of(choose.randrange(SOAK_CONFIGS))
            if choose.random() < 0.05:
                bench.api.delete(f"{CONFIGS}/{name}")
            else:
                edit(bench.api, name, choose.randrange(1, 90))
            changes += 1
            if not samples or elapsed - samples[-1][0] >= max(1.0, duration_s / 200):
                samples.append((elapsed, bench.rss_mb()))
            time.sleep(0.02)
        for number in range(SOAK_CONFIGS):
            edit(bench.api, name_of(number), 3)
        wait_all_ready(bench.api, SOAK_CONFIGS, bench.operator.check_alive)
        samples.append((time.monotonic() - began, bench.rss_mb()))
    return report_soak(duration_s, changes, samples)


def report_soak(duration_s: int, changes: int, samples: list[tuple[float, float]]) -> int:
    quarter = max(1, len(samples) // 4)
    early = statistics.median(rss for _, rss in samples[quarter : 2 * quarter])
    late = statistics.median(rss for _, rss in samples[-quarter:])
    figures: Figures = {
        "soak_s": duration_s,
        "soak_changes": changes,
        "soak_rss_mb_early": round(early, 1),
        "soak_rss_mb_late": round(late, 1),
    }
    write_results(figures)
    if late - early > MAY_GROW_MB:
        print(f"the operator grew by {late - early:.1f} MB between the second and the last quarter")
        return 1
    return 0


def run_bench() -> int:
    with started() as bench:
        idle = {"rss_idle_mb": bench.rss_mb()}
        figures: Figures = {**idle, **measure_creation(bench)}
        figures |= measure_quiet(bench)
        figures |= measure_edits(bench)
        figures |= measure_unrelated(bench)
        figures |= measure_resync(bench)
        figures["rss_after_resync_mb"] = bench.rss_mb()
        figures |= measure_failover(bench)
        assert count_ready(bench.api) >= NUMBER - 1, "not all are ready at the end"
    write_results(figures)
    return 0


def write_results(figures: Figures) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, value in figures.items():
        print(f"{name:24} {value:,}")
    RESULTS.parent.mkdir(exist_ok=True)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**known, **figures}, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--soak", type=int, metavar="SECONDS", help="churn instead of the bench")
    duration_s = parser.parse_args().soak
    return run_soak(duration_s) if duration_s else run_bench()


if __name__ == "__main__":
    raise SystemExit(main())
