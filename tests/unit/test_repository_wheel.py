"""The wheel as it is shipped: built, complete, and importable where nothing of the working tree can be seen."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_ground import ROOT
from support_repository import PACKAGES, list_files

pytestmark = pytest.mark.unit

# Not in git, made by `make setup`, and yet part of what is shipped.
BUILT = ("farcall_probes/bpf/artefact.json", "farcall_console/static/build/manifest.json")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    run(*build, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def shipped_files() -> Iterator[str]:
    for path in list_files():
        parts = path.relative_to(ROOT).parts
        if len(parts) > 2 and PACKAGES.get(parts[0]) == parts[1]:
            yield "/".join(parts[1:])


def test_every_file_of_the_rooms_is_in_the_wheel(names: set[str]) -> None:
    assert sorted(set(shipped_files()) - names) == []
    for suffix in (".py", ".c", ".h", "py.typed"):
        assert any(name.endswith(suffix) for name in names), suffix


@pytest.mark.parametrize("name", BUILT)
def test_what_setup_builds_is_in_the_wheel(names: set[str], name: str) -> None:
    assert name in names, f"{name} is not in the wheel; `make setup` builds it"


def test_nothing_else_is_in_the_wheel(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}

    assert {top for top in tops if not top.startswith("farcall-")} == set(PACKAGES.values())
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name]


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel; the third parties come from ours, without our editable install."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=False, system_site_packages=False)
    python = folder / "venv/bin/python"
    site = Path(
        run(
            python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
        ).strip()
    )
    ours = Path(sysconfig.get_path("purelib"))
    for entry in ours.iterdir():
        if (
            not entry.name.startswith(("farcall", "_farcall", "__editable__"))
            and entry.suffix != ".pth"
        ):
            (site / entry.name).symlink_to(entry)
    zipfile.ZipFile(wheel).extractall(site)
    return python


def test_every_module_is_importable_from_the_wheel_alone(clean_python: Path) -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        "import operator; assert operator.itemgetter\n"
        "for package in sys.argv[1:]:\n"
        "    root = importlib.import_module(package)\n"
        "    assert '/clean' in root.__file__, root.__file__\n"
        "    for module in pkgutil.walk_packages(root.__path__, package + '.'):\n"
        "        if not module.name.endswith(('.__main__', '.compile')):\n"
        "            importlib.import_module(module.name)\n"
    )

    run(clean_python, "-W", "error", "-c", code, *PACKAGES.values(), cwd=clean_python.parent)


def test_the_command_runs_from_the_wheel_alone(clean_python: Path) -> None:
    said = run(clean_python, "-m", "farcall.commands", "help", cwd=clean_python.parent)

    assert "run a TracingConfig on this machine" in said
    assert run(clean_python, "-m", "farcall.commands", "--version", cwd=clean_python.parent)


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    (points,) = (n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))

    assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()
    assert "farcall = farcall.commands:main" in archive.read(points).decode()
