"""The operator at size: 1,000 TracingConfigs with disjoint `include` lists, against a real API server on this machine.

Measured from outside, by this process' clock. An edit counts from before the request that makes it until a watch has told
of the changed child. What the API server alone costs of that is measured in the same run: the same kind of write by hand
until a watch tells of it, twice, since an edit is two writes one after the other (the resource, then the child).
Workloads are said to be ready by this process, which also answers for the exporters; no controllers and no pods run. At last
the operator is started once more, and no exporter answers it.

    make bench-operator     figures go to bench/results/operator.json; QUICK=1: 100 of them, and shorter; QUIET_S: seconds
"""

import os
import platform
import random
import signal
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from farcall_operator.agents import URL_OVERRIDE
from farcall_operator.running.watching import WATCHED
from operatorload import Bench, Figures, edit, say, started, write_results
from support_apiserver import wait_until
from support_apiserver_access import build_path
from support_apiserver_configs import CONFIGS
from support_apiserver_load import CONFIGMAPS, Sightings, count_ready, make_configs, name_of
from support_apiserver_operator import NAMESPACE, OperatorProcess, wait_for_leader

QUICK = os.environ.get("QUICK") == "1"
NUMBER = 100 if QUICK else 1_000
EDITS = 60 if QUICK else 300
QUIET_S = 15 if QUICK else int(os.environ.get("QUIET_S", "120" if os.environ.get("CI") else "600"))
UNRELATED = 200 if QUICK else 2_000
SETTLE_S = 5 if QUICK else 30
FAILOVERS = 1 if QUICK else 3
# On a machine that does nothing else, at 1,000.
TARGETS = {
    "edit_to_child_ms_p99": 100,
    "rss_after_create_mb": 150,
    "rss_mb": 150,
    "rss_after_resync_mb": 150,
    "resync_s": 30,
    "resync_silent_s": 30,
    "quiet_writes": 0,
    "failover_s": 15,
}


def measure_creation(bench: Bench) -> Figures:
    idle_mb = bench.rss_mb()
    began = time.perf_counter()
    make_configs(bench.api, range(NUMBER), bench.operator.check_alive, say)
    took_s = round(time.perf_counter() - began, 1)
    rss_mb = bench.rss_mb()
    return {
        "configs": NUMBER,
        "create_all_s": took_s,
        "create_cpu_s": round(bench.cpu_s(), 1),
        "rss_idle_mb": idle_mb,
        "rss_after_create_mb": rss_mb,
        "rss_kb_per_config": round((rss_mb - idle_mb) * 1024 / NUMBER, 1),
    }


def measure_edits(bench: Bench) -> Figures:
    """One at a time, so that it is a latency and no throughput."""
    say(f"{EDITS} edits, one after the other")
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
    say("the same writes by hand")
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
    bench.settle(SETTLE_S)
    say(f"{QUIET_S} s of quiet")
    writes, cpu, began = bench.count_writes(), bench.cpu_s(), time.monotonic()
    time.sleep(QUIET_S)
    return {
        "quiet_s": QUIET_S,
        "quiet_writes": bench.count_writes() - writes,
        "quiet_cpu_percent": round((bench.cpu_s() - cpu) / (time.monotonic() - began) * 100, 1),
    }


def measure_resync(bench: Bench) -> Figures:
    return start_anew(bench, "resync")


def measure_silent_resync(bench: Bench) -> Figures:
    """Exporters whose names nobody resolves, as when a cluster's DNS is away."""
    os.environ.pop(URL_OVERRIDE)
    return start_anew(bench, "resync_silent")


def start_anew(bench: Bench, figure: str) -> Figures:
    """From the start of a new process until it has looked at every TracingConfig; it has nothing to change."""
    say(f"the operator is started anew: {figure}")
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
    return {
        f"{figure}_s": round(time.perf_counter() - began, 1),
        f"{figure}_cpu_s": round(bench.cpu_s(), 1),
        f"{figure}_writes": bench.count_writes() - before,
        f"rss_after_{figure}_mb": bench.rss_mb(),
    }


def count_reconciled(operator: OperatorProcess) -> int:
    line = 'farcall_operator_reconcile_total{result="ok"} '
    found = [row for row in operator.metrics().splitlines() if row.startswith(line)]
    return int(float(found[0].removeprefix(line))) if found else 0


def measure_unrelated(bench: Bench) -> Figures:
    """Memory is to follow our objects, not the cluster's."""
    say(f"{UNRELATED} objects that are none of ours")
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
    """The leader is killed, as a node dies, or stopped, as a rollout does it; until a change made after that has reached its
    child. The worst of several: it depends on when the lease was renewed last."""
    killed, stopped = [], []
    first, second = bench.operator, OperatorProcess(bench.plane, name="operator-b")
    try:
        for attempt in range(FAILOVERS):
            say(f"failover {attempt + 1} of {FAILOVERS}")
            killed.append(replace_leader(bench, first, second, signal.SIGKILL, 120 + attempt))
            stopped.append(replace_leader(bench, second, first, signal.SIGTERM, 220 + attempt))
        return {"failover_s": max(killed), "handover_s": max(stopped)}
    finally:
        if second.is_running():
            second.stop()


def replace_leader(
    bench: Bench, leader: OperatorProcess, standby: OperatorProcess, end: signal.Signals, days: int
) -> float:
    """Seconds. The standby had the time to get ready."""
    standby.start()
    wait_until(lambda: count_listed(standby) >= len(WATCHED), "it has listed", standby.check_alive)
    time.sleep(SETTLE_S)
    wait_for_leader(bench.api, leader, alive=leader.check_alive)
    path = build_path("v1", "ConfigMap", NAMESPACE, f"{name_of(0)}-config")
    before = bench.api.get(path)["metadata"]["resourceVersion"]
    assert leader.process is not None
    began = time.perf_counter()
    leader.process.send_signal(end)
    edit(bench.api, name_of(0), days)
    wait_until(
        lambda: bench.api.get(path)["metadata"]["resourceVersion"] != before,
        "the other operator works",
        standby.check_alive,
    )
    took_s = round(time.perf_counter() - began, 1)
    leader.process.wait(60)
    return took_s


def count_listed(operator: OperatorProcess) -> int:
    line = "farcall_operator_watch_lists_total{"
    rows = [row for row in operator.metrics().splitlines() if row.startswith(line)]
    return sum(not row.endswith(" 0") for row in rows)


def run_bench() -> int:
    with started() as bench:
        figures: Figures = {}
        for measure in (
            measure_creation,
            measure_quiet,
            measure_edits,
            measure_unrelated,
            measure_resync,
            measure_failover,
            measure_silent_resync,
        ):
            found = measure(bench)
            say(", ".join(f"{name} {value:,}" for name, value in found.items()))
            figures |= found
            write_results(figures)  # what is known by now is not lost with what follows
        assert count_ready(bench.api) >= NUMBER - 1, "not all are ready at the end"
    print_results(figures)
    return 0


def print_results(figures: Figures) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, value in figures.items():
        target = TARGETS.get(name)
        judged = (
            ""
            if target is None
            else f"   target {target:,}: {'held' if value <= target else 'MISSED'}"
        )
        print(f"{name:24} {value:>10,}{judged}")


if __name__ == "__main__":
    raise SystemExit(run_bench())
