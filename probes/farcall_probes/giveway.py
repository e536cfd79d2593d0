"""The agent's work in short pieces, so that nobody who shares a core with it waits for long.

A take of a busy node is 5 to 30 ms of work. The kernel lets a thread that runs go on for milliseconds though another has become
ready: containers are groups of the scheduler, and a group that has just begun is not interrupted, whatever the priorities inside.
So a request that came meanwhile waited for up to 4 ms, a tick of the kernel's clock; now it waits for one piece.

Where nobody waits a pause is a system call, 3 µs. It takes as long as whoever waited ran, and that is worked off before the
next: where all cores are taken the agent still has half of what it would have.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
_ROWS = 32  # are read between two looks at the clock: some 0.1 ms
_PIECE_NS = 200_000


class _Turn(threading.local):
    end_ns = 0
    look: Callable[[], None] | None = None
    look_ns = 0  # when it is due
    look_every_ns = 0


_turn = _Turn()


def give_way() -> None:
    """Between two steps of long work: lets others run if this thread has worked for a piece. 0.2 µs if not."""
    now_ns = time.perf_counter_ns()
    if now_ns < _turn.end_ns:
        return
    os.sched_yield()
    rested_ns = time.perf_counter_ns()
    _turn.end_ns = rested_ns + max(_PIECE_NS, rested_ns - now_ns)
    if _turn.look is not None and rested_ns >= _turn.look_ns:
        look, _turn.look = _turn.look, None  # it may give way itself
        look()
        _turn.look, _turn.look_ns = look, time.perf_counter_ns() + _turn.look_every_ns


@contextmanager
def looking(look: Callable[[], None], every_ns: int) -> Iterator[None]:
    """Has this done between two pieces of a work that lasts for longer, and so often again. It must not raise."""
    _turn.look, _turn.look_ns = look, time.perf_counter_ns() + every_ns
    _turn.look_every_ns = every_ns
    try:
        yield
    finally:
        _turn.look = None


def in_pieces(rows: Iterable[T]) -> Iterator[T]:
    """The same rows, for a loop that gives way between them."""
    left = iter(rows)
    while some := list(islice(left, _ROWS)):
        give_way()
        yield from some
