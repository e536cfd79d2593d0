"""A TracingConfig that cannot be used, through the real commands: told in a sentence, exit code 2, nothing started."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import support_local

pytestmark = pytest.mark.servers


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fc-", dir="/tmp") as path:
        yield Path(path)


# What the spec is, then what the one line must name: the field, and what was wrong or is allowed.
BAD = {
    "no tier": ("spec: {}", ("spec.tier", "is required", "Hobby")),
    "unknown tier": ("spec: {tier: Gold}", ("spec.tier", "Gold", "Hobby", "Scale")),
    "negative retention": (
        "spec: {tier: Hobby, retention: {traces: -3d}}",
        ("spec.retention.traces", "-3d"),
    ),
    "malformed CIDR": (
        "spec: {tier: Hobby, clusterCIDRs: [10.244.0.0/33]}",
        ("spec.clusterCIDRs.0", "10.244.0.0/33", "CIDR"),
    ),
    "unknown field": ("spec: {tier: Hobby, tear: Hobby}", ("spec.tear", "not a field")),
}


@pytest.mark.parametrize("command", ["up", "validate", "render"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error_exit_2_and_nothing_started(
    root: Path, command: str, case: str
) -> None:
    spec, says = BAD[case]
    file = root / "bad.yaml"
    file.write_text(
        f"apiVersion: farcall.dev/v1alpha1\nkind: TracingConfig\nmetadata: {{name: bad}}\n{spec}\n"
    )
    options = ["--run-root", str(root / "run"), "--state-root", str(root / "state")]
    done = subprocess.run(
        [*(sys.executable, "-m", "farcall.commands", command, "-f", str(file))]
        + (options if command == "up" else []),
        capture_output=True,
        text=True,
        timeout=support_local.DEADLINE_S,
        check=False,
    )

    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"farcall {command}: {file}: ")
    assert [word for word in says if word not in line] == []
    assert {path.name for path in root.iterdir()} == {"bad.yaml"}


def test_several_faults_are_all_told_at_once(root: Path) -> None:
    file = root / "bad.yaml"
    file.write_text(
        "apiVersion: farcall.dev/v1alpha1\nkind: TracingConfig\nmetadata: {name: Bad}\n"
        "spec: {tier: Gold, retention: {logs: 0d}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "farcall.commands", "up", "-f", str(file)],
        capture_output=True,
        text=True,
        timeout=support_local.DEADLINE_S,
        check=False,
    )

    assert done.returncode == 2
    fields = re.findall(r"bad\.yaml: (\S+):", done.stderr)
    assert fields == ["metadata.name", "spec.tier", "spec.retention.logs"]
