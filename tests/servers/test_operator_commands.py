"""`farcall status|diff|validate|render` against a cluster: the real commands, the real client, a scripted API server."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from farcall import commands
from farcall_operator.cluster.port import DESIRED_HASH
from support_fake_apiserver import FakeApiserver, serve_api
from support_fake_faults import Cut, Refuse
from support_operator_commands import (
    NAMESPACE,
    make_child,
    make_config,
    make_pods,
    make_secret,
    make_workloads,
)

pytestmark = pytest.mark.servers

FILE = """
apiVersion: farcall.dev/v1alpha1
kind: TracingConfig
metadata: {name: main}
spec: {tier: Hobby, clusterCIDRs: [10.0.0.0/8]}
"""


@pytest.fixture
def server() -> Iterator[FakeApiserver]:
    with serve_api() as running:
        yield running


@pytest.fixture
def kubeconfig(server: FakeApiserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Found as kubectl finds it."""
    path = server.write_kubeconfig(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tracing.yaml"
    path.write_text(FILE)
    return path


def fill(server: FakeApiserver, owner: str = "main") -> None:
    for manifest in [make_config(owner), *make_workloads(owner), *make_pods(owner)]:
        server.put(manifest)


# ---- status ------------------------------------------------------------------------------------------------------


def test_one_tracingconfig_is_shown_in_full(
    server: FakeApiserver, kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(server)

    assert commands.main(["status"]) == 1
    out = capsys.readouterr().out
    for told in (
        "TracingConfig main, Hobby tier: generation 1, seen 1, by operator 0.1.0",
        "DNS answers count for 60 min; kept: traces 3d, logs 3d, maxSize 8Gi",
        "10.5.0.0/16 and 6 more (from nodes' podCIDRs, ServiceCIDR kubernetes)",
        "Nodes: 3 of 4 are traced; left out: 1 Windows",
        "DaemonSet/main-probe",
        "ImagePullBackOff on 2",
        "farcall images -f -",
        "logs main-exporter-x -c exporter --previous",
        "no space left\\x1b[2J",
    ):
        assert told in out
    assert "\x1b" not in out


def test_several_are_a_table_and_the_worst_one_counts(
    server: FakeApiserver, kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.put(make_config("calm", ready=True))
    fill(server)

    assert commands.main(["status"]) == 1
    title, calm, main = capsys.readouterr().out.splitlines()
    assert title.split() == "NAME TIER READY REASON PROBES AGE VERSION MESSAGE".split()
    assert calm.split()[:5] == ["calm", "Hobby", "True", "AllReady", "3/3"]
    assert main.split()[:5] == ["main", "Hobby", "False", "ProbesNotReady", "2/3"]
    assert commands.main(["status", "calm"]) == 0
    assert "Nothing. `farcall open calm` opens the console." in capsys.readouterr().out


def test_watch_shows_what_changes_until_it_is_interrupted(
    server: FakeApiserver, kubeconfig: Path
) -> None:
    server.put(make_config())
    command = [sys.executable, "-m", "farcall.commands", "status", "main", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = next(line for line in process.stdout if line.startswith("Ready"))
        server.put(make_config(ready=True))
        second = next(
            line for line in process.stdout if line.startswith("Ready  ") and "True" in line
        )
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert first.split()[1:3] == ["False", "ProbesNotReady"]
    assert second.split()[1:3] == ["True", "AllReady"]
    assert process.returncode == 0


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_the_report_is_data_as_well(
    output: str, server: FakeApiserver, kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(server)

    assert commands.main(["status", "main", "-o", output]) == 1
    report = yaml.safe_load(capsys.readouterr().out)  # JSON is YAML
    assert (report["name"], report["ready"], report["probes"]) == ("main", "False", "2/3")
    probes, cache, exporter = report["parts"]
    assert (probes["ready"], probes["wanted"], probes["troubles"][0]["pods"]) == (2, 3, 2)
    assert (cache["ready"], cache["troubles"]) == (1, [])
    assert (exporter["current"], exporter["restarts"]) == (False, 7)
    assert len(report["next"]) == 2


def test_a_cluster_without_any_says_so(
    server: FakeApiserver, kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["status"]) == 0
    assert "the cluster has no TracingConfig" in capsys.readouterr().err
    assert commands.main(["status", "main"]) == 1
    assert "there is no TracingConfig main" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Refuse(code=404), "apply crds/tracingconfigs.yaml and install the operator"),
        (Refuse(code=403, message="User cannot list"), "you may not do that in this cluster: User cannot"),
        (Refuse(code=401), "the cluster does not know you"),
        (Refuse(code=500, message="etcd is away"), "the cluster refused: etcd is away"),
        (Cut(), "the cluster does not answer"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_sentence(
    fault: Refuse | Cut,
    sentence: str,
    server: FakeApiserver,
    kubeconfig: Path,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.fail(".* tracingconfigs", fault, times=-1)

    assert commands.main(["status"]) == 1
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_no_cluster_is_a_usage_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    assert commands.main(["status"]) == 2
    assert "no cluster is known" in capsys.readouterr().err
    assert commands.main(["status", "--kubeconfig", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err


# ---- validate and render -----------------------------------------------------------------------------------------


def test_a_clusters_own_resources_are_checked(
    server: FakeApiserver, kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.put(make_config("good"))
    server.put(make_config("odd", colour="blue"))

    assert commands.main(["validate", "--cluster"]) == 2
    told = capsys.readouterr()
    assert "TracingConfig good, tier Hobby, is valid" in told.out
    assert "TracingConfig odd in the cluster: spec.colour: is not a field" in told.err
    assert commands.main(["validate", "--cluster", "good"]) == 0


def test_a_render_of_the_cluster_has_what_is_in_force(
    server: FakeApiserver, kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.put(make_config())
    effective = {
        "cluster_cidrs_source": "discovered",
        "cluster_cidrs": ["10.77.0.0/16"],
        "dns": {"resolvers": ["10.96.0.10"]},
    }
    server.put(
        make_child("v1", "ConfigMap", "main-config", "exporter", data={"effective.json": json.dumps(effective)})
    )  # fmt: skip

    assert commands.main(["render", "--cluster", "main", "-o", "json"]) == 0
    told = capsys.readouterr()
    items = json.loads(told.out)["items"]
    assert "10.77.0.0/16" in told.out
    assert {item["metadata"]["namespace"] for item in items} == {NAMESPACE}
    assert all("ownerReferences" in item["metadata"] for item in items)


# ---- diff --------------------------------------------------------------------------------------------------------


def apply_all(server: FakeApiserver, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the operator would have applied of the file."""
    server.put(make_config(clusterCIDRs=["10.0.0.0/8"]))
    assert commands.main(["render", "--cluster", "main", "-o", "json"]) == 0
    for item in json.loads(capsys.readouterr().out)["items"]:
        server.put(item)


def test_no_difference_is_code_0_and_says_nothing(
    server: FakeApiserver, kubeconfig: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply_all(server, file, capsys)

    assert commands.main(["diff", "-f", str(file)]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_difference_is_code_1_and_changes_nothing(
    server: FakeApiserver, kubeconfig: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply_all(server, file, capsys)
    file.write_text(FILE.replace("tier: Hobby", "tier: Scale"))
    before = server.objects.version

    assert commands.main(["diff", "-f", str(file)]) == 1
    out = capsys.readouterr().out
    assert "--- live/ConfigMap/main-config" in out
    assert re.search(r'^- +"ttl_s": 3600', out, re.M)
    assert re.search(r'^\+ +"ttl_s": 604800', out, re.M)
    for noise in (DESIRED_HASH, "resourceVersion", "uid", "creationTimestamp"):
        assert noise not in out
    assert server.objects.version == before
    assert all("dryRun" in r.query for r in server.requests if r.method == "PATCH")


def test_a_first_install_is_all_creations(
    server: FakeApiserver, kubeconfig: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["diff", "-f", str(file), "-o", "json"]) == 1
    changes = json.loads(capsys.readouterr().out)
    assert {change["action"] for change in changes} == {"create"}
    assert {"DaemonSet", "StatefulSet", "Deployment", "ConfigMap"} <= {c["kind"] for c in changes}


def test_what_is_no_longer_wanted_and_what_is_another_s(
    server: FakeApiserver, kubeconfig: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply_all(server, file, capsys)
    config = server.find("farcall.dev/v1alpha1", "TracingConfig", "main") or {}
    reference = {"kind": "TracingConfig", "controller": True, "uid": config["metadata"]["uid"]}
    old = make_child("v1", "Service", "main-old", "exporter", spec={})
    old["metadata"]["ownerReferences"] = [reference]
    server.put(old)
    stranger = server.find("v1", "Service", "main-console", NAMESPACE) or {}
    theirs = {"kind": "HelmRelease", "name": "shop", "controller": True, "uid": "other"}
    server.put({**stranger, "metadata": {**stranger["metadata"], "ownerReferences": [theirs]}})

    assert commands.main(["diff", "-f", str(file), "-o", "table"]) == 2
    out = capsys.readouterr().out
    assert "delete   Service/main-old" in out
    assert "refused  Service/main-console" in out
    assert "controlled by HelmRelease shop" in out


def test_what_cannot_change_is_made_anew(
    server: FakeApiserver, kubeconfig: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply_all(server, file, capsys)
    file.write_text(FILE.replace("tier: Hobby", "tier: Scale"))
    why = "Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden"
    server.fail("patch statefulsets", Refuse(code=422, reason="Invalid", message=why), times=-1)

    assert commands.main(["diff", "-f", str(file), "-o", "yaml"]) == 1
    changes = yaml.safe_load(capsys.readouterr().out)
    (cache,) = [c for c in changes if c["kind"] == "StatefulSet"]
    assert (cache["action"], cache["notes"]) == ("recreate", [why])


def test_an_error_is_code_2(
    server: FakeApiserver, kubeconfig: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fail("get .*", Refuse(code=403, message="no"), times=-1)

    assert commands.main(["diff", "-f", str(file)]) == 2
    assert capsys.readouterr().err == "farcall diff: you may not do that in this cluster: no\n"
    file.write_text("spec: {}")
    assert commands.main(["diff", "-f", str(file)]) == 2


def test_no_command_shows_a_secret(
    server: FakeApiserver, kubeconfig: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply_all(server, file, capsys)
    server.put(make_secret())
    value = make_secret()["data"]["admin-secret"]

    for argv in (
        ["status", "main", "-o", "json"],
        ["diff", "-f", str(file)],
        ["render", "--cluster", "main"],
    ):
        commands.main(argv)
    told = capsys.readouterr()
    assert value not in told.out + told.err
    assert not [r for r in server.requests if r.asked == "get secrets"]
