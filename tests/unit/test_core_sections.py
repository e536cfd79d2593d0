"""Sections check themselves as pydantic would check the same fields, and say what is wrong."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from farcall.effective import EffectiveConfig, render_effective
from farcall.sections import MisfitError, parse_section
from support_ground import build_example

pytestmark = pytest.mark.unit

FLOATS = st.floats(allow_nan=False, allow_infinity=False)  # JSON has neither
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


def values_near(value: object) -> st.SearchStrategy[object]:
    """Another value of the same kind, one at its bounds, or anything of JSON."""
    if isinstance(value, bool) or value is None:
        return st.booleans() | st.none() | JSON
    if isinstance(value, int | float):
        return st.sampled_from([0, 1, -1, 100, 101, 0.0, 1.5, True, 2**70, "1"]) | st.integers()
    if isinstance(value, str):
        return st.text(max_size=6) | st.sampled_from(["local", "Scale", "discovered"]) | JSON
    return st.lists(st.sampled_from(["http", "dns", "x", 1, None]), max_size=3) | JSON


@st.composite
def near_configs(draw: st.DrawFn) -> dict[str, Any]:
    """The example's JSON with one field changed, left out, or added; networks aside, which pydantic knows nothing of."""
    raw: dict[str, Any] = json.loads(render_effective(build_example("hobby")))
    raw["selection"]["drop"] = [{"namespaces": ["a"], "services": [], "paths": ["/x*"]}]
    place: dict[str, Any] = draw(
        st.sampled_from([raw, raw["selection"]["drop"][0]])
        | st.sampled_from([v for v in raw.values() if isinstance(v, dict)])
    )
    name = draw(st.sampled_from([n for n in place if n != "cluster_cidrs"]) | st.just("no_such"))
    if draw(st.booleans()):
        place.pop(name, None)
    else:
        place[name] = draw(values_near(place.get(name)))
    return raw


@given(near_configs())
def test_what_is_accepted_is_what_pydantic_accepts_of_the_same_fields(raw: dict[str, Any]) -> None:
    text = json.dumps(raw).encode()
    adapter = TypeAdapter(EffectiveConfig)
    try:
        expected = adapter.validate_json(text)
    except ValidationError as e:
        with pytest.raises(MisfitError) as refused:
            parse_section(EffectiveConfig, text)
        first = e.errors()[0]["loc"]
        assert refused.value.path[:1] == tuple(str(part) for part in first[:1])
    else:
        assert parse_section(EffectiveConfig, text) == expected


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"generation": True}, "generation: must be a whole number, not True"),
        ({"generation": -1}, "generation: must be at least 0, not -1"),
        ({"tier": "Large"}, "tier: must be one of 'Hobby', 'Scale', not 'Large'"),
        ({"cluster_cidrs": ["10.0.0.0/8", "10.0.0.1/8"]}, "cluster_cidrs.1: must be a CIDR"),
        ({"dns": None}, "dns: must be an object, not None"),
        ({"state_dir": 5}, "state_dir: must be text, not 5"),
    ],
)
def test_a_config_cannot_be_made_of_what_does_not_fit(
    update: dict[str, object], message: str
) -> None:
    with pytest.raises(MisfitError, match=message):
        build_example("hobby").model_copy(update=update)
