"""The drain's timer follows the load: it shortens at once, lengthens slowly, and stays within its bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.pacing import (
    BUSY_FILL,
    SLEEP_FIRST_S,
    SLEEP_LAST_S,
    SLEEP_STEADY_S,
    STEADY_FILL,
    next_sleep_s,
)

pytestmark = pytest.mark.unit


def test_a_filling_ring_is_drained_sooner_at_once() -> None:
    assert next_sleep_s(0.1, 1.0) == pytest.approx(0.1 * BUSY_FILL)
    assert next_sleep_s(0.004, 1.0) == SLEEP_FIRST_S


def test_a_quiet_drain_lengthens_the_sleep_by_a_quarter_only() -> None:
    assert next_sleep_s(0.01, 0.0) == pytest.approx(0.0125)
    assert next_sleep_s(SLEEP_LAST_S, 0.0) == SLEEP_LAST_S


def test_a_steady_load_settles_where_the_ring_is_as_full_as_wanted() -> None:
    sleep_s, fills_per_s = SLEEP_LAST_S, 20.0  # a whole ring in 50 ms
    for _ in range(50):
        sleep_s = next_sleep_s(sleep_s, min(1.0, sleep_s * fills_per_s))

    assert sleep_s * fills_per_s == pytest.approx(BUSY_FILL, rel=0.01)


def test_a_steady_load_is_drained_more_seldom_than_a_quiet_node() -> None:
    sleep_s, fills_per_s = SLEEP_LAST_S, 2.0
    for _ in range(50):
        sleep_s = next_sleep_s(sleep_s, sleep_s * fills_per_s)

    assert sleep_s == SLEEP_STEADY_S
    assert next_sleep_s(sleep_s, STEADY_FILL / 2) == SLEEP_LAST_S


@given(st.floats(SLEEP_FIRST_S, SLEEP_STEADY_S), st.floats(0, 1))
def test_it_stays_within_its_bounds(sleep_s: float, fill: float) -> None:
    assert SLEEP_FIRST_S <= next_sleep_s(sleep_s, fill) <= SLEEP_STEADY_S
