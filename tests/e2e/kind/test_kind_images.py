"""The images as they were built for the cluster: labelled, and with a bill of what is in them."""

import json
import runpy
import subprocess

import pytest

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
