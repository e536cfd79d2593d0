"""Long work lets others run after each piece of it, and works off what that took; clock and scheduler are the test's."""

import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest

from farcall_probes import giveway
from farcall_probes.giveway import give_way, in_pieces, looking

pytestmark = pytest.mark.unit

US = 1000


class Clock:
    """Stands for `time` and `os`. Pauses take `pause_ns`; steps of work are added by hand."""

    def __init__(self) -> None:
        self.now_ns = 10**15
        self.pause_ns = 3 * US
        self.paused: list[int] = []

    def perf_counter_ns(self) -> int:
        return self.now_ns

    def sched_yield(self) -> None:
        self.paused.append(self.now_ns)
        self.now_ns += self.pause_ns

    def work(self, took_ns: int, steps: int) -> int:
        """How many pauses there were between so many steps of this length."""
        before = len(self.paused)
        for _ in range(steps):
            self.now_ns += took_ns
            give_way()
        return len(self.paused) - before


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(giveway, "time", made)
    monkeypatch.setattr(giveway, "os", made)
    monkeypatch.setattr(giveway, "_turn", giveway._Turn())
    yield made


def test_short_steps_are_worked_off_together_and_long_ones_have_a_pause_behind_each(
    clock: Clock,
) -> None:
    clock.work(0, 1)
    assert clock.work(40 * US, 100) == 20  # 4 ms in pieces of 0.2 ms
    assert clock.work(500 * US, 5) == 5


def test_what_pauses_took_is_worked_off_before_the_next(clock: Clock) -> None:
    clock.pause_ns = 3000 * US  # others take all there is
    clock.work(0, 1)
    began_ns = clock.now_ns
    pauses = clock.work(100 * US, 600)
    worked_ns = 600 * 100 * US
    assert pauses == worked_ns // clock.pause_ns
    assert clock.now_ns - began_ns == 2 * worked_ns  # half of all time


def test_each_thread_has_turns_of_its_own(clock: Clock) -> None:
    clock.work(0, 1)
    other = threading.Thread(target=give_way)
    other.start()
    other.join()
    assert len(clock.paused) == 2


def test_long_work_is_looked_up_from_now_and_then_and_short_work_is_not(clock: Clock) -> None:
    looked: list[int] = []

    def look() -> None:
        looked.append(clock.now_ns)
        clock.work(300 * US, 2)  # what gives way itself is not looked up from

    clock.pause_ns = 1000 * US
    with looking(look, 25_000 * US):
        clock.work(200 * US, 20)
        assert not looked
        clock.work(200 * US, 600)
    times = len(looked)
    assert times >= 3
    assert all(b - a >= 25_000 * US for a, b in pairwise(looked))
    clock.work(200 * US, 600)
    assert len(looked) == times


def test_rows_come_as_they_are_and_there_are_pauses_between_them(clock: Clock) -> None:
    clock.work(0, 1)
    found = []
    for row in in_pieces(iter(range(1000))):
        clock.now_ns += 10 * US
        found.append(row)
    assert found == list(range(1000))
    # Looked at each 32 rows, which is 320 us; the last rows have no look behind them.
    assert len(clock.paused) == 1 + 1000 // 32
    assert list(in_pieces([])) == []
