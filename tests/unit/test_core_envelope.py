"""An agent's status is read whole or refused by the field's name; nothing else may come out."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.envelope import (
    MAX_AGENTS,
    MAX_AGENTS_BYTES,
    AgentSight,
    AgentStatus,
    Capability,
    parse_agent_status,
    parse_agents,
    render_agents,
)

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
    config_revision="0123456789ab",
)
FIELDS = sorted(STATUS.to_json())
OPTIONAL = {"config_revision", "ended_ns", "reported_ns"}
SIGHT = AgentSight(
    node="node-1", version="0.1.0", config_generation=3, config_revision="0123456789ab", age_s=1.5
)


def test_a_status_survives_the_trip() -> None:
    assert parse_agent_status(json.loads(json.dumps(STATUS.to_json()))) == STATUS


def test_a_newer_agents_further_fields_are_left_out() -> None:
    assert parse_agent_status({**STATUS.to_json(), "colour": "red"}) == STATUS


def test_an_older_agent_says_no_revision() -> None:
    raw = STATUS.to_json()
    del raw["config_revision"]

    assert parse_agent_status(raw) == replace(STATUS, config_revision="")


def test_the_operators_list_survives_the_trip() -> None:
    sights = [replace(SIGHT, node=f"node-{n}", age_s=float(n)) for n in (2, 1, 3)]

    said = parse_agents(render_agents(sights, store_trouble="the disk is full"))

    assert said.agents == tuple(sorted(sights, key=lambda s: s.node))
    assert said.store_trouble == "the disk is full"


def test_an_older_exporter_says_nothing_of_its_store_and_of_the_cache() -> None:
    sight = asdict(SIGHT)
    del sight["cache_trouble"]
    said = parse_agents(json.dumps({"agents": [sight]}).encode())

    assert said.store_trouble == ""
    assert said.agents == (SIGHT,)


def test_the_operators_list_is_bounded_to_the_freshest() -> None:
    sights = [replace(SIGHT, node=f"n{n}", age_s=float(n)) for n in range(MAX_AGENTS + 7)]
    body = render_agents(sights)

    assert len(body) < MAX_AGENTS_BYTES
    assert {s.age_s for s in parse_agents(body).agents} == {float(n) for n in range(MAX_AGENTS)}


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"null", b"[]", b'{"agents": [], "store_trouble": 1}', b'{"agents": {}}', b'{"agents": [1]}', b'{"agents": [{}]}', b"[" * 9000,
     b'{"agents": [{"node": "a", "version": "1", "config_revision": "", "config_generation": -1, "age_s": 1}]}',
     b'{"agents": [{"node": "a", "version": "1", "config_revision": "", "config_generation": 1, "age_s": NaN}]}'],
)  # fmt: skip
def test_what_is_no_list_of_agents_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_agents(body)


@pytest.mark.parametrize("field", [f for f in FIELDS if f not in OPTIONAL])
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
