"""No live field is left over: each belongs to a component whose test changes it and sees the effect."""

import dataclasses
from collections.abc import Iterator

import pytest

from farcall.effective import EffectiveConfig
from farcall.sections import Section, is_section
from support_live_config import (
    AGENT_FIELDS,
    CONSOLE_FIELDS,
    EXPORTER_FIELDS,
    STORE_FIELDS,
    WITHOUT_EFFECT,
)

pytestmark = pytest.mark.unit

ALL = (AGENT_FIELDS, EXPORTER_FIELDS, STORE_FIELDS, CONSOLE_FIELDS, WITHOUT_EFFECT)


def list_leaves(section: type[Section], prefix: str = "") -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(section):
        if is_section(field.type):
            yield from list_leaves(field.type, f"{prefix}{field.name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{field.name}", field.metadata["json_schema_extra"]["farcall.applies"]


def test_each_live_field_has_a_component_that_applies_it() -> None:
    live = {name for name, applies in list_leaves(EffectiveConfig) if applies == "live"}

    assert set().union(*ALL) == live
