"""No live field is left over: each belongs to a component whose test changes it and sees the effect."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from farcall.effective import EffectiveConfig
from support_live_config import (
    AGENT_FIELDS,
    CONSOLE_FIELDS,
    EXPORTER_FIELDS,
    STORE_FIELDS,
    WITHOUT_EFFECT,
)

pytestmark = pytest.mark.unit

ALL = (AGENT_FIELDS, EXPORTER_FIELDS, STORE_FIELDS, CONSOLE_FIELDS, WITHOUT_EFFECT)


def list_leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from list_leaves(field.annotation, f"{prefix}{name}.")
        else:
            extra = field.json_schema_extra
            assert isinstance(extra, dict)
            yield f"{prefix}{name}", str(extra["farcall.applies"])


def test_each_live_field_has_a_component_that_applies_it() -> None:
    live = {name for name, applies in list_leaves(EffectiveConfig) if applies == "live"}

    assert set().union(*ALL) == live
