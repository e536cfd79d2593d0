"""The model over the corpus: it refuses what is wrong, with the field, and accepts what is right.

The API server is held to the same files (tests/apiserver).
"""

from pathlib import Path

import pytest
import yaml
from hypothesis import given

from farcall.tiers import TIER_NAMES
from farcall.tracingconfig import InvalidConfigError, check_tracingconfig, read_tracingconfig
from support_ground import ROOT
from support_tracingconfigs import Case, list_cases, make_document, name_case, specs

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("case", list_cases("bad"), ids=name_case)
def test_a_wrong_resource_is_refused_with_its_field_and_nothing_else(case: Case) -> None:
    with pytest.raises(InvalidConfigError) as refused:
        read_tracingconfig(case.path)

    (problem,) = refused.value.problems
    assert problem.startswith(f"{case.field}: ")


@pytest.mark.parametrize("case", list_cases("good"), ids=name_case)
def test_a_right_resource_is_accepted(case: Case) -> None:
    assert read_tracingconfig(case.path).metadata.name in ("main", "canary", "a", "a" * 40)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_examples_are_right(path: Path) -> None:
    assert read_tracingconfig(path).spec.tier in TIER_NAMES


@pytest.mark.parametrize("case", list_cases("model-only"), ids=name_case)
def test_what_only_the_model_can_refuse_says_why(case: Case) -> None:
    assert len(case.reason) > 20
    with pytest.raises(InvalidConfigError):
        read_tracingconfig(case.path)


@pytest.mark.parametrize("case", list_cases("transitions"), ids=name_case)
def test_of_a_forbidden_transition_each_state_is_right(case: Case) -> None:
    before, after = yaml.safe_load_all(case.path.read_text(encoding="utf-8"))

    assert check_tracingconfig(before, source="before") != check_tracingconfig(
        after, source="after"
    )


def test_the_corpus_is_large_enough_to_mean_something() -> None:
    assert len(list_cases("bad")) >= 40
    assert len(list_cases("good")) >= 15


@given(specs())
def test_every_spec_that_the_strategy_makes_is_right(spec: dict[str, object]) -> None:
    """So that other tests may take it for granted."""
    assert check_tracingconfig(make_document(spec), source="spec").spec.tier == spec["tier"]
