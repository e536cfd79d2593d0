"""The shape of the code: sizes, docstrings, names, and the arrows between the rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from support_ground import ROOT
from support_repository import PACKAGES, list_files, list_modules, list_texts

pytestmark = pytest.mark.unit

MAX_LINES = 400
MAX_TEMPLATE_LINES = 150
CODE = {".py", ".c", ".h", ".ts", ".tsx", ".css", ".mjs", ".js", ".sh"}
TEMPLATES = {".j2", ".html"}


def test_no_file_of_code_is_longer_than_a_person_reads() -> None:
    too_long = {
        str(path): text.count("\n")
        for path, text in list_texts().items()
        if (path.suffix in CODE and text.count("\n") > MAX_LINES)
        or (path.suffix in TEMPLATES and text.count("\n") > MAX_TEMPLATE_LINES)
    }

    assert too_long == {}


def test_every_module_says_what_it_is_for() -> None:
    python = [path for path in list_files() if path.suffix == ".py"]
    silent = [
        str(path.relative_to(ROOT))
        for path in python
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert silent == []


def test_no_module_is_named_as_the_standard_librarys() -> None:
    dunders = {"__init__", "__main__"}
    names = [
        str(path.relative_to(ROOT))
        for path in list_modules()
        if {path.stem, *path.relative_to(ROOT).parts[2:-1]} & (sys.stdlib_module_names - dunders)
    ]

    assert names == []
    assert not [root for root in PACKAGES if (ROOT / root / "__init__.py").exists()]


def test_each_room_is_typed_and_in_the_wheel() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for root, package in PACKAGES.items():
        assert (ROOT / root / package / "py.typed").exists()
        assert f'"{root}/{package}"' in pyproject


def test_every_test_stands_in_a_folder_that_a_tier_runs() -> None:
    """In another it would never be collected. That it stands in its own tier's is a rule of tests/conftest.py."""
    tiers = "unit golden bpf servers browser apiserver e2e e2e/kind".split()
    astray = [
        str(path.relative_to(ROOT))
        for path in list_files()
        if path.name.startswith("test_")
        and path.suffix == ".py"
        and path.parent not in {ROOT / "tests" / tier for tier in tiers}
    ]

    assert astray == []


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


# package → the modules (by path below the root) that alone may import it
ONLY = {
    "bcc": "probes/farcall_probes/compile.py",
    "redis": "core/farcall/cachereader.py",
    "kopf": "operator/farcall_operator/",
    "clickhouse_connect": "store/farcall_store/",
    "chdb": "store/farcall_store/",
}


@pytest.mark.parametrize("package", ONLY)
def test_a_heavy_package_is_imported_where_it_belongs(package: str) -> None:
    allowed = (ONLY[package], "examples/") if package == "redis" else (ONLY[package],)
    wrong = [
        str(path.relative_to(ROOT))
        for path in list_modules()
        if package in {name.partition(".")[0] for name in imports_of(path)}
        and not str(path.relative_to(ROOT)).startswith(allowed)
    ]

    assert wrong == []


def test_parsers_of_wire_bytes_do_no_input_or_output() -> None:
    banned = {"asyncio", "socket", "time", "os", "logging", "redis", "subprocess"}
    wire = [path for path in list_modules() if "wire" in path.parts]
    assert wire
    wrong = {
        str(path.relative_to(ROOT)): names
        for path in wire
        if (names := banned & {name.partition(".")[0] for name in imports_of(path)})
    }

    assert wrong == {}


def test_the_arrows_between_the_rooms_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
