"""The health check as Argo CD runs it: real Lua 5.1, on statuses that the operator itself writes."""

from pathlib import Path

import pytest
import yaml

from farcall_operator.cluster.port import Manifest, Ref
from farcall_operator.installing.argocd import KEY
from farcall_operator.problems import Problem
from support_argocd import CHECK, judge
from support_install import DEPLOY, read_objects
from support_install_statuses import RUNNING, build_config, with_status

pytestmark = pytest.mark.unit


def test_ready_is_healthy() -> None:
    config = with_status(build_config(), workloads=RUNNING)

    status, message = judge(config)
    assert status == "Healthy"
    assert "can serve" in message


def test_a_rollout_is_progressing() -> None:
    status, message = judge(with_status(build_config()))

    assert status == "Progressing"
    assert "being created" in message


def test_what_needs_a_person_is_degraded_with_the_reason() -> None:
    problem = Problem(
        reason="Conflict",
        message="DaemonSet main-probe is not ours.",
        ref=Ref("apps/v1", "DaemonSet", "farcall", "main-probe"),
    )

    assert judge(with_status(build_config(), problems=[problem])) == (
        "Degraded",
        "DaemonSet main-probe is not ours.",
    )


def test_paused_is_suspended_and_paused_with_a_fault_is_degraded() -> None:
    paused = build_config(paused=True)
    overlap = Problem(reason="Overlap", message="older traces the same namespaces.")

    assert judge(with_status(paused, workloads=RUNNING, paused=True))[0] == "Suspended"
    assert judge(with_status(paused, paused=True, problems=[overlap]))[0] == "Degraded"
    assert judge(paused)[0] == "Suspended"


def test_a_status_of_another_generation_counts_for_nothing() -> None:
    config = with_status(build_config(), workloads=RUNNING)
    edited = {**config, "metadata": {**config["metadata"], "generation": 4}}

    status, message = judge(edited)
    assert status == "Progressing"
    assert "this generation" in message


def test_a_condition_of_another_generation_counts_for_nothing() -> None:
    config = with_status(build_config(), workloads=RUNNING)
    for condition in config["status"]["conditions"]:
        condition["observedGeneration"] = 2

    assert judge(config)[0] == "Progressing"


def test_a_resource_that_nobody_has_looked_at_is_progressing() -> None:
    assert judge(build_config())[0] == "Progressing"
    assert judge({**build_config(), "status": {}})[0] == "Progressing"


def test_a_deletion_is_progressing() -> None:
    config = with_status(build_config(), workloads=RUNNING)
    config["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert judge(config) == ("Progressing", "Being deleted")


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 3},
        {"observedGeneration": 3, "conditions": []},
        {"observedGeneration": 3, "conditions": "none"},
        {"observedGeneration": 3, "conditions": ["Ready"]},
        {"observedGeneration": 3, "conditions": [{"type": "Ready"}]},
        {"observedGeneration": 3, "conditions": [{"type": "Ready", "status": "Unknown"}]},
    ],
)
def test_a_status_of_no_known_shape_is_progressing(status: Manifest) -> None:
    assert judge({**build_config(), "status": status})[0] == "Progressing"


def test_a_condition_without_words_gives_its_reason() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "AllGood", "message": ""}
    config = {**build_config(), "status": {"observedGeneration": 3, "conditions": [ready]}}

    assert judge(config) == ("Healthy", "AllGood")


def test_the_piece_of_the_config_map_is_the_same_check() -> None:
    (piece,) = read_objects(DEPLOY / "argocd/argocd-cm.yaml")

    assert piece["data"] == {KEY: CHECK}
    assert piece["metadata"]["name"] == "argocd-cm"


@pytest.mark.parametrize("path", [*(DEPLOY / "argocd").glob("*.yaml"), *(DEPLOY / "flux").glob("*.yaml")])  # fmt: skip
def test_paths_in_the_examples_exist(path: Path) -> None:
    """Those of this repository; `clusters/` and `production/` are the reader's."""
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        spec = document.get("spec", {})
        named = spec.get("path") or spec.get("source", {}).get("path") or ""
        if "deploy/" in named:
            assert (DEPLOY.parent / named / "kustomization.yaml").exists(), named
