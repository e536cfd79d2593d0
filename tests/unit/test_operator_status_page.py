"""The page about status knows every reason that the code can give."""

import re
from pathlib import Path

import pytest

from farcall_operator import conditions, troubles
from support_ground import ROOT

pytestmark = pytest.mark.unit

PAGE = ROOT / "docs" / "status.md"
SOURCES = (
    "reconcile",
    "telling",
    "applying",
    "volumes",
    "problems",
    "status",
    "podtroubles",
    "troubles",
)
# `reason="X"`, and the functions that take a reason as an argument or return one.
GIVEN = re.compile(
    r'(?:reason=|_part\(part, |_complain\(\s*ref, |return |if is_updated else )"([A-Z][A-Za-z]+)"'
)


def list_reasons() -> set[str]:
    folder = Path(conditions.__file__).parent
    found = {r for name in SOURCES for r in GIVEN.findall((folder / f"{name}.py").read_text())}
    return found | set(troubles.ORDER)


def test_every_reason_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = {reason for reason in list_reasons() if f"`{reason}`" not in page}

    assert len(list_reasons()) > 25
    assert missing == set()


def test_every_condition_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    types = (conditions.READY, conditions.RECONCILING, conditions.STALLED, conditions.PROBES, conditions.CACHE, conditions.EXPORTER)  # fmt: skip

    assert [name for name in types if f"| `{name}` |" not in page] == []
