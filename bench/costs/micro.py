"""What the probes add to a system call, in the kernel: rounds in one process, with the probes and without, taking turns.

The lowest of many short rounds is compared with the lowest: whatever else runs on the machine only ever adds. Rings are emptied
between the rounds, and every exchange must have left its two records, so that the dear path is what was measured.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from costs.generator import Micro, running_micro
from costs.processes import BenchError
from costs.report import Metric, make_metric, tell
from farcall_probes.probes import KernelCapture, open_probes

# Two milliseconds and less: within one turn of the scheduler, so that some rounds are undisturbed on any machine.
_EXCHANGES = 150
_WARM = 20  # micro.c
_CALLS = 10_000
_SIDES = 2
_WITHIN_S = 90  # on a machine that is not quiet fewer turns are better than none
_COUNTS = {"http": _EXCHANGES, "redis": _EXCHANGES, "getppid": _CALLS, "devzero": _CALLS}


@dataclass(slots=True)
class _Lowest:
    """Of each turn, the lowest round in ns."""

    bare: list[float] = field(default_factory=list)
    probed: list[float] = field(default_factory=list)

    def added_ns(self) -> float:
        return min(self.probed) - min(self.bare)

    def added_by_turn_ns(self) -> list[float]:
        return [p - b for p, b in zip(self.probed, self.bare, strict=True)]


def measure_micro(*, quick: bool) -> list[Metric]:
    turns, rounds = (3, 20) if quick else (15, 60)
    found = {what: _Lowest() for what in _COUNTS}
    with running_micro() as micro:
        _take_turn(micro, rounds, None)  # warm
        deadline = time.monotonic() + _WITHIN_S
        for turn in range(turns):
            if turn >= 3 and time.monotonic() > deadline:
                tell(f"micro: {turn} turns, the machine is slow")
                break
            if turn % 5 == 0:
                tell(f"micro: turn {turn + 1} of {turns}")
            for what, ns in _take_turn(micro, rounds, None).items():
                found[what].bare.append(ns)
            capture = open_probes()
            try:
                for what, ns in _take_turn(micro, rounds, capture).items():
                    found[what].probed.append(ns)
            finally:
                capture.close()
    side_us = {
        what: ([x / _SIDES / 1e3 for x in low.added_by_turn_ns()], low.added_ns() / _SIDES / 1e3)
        for what, low in found.items()
    }
    own = [
        make_metric("kernel_us_per_side", side_us["http"][0], "µs", 1.5, value=side_us["http"][1])
    ]
    own.append(
        make_metric(
            "kernel_us_per_side_redis", side_us["redis"][0], "µs", 1.5, value=side_us["redis"][1]
        )
    )
    for what, name, limit in (
        ("getppid", "untraced_syscall_ns", 60),
        ("devzero", "read_of_no_socket_ns", None),
    ):
        low = found[what]
        own.append(make_metric(name, low.added_by_turn_ns(), "ns", limit, value=low.added_ns()))
    bare = {"http": "exchange, two sides, without probes", "getppid": "getppid, without probes"}
    own += [
        make_metric(name, found[what].bare, "ns", value=min(found[what].bare))
        for what, name in bare.items()
    ]
    return own


def _take_turn(micro: Micro, rounds: int, capture: KernelCapture | None) -> dict[str, float]:
    lowest = {}
    for what, count in _COUNTS.items():
        take = partial(micro.take, what, count)
        if capture is not None and count == _EXCHANGES:
            times = [_take_seen(take, capture) for _ in range(rounds)]
        else:
            times = [take() for _ in range(rounds)]
        lowest[what] = min(times)
    return lowest


def _take_seen(take: Callable[[], float], capture: KernelCapture) -> float:
    capture.drain()
    before = capture.read_counters()
    ns = take()
    after = capture.read_counters()
    records = sum(after[name] - before[name] for name in ("kernel_small", "kernel_large"))
    if records < _SIDES * (_EXCHANGES + _WARM):
        raise BenchError(
            f"micro: {records} records of {_EXCHANGES + _WARM} exchanges: the probes do not see them"
        )
    return ns
