"""The pages' own tests: types, pure modules under Node's test runner, and the shapes they share with the API."""

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from farcall import api, names
from farcall_console.assets import MANIFEST, STATIC_DIRECTORY, AssetsError, read_assets

pytestmark = pytest.mark.unit

WEB = Path(__file__).parents[2] / "console" / "web"
LARGEST_FILE_LINES = 400


def run_npm(script: str) -> None:
    done = subprocess.run(
        ["npm", "run", "--silent", script], cwd=WEB, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"npm run {script}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"


def test_types_hold() -> None:
    run_npm("check")


def test_the_pure_modules_do_what_they_say() -> None:
    run_npm("test")


def test_the_types_of_the_pages_are_the_apis() -> None:
    text = (WEB / "src" / "types.ts").read_text()
    interfaces = re.findall(r"export interface (\w+) \{(.*?)\n\}", text, re.DOTALL)
    assert interfaces
    for name, body in interfaces:
        declared = re.findall(r"^\s+(\w+)\??:", body, re.MULTILINE)
        expected = [f.name for f in fields(getattr(api, name))]
        assert sorted(declared) == sorted(expected), name


def test_every_reason_and_source_has_words() -> None:
    text = (WEB / "src" / "lib" / "reasons.ts").read_text()
    for word in (*names.UnknownReason, *names.NameSource, *names.Confidence):
        assert re.search(rf"^\s+{word}: ", text, re.MULTILINE), word
    assert f'"{names.UNKNOWN_EXTERNAL_SERVICE}"' in text


def test_no_view_can_turn_text_into_markup() -> None:
    for path in sources("*.ts", "*.tsx"):
        text = path.read_text()
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert way not in text, f"{path.name}: {way}"


def test_colours_are_named_in_one_place() -> None:
    for path in (WEB / "src" / "styles").glob("*.css"):
        if path.name != "tokens.css":
            assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgba?\(", path.read_text()), path.name


def test_files_stay_readable() -> None:
    for path in sources("*.ts", "*.tsx", "*.css"):
        assert len(path.read_text().splitlines()) <= LARGEST_FILE_LINES, path.name


def test_no_registry_address_enters_the_lock_file() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text())
    assert all("resolved" not in package for package in lock["packages"].values())


def test_the_bundle_is_named_by_its_manifest() -> None:
    assets = read_assets()
    for path in (assets.script, assets.style):
        assert (STATIC_DIRECTORY / path).is_file()
        assert "sourceMappingURL" not in (STATIC_DIRECTORY / path).read_text()


def test_a_missing_bundle_says_how_to_build_it(tmp_path: Path) -> None:
    for content in (None, "{}", "not json"):
        manifest = tmp_path / "manifest.json"
        if content is not None:
            manifest.write_text(content)
        with pytest.raises(AssetsError, match="make setup"):
            read_assets(manifest)
    assert MANIFEST.name == "manifest.json"


def sources(*patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in (WEB / "src").rglob(pattern)]
