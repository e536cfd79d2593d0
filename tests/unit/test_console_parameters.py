"""Text from a URL into times, IDs and limits: right, or refused with the parameter's name; never anything else."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_console.parameters import (
    MAX_IDS,
    MAX_NS,
    parse_ids,
    parse_span_id,
    parse_time_ns,
    parse_trace_id,
    parse_window,
)
from farcall_console.problems import BadParameterError

pytestmark = pytest.mark.unit

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(86_400 * 10**6, 9_000_000_000 * 10**6).map(
    lambda microseconds: EPOCH + timedelta(microseconds=microseconds)
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(moment=MOMENTS, zone=ZONES, nanoseconds=st.integers(0, 999))
def test_a_time_means_the_same_in_every_zone(
    moment: datetime, zone: timezone, nanoseconds: int
) -> None:
    whole = (moment - EPOCH) // timedelta(microseconds=1)
    local = moment.astimezone(zone)
    text = f"{local:%Y-%m-%dT%H:%M:%S}.{local.microsecond:06}{nanoseconds:03}{local:%z}"
    with_colon = f"{text[:-2]}:{text[-2:]}"
    assert parse_time_ns("from", with_colon) == whole * 1_000 + nanoseconds


@given(st.integers(0, MAX_NS))
def test_nanoseconds_are_taken_as_they_are(value: int) -> None:
    assert parse_time_ns("to", str(value)) == value


@given(st.text(max_size=60))
def test_any_text_is_a_time_or_a_named_refusal(text: str) -> None:
    try:
        value = parse_time_ns("from", text)
    except BadParameterError as e:
        assert e.problem.field == "from" and e.problem.status == 400
    else:
        assert 0 <= value <= MAX_NS


@given(text=st.text(max_size=40), parse=st.sampled_from([parse_trace_id, parse_span_id]))
def test_any_text_is_an_id_or_a_named_refusal(text: str, parse: Callable[[str, str], str]) -> None:
    try:
        value = parse("trace", text)
    except BadParameterError as e:
        assert e.problem.field == "trace"
    else:
        assert value == text.lower() and set(value) <= set("0123456789abcdef")


def test_an_open_end_reaches_as_far_as_there_is() -> None:
    until_now = parse_window("5", None, now_ns=lambda: 9)
    since_ever = parse_window(None, "7")
    assert until_now is not None and (until_now.from_ns, until_now.to_ns) == (5, 9)
    assert since_ever is not None and (since_ever.from_ns, since_ever.to_ns) == (0, 7)
    assert parse_window(None, "") is None


def test_ids_come_once_each_and_not_without_end() -> None:
    one, two = "a" * 32, "b" * 32
    assert parse_ids("trace", [f"{one},{two}", one.upper(), ""], parse_trace_id) == (one, two)
    with pytest.raises(BadParameterError, match=str(MAX_IDS)):
        parse_ids("trace", [f"{n:032x}" for n in range(MAX_IDS + 1)], parse_trace_id)
