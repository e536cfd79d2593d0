"""When batches leave: the first one at once, one after a quiet time at once, and under load two are half a second apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.pacing import FLUSH_NS, FLUSH_ROWS, Pace

pytestmark = pytest.mark.unit

MS = 1_000_000
BOOTED_NS = 7 * 3600 * 1000 * MS  # the clock's zero is the boot, long before the agent's start


def let_go(pace: Pace, drains: list[tuple[int, int]], *, is_behind: bool = False) -> list[int]:
    """When batches leave, for drains at (time, new rows)."""
    waiting, left = 0, []
    for now_ns, rows in drains:
        waiting += rows
        if pace.take(waiting, now_ns, is_behind=is_behind):
            waiting = 0
            left.append(now_ns)
    return left


def test_the_first_batch_leaves_at_once() -> None:
    assert let_go(Pace(), [(BOOTED_NS, 1)]) == [BOOTED_NS]


def test_nothing_leaves_while_there_is_nothing() -> None:
    assert let_go(Pace(), [(BOOTED_NS + i * FLUSH_NS, 0) for i in range(9)]) == []


def test_under_load_two_batches_are_nine_tenths_of_a_second_apart() -> None:
    drains = [(BOOTED_NS + i * 100 * MS, 10) for i in range(31)]

    assert let_go(Pace(), drains) == [BOOTED_NS + i * 900 * MS for i in range(4)]


def test_one_after_a_quiet_time_leaves_at_once() -> None:
    pace = Pace()
    let_go(pace, [(BOOTED_NS, 1)])
    quiet = [(BOOTED_NS + i * 100 * MS, 0) for i in range(1, 40)]
    then = BOOTED_NS + 4_000 * MS + 1

    assert let_go(pace, [*quiet, (then, 1), (then + 100 * MS, 1)]) == [then]


def test_one_row_soon_after_a_batch_waits_for_the_rest_of_the_second() -> None:
    drains = [(BOOTED_NS, 1), (BOOTED_NS + 1, 1), (BOOTED_NS + FLUSH_NS - 1, 0)]
    due = BOOTED_NS + FLUSH_NS

    assert let_go(Pace(), [*drains, (due, 0)]) == [BOOTED_NS, due]


def test_a_long_batch_does_not_wait_and_the_next_waits_from_it() -> None:
    drains = [(BOOTED_NS, 1), (BOOTED_NS + 50 * MS, FLUSH_ROWS), (BOOTED_NS + 500 * MS, 1)]
    due = BOOTED_NS + 1_050 * MS

    assert let_go(Pace(), [*drains, (due, 0)]) == [BOOTED_NS, BOOTED_NS + 50 * MS, due]


def test_while_the_exporter_is_behind_only_long_batches_leave() -> None:
    pace = Pace()
    drains = [(BOOTED_NS + i * FLUSH_NS, FLUSH_ROWS // 4) for i in range(8)]

    assert let_go(pace, drains, is_behind=True) == [drains[3][0], drains[7][0]]
    assert let_go(pace, [(drains[7][0] + FLUSH_NS, 1)]) == [drains[7][0] + FLUSH_NS]


@given(st.lists(st.tuples(st.integers(0, 2 * FLUSH_NS), st.integers(0, FLUSH_ROWS // 8))))
def test_no_row_waits_longer_than_half_a_second_and_the_next_drain(
    steps: list[tuple[int, int]],
) -> None:
    now_ns, waiting, oldest_ns = BOOTED_NS, 0, 0
    pace = Pace()
    for step_ns, rows in steps:
        now_ns += step_ns
        if waiting == 0:
            oldest_ns = now_ns
        waiting += rows
        if pace.take(waiting, now_ns, is_behind=False):
            waiting = 0
        assert not waiting or now_ns - oldest_ns < FLUSH_NS
