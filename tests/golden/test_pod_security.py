"""Pod Security: all but the probe keep the *restricted* standard, and the probe leaves it only where it must.

https://kubernetes.io/docs/concepts/security/pod-security-standards/, as of Kubernetes 1.34.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from farcall_operator.kubernetes import build_manifests
from farcall_operator.layout import PROBE_CAPABILITIES
from support_ground import ROOT
from support_render import BASE, CONTEXT, make
from support_tracingconfigs import Spec, specs

pytestmark = pytest.mark.golden

Pod = dict[str, Any]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}  # fmt: skip
PROBE_TEMPLATE = ROOT / "templates/farcall_templates/kubernetes/probe.yaml.j2"


def list_violations(pod: Pod) -> Iterator[str]:
    yield from (f"{name}" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    for volume in pod.get("volumes", []):
        if kinds := volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {', '.join(kinds)}"
    whole = pod.get("securityContext", {})
    if whole.get("sysctls") or whole.get("windowsOptions") or whole.get("seLinuxOptions"):
        yield "sysctls, windowsOptions or seLinuxOptions"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        name = container["name"]
        yield from (f"{name}: {words}" for words in list_container_violations(container, whole))


def list_container_violations(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "does not drop ALL"
    if added := set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"adds {', '.join(sorted(added))}"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot"
    if own.get("runAsUser", pod.get("runAsUser")) == 0:
        yield "runs as root"
    profile = own.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"
    if own.get("procMount", "Default") != "Default" or "windowsOptions" in own:
        yield "procMount or windowsOptions"


def find_pods(spec: Spec) -> dict[str, Pod]:
    return {
        m["kind"]: m["spec"]["template"]["spec"]
        for m in build_manifests(make(spec), CONTEXT)
        if "template" in m.get("spec", {})
    }


@settings(max_examples=40)
@given(specs())
def test_no_resource_leads_redis_or_the_exporter_out_of_restricted(spec: Spec) -> None:
    pods = find_pods(spec)

    assert sorted(pods) == ["DaemonSet", "Deployment", "StatefulSet"]
    assert list(list_violations(pods["StatefulSet"])) == []
    assert list(list_violations(pods["Deployment"])) == []


@settings(max_examples=40)
@given(specs())
def test_no_pod_is_given_more_than_it_uses(spec: Spec) -> None:
    for pod in find_pods(spec).values():
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_the_probe_leaves_restricted_only_where_it_must() -> None:
    probe = find_pods(BASE)["DaemonSet"]

    assert set(list_violations(probe)) == {
        "hostPID",
        "volume tracing is a hostPath",
        "volume cgroup is a hostPath",
        "volume pod-logs is a hostPath",
        "volume container-logs is a hostPath",
        f"probe: adds {', '.join(sorted(PROBE_CAPABILITIES))}",
        "probe: runAsNonRoot",
        "probe: runs as root",
    }


def test_the_probe_is_privileged_only_on_request() -> None:
    privileged = {**BASE, "probe": {"privileged": True}}

    assert "probe: privileged" not in set(list_violations(find_pods(BASE)["DaemonSet"]))
    assert "probe: privileged" in set(list_violations(find_pods(privileged)["DaemonSet"]))


def test_each_capability_of_the_probe_has_its_reason_beside_it() -> None:
    comment = PROBE_TEMPLATE.read_text(encoding="utf-8").partition("#}")[0]
    reasons = dict(re.findall(r"^   ([A-Z_]+) {2,}(\S.{10,})$", comment, re.M))

    assert set(reasons) == set(PROBE_CAPABILITIES)
