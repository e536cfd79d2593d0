"""What an application notices: its latencies at fixed rates and its highest throughput, with the agent and without, taking turns.

Both ends of each exchange are traced, by one machine of few cores: the worst case. Passes are A B A B … A; how far those without
the agent lie apart is the noise that a difference is held against.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from costs.agents import UNLIMITED, Agents, FarcallAgents
from costs.generator import Outcome, Plan, load
from costs.report import Metric, make_metric, tell
from costs.servers import Server, Servers

WITHOUT, WITH, UNLIMITED_MAX = "without", "with", "with, no limits"
_RATES = (1_000, 2_500, 5_000)
_MEDIAN_PCT, _MEDIAN_US = 5, 5  # the latter for each exchange of what is timed together
# A start takes CPU for longer than until it traces: the kernel verifies TLS' programs.
_BEGUN_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    name: str
    plan: Plan
    server: Server

    @property
    def is_maximum(self) -> bool:
        return not self.plan.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    outcome: Outcome
    server_us: float  # CPU of the server per request


@dataclass(slots=True)
class Grid:
    cells: list[Cell]
    runs: dict[str, dict[str, list[Run]]] = field(default_factory=dict)  # by cell, by kind of pass

    def of(self, cell: Cell, kind: str) -> list[Run]:
        return self.runs.get(cell.name, {}).get(kind, [])


def make_cells(servers: Servers, *, quick: bool) -> list[Cell]:
    fixed_s, max_s, warm_s = (1.5, 1.0, 0.3) if quick else (4.0, 3.0, 0.5)
    cells = []

    def add(name: str, server: Server, kind: str, rate: float, **more: Any) -> None:
        seconds = fixed_s if rate else max_s
        plan = Plan(kind=kind, port=server.port, rate=rate, seconds=seconds, warm_s=warm_s, **more)
        cells.append(Cell(name=name, plan=plan, server=server))

    for rate in _RATES[-1:] if quick else _RATES:
        add(f"nginx {rate}/s", servers.nginx, "http", rate)
        add(f"Redis {rate}/s", servers.redis, "redis", rate)
    if not quick:
        add("nginx, 500 connections/s", servers.nginx, "http", 500, churn=True)
        add("Redis, 500 × 16 commands/s", servers.redis, "redis", 500, depth=16)
        add("PostgreSQL 1000/s", servers.postgres, "postgres", 1_000)
    add("nginx max", servers.nginx, "http", 0, connections=32)
    add("Redis max", servers.redis, "redis", 0, connections=32)
    return cells


def measure_grid(agents: Agents, servers: Servers, *, quick: bool) -> Grid:
    grid = Grid(make_cells(servers, quick=quick))
    passes = [WITHOUT, WITH, WITHOUT] if quick else [WITHOUT, WITH] * 3 + [WITHOUT]
    for number, kind in enumerate(passes):
        tell(f"grid: pass {number + 1} of {len(passes)}, {kind} the agent")
        if kind == WITH:
            with agents.running():
                time.sleep(_BEGUN_S)
                _take_pass(grid, kind, grid.cells)
            if agents.name == "farcall":
                with FarcallAgents(spec=UNLIMITED).running():
                    time.sleep(_BEGUN_S)
                    _take_pass(grid, UNLIMITED_MAX, [c for c in grid.cells if c.is_maximum])
        elif agents.can_stop:
            _take_pass(grid, kind, grid.cells)
    return grid


def _take_pass(grid: Grid, kind: str, cells: Sequence[Cell]) -> None:
    for cell in cells:
        before = cell.server.cpu_ns()
        outcome = load(cell.plan)
        used_us = (cell.server.cpu_ns() - before) / 1e3
        run = Run(outcome=outcome, server_us=used_us / max(1, outcome.answered))
        grid.runs.setdefault(cell.name, {}).setdefault(kind, []).append(run)


# ---- judged ---------------------------------------------------------------------------------------------------------


def judge_grid(grid: Grid) -> list[Metric]:
    if not all(grid.of(cell, WITHOUT) for cell in grid.cells):
        return _describe_alone(grid)
    fixed = [cell for cell in grid.cells if not cell.is_maximum]
    of_median = [m for cell in fixed for m in _slowdown(grid, cell)]
    of_tail = [_tail(grid, cell) for cell in fixed]
    maxima = [m for cell in grid.cells if cell.is_maximum for m in _maximum(grid, cell)]
    worst = [m for m in maxima if m.target]
    return [
        _sum_up(
            "p50_slowdown_pct", [m for m in of_median if m.target], "%", "≤ 5 or 5 µs a call", max
        ),
        _sum_up("p99_slowdown_pct", of_tail, "%", "≤ 2 × A/A in each", max),
        _sum_up(
            "max_throughput_ratio", [m for m in worst if m.unit == "×"], "×", "≥ 0.75 in each", min
        ),
        *of_median,
        *of_tail,
        *maxima,
        *(_added_cpu(grid, cell) for cell in fixed),
    ]


def _describe_alone(grid: Grid) -> list[Metric]:
    """Of an agent that cannot be stopped there is nothing to compare with."""
    metrics = []
    for cell in grid.cells:
        if cell.is_maximum:
            per_s = [run.outcome.per_s for run in grid.of(cell, WITH)]
            metrics.append(make_metric(cell.name, per_s, "1/s"))
        for percentile in ("50", "99"):
            name = f"p{percentile} {cell.name}"
            metrics.append(make_metric(name, _latencies(grid, cell, WITH, percentile), "µs"))
    return metrics


def _sum_up(name: str, metrics: Sequence[Metric], unit: str, target: str, choose: Any) -> Metric:
    """The worst of them; it holds when each does."""
    values = [m.value for m in metrics]
    return Metric(
        metric=name,
        value=choose(values),
        unit=unit,
        target=target,
        holds=all(m.holds for m in metrics),
        spread=[min(values), max(values)],
    )


def _latencies(grid: Grid, cell: Cell, kind: str, percentile: str) -> list[float]:
    return [run.outcome.latency_us[percentile] for run in grid.of(cell, kind)]


def _slowdown(grid: Grid, cell: Cell) -> list[Metric]:
    """At the median, in percent and in µs: one of them has to hold (docs/decisions/012-work-in-pieces.md)."""
    bare = _latencies(grid, cell, WITHOUT, "50")
    traced = _latencies(grid, cell, WITH, "50")
    added_us = statistics.median(traced) - statistics.median(bare)
    by_turn, percent = _by_turn(bare, traced), _percent(bare, traced)
    most_us = _MEDIAN_US * cell.plan.depth
    slowdown = Metric(
        metric=f"p50_slowdown_pct {cell.name}",
        value=round(percent, 3),
        unit="%",
        target=f"≤ {_MEDIAN_PCT} or {most_us} µs",
        holds=percent <= _MEDIAN_PCT or added_us <= most_us,
        spread=[round(min(by_turn), 3), round(max(by_turn), 3)],
    )
    return [
        slowdown,
        make_metric(f"p50 added {cell.name}", _add(bare, traced), "µs", value=added_us),
    ]


def _percent(bare: Sequence[float], traced: Sequence[float]) -> float:
    return (statistics.median(traced) / statistics.median(bare) - 1) * 100


def _by_turn(bare: Sequence[float], traced: Sequence[float]) -> list[float]:
    """Each pass with the agent against the two beside it."""
    return [(t / ((bare[i] + bare[i + 1]) / 2) - 1) * 100 for i, t in enumerate(traced)]


def _add(bare: Sequence[float], traced: Sequence[float]) -> list[float]:
    """The same as a difference."""
    return [t - (bare[i] + bare[i + 1]) / 2 for i, t in enumerate(traced)]


def _tail(grid: Grid, cell: Cell) -> Metric:
    bare = _latencies(grid, cell, WITHOUT, "99")
    traced = _latencies(grid, cell, WITH, "99")
    apart = (max(bare) - min(bare)) / statistics.median(bare) * 100
    value = _percent(bare, traced)
    spread = _by_turn(bare, traced)
    return Metric(
        metric=f"p99_slowdown_pct {cell.name}",
        value=round(value, 3),
        unit="%",
        target=f"≤ {2 * apart:.1f}",
        holds=value <= 2 * apart,
        spread=[round(min(spread), 3), round(max(spread), 3)],
    )


def _maximum(grid: Grid, cell: Cell) -> list[Metric]:
    bare = [run.outcome.per_s for run in grid.of(cell, WITHOUT)]
    metrics = [make_metric(f"{cell.name}, without the agent", bare, "1/s")]
    kinds = [kind for kind in (UNLIMITED_MAX, WITH) if grid.of(cell, kind)]
    for kind in kinds:
        runs = grid.of(cell, kind)
        ratios = [run.outcome.per_s / statistics.median(bare) for run in runs]
        limit = 0.75 if kind == WITH else None  # docs/decisions/010-the-maximum-is-as-installed.md
        metrics.append(
            make_metric(f"max_throughput_ratio {cell.name}, {kind}", ratios, "×", at_least=limit)
        )
        before = statistics.median(run.server_us for run in grid.of(cell, WITHOUT))
        added = [run.server_us - before for run in runs]
        metrics.append(
            make_metric(
                f"app_cpu_us added {cell.name}, {kind}",
                added,
                "µs",
                2.5 if kind == kinds[0] else None,  # where each call is traced
            )
        )
    return metrics


def _added_cpu(grid: Grid, cell: Cell) -> Metric:
    bare = [run.server_us for run in grid.of(cell, WITHOUT)]
    traced = [run.server_us for run in grid.of(cell, WITH)]
    return make_metric(f"app_cpu_us added {cell.name}", _add(bare, traced), "µs")


def describe_grid(grid: Grid) -> dict[str, Any]:
    """Every run, for who wants to look closer: latencies by percentile in µs, throughput, CPU, what failed or was late."""
    return {
        cell: {
            kind: [
                {
                    "latency_us": run.outcome.latency_us,
                    "per_s": round(run.outcome.per_s, 1),
                    "server_us": round(run.server_us, 2),
                    "client_us": round(run.outcome.cpu_s * 1e6 / max(1, run.outcome.answered), 2),
                    "failed": run.outcome.failed,
                    "late": run.outcome.late,
                }
                for run in runs
            ]
            for kind, runs in kinds.items()
        }
        for cell, kinds in grid.runs.items()
    }
