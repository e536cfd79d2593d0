"""DNS over TCP in portions: put together in order, bounded, and honest about what is missing."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.dnsstreams import DnsStreams

pytestmark = pytest.mark.unit

MESSAGE = bytes(range(200))
SIZE = len(MESSAGE)


@given(st.lists(st.integers(min_value=1, max_value=SIZE - 1), max_size=7, unique=True).map(sorted))
def test_a_message_is_whole_in_whatever_portions_it_was_read(cuts: list[int]) -> None:
    streams = DnsStreams()
    bounds = [0, *cuts, SIZE]
    taken = [
        streams.take(7, begin, SIZE, end < SIZE, MESSAGE[begin:end])
        for begin, end in pairwise(bounds)
    ]

    assert taken[-1] == (MESSAGE, False)
    assert not any(taken[:-1]) and not streams.dropped


def test_what_was_not_told_to_the_end_is_cut() -> None:
    streams = DnsStreams()
    assert streams.take(7, 0, SIZE, True, MESSAGE[:50]) is None

    assert streams.take(7, 50, SIZE, False, MESSAGE[50:90]) == (MESSAGE[:90], True)


def test_a_gap_ends_the_message_where_it_is() -> None:
    streams = DnsStreams()
    streams.take(7, 0, SIZE, True, MESSAGE[:50])

    assert streams.take(7, 60, SIZE, False, MESSAGE[60:]) == (MESSAGE[:50], True)


def test_portions_of_two_connections_do_not_mix() -> None:
    streams = DnsStreams()
    streams.take(7, 0, 4, True, b"ab")
    streams.take(8, 0, 4, True, b"xy")

    assert streams.take(7, 2, 4, False, b"cd") == (b"abcd", False)
    assert streams.take(8, 2, 4, False, b"zz") == (b"xyzz", False)


def test_a_portion_without_its_beginning_is_dropped_and_counted() -> None:
    streams = DnsStreams()

    assert streams.take(7, 2, 4, False, b"cd") is None
    assert streams.dropped == 1


def test_messages_that_are_never_read_on_are_bounded() -> None:
    streams = DnsStreams(max_open=4)
    for connection in range(10):
        streams.take(connection, 0, 4, True, b"ab")

    assert streams.dropped == 6
    assert streams.take(9, 2, 4, False, b"cd") == (b"abcd", False)
    assert streams.take(0, 2, 4, False, b"cd") is None
