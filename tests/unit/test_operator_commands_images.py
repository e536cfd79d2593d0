"""`farcall images`: no image of any workload is missing, and each says where it comes from and where it must be."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from farcall import commands
from farcall_operator.commands.images import find_images
from farcall_operator.context import Context
from farcall_operator.kubernetes import build_manifests
from support_ground import ROOT
from support_render import BASE, make

pytestmark = pytest.mark.unit

DIGEST = f"sha256:{'0' * 64}"


def list_images(manifest: Any) -> set[str]:
    """Whatever is called `image`, wherever it stands."""
    if isinstance(manifest, dict):
        own = {v for k, v in manifest.items() if k == "image" and isinstance(v, str)}
        return own.union(*(list_images(value) for value in manifest.values()))
    if isinstance(manifest, list):
        return set().union(*(list_images(value) for value in manifest))
    return set()


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"images": {"registry": "mirror.example.com/x"}},
        {"images": {"digests": {"probes": DIGEST}}},
        {"dnsCache": {"image": "valkey/valkey:8"}, "tier": "Scale"},
        {"exporter": {"clickhouse": {"url": "https://ch.example.com:8443"}}},
    ],
)
def test_every_image_of_the_manifests_is_listed(spec: dict[str, Any]) -> None:
    config = make({**BASE, **spec})
    manifests = build_manifests(config, Context(namespace="farcall"))

    found = {image.image for image in find_images(config)}

    assert list_images(manifests) == found - {i for i in found if "/operator:" in i}
    assert len(found) == len(list_images(manifests)) + 1


def test_a_registry_moves_all_but_full_references_and_the_origin_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {
        **BASE,
        "images": {"registry": "mirror.example.com/x", "digests": {"probes": DIGEST}},
        "dnsCache": {"image": "valkey/valkey:8"},
    }
    (tmp_path / "a.json").write_text(
        json.dumps(make(spec).model_dump(by_alias=True, exclude_none=True))
    )

    assert commands.main(["images", "-f", str(tmp_path), "-o", "json"]) == 0
    images = {i["image"]: i for i in json.loads(capsys.readouterr().out)}
    probes = images[f"mirror.example.com/x/probes@{DIGEST}"]
    assert probes["origin"] == f"farcall/probes@{DIGEST}"
    assert probes["needed_by"] == ["main-probe/probe"]
    assert images["valkey/valkey:8"]["origin"] == "valkey/valkey:8"
    assert len(images) == 5


def test_each_image_stands_once_and_names_alone_can_be_piped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    examples = [str(ROOT / f"examples/{name}.yaml") for name in ("hobby", "scale")]

    assert commands.main(["images", "-f", *examples, "-o", "name"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == 5
    assert commands.main(["images", "-f", *examples, "-o", "yaml"]) == 0
    assert [i["image"] for i in yaml.safe_load(capsys.readouterr().out)] == lines
    assert commands.main(["images", "-f", *examples]) == 0
    assert capsys.readouterr().out.startswith("IMAGE")
