"""`farcall diff|status|render|validate` against a real API server, beside a real operator: what they say is what happens."""

import json
from pathlib import Path

import pytest
import yaml

from farcall import commands
from support_apiserver import ControlPlane
from support_apiserver_configs import Configs, build_config, strip_all, versions
from support_apiserver_nodes import Crashes, Player

pytestmark = pytest.mark.apiserver


@pytest.fixture
def file(tmp_path: Path, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBECONFIG", str(plane.admin_kubeconfig))
    return tmp_path / "tracing.yaml"


def write(file: Path, name: str, **spec: object) -> None:
    file.write_text(yaml.safe_dump(build_config(name, **spec)))


def test_what_the_operator_applied_is_no_difference(
    configs: Configs, name: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = versions(configs.children(name))
    write(file, name)

    assert commands.main(["diff", "-f", str(file)]) == 0, capsys.readouterr().out
    assert capsys.readouterr() == ("", "")
    assert versions(configs.children(name)) == before


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterCIDRs": ["10.0.0.0/8"]},
        {"probe": {"resources": {"limits": {"memory": "300Mi"}}}},
    ],
    ids=str,
)
def test_what_diff_says_is_what_comes_out(
    spec: dict[str, object],
    configs: Configs,
    name: str,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = configs.children(name)
    write(file, name, **spec)

    assert commands.main(["diff", "-f", str(file), "-o", "json"]) == 1
    said = {
        (change["kind"], change["name"])
        for change in json.loads(capsys.readouterr().out)
        if change["action"] != "none"
    }
    assert versions(configs.children(name)) == versions(before), "diff changes nothing"
    configs.apply(name, **spec)
    configs.wait_settled(name)
    after = configs.children(name)
    changed = {key for key in {*before, *after} if is_other(before.get(key), after.get(key))}
    assert said == {key for key in changed if key[0] not in ("Secret",)}
    assert commands.main(["diff", "-f", str(file)]) == 0


def is_other(before: object, after: object) -> bool:
    return strip_all({("x", "x"): before} if before else {}) != strip_all(
        {("x", "x"): after} if after else {}
    )


def test_a_volume_for_the_cache_is_told_as_a_new_stateful_set(
    configs: Configs, name: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    write(file, name, tier="Scale")

    assert commands.main(["diff", "-f", str(file), "-o", "json"]) == 1
    changes = {(c["kind"], c["action"]) for c in json.loads(capsys.readouterr().out)}
    assert ("StatefulSet", "recreate") in changes
    assert ("PersistentVolumeClaim", "change") in changes
    assert "refused" not in {action for _, action in changes}


def test_a_volume_that_would_shrink_is_refused(
    configs: Configs, name: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    write(file, name, exporter={"storage": {"size": "1Gi"}})

    assert commands.main(["diff", "-f", str(file)]) == 2
    assert f"PersistentVolumeClaim/{name}-store: refused:" in capsys.readouterr().err


def test_a_first_install_is_all_creations_and_makes_nothing(
    configs: Configs, name: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, name, clusterCIDRs=["10.0.0.0/8"])

    assert commands.main(["diff", "-f", str(file), "-o", "json"]) == 1
    changes = json.loads(capsys.readouterr().out)
    assert {change["action"] for change in changes} == {"create"}
    assert configs.children(name) == {}


def test_status_of_one_that_is_ready_is_code_0(
    configs: Configs, name: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs.apply(name)
    configs.wait_ready(name)

    assert commands.main(["status", name]) == 0
    out = capsys.readouterr().out
    assert f"TracingConfig {name}, Hobby tier: generation 1, seen 1" in out
    assert f"DaemonSet/{name}-probe" in out
    assert commands.main(["validate", "--cluster", name]) == 0


def test_status_of_one_that_crashes_has_its_last_words_and_the_next_command(
    configs: Configs, name: str, file: Path, player: Player, capsys: pytest.CaptureFixture[str]
) -> None:
    player.set_script("exporter", Crashes("disk quota exceeded"))
    configs.apply(name)
    configs.wait_for_observed(name)
    configs.wait(
        lambda: configs.conditions(name).get("ExporterReady", {}).get("reason") == "CrashLoop",
        name,
        "it crashes",
    )

    assert commands.main(["status", name]) == 1
    out = capsys.readouterr().out
    assert "disk quota exceeded" in out
    assert "--previous" in out


def test_a_render_of_the_cluster_is_what_is_there(
    configs: Configs, name: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs.apply(name)
    configs.wait_settled(name)

    assert commands.main(["render", "--cluster", name, "-o", "json"]) == 0
    children = configs.children(name)
    for item in json.loads(capsys.readouterr().out)["items"]:
        live = children[item["kind"], item["metadata"]["name"]]
        wanted = item["metadata"]["annotations"]  # the desired hash among them
        assert wanted.items() <= live["metadata"]["annotations"].items(), item["kind"]
