"""The three clocks of this room: records carry CLOCK_MONOTONIC, processes CLOCK_BOOTTIME, everything that leaves Unix time."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsets:
    unix_ns: int  # Unix = monotonic + this
    boot_ns: int  # boot time = monotonic + this: the time spent suspended


def read_offsets(tries: int = 5) -> Offsets:
    """Measured between two reads of the monotonic clock; the tightest of a few, since we may be scheduled away in between."""
    best: tuple[int, Offsets] | None = None
    for _ in range(tries):
        before = time.monotonic_ns()
        unix, boot = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        after = time.monotonic_ns()
        middle = (before + after) // 2
        measured = Offsets(unix_ns=unix - middle, boot_ns=boot - middle)
        if best is None or after - before < best[0]:
            best = after - before, measured
    assert best is not None  # tries is positive
    return best[1]
