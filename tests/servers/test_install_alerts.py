"""Each alert fires on what it is for, in the words that somebody reads at night, and on nothing else: asked of promtool."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support_alerts import CASES, HOURS, WELL, Case
from support_ground import ROOT
from support_install import DEPLOY, read_objects

pytestmark = pytest.mark.servers

ALERTS = DEPLOY / "monitoring/alerts.yaml"
RULES = {
    rule["alert"]: rule for group in read_objects(ALERTS)[0]["groups"] for rule in group["rules"]
}
Test = dict[str, Any]


@pytest.fixture(scope="session")
def promtool() -> Path:
    build = ROOT / "tests/build-promtool.sh"
    done = subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip())


def judge(promtool: Path, folder: Path, tests: list[Test]) -> str:
    """What promtool finds wrong; nothing when all is as expected."""
    file = folder / "tests.yaml"
    whole = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(json.dumps(whole))  # JSON is YAML
    done = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def build_test(name: str, changes: Mapping[str, str | None], expected: list[Test]) -> Test:
    series = {name: values for name, values in {**WELL, **changes}.items() if values is not None}
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": expected,
    }


def expect(alert: str, at_min: int, *alerts: Test) -> Test:
    return {"eval_time": f"{at_min}m", "alertname": alert, "exp_alerts": list(alerts)}


def tell(case: Case) -> Test:
    rule = RULES[case.alert]
    return {
        "exp_labels": {**case.labels, **rule["labels"]},
        "exp_annotations": {**rule["annotations"], "summary": case.summary},
    }


def test_promtool_finds_no_fault_in_the_rules(promtool: Path) -> None:
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", ALERTS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_every_alert_has_its_case() -> None:
    assert [case.alert for case in CASES] == list(RULES)


def test_every_metric_of_an_alert_is_there_on_a_good_day() -> None:
    """Silence over a metric that is not there would prove nothing."""
    asked = {name for rule in RULES.values() for name in re.findall(r"farcall_\w+", rule["expr"])}

    assert asked == {name.partition("{")[0] for name in WELL}


def test_nothing_fires_while_nothing_is_wrong(promtool: Path, tmp_path: Path) -> None:
    silence = [expect(alert, at) for at in (15, 60, HOURS) for alert in RULES]

    assert judge(promtool, tmp_path, [build_test("well", {}, silence)]) == ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_when_it_should_and_no_other_does(
    promtool: Path, tmp_path: Path, case: Case
) -> None:
    others = [expect(alert, case.fires_min) for alert in RULES if alert != case.alert]
    expected = [
        expect(case.alert, case.silent_min),
        expect(case.alert, case.fires_min, tell(case)),
        *others,
    ]

    assert judge(promtool, tmp_path, [build_test("fires", case.series, expected)]) == ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_stays_silent_over_what_only_resembles_it(
    promtool: Path, tmp_path: Path, case: Case
) -> None:
    times = sorted({case.fires_min, case.fires_min + 20, HOURS})
    silence = [expect(case.alert, at) for at in times]
    tests = [build_test(f"near {n}", near, silence) for n, near in enumerate(case.near)]

    assert tests, "nothing comes near it"
    assert judge(promtool, tmp_path, tests) == ""
