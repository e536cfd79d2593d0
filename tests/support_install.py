"""The installation's files as the tests of it see them."""

from pathlib import Path
from typing import Any

import yaml

from support_ground import ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/farcall"
BASE = DEPLOY / "kustomize/base"
Manifest = dict[str, Any]
Key = tuple[str, str, str, str]


def read_objects(path: Path) -> list[Manifest]:
    return parse_objects(path.read_text(encoding="utf-8"))


def parse_objects(text: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(text) if document]


def key_of(manifest: Manifest) -> Key:
    metadata = manifest["metadata"]
    return (
        manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"],
    )  # fmt: skip


def index(manifests: list[Manifest]) -> dict[Key, Manifest]:
    found = {key_of(manifest): manifest for manifest in manifests}
    assert len(found) == len(manifests), "an object is there twice"
    return found


def read_base() -> list[Manifest]:
    """The base is a list of files and nothing else, so it needs no kustomize to be read."""
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))
    assert set(kustomization) == {"apiVersion", "kind", "resources"}
    return [m for name in kustomization["resources"] for m in read_objects(BASE / name)]


def list_rules(manifests: list[Manifest]) -> list[tuple[Manifest, Manifest]]:
    """Each rule with the role that it is of."""
    return [
        (manifest, rule)
        for manifest in manifests
        if manifest["kind"] in ("Role", "ClusterRole")
        for rule in manifest["rules"]
    ]
