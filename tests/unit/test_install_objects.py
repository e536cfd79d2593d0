"""The installation in its shapes: the same objects each time, and each of them sound."""

import subprocess
import sys
from typing import Any

import kubernetes_validate
import pytest
import yaml

from farcall.commands import COMMANDS
from farcall.crd import build_crd
from farcall_operator.installing.__main__ import list_generated, main
from farcall_operator.installing.charts import Slots, render_part
from farcall_operator.installing.objects import InstallView, build_installation
from farcall_operator.running.health import Health, build_application
from farcall_operator.running.metrics import Counters
from farcall_operator.running.options import parse_options
from support_ground import ROOT
from support_install import CHART, DEPLOY, index, read_base, read_objects

pytestmark = pytest.mark.unit

OBJECTS = read_objects(DEPLOY / "install.yaml")
# The oldest that is supported, the one that the tests run, and the newest that there are schemas of.
VERSIONS = ("1.31", "1.34", "1.37")
# Of custom definitions the schemas know nothing.
CUSTOM = ("ServiceMonitor", "PrometheusRule", "TracingConfig")


def find(kind: str, name: str = "farcall-operator") -> dict[str, Any]:
    (found,) = [m for m in OBJECTS if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def test_the_files_in_the_repository_are_the_generated_ones() -> None:
    assert main(["--check"]) == 0


def test_the_command_runs_as_the_makefile_calls_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "farcall_operator.installing", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_file_is_named_and_written(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").touch()

    assert main(["--check"], root=tmp_path) == 1
    assert "deploy/install.yaml differs from the code" in capsys.readouterr().err
    assert main([], root=tmp_path) == 0
    assert main(["--check"], root=tmp_path) == 0
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {*list_generated(tmp_path), "pyproject.toml"}


def test_outside_a_checkout_nothing_is_written(tmp_path: Any) -> None:
    assert main([], root=tmp_path) == 2
    assert list(tmp_path.iterdir()) == []


def test_one_file_and_the_kustomize_base_hold_the_same_objects() -> None:
    assert index(read_base()) == index(OBJECTS)


def test_the_definition_is_the_generated_one() -> None:
    assert find("CustomResourceDefinition", "tracingconfigs.farcall.dev") == build_crd()
    crds = read_objects(ROOT / "crds/tracingconfigs.yaml")
    assert crds == [build_crd()]


def test_the_order_is_one_that_can_be_applied() -> None:
    kinds = [m["kind"] for m in OBJECTS]

    assert kinds[:2] == ["Namespace", "CustomResourceDefinition"]
    assert kinds.index("ServiceAccount") < kinds.index("Role") < kinds.index("Deployment")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_passes_the_strict_schema(version: str) -> None:
    extra = [
        *read_objects(DEPLOY / "kustomize/overlays/ha/poddisruptionbudget.yaml"),
        *read_objects(ROOT / "tests/golden/render/hobby.golden.yaml"),
        *read_objects(ROOT / "tests/golden/render/scale.golden.yaml"),
        *read_objects(ROOT / "tests/golden/render/everything.golden.yaml"),
    ]
    for manifest in [*OBJECTS, *extra]:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_namespace_admits_the_node_agent_and_says_why() -> None:
    metadata = find("Namespace", "farcall")["metadata"]

    for mode in ("enforce", "audit", "warn"):
        assert metadata["labels"][f"pod-security.kubernetes.io/{mode}"] == "privileged"
    assert "hostPID" in metadata["annotations"]["farcall.dev/pod-security-reason"]


def test_the_operator_passes_the_restricted_standard() -> None:
    pod = find("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {*pod} & {"hostPID", "hostNetwork", "hostIPC"} == set()
    assert all("hostPath" not in volume for volume in pod["volumes"])


def test_the_operator_is_bounded_probed_and_found_by_its_service() -> None:
    spec = find("Deployment")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    service, policy = find("Service")["spec"], find("NetworkPolicy")["spec"]

    assert spec["replicas"] == 1
    assert container["resources"]["limits"] == {"memory": "256Mi"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    labels = spec["template"]["metadata"]["labels"]
    for selector in (service["selector"], policy["podSelector"]["matchLabels"]):
        assert selector.items() <= labels.items()
    assert [port["targetPort"] for port in service["ports"]] == [
        port["name"] for port in container["ports"]
    ]


def test_the_command_in_the_deployment_is_one_that_the_operator_takes() -> None:
    (container,) = find("Deployment")["spec"]["template"]["spec"]["containers"]
    environment = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"]}
    arguments = [word.replace("$(NAMESPACE)", "tracing") for word in container["args"]]
    options = parse_options(arguments)

    assert environment == {"NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name"}
    assert (options.namespace, options.host, options.port) == ("tracing", None, 8080)
    assert container["command"] == ["farcall", "operator"]
    assert "operator" in {command.name for command in COMMANDS}
    probed = {container[p]["httpGet"]["path"] for p in ("startupProbe", "livenessProbe", "readinessProbe")}  # fmt: skip
    routes = build_application(Health(counters=Counters())).router.resources()
    assert probed | {"/metrics"} == {route.canonical for route in routes}


def test_nothing_installed_looks_like_a_child_of_a_tracingconfig() -> None:
    for manifest in OBJECTS:
        labels = manifest["metadata"].get("labels", {})
        assert labels.get("app.kubernetes.io/managed-by") != "farcall-operator"
        assert "farcall.dev/tracingconfig" not in labels


def test_children_do_not_match_the_operators_selector() -> None:
    selector = find("Deployment")["spec"]["selector"]["matchLabels"]
    for manifest in read_objects(ROOT / "tests/golden/render/everything.golden.yaml"):
        labels = manifest.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {})
        assert not selector.items() <= labels.items()


def test_the_exporter_lets_the_operator_ask_for_its_agents() -> None:
    labels = find("Deployment")["spec"]["template"]["metadata"]["labels"]
    for manifest in read_objects(ROOT / "tests/golden/render/hobby.golden.yaml"):
        if manifest["kind"] == "NetworkPolicy" and "exporter" in manifest["metadata"]["name"]:
            sources = [
                source["podSelector"]["matchLabels"]
                for rule in manifest["spec"]["ingress"]
                if {"port": "ingest", "protocol": "TCP"} in rule["ports"]
                for source in rule["from"]
            ]
            assert any(wanted.items() <= labels.items() for wanted in sources)


def test_another_namespace_leaves_the_events_where_they_are() -> None:
    objects = build_installation(InstallView(namespace="tracing"))
    namespaces = {m["metadata"].get("namespace", "") for m in objects}

    assert namespaces == {"", "tracing", "default"}


def test_every_slot_of_the_chart_is_filled() -> None:
    for path in (CHART / "templates").glob("*.yaml"):
        assert "HELMSLOT" not in path.read_text(encoding="utf-8"), path
    assert "{{ .Values.replicas }}" in render_part("operator")


def test_text_with_braces_is_no_template() -> None:
    slots = Slots()
    name = slots.add("scalar", ".Release.Name")

    assert slots.fill(f"a: x{{{{y\nb: {name}\n") == 'a: x{{ "{{" }}y\nb: {{ .Release.Name }}\n'


def test_a_field_that_may_be_empty_needs_a_line_of_its_own() -> None:
    slots = Slots()
    block = slots.add("block", ".Values.affinity")

    with pytest.raises(ValueError, match="line of its own"):
        slots.fill(f"a: x-{block}\n")


def test_the_examples_beside_the_manifests_are_valid() -> None:
    from farcall.tracingconfig import read_tracingconfig

    for path in DEPLOY.rglob("tracingconfig.yaml"):
        if path.parent.name != "templates":
            assert read_tracingconfig(path).spec.tier in ("Hobby", "Scale")


def test_every_yaml_file_is_yaml() -> None:
    for path in DEPLOY.rglob("*.yaml"):
        if "templates" not in path.parts:
            list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
