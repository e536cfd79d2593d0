"""Helm and kustomize, the real ones, on the files of deploy/."""

import os
import subprocess
from pathlib import Path

import yaml

from support_apiserver import find_binaries
from support_ground import ROOT
from support_install import CHART, DEPLOY, Manifest, parse_objects

BUILD_HELM = ROOT / "tests/cluster/build-helm.sh"
# What Helm wants to see on its objects, and no other shape has.
HELM_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/instance")


def find_helm() -> Path | None:
    """The program that `make kube` built, None before that."""
    found = subprocess.run([BUILD_HELM, "--check"], capture_output=True, text=True)
    return Path(found.stdout.strip()) if found.returncode == 0 else None


def try_helm(
    *arguments: str, home: Path, kubeconfig: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    program = find_helm()
    assert program is not None, "Helm is not built: `make kube` does it"
    environment = {**os.environ, "HOME": str(home), "KUBECONFIG": str(kubeconfig or home / "none")}
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, env=environment, timeout=120
    )


def template(*arguments: str, home: Path) -> list[Manifest]:
    """The objects of the chart in the namespace farcall."""
    done = try_helm("template", "farcall", str(CHART), "-n", "farcall", *arguments, home=home)
    assert done.returncode == 0, done.stderr
    return parse_objects(done.stdout)


def without_helm_labels(manifests: list[Manifest]) -> list[Manifest]:
    plain = yaml.safe_load(yaml.safe_dump(manifests))
    for manifest in plain:
        for metadata in (
            manifest["metadata"],
            manifest.get("spec", {}).get("template", {}).get("metadata", {}),
        ):
            for label in HELM_LABELS:
                metadata.get("labels", {}).pop(label, None)
        metadata = manifest["metadata"]
        if manifest["kind"] == "CustomResourceDefinition":
            assert metadata.pop("annotations") == {"helm.sh/resource-policy": "keep"}
            assert metadata.pop("labels") == {}
    return list(plain)


def kustomize(overlay: str) -> list[Manifest]:
    binaries = find_binaries()
    assert binaries is not None, "Kubernetes' programs are not built: `make kube` does it"
    folder = DEPLOY / "kustomize/overlays" / overlay
    done = subprocess.run(
        [str(binaries / "kubectl"), "kustomize", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return parse_objects(done.stdout)
