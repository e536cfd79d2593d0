"""The rules of tests/conftest.py, by running pytest on small files that break them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

CONFTEST = Path(__file__).resolve().parent.parent / "conftest.py"
MARKERS = "unit golden bpf servers browser apiserver e2e".split()


def run_pytest(
    folder: Path, test: str, *, ci: bool, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_planted.py").write_text("import pytest\n" + test, encoding="utf-8")
    lines = ["[pytest]", "addopts = --strict-markers", "markers =", *(f"  {m}: x" for m in MARKERS)]
    (folder / "pytest.ini").write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "PYTEST_ADDOPTS")}
    environment |= {"CI": "true"} if ci else {}
    environment |= {"PATH": path} if path is not None else {}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(folder)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "test",
    [
        "@pytest.mark.unit\n@pytest.mark.skip(reason='later')\ndef test_a(): pass\n",
        "@pytest.mark.unit\ndef test_a(): pytest.skip('later')\n",
        "pytestmark = pytest.mark.unit\npytest.importorskip('no_such_module_here')\ndef test_a(): pass\n",
        "pytest.skip('later', allow_module_level=True)\n",
    ],
)
def test_a_skip_fails_in_ci_alone(tmp_path: Path, test: str) -> None:
    in_ci = run_pytest(tmp_path, test, ci=True)
    at_home = run_pytest(tmp_path, test, ci=False)

    assert in_ci.returncode not in (0, 5), in_ci.stdout
    assert "CI=true forbids skips" in in_ci.stdout
    assert at_home.returncode in (0, 5), at_home.stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    test = "@pytest.mark.unit\n@pytest.mark.xfail\ndef test_a(): assert False\n"

    assert run_pytest(tmp_path, test, ci=True).returncode == 0


@pytest.mark.parametrize("marks", ["", "@pytest.mark.unit\n@pytest.mark.golden\n"])
def test_a_test_without_exactly_one_tier_fails_the_collection(tmp_path: Path, marks: str) -> None:
    result = run_pytest(tmp_path, f"{marks}def test_a(): pass\n", ci=False)

    assert result.returncode == 4
    assert "exactly one tier marker" in result.stderr + result.stdout


def test_a_tier_that_cannot_run_names_the_command_that_mends_it(tmp_path: Path) -> None:
    test = "@pytest.mark.servers\ndef test_a(): pass\n@pytest.mark.unit\ndef test_b(): pass\n"

    result = run_pytest(tmp_path, test, ci=False, path=str(tmp_path))

    assert result.returncode == 1
    assert "the servers tier needs redis-server: run `make setup-test`" in result.stdout
    assert "1 passed, 1 error" in result.stdout


def test_a_test_outside_its_tiers_folder_fails_the_collection(tmp_path: Path) -> None:
    (tmp_path / "tests/servers").mkdir(parents=True)
    shutil.copy(CONFTEST, tmp_path / "tests/conftest.py")
    test = "import pytest\n@pytest.mark.{}\ndef test_a(): pass\n"
    (tmp_path / "tests/servers/test_at_home.py").write_text(test.format("servers"))
    at_home = collect(tmp_path)
    (tmp_path / "tests/servers/test_astray.py").write_text(test.format("unit"))
    astray = collect(tmp_path)

    assert at_home.returncode == 0, at_home.stdout
    assert astray.returncode == 4
    assert "these do not: tests/servers/test_astray.py::test_a\n" in astray.stderr + astray.stdout


def collect(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--collect-only"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
