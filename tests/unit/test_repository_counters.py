"""docs/counters.md lists every counter that the code counts with."""

import re
from typing import get_args

import pytest

from farcall.exchange import BatchKind
from farcall_exporter.counters import NAMES
from farcall_probes.counters import KERNEL_COUNTERS
from support_ground import ROOT
from support_repository import list_modules

pytestmark = pytest.mark.unit

PAGE = ROOT / "docs/counters.md"


def listed() -> set[str]:
    return set(re.findall(r"^\| `([a-z0-9_]+)` \|", PAGE.read_text(encoding="utf-8"), re.M))


def counted_in(package: str) -> set[str]:
    """Names in the code: subscripts of counters, and every literal that is named as a loss."""
    found: set[str] = set()
    for path in list_modules():
        if package in path.parts:
            text = path.read_text(encoding="utf-8")
            found |= set(re.findall(r"counters\[f?\"([a-z0-9_{}.]+)\"\]", text))
            found |= set(re.findall(r"f?\"([a-z0-9_{}.]+_(?:lost|dropped|no_answer))\"", text))
    return {re.sub(r"\{.*\}", kind, name) for name in found for kind in get_args(BatchKind)}


def test_the_kernels_counters_are_listed() -> None:
    assert [name for name in KERNEL_COUNTERS if name not in listed()] == []


def test_the_exporters_counters_are_listed() -> None:
    assert [name for name in NAMES if name not in listed()] == []


@pytest.mark.parametrize("package", ["farcall_probes", "farcall_store", "farcall_exporter"])
def test_whatever_is_counted_is_listed(package: str) -> None:
    counted = counted_in(package)

    assert counted
    assert sorted(counted - listed()) == []


def test_nothing_is_listed_that_is_not_counted() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in list_modules())
    kinds = "|".join(get_args(BatchKind))
    unknown = [
        name
        for name in sorted(listed())
        if f'"{name}"' not in sources
        and re.sub(rf"_({kinds})(_dropped)?$", r"_{kind}\2", name)
        not in re.sub(r"\{\w+\.kind\}", "{kind}", sources)
    ]

    assert unknown == []
