"""Nothing in the repository names the machine, the registry or the licence of somebody else."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support_ground import ROOT
from support_repository import list_files, list_texts

pytestmark = pytest.mark.unit

# Of packages; an image's name in a manifest is part of the product. Written in pieces, so that this file passes its own test.
PUBLIC_REGISTRIES = [
    "pypi" + ".org", "python" + "hosted.org", "registry." + "npmjs", "registry." + "yarnpkg",
    "npm" + "mirror", "deb." + "debian.org",
]  # fmt: skip
OTHER_LICENCES = [
    "Permission is " + "hereby granted", "Redistribution and " + "use in source",
    "GNU GENERAL " + "PUBLIC LICENSE", "Mozilla Public " + "License", "All rights " + "reserved",
    "Business Source " + "License",
]  # fmt: skip
LOCK_FILES = ("requirements.lock", "console/web/package-lock.json")


def find(pattern: str) -> list[str]:
    expression = re.compile(pattern)
    return [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for path, text in list_texts().items()
        for match in expression.finditer(text)
    ]


def configured_registries() -> set[str]:
    """Hosts of the registries that this machine's own tools are set to."""
    commands = [["pip3", "config", "list"], ["npm", "config", "list"]]
    found: set[str] = set()
    for command in commands:
        if shutil.which(command[0]):
            said = subprocess.run(command, capture_output=True, text=True, cwd="/").stdout
            found |= {
                urlsplit(url).hostname or "" for url in re.findall(r"https?://[^\s'\"]+", said)
            }
    return found - {"", "localhost", "127.0.0.1", "::1"}


def test_no_registry_address_enters_the_repository() -> None:
    hosts = [re.escape(host) for host in {*PUBLIC_REGISTRIES, *configured_registries()}]

    assert find("|".join(sorted(hosts))) == []


@pytest.mark.parametrize("name", LOCK_FILES)
def test_a_lock_file_holds_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    without_funding = re.sub(r'"funding": \{[^}]*\}|"funding": \[[^\]]*\]', "", text)

    assert (
        re.findall(
            r".*(?:://|--(?:extra-)?index-url|--find-links|--trusted-host).*", without_funding
        )
        == []
    )
    assert '"resolved"' not in text
    assert "sha256:" in text or "sha512-" in text


def test_every_locked_package_has_a_hash() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [i for i, line in enumerate(lines) if re.match(r"^[a-z0-9]", line)]
    assert len(pins) > 50
    for i in pins:
        assert re.match(r"^[a-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+( ; .*)? \\$", lines[i]), lines[i]
        assert "--hash=sha256:" in lines[i + 1], lines[i]

    packages = json.loads((ROOT / "console/web/package-lock.json").read_text())["packages"]
    assert [name for name, p in packages.items() if name and "integrity" not in p] == []


def test_npm_leaves_registry_addresses_out() -> None:
    npmrc = (ROOT / "console/web/.npmrc").read_text(encoding="utf-8")

    assert "omit-lockfile-registry-resolved=true" in npmrc
    assert "registry=" not in npmrc.replace("omit-lockfile-registry-resolved", "")


def test_the_only_licence_is_ours() -> None:
    named = [
        p.relative_to(ROOT)
        for p in list_files()
        if re.match(r"(?i)(licen[cs]e|copying|notice)s?([-.](?!py$)|$)", p.name)
    ]

    assert named == [Path("LICENSE")]
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert find("|".join(OTHER_LICENCES)) == []


def test_spdx_lines_are_the_two_we_use() -> None:
    kernel_side = "GPL-2.0-only OR Apache-2.0"
    for path, text in list_texts().items():
        found = {e.strip() for e in re.findall(r"SPDX-License-" + r"Identifier: ([^*\n\"]+)", text)}
        assert found <= {kernel_side, "Apache-2.0"}, path
        if "bpf" in path.parts and path.suffix in (".c", ".h") and path.parts[0] == "probes":
            assert f"Identifier: {kernel_side}" in text.splitlines()[0], path


def test_no_path_of_a_persons_machine() -> None:
    machine = r"(?<![\w./}-])/(?:home/(?!user\b)\w+|Users/\w+|work/(?:main|shared)|root/\w+)\b"

    assert find(machine) == []


def test_no_conflict_marker_is_left() -> None:
    assert find(r"(?m)^(<{7} |>{7} |\|{7} )") == []
