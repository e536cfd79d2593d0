"""Ranges are found by the bytes that they have in common, wherever they lie in the sequence space."""

import random

import pytest

from farcall_exporter.clients import overlaps
from farcall_exporter.ranges import Ranges

pytestmark = pytest.mark.unit

SIZES = (0, 1, 120, 1_024, 70_000, 3_000_000)


def test_every_range_that_meets_another_is_near_it_and_nothing_is_left_at_the_end() -> None:
    """Around the end of the sequence space, where numbers begin anew."""
    chance = random.Random(7)
    ranges: Ranges[tuple[int, int]] = Ranges()
    held: dict[int, tuple[int, int]] = {}
    for _ in range(3_000):
        key = chance.randrange(60)
        first = (chance.randrange(200_000) - 100_000) % 2**32
        size = chance.choice(SIZES)
        if chance.random() < 0.3:
            ranges.remove(1, key)
            held.pop(key, None)
        else:
            held[key] = first, size
            ranges.add(1, key, first, size, (first, size))
        at, wanted = (first + chance.randrange(-2_000, 2_000)) % 2**32, chance.choice(SIZES)
        near = list(ranges.near(1, at, wanted))
        meeting = [r for r in held.values() if overlaps(r[0], r[1], at, wanted)]
        assert set(meeting) <= set(near) <= set(held.values())
    for key in list(held):
        ranges.remove(1, key)
    assert ranges.identities() == []
    assert list(ranges.near(1, 0, 1)) == []


def test_few_of_many_requests_on_one_connection_are_looked_at() -> None:
    ranges: Ranges[int] = Ranges()
    for number in range(10_000):
        ranges.add(1, number, number * 120, 120, number)

    near = list(ranges.near(1, 5_000 * 120, 120))
    assert 5_000 in near and len(near) <= 2 * 1_024 // 120 + 2
    assert list(ranges.near(2, 5_000 * 120, 120)) == []
