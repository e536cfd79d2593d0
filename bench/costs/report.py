"""Metrics as bench/results holds them, the machine they are of, and the table on the terminal. No measuring."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """`spread`: lowest and highest of the rounds. `holds`: None where there is no target."""

    metric: str
    value: float
    unit: str
    target: str
    holds: bool | None
    spread: list[float]


def make_metric(
    name: str,
    values: Sequence[float],
    unit: str,
    limit: float | None = None,
    *,
    at_least: float | None = None,
    value: float | None = None,  # where it is not the median of `values`
) -> Metric:
    of_all = value if value is not None else statistics.median(values)
    target, holds = "", None
    if limit is not None:
        target, holds = f"≤ {limit:g}", of_all <= limit
    elif at_least is not None:
        target, holds = f"≥ {at_least:g}", of_all >= at_least
    return Metric(
        metric=name,
        value=round(of_all, 3),
        unit=unit,
        target=target,
        holds=holds,
        spread=[round(min(values), 3), round(max(values), 3)],
    )


def tell(text: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def describe_machine() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((x.split(":")[1].strip() for x in lines if "model name" in x), platform.machine())
    return {
        "cpu": f"{os.cpu_count()} × {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": " ".join(f"{x:.2f}" for x in os.getloadavg()),
    }


def find_foreign_tracers(own: frozenset[int] = frozenset()) -> dict[str, int]:
    """Processes that hold BPF programs at tracepoints now, by their numbers: they raise every call's cost, so that of another
    agent looks small."""
    found: dict[str, int] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) in own:
            continue
        try:
            texts = [f.read_text() for f in (process / "fdinfo").iterdir()]
            name = (process / "comm").read_text().strip()
        except OSError:
            continue
        count = sum("prog_type:\t5\n" in text for text in texts)  # BPF_PROG_TYPE_TRACEPOINT
        if count:
            found[f"{name} ({process.name})"] = count
    return found


class Report:
    """Written anew after each part, so that what was measured is there even when a later part fails."""

    def __init__(self, path: Path, **facts: Any) -> None:
        self.path = path
        self._metrics: list[Metric] = []
        self._facts = {"machine": describe_machine(), **facts}

    def add(self, metrics: Sequence[Metric], **facts: Any) -> None:
        self._metrics += metrics
        self._facts.update(facts)
        self._facts["load_average_after"] = describe_machine()["load_average"]
        result = {
            "versions": {name: version(name) for name in ("farcall", "numpy", "pyarrow")},
            "metrics": [asdict(m) for m in self._metrics],
            **self._facts,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=2, ensure_ascii=False)
        self.path.write_text(text + "\n", encoding="utf-8")

    def show(self) -> None:
        width = max((len(m.metric) for m in self._metrics), default=0)
        for m in self._metrics:
            holds = {None: "", True: "holds", False: "MISSED"}[m.holds]
            spread = f"[{m.spread[0]:g} … {m.spread[1]:g}]"
            row = f"{m.metric:<{width}} {m.value:>9g} {m.unit:<12} {spread:<22} {m.target:<8}"
            print(f"{row} {holds}".rstrip())
