"""The images as they were built for the cluster: labelled, and with a bill of what is in them."""

import json
import re
import runpy
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_cluster import DOCKER
from support_ground import ROOT

pytestmark = pytest.mark.kind

EXTRAS = {
    "probes": ("probes",),
    "exporter": ("exporter", "store"),
    "console": ("console",),
    "operator": ("operator",),
}


@pytest.mark.parametrize("image", EXTRAS)
def test_the_bill_of_an_image_has_what_the_lock_pins_for_it_and_debians_packages(
    image: str,
) -> None:
    picked = subprocess.run(
        ["python3", ROOT / "deploy/pick_requirements.py", *EXTRAS[image]],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    split = runpy.run_path(str(ROOT / "deploy/pick_requirements.py"))["split_lock"]
    pins = {block.split()[0].replace("==", "@") for block in split(picked).values()}

    bill = json.loads((ROOT / f"dist/sbom/{image}.cdx.json").read_text(encoding="utf-8"))

    parts = {part["purl"] for part in bill["components"]}
    python = {purl.removeprefix("pkg:pypi/") for purl in parts if purl.startswith("pkg:pypi/")}
    assert python == {*pins, f"farcall@{bill['metadata']['component']['version']}"}
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in parts)


def test_nothing_of_ours_in_an_image_has_the_time_of_its_build(tmp_path: Path) -> None:
    """So that it is the same layer whenever and wherever it is built; the others are built as this one is."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (epoch_s,) = re.findall(r"^ARG SOURCE_DATE_EPOCH=(\d+)$", dockerfile, flags=re.MULTILINE)
    bill = json.loads((ROOT / "dist/sbom/operator.cdx.json").read_text(encoding="utf-8"))
    image = bill["metadata"]["component"]

    ours = [
        member
        for member in read_layers(f"{image['name']}:{image['version']}", tmp_path / "image.tar")
        if member.name.startswith("opt/farcall")
    ]

    assert any(member.name.endswith("/farcall_operator/__init__.py") for member in ours)
    assert {m.name: m.mtime for m in ours if m.mtime != int(epoch_s)} == {}


def read_layers(image: str, path: Path) -> Iterator[tarfile.TarInfo]:
    """What is in each of its layers, from the lowest."""
    save = ["docker", "--host", DOCKER, "save", "--output", str(path), image]
    subprocess.run(save, check=True)
    with tarfile.open(path) as archive:
        listed = archive.extractfile("manifest.json")
        assert listed is not None
        for name in json.load(listed)[0]["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                yield from layer
