"""Who held an address at a given time, against a plain model of claims."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_exporter.cluster.timelines import SKEW_NS, Timelines

pytestmark = pytest.mark.unit

S = 10**9
IP = "10.244.1.7"


def test_an_address_is_its_first_owners_until_it_ended_and_the_next_ones_from_its_start() -> None:
    lines = Timelines()
    lines.claim(IP, "a", start_ns=100 * S, seen_ns=101 * S)
    lines.release(IP, "a", end_ns=200 * S)
    lines.claim(IP, "b", start_ns=300 * S, seen_ns=301 * S)
    found = lines.segments(IP)

    assert found is not None
    asked = [50, 100, 150, 200, 250, 300, 10_000]
    assert [found.at(t * S) for t in asked] == [(), ("a",), ("a",), ("a",), (), ("b",), ("b",)]


def test_a_time_that_two_may_have_held_it_names_both() -> None:
    """The second started before the end of the first was seen: in between it can have been either."""
    lines = Timelines()
    lines.claim(IP, "a", start_ns=100 * S, seen_ns=101 * S)
    lines.claim(IP, "b", start_ns=190 * S, seen_ns=195 * S)
    lines.release(IP, "a", end_ns=200 * S)
    found = lines.segments(IP)

    assert found is not None
    assert [found.at(t * S) for t in (180, 195, 210)] == [("a",), ("a", "b"), ("b",)]


def test_an_older_claim_that_was_never_released_ends_when_the_next_is_seen() -> None:
    """A pod of a node that is gone stays in the API for long."""
    lines = Timelines()
    lines.claim(IP, "b", start_ns=190 * S, seen_ns=195 * S)
    lines.claim(IP, "a", start_ns=100 * S, seen_ns=196 * S)  # told later, by a list
    found = lines.segments(IP)

    assert found is not None
    assert [found.at(t * S) for t in (150, 194, 198, 1_000)] == [("a",), ("a", "b"), ("b",), ("b",)]


def test_what_ended_long_ago_is_forgotten_and_what_was_opened_again_is_not() -> None:
    lines = Timelines()
    for key, owner in ((IP, "a"), ("10.244.1.8", "b")):
        lines.claim(key, owner, start_ns=100 * S, seen_ns=101 * S)
        lines.release(key, owner, end_ns=200 * S)
    lines.claim(IP, "a", start_ns=100 * S, seen_ns=210 * S)
    lines.forget(300 * S)

    assert (IP in lines, "10.244.1.8" in lines, len(lines)) == (True, False, 1)


def test_a_cluster_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farcall_exporter.cluster.timelines.MAX_CLAIMS", 2)
    lines = Timelines()
    taken = [lines.claim(f"10.0.0.{i}", "a", start_ns=0, seen_ns=0) for i in range(3)]

    assert (taken, len(lines)) == ([True, True, False], 2)


STEPS = st.lists(
    st.tuples(st.sampled_from(["claim", "release"]), st.sampled_from("abc"), st.integers(5, 60)),
    max_size=12,
)


@given(STEPS, st.integers(0, 1_000))
def test_an_owner_is_named_exactly_within_its_claim_and_its_slack(
    steps: list[tuple[str, str, int]], asked_s: int
) -> None:
    """The model knows of each owner only its first start, its last end, and who was seen after it."""
    lines = Timelines()
    now = 10
    starts: dict[str, int] = {}
    seen: dict[str, int] = {}
    ends: dict[str, int | None] = {}
    for what, owner, pause in steps:
        now += pause
        if what == "claim":
            lines.claim(IP, owner, start_ns=now * S, seen_ns=(now + 1) * S)
            starts.setdefault(owner, now)
            seen.setdefault(owner, now + 1)
            ends[owner] = None
        else:
            lines.release(IP, owner, end_ns=now * S)
            if owner in ends and ends[owner] is None:
                ends[owner] = now
    order = sorted(starts, key=lambda o: (starts[o], seen[o]))
    expected = set()
    for place, owner in enumerate(order):
        end = ends[owner]
        if end is None and place + 1 < len(order):
            end = seen[order[place + 1]]
        slack = SKEW_NS // S
        if starts[owner] - slack <= asked_s and (end is None or asked_s < end + slack):
            expected.add(owner)
    found = lines.segments(IP)

    assert (set(found.at(asked_s * S)) if found else set()) == expected
