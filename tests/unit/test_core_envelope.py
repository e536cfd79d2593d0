"""An agent's status is read whole or refused by the field's name; nothing else may come out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.envelope import AgentStatus, Capability, parse_agent_status

pytestmark = pytest.mark.unit

STATUS = AgentStatus(
    node="node-1",
    boot_id="a" * 32,
    version="0.1.0",
    time_ns=1_700_000_000_000_000_000,
    started_ns=1,
    config_generation=3,
    dns_ttl_s=3_600,
    dns_ttl_overridden=False,
    kernel="6.1.0",
    capabilities=(Capability(name="syscalls/write", on=False, why="no tracefs", cost="calls"),),
    counters={"ring_small_lost": 0, "exchanges": 2**63 - 1},
    gauges={"rss_bytes": 1.5, "queue_batches": 2},
)
FIELDS = sorted(STATUS.to_json())


def test_a_status_survives_the_trip() -> None:
    assert parse_agent_status(json.loads(json.dumps(STATUS.to_json()))) == STATUS


def test_a_newer_agents_further_fields_are_left_out() -> None:
    assert parse_agent_status({**STATUS.to_json(), "colour": "red"}) == STATUS


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(field: str) -> None:
    raw = {k: v for k, v in STATUS.to_json().items() if k != field}

    with pytest.raises(ValueError, match=f"lacks {field}$"):
        parse_agent_status(raw)


WRONG = [None, True, -1, 2**64, 1.5, float("nan"), "x" * 2000, "\ud800", [1], [None], [{}],
         [{"name": 1, "on": True}], [{"name": "a", "on": 1}], [{"name": "a", "on": True, "why": 2}],
         {"a": "b"}, {"a": True}, {"a": float("inf")}, {"a": 10**400}, {"\ud800": 1}, {"a": -1}]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", WRONG, ids=lambda v: repr(v)[:20])
def test_a_value_that_is_taken_can_be_written_again(field: str, value: object) -> None:
    try:
        status = parse_agent_status({**STATUS.to_json(), field: value})
    except ValueError as e:
        assert field in str(e)
    else:
        json.dumps(status.to_json(), allow_nan=False, ensure_ascii=False).encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES, st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
def test_any_json_is_a_status_or_a_value_error(whole: object, changes: dict[str, object]) -> None:
    for raw in (whole, {**STATUS.to_json(), **changes}):
        try:
            parse_agent_status(raw)
        except ValueError:
            pass
