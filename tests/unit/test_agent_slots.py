"""Rows of a room of fixed size: none is given out twice, and as few are used as are needed at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import events
from farcall_probes.records import Slots, make_room

pytestmark = pytest.mark.unit

MOST = 8


@given(st.lists(st.integers(-MOST, MOST), max_size=40))
def test_slots_are_given_out_once_and_the_lowest_first(steps: list[int]) -> None:
    slots = Slots(MOST)
    used: list[int] = []
    highest = 0
    for step in steps:
        if step < 0:
            back, used = used[:-step], used[-step:]
            slots.give_back(back)
        else:
            used += slots.take(min(step, len(slots)))
        highest = max(highest, len(used))
        assert len(set(used)) == len(used) == MOST - len(slots)
        assert set(used) <= set(range(highest))


def test_a_room_is_empty_and_can_be_written() -> None:
    room = make_room(3, events.LARGE)
    assert not room["conn_id"].any()
    room["conn_id"][2] = 7
    assert room["conn_id"].tolist() == [0, 0, 7]
