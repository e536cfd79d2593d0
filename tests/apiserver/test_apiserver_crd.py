"""The CustomResourceDefinition as a real API server takes it: stored byte by byte, shown, selected, nothing written back."""

import json
from pathlib import Path

import pytest
import yaml

from support_apiserver import CRD, ROOT, ControlPlane
from support_apiserver_access import Api, object_path
from support_apiserver_configs import CONFIGS, build_config
from support_apiserver_operator import INSTALL, read_installation

pytestmark = pytest.mark.apiserver

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def test_applying_the_crd_again_changes_nothing(plane: ControlPlane, api: Api) -> None:
    manifest = yaml.safe_load(CRD.read_text())
    first = api.apply(manifest, manager="installer")
    second = api.apply(manifest, manager="installer")

    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


def test_the_crd_is_stored_as_it_is_written(api: Api) -> None:
    manifest = yaml.safe_load(CRD.read_text())

    assert api.get(object_path(manifest))["spec"] == manifest["spec"]


def test_kubectl_sees_no_difference(plane: ControlPlane) -> None:
    for arguments in (("diff", "--server-side", "--field-manager=installer"), ("diff",)):
        done = plane.try_kubectl(*arguments, "-f", str(CRD))

        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_api_server_warns_of_nothing_when_it_takes_the_crd(plane: ControlPlane) -> None:
    done = plane.try_kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))

    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()


def test_client_side_apply_takes_the_crd(plane: ControlPlane) -> None:
    """It keeps a copy in an annotation, and a CRD of more than 256 KiB could not be applied."""
    done = plane.try_kubectl("apply", "--dry-run=server", "-f", str(CRD))

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_accepted_and_stays_as_it_was_applied(api: Api, path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    manifest["metadata"]["name"] = "stays"
    try:
        api.apply(manifest, manager="kubectl")

        live = api.get(f"{CONFIGS}/stays")
        assert live["spec"] == manifest["spec"]
        assert set(live["metadata"]) == {
            "name", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields",
        }  # fmt: skip
    finally:
        api.delete(f"{CONFIGS}/stays")


def test_kubectl_knows_the_short_name_and_the_category(plane: ControlPlane) -> None:
    resources = plane.kubectl("api-resources", "--api-group=farcall.dev", "-o", "wide")

    assert "tracingconfigs" in resources
    assert "tcfg" in resources
    assert "tracingconfigs" in plane.kubectl("api-resources", "--categories=farcall")


def test_kubectl_get_shows_what_matters_at_a_glance(plane: ControlPlane, api: Api) -> None:
    api.apply(build_config("glance"))
    try:
        narrow = plane.kubectl("get", "tcfg").splitlines()[0].split()
        wide = plane.kubectl("get", "tcfg", "-o", "wide").splitlines()[0].split()

        assert narrow[0] == "NAME"
        assert {"TIER", "READY", "REASON", "PROBES", "AGE"} <= set(narrow)
        assert {"VERSION", "PAUSED"} <= set(wide) - set(narrow)
    finally:
        api.delete(f"{CONFIGS}/glance")


def test_tracingconfigs_are_selected_by_their_tier(api: Api) -> None:
    for name, tier in (("small", "Hobby"), ("large", "Scale")):
        api.apply(build_config(name, tier=tier))
    try:
        found = api.list(CONFIGS, fieldSelector="spec.tier=Scale")

        assert [item["metadata"]["name"] for item in found] == ["large"]
    finally:
        for name in ("small", "large"):
            api.delete(f"{CONFIGS}/{name}")


def test_kubectl_explain_tells_every_field(plane: ControlPlane) -> None:
    text = plane.kubectl("explain", "tracingconfig", "--recursive")

    for field in ("tier", "clusterCIDRs", "dnsCache", "observedGeneration"):
        assert field in text
    assert "DNS answers" in plane.kubectl("explain", "tracingconfig.spec.tier")


def test_the_installation_is_accepted_and_applied_twice_it_is_the_same(
    plane: ControlPlane, api: Api
) -> None:
    command = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-o", "json")
    done = plane.try_kubectl(*command, "-f", str(INSTALL))

    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    assert len(json.loads(done.stdout)["items"]) == len(read_installation())
