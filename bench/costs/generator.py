"""The load generator (load/, in C): built once, run with a plan, its one line of JSON read. Latencies are in µs."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from costs.processes import CLIENT_CPU, BenchError, running

_SOURCES = Path(__file__).parent / "load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`rate`: requests a second, each due at its time whatever became of those before; 0: as fast as they are answered."""

    kind: str
    port: int = 0
    rate: float = 0
    seconds: float = 5
    warm_s: float = 0
    connections: int = 16
    depth: int = 1
    churn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    made: int
    answered: int
    failed: int
    late: int  # sent more than 1 ms after it was due: the generator, or all connections were busy
    opened: int
    timed: int
    seconds: float
    cpu_s: float  # of the generator
    latency_us: dict[str, float]  # by percentile: "50", "99", "100"

    @property
    def per_s(self) -> float:
        return self.answered / self.seconds


@cache
def build() -> Path:
    done = subprocess.run([_SOURCES / "build.sh"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise BenchError("the load generator was not built; its compiler's message is above")
    return Path(done.stdout.strip())


def _words(plan: Plan) -> list[str | Path]:
    words: list[str | Path] = [build(), plan.kind, "--port", str(plan.port)]
    for name in ("rate", "seconds", "connections", "depth"):
        words += [f"--{name}", str(getattr(plan, name))]
    return [*words, "--warm", str(plan.warm_s), *(["--churn"] if plan.churn else [])]


@contextmanager
def loading(plan: Plan, *more: str) -> Iterator["subprocess.Popen[str]"]:
    with running([*_words(plan), "--cpu", str(CLIENT_CPU), *more]) as process:
        yield process


def read_outcome(process: "subprocess.Popen[str]", plan: Plan) -> Outcome:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchError(f"no {plan.kind} load: the generator's message is above")
    return Outcome(**json.loads(line))


def load(plan: Plan, *more: str) -> Outcome:
    with loading(plan, *more) as process:
        return read_outcome(process, plan)


class Micro:
    """`load micro`: rounds of system calls on the clients' CPU."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def take(self, what: str, count: int) -> float:
        """ns of one of `count` in a row."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{what} {count}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("no micro rounds: the generator's message is above")
        return float(line)


@contextmanager
def running_micro() -> Iterator[Micro]:
    with running([build(), "micro", "--cpu", str(CLIENT_CPU)]) as process:
        yield Micro(process)
