"""The queue's rules: one at a time, coalesced, backed off, and never forgotten."""

import pytest

from farcall_operator.running.schedule import (
    FIRST_BACKOFF_S,
    JITTER,
    LAST_BACKOFF_S,
    Schedule,
)

pytestmark = pytest.mark.unit


def middle() -> float:
    return 0.5  # no jitter


def take_all(schedule: Schedule, now: float) -> list[str]:
    taken = []
    while (key := schedule.take(now)) is not None:
        taken.append(key)
    return taken


def test_keys_come_out_in_the_order_they_came_in_each_once():
    schedule = Schedule(middle)
    for key in ("b", "a", "b", "c", "a"):
        schedule.add(key, 0.0)

    assert take_all(schedule, 0.0) == ["b", "a", "c"]


def test_a_running_key_is_not_given_out_again_but_once_more_after_it():
    schedule = Schedule(middle)
    schedule.add("a", 0.0)
    assert schedule.take(0.0) == "a"
    schedule.add("a", 1.0)
    schedule.add("a", 2.0)

    assert schedule.take(2.0) is None
    schedule.finish("a", 3.0, again_in_s=None)
    assert take_all(schedule, 3.0) == ["a"]


def test_a_finished_key_with_nothing_to_come_back_for_is_forgotten():
    schedule = Schedule(middle)
    schedule.add("a", 0.0)
    schedule.take(0.0)
    schedule.finish("a", 0.0, again_in_s=None)

    assert schedule.next_due() is None
    assert take_all(schedule, 1e9) == []


def test_a_key_comes_back_when_it_said_so_and_sooner_when_something_happens():
    schedule = Schedule(middle)
    for key in ("later", "sooner"):
        schedule.add(key, 0.0)
    take_all(schedule, 0.0)
    schedule.finish("later", 0.0, again_in_s=10.0)
    schedule.finish("sooner", 0.0, again_in_s=20.0)

    assert schedule.next_due() == 10.0
    schedule.add("sooner", 5.0)
    assert take_all(schedule, 9.9) == ["sooner"]
    assert take_all(schedule, 10.0) == ["later"]
    schedule.finish("sooner", 11.0, again_in_s=None)
    assert take_all(schedule, 100.0) == []


def test_failures_double_the_wait_up_to_the_last_and_a_success_forgets_them():
    schedule = Schedule(middle)
    schedule.add("a", 0.0)
    now, waits = 0.0, []
    for _ in range(12):
        assert schedule.take(now) == "a"
        schedule.finish("a", now, again_in_s=None, failed=True)
        due = schedule.next_due()
        assert due is not None
        waits.append(due - now)
        now = due

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    schedule.take(now)
    schedule.finish("a", now, again_in_s=0.0)
    schedule.take(now)
    schedule.finish("a", now, again_in_s=None, failed=True)
    assert schedule.next_due() == now + FIRST_BACKOFF_S


@pytest.mark.parametrize(("pick", "factor"), [(0.0, 1 - JITTER), (1.0, 1 + JITTER)])
def test_waits_are_spread_by_a_fifth_either_way(pick: float, factor: float):
    schedule = Schedule(lambda: pick)
    schedule.add("a", 0.0)
    for _ in range(20):
        now = schedule.next_due() or 0.0
        schedule.take(now)
        schedule.finish("a", now, again_in_s=None, failed=True)

    assert schedule.next_due() == pytest.approx(now + LAST_BACKOFF_S * factor)


def test_a_server_that_names_a_wait_is_given_at_least_that():
    schedule = Schedule(middle)
    schedule.add("a", 0.0)
    schedule.take(0.0)
    schedule.finish("a", 0.0, again_in_s=30.0, failed=True)

    assert schedule.next_due() == 30.0


def test_a_failing_key_whose_own_writes_call_it_waits_its_first_second_and_no_more():
    schedule = Schedule(middle)
    schedule.add("a", 0.0)
    for now in (0.0, 1.0, 3.0):
        schedule.take(now)
        schedule.finish("a", now, again_in_s=None, failed=True)
    schedule.add("a", 3.1)

    assert take_all(schedule, 3.9) == []
    assert take_all(schedule, 4.0) == ["a"]


def test_what_came_during_a_failing_run_waits_the_first_second_too():
    schedule = Schedule(middle)
    schedule.add("a", 0.0)
    schedule.take(0.0)
    schedule.add("a", 0.5)
    schedule.finish("a", 1.0, again_in_s=None, failed=True)

    assert schedule.next_due() == 2.0


def test_what_can_wait_comes_together_and_an_edit_does_not_wait_for_it():
    schedule = Schedule(middle)
    schedule.add("a", 0.0, 0.2)
    schedule.add("a", 0.1, 0.2)

    assert take_all(schedule, 0.1) == []
    assert take_all(schedule, 0.2) == ["a"]
    schedule.add("a", 0.3, 0.2)
    schedule.finish("a", 0.4, again_in_s=None)
    assert (take_all(schedule, 0.4), schedule.next_due()) == ([], 0.5)
    schedule.add("a", 0.45)
    assert take_all(schedule, 0.45) == ["a"]
    schedule.finish("a", 1.0, again_in_s=None)
    assert take_all(schedule, 9.0) == []


def test_an_edit_does_not_stand_behind_a_resync():
    schedule = Schedule(middle)
    for key in ("r1", "r2", "r3"):
        schedule.add(key, 0.0, 0.1)
    assert schedule.take(0.2) == "r1"
    schedule.add("edited", 0.3)
    schedule.add("r3", 0.3)

    assert schedule.depth == 3
    assert schedule.oldest_s(1.2) == 1.0
    assert take_all(schedule, 1.2) == ["edited", "r3", "r2"]


def test_depth_and_ages_tell_what_waits_and_what_runs():
    schedule = Schedule(middle)
    schedule.add("a", 10.0)
    schedule.add("b", 12.0)

    assert (schedule.depth, schedule.oldest_s(15.0)) == (2, 5.0)
    schedule.take(15.0)
    assert (schedule.depth, schedule.running) == (1, 1)
    assert (schedule.oldest_s(20.0), schedule.longest_s(20.0)) == (8.0, 5.0)
    schedule.take(20.0)
    schedule.finish("a", 21.0, again_in_s=None)
    schedule.finish("b", 21.0, again_in_s=None)
    assert (schedule.depth, schedule.running, schedule.oldest_s(30.0), schedule.longest_s(30.0)) == (0, 0, 0.0, 0.0)  # fmt: skip
