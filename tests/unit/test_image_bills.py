"""The bill of materials of an image: valid CycloneDX, and all that is installed."""

import importlib.metadata
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from support_ground import ROOT

pytestmark = pytest.mark.unit

LISTING = runpy.run_path(str(ROOT / "deploy/list_parts.py"))
DPKG = """Package: zlib1g
Status: install ok installed
Architecture: amd64
Version: 1:1.2.13.dfsg-1
Description: compression library
 Version: not a field, but a line of the description

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2025b-0+deb12u2
"""


def list_debian(folder: Path) -> list[dict[str, Any]]:
    (folder / "status").write_text(DPKG)
    (folder / "os-release").write_text('NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n')
    parts: list[dict[str, Any]] = LISTING["list_debian"](folder / "status", folder / "os-release")
    return parts


def test_what_debian_has_installed_is_listed_and_what_it_removed_is_not(tmp_path: Path) -> None:
    assert [part["purl"] for part in list_debian(tmp_path)] == [
        "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64&distro=debian-12",
        "pkg:deb/debian/tzdata@2025b-0%2Bdeb12u2?arch=all&distro=debian-12",
    ]


def test_an_image_without_dpkg_has_no_debian_packages(tmp_path: Path) -> None:
    assert LISTING["list_debian"](tmp_path / "none", tmp_path / "none") == []


def test_every_python_package_is_listed_by_its_normal_name_and_licence() -> None:
    parts = {part["name"]: part for part in LISTING["list_python"]()}

    assert parts["numpy"]["purl"] == f"pkg:pypi/numpy@{importlib.metadata.version('numpy')}"
    assert parts["typing-extensions"]["licenses"] == [{"expression": "PSF-2.0"}]


def test_the_bill_is_valid_and_lists_a_package_found_twice_once(tmp_path: Path) -> None:
    debian = list_debian(tmp_path)
    bill = LISTING["describe"](
        "farcall/probes", "0.1.0", [*debian, *debian, *LISTING["list_python"]()]
    )

    complaint = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill))

    assert complaint is None
    purls = [part["purl"] for part in bill["components"]]
    assert len(set(purls)) == len(purls) and "pkg:deb/debian/tzdata" in str(purls)
