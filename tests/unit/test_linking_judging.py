"""The linking score counts against the truth, not for it."""

import sys
from dataclasses import replace

import pytest

from farcall.api import Span
from support_api import SPAN
from support_ground import ROOT

sys.path.insert(0, str(ROOT / "bench"))

from linking import joins
from linking.judging import Score, judge

pytestmark = pytest.mark.unit

CALLS = [(place, "threads", "7") for place in ("front", "middle", "leaf")]


def span(
    place: str, span_id: str, parent: str = "", number: str = "7", join: str = "exact"
) -> Span:
    path = f"/run/{place}/threads/{number}"
    return replace(SPAN, span_id=span_id, parent_span_id=parent, attributes={"url.path": path, "farcall.join": join})  # fmt: skip


def test_a_child_of_its_own_request_is_right_and_every_other_parent_is_wrong() -> None:
    spans = [
        span("front", "f7"), span("front", "f8", number="8"),
        span("middle", "m7", "f7"), span("leaf", "l7", "f7"),
    ]  # fmt: skip
    found = judge(spans, CALLS)["threads"]

    assert found["middle"] == Score(calls=1, right=1, joined=1)
    assert found["leaf"] == Score(calls=1, wrong=1, joined=1)


def test_a_parent_that_is_no_span_is_wrong() -> None:
    assert judge([span("middle", "m7", "gone")], CALLS)["threads"]["middle"].wrong == 1


def test_what_is_missing_doubled_orphaned_or_alone_is_counted() -> None:
    spans = [span("front", "a", join="none"), span("front", "b"), span("middle", "m7")]
    found = judge(spans, CALLS)["threads"]

    assert found["front"] == Score(calls=1, doubles=1)
    assert found["middle"] == Score(calls=1, orphan=1, joined=1)
    assert found["leaf"] == Score(calls=1, missing=1)


def test_a_call_for_nobody_must_have_no_parent() -> None:
    spans = [span("background", "a"), span("background", "b", "f7", number="8")]
    found = judge(spans, [])["threads"]["background"]

    assert (found.background, found.wrong) == (1, 1)


def exchange(
    number: int, server: str = "join-3", took_ns: int = 1, span_id: str = "a", join: str = "exact"
) -> Span:
    attributes = {
        "url.path": f"/run/join/3/{number}",
        "farcall.join": join,
        "farcall.server.service.name": server,
        "farcall.server.duration_ns": str(took_ns),
    }
    return replace(SPAN, span_id=span_id, attributes=attributes, duration_ns="1000")


def test_joined_doubled_missing_and_lonely_exchanges_are_counted() -> None:
    spans = [
        exchange(1),
        exchange(2),
        exchange(2, span_id="b", join="none"),
        exchange(3, join="none"),
    ]
    found = joins.judge(spans, 4)

    assert (found.joined, found.doubles, found.missing, found.false) == (2, 1, 1, 0)
    assert len(found.faults) == 2


@pytest.mark.parametrize("wrong", [exchange(1, server="join-4"), exchange(1, took_ns=1001)])
def test_a_join_with_another_servers_sight_or_a_longer_one_is_false(wrong: Span) -> None:
    found = joins.judge([wrong, exchange(2)], 2)

    assert (found.false, found.faults) == (1, ["1 spans are joined falsely"])
