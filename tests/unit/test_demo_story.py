"""The demo's story over a farcall that shows nothing, and the table that tells how it went."""

from pathlib import Path

import pytest

from farcall.client import ApiUnreachableError
from farcall.rundir import RunDir
from farcall_demo.expectations import Expectation, Finding, list_expectations
from farcall_demo.plan import Plan
from farcall_demo.run import report_results
from farcall_demo.scenarios import Result, look
from farcall_demo.view import View
from support_demo import show

pytestmark = pytest.mark.unit
PLAN = Plan(instance="main", slot=0)
NOWHERE = RunDir(Path("/nonexistent/main"))


def make_result(*, held: bool, found: str) -> Result:
    expectation = list_expectations(PLAN)[0]
    return Result(expectation=expectation, finding=Finding(held=held, found=found), after_s=1.2)


def test_a_question_that_cannot_be_asked_is_a_finding() -> None:
    def ask(view: View) -> Finding:
        raise ApiUnreachableError("no answer from http://127.0.0.1:1")

    expectation = Expectation(name="n", rows="M1", query="q", must="m", check=ask)

    finding = look(expectation, show(NOWHERE))

    assert not finding.held
    assert "no answer from" in finding.found


def test_nothing_shown_holds_no_expectation() -> None:
    view = show(NOWHERE)

    assert [e.name for e in list_expectations(PLAN) if look(e, view).held] == []


def test_every_mission_row_of_the_demo_has_an_expectation() -> None:
    rows = " ".join(expectation.rows for expectation in list_expectations(PLAN)).split()

    assert {"M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8", "M9", "M11"} <= set(rows)


def test_the_table_ends_with_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    results = [make_result(held=True, found="fine"), make_result(held=False, found="x\x1b[2J")]

    assert report_results(results, held=False) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("✓") and lines[2].startswith("✗")
    assert lines[2].endswith("x\\x1b[2J")
    assert "  must:  named api.example.com by the request itself" in lines
    assert "  found: x\\x1b[2J" in lines
    assert lines[-1] == "1 of 2 did not hold"


def test_all_held_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_results([make_result(held=True, found="fine")], held=True) == 0
    assert "every expectation held" in capsys.readouterr().out
