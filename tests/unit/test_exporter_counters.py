"""Every loss and every refusal is counted: each counter is used, and those that mean a loss say so in their names."""

import pytest

import farcall_exporter
from farcall_exporter.counters import NAMES, Counters
from support_ground import ROOT

pytestmark = pytest.mark.unit


def test_every_counter_is_counted_somewhere() -> None:
    folder = ROOT / "exporter" / farcall_exporter.__name__
    source = "".join(
        path.read_text(encoding="utf-8") for path in folder.rglob("*.py") if path.stem != "counters"
    )
    assert [name for name in NAMES if f'"{name}"' not in source] == []


def test_a_counter_that_nobody_knows_is_a_fault() -> None:
    with pytest.raises(KeyError):
        Counters().add("surprises", 1)
