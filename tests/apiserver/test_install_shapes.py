"""Helm and kustomize make the same objects as install.yaml, and a real API server takes them."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from farcall_operator.installing.rights import ROLES, Role, list_granted
from support_apiserver import running_control_plane
from support_install import CHART, DEPLOY, Manifest, index, key_of, read_objects
from support_install_tools import kustomize, template, try_helm, without_helm_labels

pytestmark = pytest.mark.apiserver

EVERYTHING = [
    *("--set", "namespace.create=true", "--set", "podDisruptionBudget.enabled=true"),
    *("--set", "serviceMonitor.enabled=true", "--set", "prometheusRule.enabled=true"),
    *("--set", "dashboard.enabled=true", "--set", "tracingConfig.create=true"),
    *("--set", "podAnnotations.team=platform", "--set", "podLabels.team=platform"),
    *("--set", "priorityClassName=high", "--set", "imagePullSecrets[0].name=mirror"),
    *("--set", "tolerations[0].operator=Exists"),
]
NAMESPACE_KEY = ("v1", "Namespace", "", "farcall")


def find(manifests: list[Manifest], kind: str) -> Any:
    (found,) = [m for m in manifests if m["kind"] == kind and "operator" in m["metadata"]["name"]]
    return found


def pod_of(manifests: list[Manifest]) -> Any:
    return find(manifests, "Deployment")["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def installed() -> dict[Any, Manifest]:
    return index(read_objects(DEPLOY / "install.yaml"))


def test_the_default_overlay_is_the_install_manifest(installed: dict[Any, Manifest]) -> None:
    assert index(kustomize("default")) == installed


def test_the_chart_makes_the_same_objects(tmp_path: Path, installed: dict[Any, Manifest]) -> None:
    """But the namespace, which exists before Helm writes its release into it."""
    made = index(without_helm_labels(template(home=tmp_path)))
    with_namespace = template("--set", "namespace.create=true", home=tmp_path)

    assert made == {key: m for key, m in installed.items() if key != NAMESPACE_KEY}
    assert index(without_helm_labels(with_namespace)) == installed


def test_both_say_the_same_of_high_availability(tmp_path: Path) -> None:
    values = str(CHART / "values-ha.yaml")
    chart = template("-f", values, "--set", "namespace.create=true", home=tmp_path)
    overlay = kustomize("ha")

    assert index(without_helm_labels(chart)) == index(overlay)
    assert find(overlay, "Deployment")["spec"]["replicas"] == 2
    assert find(overlay, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_a_mirror_is_named_once_and_holds_the_image(tmp_path: Path) -> None:
    digest = "sha256:" + "a" * 64
    pinned = template(
        *("--set", "image.registry=mirror.example.com/"),
        *("--set", f"image.digest={digest}", "--set", "imagePullSecrets[0].name=mirror-credentials"),
        home=tmp_path,
    )  # fmt: skip
    overlay = kustomize("air-gapped")

    image = pod_of(pinned)["containers"][0]["image"]
    assert image == f"mirror.example.com/farcall/operator@{digest}"
    image, tag = pod_of(overlay)["containers"][0]["image"].rsplit(":", 1)
    assert image == "mirror.example.com/farcall/operator"
    assert tag == pod_of(kustomize("default"))["containers"][0]["image"].rpartition(":")[2]
    for pod in (pod_of(pinned), pod_of(overlay)):
        assert pod["imagePullSecrets"] == [{"name": "mirror-credentials"}]


def test_everything_that_can_be_switched_on_is_sound(tmp_path: Path) -> None:
    made = template(*EVERYTHING, home=tmp_path)
    kinds = {m["kind"] for m in made}

    assert {"ServiceMonitor", "PrometheusRule", "TracingConfig", "PodDisruptionBudget"} <= kinds
    for manifest in made:
        if manifest["apiVersion"].partition("/")[0] not in ("farcall.dev", "monitoring.coreos.com"):
            kubernetes_validate.validate(manifest, "1.34", strict=True)
    pod = find(made, "Deployment")["spec"]["template"]
    assert pod["metadata"]["annotations"] == {"team": "platform"}
    assert pod["metadata"]["labels"]["team"] == "platform"
    assert pod["spec"]["priorityClassName"] == "high"
    (rule,) = [m for m in made if m["kind"] == "PrometheusRule"]
    plain = read_objects(DEPLOY / "monitoring/alerts.yaml")[0]
    assert rule["spec"] == plain
    (dashboard,) = [m for m in made if m["metadata"]["name"] == "farcall-dashboard"]
    text = (DEPLOY / "monitoring/dashboard.json").read_text(encoding="utf-8")
    assert dashboard["data"]["farcall.json"].strip() == text.strip()


def test_everything_can_be_switched_off(tmp_path: Path) -> None:
    made = template(
        "--set", "crds.enabled=false", "--set", "networkPolicy.enabled=false", home=tmp_path
    )

    assert {"CustomResourceDefinition", "NetworkPolicy"} & {m["kind"] for m in made} == set()


def test_another_namespace_is_used_throughout(tmp_path: Path) -> None:
    done = try_helm("template", "x", str(CHART), "-n", "tracing", *EVERYTHING, home=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "namespace: farcall" not in done.stdout
    assert "namespace: tracing" in done.stdout


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("replicas=nine", "replicas"),
        ("replicas=9", "replicas"),
        ("image.digest=latest", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.name=farcall", "name"),
        ("replica=2", "replica"),
        ("serviceMonitor.interval=fast", "interval"),
        ("tracingConfig.name=UPPER", "name"),
        ("tracingConfig.spec.tier=Enterprise", "tier"),
    ],
)
def test_a_wrong_value_is_refused_by_name(tmp_path: Path, value: str, named: str) -> None:
    done = try_helm("template", "farcall", str(CHART), "--set", value, home=tmp_path)

    assert done.returncode != 0
    assert "values don't meet the specifications" in done.stderr
    assert named in done.stderr


def test_lint_finds_no_fault(tmp_path: Path) -> None:
    for values in ([], EVERYTHING, ["-f", str(CHART / "values-ha.yaml")]):
        done = try_helm("lint", "--strict", str(CHART), *values, home=tmp_path)
        assert done.returncode == 0, done.stdout
        assert "WARNING" not in done.stdout
        assert "ERROR" not in done.stdout


def test_helm_installs_upgrades_and_leaves_the_definition(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "plane/admin.kubeconfig"

    def helm(*arguments: str) -> str:
        done = try_helm(*arguments, home=tmp_path, kubeconfig=kubeconfig)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with running_control_plane(tmp_path / "plane", has_controllers=False) as plane:
        plane.kubectl("delete", "crd", "tracingconfigs.farcall.dev")
        plane.kubectl("create", "namespace", "tracing")
        notes = helm("install", "farcall", str(CHART), "-n", "tracing")
        assert "kubectl label namespace tracing" in notes
        assert "Nothing is traced yet" in notes

        plane.kubectl("label", "namespace", "tracing", "pod-security.kubernetes.io/enforce=privileged")  # fmt: skip
        notes = helm("upgrade", "farcall", str(CHART), "-n", "tracing", "--set", "tracingConfig.create=true", "--wait=false")  # fmt: skip
        assert "kubectl label namespace" not in notes
        assert plane.kubectl("get", "tracingconfigs", "-o", "name").split() == [
            "tracingconfig.farcall.dev/main"
        ]

        helm("uninstall", "farcall", "-n", "tracing")
        left = plane.kubectl("get", "crd,clusterrole,clusterrolebinding", "-o", "name").split()
        assert [name for name in left if "farcall" in name] == [
            "customresourcedefinition.apiextensions.k8s.io/tracingconfigs.farcall.dev"
        ]


def test_an_installation_applied_twice_changes_nothing_and_grants_what_the_page_says(
    tmp_path: Path,
) -> None:
    with running_control_plane(tmp_path / "plane", has_controllers=False) as plane:
        apply = ("apply", "--server-side", "--force-conflicts", "-f", str(DEPLOY / "install.yaml"))
        plane.kubectl(*apply)
        first = plane.kubectl("get", "-o", "json", "-f", str(DEPLOY / "install.yaml"))
        plane.kubectl(*apply)
        assert plane.kubectl("get", "-o", "json", "-f", str(DEPLOY / "install.yaml")) == first
        for manifest in read_objects(DEPLOY / "install.yaml"):
            assert manifest["metadata"]["name"] in first, key_of(manifest)

        for role in ROLES:
            for group, resource, verb in sorted(list_granted(role)):
                assert can(plane, role, group, resource, verb), (role.name, resource, verb)
        operator = ROLES[0]
        for group, resource, verb in (
            ("", "secrets", "list"), ("", "secrets", "watch"), ("", "secrets", "delete"),
            ("", "pods", "delete"), ("", "pods", "create"), ("", "nodes", "patch"),
            ("farcall.dev", "tracingconfigs", "patch"), ("", "namespaces", "get"),
        ):  # fmt: skip
            assert not can(plane, operator, group, resource, verb), (resource, verb)


def can(plane: Any, role: Role, group: str, resource: str, verb: str) -> bool:
    namespace = {"own": "farcall", "": ""}.get(role.namespace, role.namespace)
    plain, _, subresource = resource.partition("/")
    with plane.api() as api:
        answer = api.http.post(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            json={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": f"system:serviceaccount:farcall:{role.account}",
                    "groups": ["system:serviceaccounts", "system:serviceaccounts:farcall"],
                    "resourceAttributes": {
                        "group": group,
                        "resource": plain,
                        "subresource": subresource,
                        "verb": verb,
                        "namespace": namespace,
                    },
                },
            },
        )
    return bool(answer.json()["status"]["allowed"])
