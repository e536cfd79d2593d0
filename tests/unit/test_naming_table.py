"""The table of the naming score: large enough, each case in it, and every row possible."""

import sys
from pathlib import Path

import pytest

from farcall.names import UnknownReason
from support_ground import ROOT

sys.path.insert(0, str(ROOT / "bench"))

from naming.table import Expected, TableError, read_table

pytestmark = pytest.mark.unit

CASES = range(1, 18)  # 17 groups: bench/naming/README.md


def run_rows() -> list[Expected]:
    return [row for row in read_table() if not row.needs]


def test_every_case_has_rows_that_run() -> None:
    assert {row.case for row in run_rows()} == set(CASES)


def test_there_are_eighty_rows_and_sixty_of_them_expect_a_name() -> None:
    rows = run_rows()

    assert len(rows) >= 80
    assert sum(row.outcome.is_name for row in rows) >= 60


def test_every_reason_is_expected_somewhere() -> None:
    assert {row.outcome.reason for row in run_rows()} - {""} == set(UnknownReason)


def test_no_row_waits_for_what_is_not_there() -> None:
    assert [row.id for row in read_table() if row.needs] == []


@pytest.mark.parametrize(
    "change",
    [
        ("no_dns_seen", "no_idea"),  # not in the closed list
        ("dns,exact", "gossip,exact"),
        ("dns,exact", "dns,maybe"),
        (",glibc,", ",bind9,"),
        ("c01-at-once-redis-musl,", "c01-at-once-redis-glibc,"),  # twice
    ],
)
def test_a_row_that_cannot_be_is_refused(change: tuple[str, str], tmp_path: Path) -> None:
    text = (ROOT / "bench/naming/expected.csv").read_text(encoding="utf-8")
    changed = tmp_path / "expected.csv"
    changed.write_text(text.replace(*change), encoding="utf-8")

    with pytest.raises(TableError):
        read_table(changed)
