"""Calls on other threads: their results and errors come back, and the block waits for all of them."""

import threading
from functools import partial

import pytest

from farcall_probes.workers import Workers

pytestmark = pytest.mark.unit


def test_results_and_errors_are_those_of_their_calls() -> None:
    with Workers(2) as workers:
        results = [workers.submit(partial(divmod, 7, by)) for by in (2, 0, 3)]

    assert (results[0].wait(), results[2].wait()) == ((3, 1), (2, 1))
    with pytest.raises(ZeroDivisionError):
        results[1].wait()


def test_as_many_are_made_at_a_time_as_there_are_threads() -> None:
    meeting = threading.Barrier(3, timeout=30)
    with Workers(3) as workers:
        results = [workers.submit(meeting.wait) for _ in range(3)]
    assert sorted(result.wait() for result in results) == [0, 1, 2]


def test_the_block_ends_behind_the_last_call_also_when_it_fails() -> None:
    made: list[int] = []
    with pytest.raises(KeyError), Workers(1) as workers:
        for number in range(50):
            workers.submit(partial(made.append, number))
        raise KeyError
    assert made == list(range(50))
