"""The bill of materials of the image that this runs in, as CycloneDX 1.6: `docker run … python - NAME VERSION < list_parts.py`.

Debian's packages from dpkg's own list, Python's from their metadata. Standard library alone: images have no more.
Sources: the CycloneDX 1.6 JSON reference, package-url's types `deb` and `pypi`.
"""

import importlib.metadata
import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

DPKG = Path("/var/lib/dpkg/status")
OS_RELEASE = Path("/etc/os-release")
Part = dict[str, Any]


def main() -> None:
    name, version = sys.argv[1:]
    bill = describe(name, version, [*list_debian(DPKG, OS_RELEASE), *list_python()])
    json.dump(bill, sys.stdout, indent=1)


def describe(name: str, version: str, parts: list[Part]) -> dict[str, Any]:
    """No time and no serial number: the same image has the same bill. A package that is found twice is one part."""
    parts = list({part["purl"]: part for part in parts}.values())
    image = {"type": "container", "bom-ref": "image", "name": name, "version": version}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": image},
        "components": sorted(parts, key=lambda part: str(part["purl"])),
    }


def list_debian(dpkg: Path, os_release: Path) -> list[Part]:
    """What is installed, of dpkg's status file. A system without one has none."""
    if not dpkg.exists():
        return []
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', os_release.read_text(), flags=re.MULTILINE))
    distro = quote(f"{release['ID']}-{release['VERSION_ID']}")
    parts = []
    for block in dpkg.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", block, flags=re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            suffix = f"?arch={fields['Architecture']}&distro={distro}"
            parts.append(describe_part("deb/debian", fields["Package"], fields["Version"], suffix))
    return parts


def list_python() -> list[Part]:
    parts = []
    for package in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
        part = describe_part("pypi", name, package.version)
        licence = package.metadata.get("License-Expression")
        if licence:
            part["licenses"] = [{"expression": licence}]
        parts.append(part)
    return parts


def describe_part(kind: str, name: str, version: str, suffix: str = "") -> Part:
    purl = f"pkg:{kind}/{quote(name)}@{quote(version)}{suffix}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main()
