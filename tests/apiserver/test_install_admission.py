"""What a real API server says of the installation: Pod Security of its pods, and the CEL that Flux is given."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from farcall_operator.problems import Problem
from support_apiserver import ControlPlane, running_control_plane, wait_until
from support_apiserver_access import Api
from support_ground import ROOT
from support_install import DEPLOY, Manifest, read_objects
from support_install_statuses import RUNNING, build_config, with_status
from support_install_tools import kustomize

pytestmark = pytest.mark.apiserver

STATUS = "/apis/farcall.dev/v1alpha1/tracingconfigs/main/status"
CHECKS = ("inProgress", "failed", "current")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running_control_plane(tmp_path_factory.mktemp("bare"), has_controllers=False) as plane:
        yield plane


@pytest.fixture
def admin(bare: ControlPlane) -> Iterator[Api]:
    with bare.api() as opened:
        yield opened


def list_templates() -> Iterator[tuple[str, Manifest]]:
    objects = [*kustomize("ha"), *read_objects(ROOT / "tests/golden/render/hobby.golden.yaml")]
    for manifest in objects:
        if "template" in manifest.get("spec", {}):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]


def try_pod(api: Api, namespace: str, template: Manifest) -> str:
    """The refusal; empty when the pod would be admitted."""
    spec = {k: v for k, v in template["spec"].items() if k != "serviceAccountName"}
    spec["volumes"] = [v for v in spec["volumes"] if "persistentVolumeClaim" not in v] + [
        {"name": v["name"], "emptyDir": {}}
        for v in spec["volumes"]
        if "persistentVolumeClaim" in v
    ]  # fmt: skip
    mounted = {m["name"] for c in spec["containers"] for m in c["volumeMounts"]}
    missing = mounted - {v["name"] for v in spec["volumes"]}  # of a StatefulSet's own templates
    spec["volumes"] += [{"name": name, "emptyDir": {}} for name in sorted(missing)]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tried", "labels": template["metadata"]["labels"]},
        "spec": spec,
    }
    path = f"/api/v1/namespaces/{namespace}/pods"
    answer = api.http.post(path, json=pod, params={"dryRun": "All"})
    return "" if answer.status_code == 201 else str(answer.json()["message"])


@pytest.fixture(scope="module")
def namespaces(bare: ControlPlane) -> None:
    with bare.api() as api:
        api.apply(read_objects(DEPLOY / "kustomize/base/namespace.yaml")[0])
        for level in ("restricted", "baseline"):
            labels = {"pod-security.kubernetes.io/enforce": level}
            metadata = {"name": level, "labels": labels}
            api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        for name in ("farcall", "restricted", "baseline"):
            # Made by a controller that does not run here.
            account = {"name": "default", "namespace": name}
            api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})


@pytest.mark.usefixtures("namespaces")
def test_the_namespace_of_the_manifest_admits_every_pod(admin: Api) -> None:
    refused = {name: said for name, t in list_templates() if (said := try_pod(admin, "farcall", t))}

    assert refused == {}


@pytest.mark.usefixtures("namespaces")
def test_all_but_the_agent_would_be_admitted_at_the_restricted_level(admin: Api) -> None:
    refused = {
        name: said for name, t in list_templates() if (said := try_pod(admin, "restricted", t))
    }

    assert list(refused) == ["hobby-probe"]
    assert "hostPath" in refused["hobby-probe"]


@pytest.mark.usefixtures("namespaces")
def test_no_lower_level_admits_the_agent(admin: Api) -> None:
    refused = {
        name: said for name, t in list_templates() if (said := try_pod(admin, "baseline", t))
    }

    assert list(refused) == ["hobby-probe"]


def read_expressions() -> dict[str, str]:
    (checks,) = [
        m["spec"]["healthCheckExprs"]
        for m in read_objects(DEPLOY / "flux/kustomization.yaml")
        if "healthCheckExprs" in m["spec"]
    ]
    return {name: checks[0][name] for name in CHECKS}


@pytest.fixture(scope="module")
def policy(bare: ControlPlane) -> None:
    """Warns of each expression that is true of a TracingConfig. Flux gives the object's fields as variables."""
    validations = [
        {"expression": f"!({text.replace('status.?', 'object.status.?').replace('metadata.', 'object.metadata.')})", "message": name}
        for name, text in read_expressions().items()
    ]  # fmt: skip
    rule = {
        "apiGroups": ["farcall.dev"],
        "apiVersions": ["*"],
        "operations": ["UPDATE"],
        "resources": ["tracingconfigs/status"],
    }
    base = {"apiVersion": "admissionregistration.k8s.io/v1"}
    with bare.api() as api:
        for kind, plural, spec in (
            (
                "ValidatingAdmissionPolicy",
                "validatingadmissionpolicies",
                {
                    "failurePolicy": "Fail",
                    "matchConstraints": {"resourceRules": [rule]},
                    "validations": validations,
                },
            ),
            (
                "ValidatingAdmissionPolicyBinding",
                "validatingadmissionpolicybindings",
                {"policyName": "flux", "validationActions": ["Warn"]},
            ),
        ):
            answer = api.http.post(
                f"/apis/admissionregistration.k8s.io/v1/{plural}",
                json={**base, "kind": kind, "metadata": {"name": "flux"}, "spec": spec},
            )
            assert answer.status_code == 201, answer.text
        api.apply({**build_config(), "metadata": {"name": "main"}})
        in_progress = {"observedGeneration": 99}
        wait_until(lambda: judge(api, in_progress) == {"inProgress"}, "the policy is in force")


def judge(api: Api, status: Manifest) -> set[str]:
    answer = api.http.patch(
        STATUS,
        json={"status": status},
        headers={"Content-Type": "application/merge-patch+json"},
        params={"dryRun": "All"},
    )
    assert answer.status_code == 200, answer.text
    return set(re.findall(r"binding 'flux': (\w+)", ",".join(answer.headers.get_list("Warning"))))


def read_status(**picture: Any) -> Manifest:
    """Of generation 1, as the API server counts it."""
    config = build_config()
    config["metadata"]["generation"] = 1
    status: Manifest = with_status(config, **picture)["status"]
    return status


@pytest.mark.usefixtures("policy")
def test_fluxs_expressions_say_what_the_operators_status_means(admin: Api) -> None:
    stalled = Problem(reason="Overlap", message="An older one traces the same namespaces.")
    ready = read_status(workloads=RUNNING)

    assert judge(admin, ready) == {"current"}
    assert judge(admin, read_status()) == {"inProgress"}
    assert judge(admin, read_status(problems=[stalled])) == {"failed"}
    assert judge(admin, read_status(workloads=RUNNING, paused=True)) == {"current"}
    assert "inProgress" in judge(admin, {**ready, "observedGeneration": 2})
    assert judge(admin, {"probes": "0/0"}) == {"inProgress"}
