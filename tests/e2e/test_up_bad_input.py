"""What cannot be used is refused with one sentence and exit code 2, before anything is started."""

from pathlib import Path

import pytest

from support_e2e import run_farcall, up_options

pytestmark = pytest.mark.e2e
HEAD = "apiVersion: farcall.dev/v1alpha1\nkind: TracingConfig\nmetadata: {name: bad}\nspec:\n"


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("  retention: {traces: 3d}", "spec.tier: is required: write Hobby or Scale"),
        ("  tier: Huge", "spec.tier: must be 'Hobby' or 'Scale' (it is 'Huge')"),
        ("  tier: Hobby\n  retention: {traces: -3d}", "spec.retention.traces: must look like 3d"),
        ("  tier: Hobby\n  clusterCIDRs: [10.244.0.0/33]", "spec.clusterCIDRs.0: must be a CIDR"),
        ("  tier: Hobby\n  teir: Hobby", "spec.teir: is not a field"),
    ],
)
def test_a_bad_resource_starts_nothing(tmp_path: Path, spec: str, sentence: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(HEAD + spec + "\n")

    done = run_farcall("up", "--once", "-f", str(file), *up_options(tmp_path))

    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "run").glob("*"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run_farcall("up", "-f", str(tmp_path / "none.yaml"), *up_options(tmp_path))

    assert done.returncode == 2
    assert "none.yaml: cannot be read: No such file or directory" in done.stderr
