"""The agent's CPU ceiling: what is taken falls to what may be spent, never to nothing, and comes back."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.caps import CpuCap
from farcall_probes.ceiling import LEAST, PATIENCE, Ceiling
from support_agent import FakeCapture

pytestmark = pytest.mark.unit

CORES = st.floats(0, 64)
LIMITS = st.floats(0.01, 4)


def run(ceiling: Ceiling, load: float, limit: float, steps: int, idle: float = 0.0) -> list[float]:
    """What is used at each step when all exchanges together would cost `load` cores."""
    used = []
    for _ in range(steps):
        used.append(idle + load * ceiling.share)
        ceiling.note(used[-1], limit)
    return used


@given(st.lists(st.tuples(CORES, st.floats(0, 4)), max_size=60))
def test_whatever_is_used_a_part_is_taken_and_never_more_than_all(
    seconds: list[tuple[float, float]],
) -> None:
    ceiling = Ceiling()
    for used, limit in seconds:
        assert LEAST <= ceiling.note(used, limit) <= 1


@given(LIMITS, st.floats(0.1, 500))
def test_a_steady_load_ends_below_the_ceiling_and_stays_there(limit: float, times: float) -> None:
    used = run(Ceiling(), limit * times, limit, 40)

    assert all(one <= limit for one in used[20:])
    changes = [b / a for a, b in itertools.pairwise(used[20:])]
    assert all(1 <= change <= 1.25 for change in changes)  # it does not swing


@given(LIMITS, st.floats(1.5, 500))
def test_what_may_be_spent_is_spent(limit: float, times: float) -> None:
    """More than half of the ceiling, where the load would take more than all of it."""
    used = run(Ceiling(), limit * times, limit, 60)

    assert min(used[-10:]) > limit / 2


@given(LIMITS, st.floats(1.1, 500))
def test_everything_is_taken_again_once_the_load_is_gone(limit: float, times: float) -> None:
    ceiling = Ceiling()
    run(ceiling, limit * times, limit, 40)
    assert ceiling.share < 1
    run(ceiling, limit / 10, limit, 40)

    assert ceiling.share == 1


def test_a_load_that_costs_more_than_the_ceiling_without_any_exchange_leaves_the_least() -> None:
    ceiling = Ceiling()
    run(ceiling, 1.0, 0.1, 40, idle=0.2)

    assert ceiling.share == LEAST


def test_without_a_ceiling_everything_is_taken_at_once() -> None:
    ceiling = Ceiling()
    run(ceiling, 9.0, 0.1, 5)

    assert ceiling.note(9.0, 0) == 1


def test_nothing_is_left_out_for_a_peak() -> None:
    ceiling = Ceiling()
    for _ in range(5):
        run(ceiling, 9.0, 1.0, PATIENCE - 1)
        run(ceiling, 0.1, 1.0, 1)
        assert ceiling.share == 1
    run(ceiling, 9.0, 1.0, PATIENCE)

    assert ceiling.share == 0.5


class Node:
    """Of an agent with a limit of one core; times in ns."""

    def __init__(self) -> None:
        self.now_ns = self.used_ns = self.libraries_ns = 0
        self.capture = FakeCapture()
        self.cap = CpuCap(self.capture, clock_ns=lambda: self.now_ns, used_ns=lambda: self.used_ns)

    def spend(self, *, calls: float, libraries: float) -> None:
        """Another second, with so many cores for each."""
        self.now_ns += 10**9
        self.libraries_ns += int(libraries * 10**9)
        self.used_ns += int((calls + libraries) * 10**9)
        self.cap.look(1_000, self.libraries_ns)


def test_reading_libraries_leaves_out_no_call() -> None:
    node = Node()
    for _ in range(20):
        node.spend(calls=0.4, libraries=0.9)
    assert set(node.capture.shares) == {1}
    for _ in range(20):
        node.spend(calls=1.4, libraries=0)

    assert node.cap.share == node.capture.shares[-1] < 1


def test_what_the_start_took_is_held_against_no_call() -> None:
    node = Node()
    node.used_ns = 60 * 10**9
    for _ in range(5):
        node.spend(calls=0.1, libraries=0)

    assert set(node.capture.shares) == {1}
