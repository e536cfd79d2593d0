"""The same work, timed while something else is measured: what this machine makes of it here and now.

An agent sleeps most of the time, so what it needs next is in no cache: it pays for memory more than for instructions. On a virtual
machine whose neighbours use the memory, the same agent takes two to four times as long, while a loop that fits into the core
takes as long as ever. So there are two of them, and figures of two runs are comparable as far as both are the same.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from costs.report import Metric, make_metric

_LOOP = 200_000  # additions of Python; some 4 ms
_OBJECTS = 60_000  # 6 MB: more than a core's own cache
_PICKED = 20_000


@dataclass(slots=True)
class Machine:
    """CPU ms of each time that it was asked."""

    loop_ms: list[float] = field(default_factory=list)
    walk_ms: list[float] = field(default_factory=list)

    def ask(self) -> None:
        self.walk_ms.append(_time(_walk))  # first: the loop would wake the core for it
        self.loop_ms.append(_time(_count))

    def tell(self, meanwhile: str) -> list[Metric]:
        return [
            make_metric(f"a fixed loop, {meanwhile}", self.loop_ms, "ms"),
            make_metric(f"a walk over memory, {meanwhile}", self.walk_ms, "ms"),
        ]


def _time(work: Callable[[], object]) -> float:
    begin_ns = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - begin_ns) / 1e6


def _count() -> int:
    total = 0
    for number in range(_LOOP):
        total += number
    return total


def _walk() -> list[str]:
    return [_objects[at][1] for at in _path]


_objects = [(number, str(number)) for number in range(_OBJECTS)]
_path = random.Random(2).sample(range(_OBJECTS), _PICKED)
