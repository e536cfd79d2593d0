"""Status says what is wrong in words that a person can act on, and stops saying so when it is mended."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support_apiserver_access import Api, Object
from support_apiserver_configs import Configs
from support_apiserver_nodes import Crashes, Play, Player, Waits
from support_apiserver_operator import NAMESPACE

pytestmark = pytest.mark.apiserver

PULL = Waits("ImagePullBackOff", 'Back-off pulling image "farcall/exporter": manifest unknown')
CRASH = Crashes("ConfigError: the ingest token file is empty")
OUT_OF_MEMORY = Crashes(reason="OOMKilled", exit_code=137)
# What happens to which workload → the condition, and the words that its message must hold.
TROUBLES: tuple[tuple[str, Play, str, tuple[str, ...]], ...] = (
    ("exporter", PULL, "ExporterReady", ("manifest unknown",)),
    ("exporter", CRASH, "ExporterReady", ("the ingest token file is empty",)),
    ("probe", CRASH, "ProbesReady", ("the ingest token file is empty",)),
    ("dns-cache", OUT_OF_MEMORY, "CacheReady", ("memory",)),
    ("dns-cache", Waits("CreateContainerConfigError", 'secret "x" not found'), "CacheReady", ('secret "x" not found',)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("component", "play", "condition", "words"),
    TROUBLES,
    ids=[f"{component}-{getattr(play, 'reason', '')}" for component, play, _, _ in TROUBLES],
)
def test_a_pod_that_does_not_run_says_why(
    configs: Configs,
    player: Player,
    name: str,
    component: str,
    play: Play,
    condition: str,
    words: tuple[str, ...],
) -> None:
    player.set_script(component, play)
    configs.apply(name)
    configs.wait(lambda: says(configs, name, condition, words), name, f"{condition} says {words}")

    assert configs.conditions(name)["Ready"]["status"] == "False"
    assert configs.kstatus(name) in ("InProgress", "Failed")
    player.reset()
    configs.wait_ready(name)


def says(configs: Configs, name: str, kind: str, words: tuple[str, ...]) -> bool:
    condition = configs.conditions(name).get(kind, {"status": "", "message": ""})
    message = condition["message"].lower()
    return condition["status"] == "False" and all(word.lower() in message for word in words)


def test_a_pod_that_fails_later_takes_ready_back(
    configs: Configs, player: Player, name: str
) -> None:
    configs.apply(name)
    configs.wait_ready(name)
    player.set_script("dns-cache", OUT_OF_MEMORY)
    configs.wait(lambda: says(configs, name, "CacheReady", ("memory",)), name, "it is told")

    assert configs.conditions(name)["Ready"]["status"] == "False"
    player.reset()
    configs.wait_ready(name)


@contextmanager
def merged(api: Api, path: str, patch: Object, back: Object) -> Iterator[None]:
    api.merge(path, patch)
    try:
        yield
    finally:
        api.merge(path, back)


@contextmanager
def tainted(api: Api) -> Iterator[None]:
    taint = {"key": "example.com/reserved", "effect": "NoSchedule"}
    names = [node["metadata"]["name"] for node in api.list("/api/v1/nodes")]
    for node in names:
        api.merge(f"/api/v1/nodes/{node}", {"spec": {"taints": [taint]}})
    try:
        yield
    finally:
        for node in names:
            api.merge(f"/api/v1/nodes/{node}", {"spec": {"taints": None}})


def test_pods_that_fit_on_no_node_say_how_many_and_why(
    configs: Configs, name: str, api: Api
) -> None:
    with tainted(api):
        configs.apply(name)
        words = ("3 node(s)", "taint")
        configs.wait(
            lambda: says(configs, name, "ExporterReady", words), name, "it tells of the taint"
        )
        message = configs.conditions(name)["ExporterReady"]["message"]
        # The scheduler goes on about preemption and resource claims, which helps nobody.
        assert "preemption" not in message and "deallocate" not in message, message
    configs.wait_ready(name)


def test_a_node_selector_that_matches_nothing_is_told(configs: Configs, name: str) -> None:
    configs.apply(name, probe={"nodeSelector": {"example.com/no-such": "label"}})
    configs.wait_condition(name, "ProbesReady", "NoNodes")
    configs.apply(name)
    configs.wait_ready(name)


def test_nodes_without_an_agent_are_counted_with_the_reason(configs: Configs, name: str) -> None:
    configs.apply(name, probe={"nodeSelector": {"kubernetes.io/hostname": "node-a"}})
    ready = configs.wait_ready(name)

    assert ready["status"]["probes"] == "1/1"
    assert sum(ready["status"]["nodes"]["leftOut"].values()) == 2, ready["status"]["nodes"]


def test_a_namespace_that_refuses_the_agent_is_told_with_the_cure(
    configs: Configs, name: str, api: Api
) -> None:
    label = "pod-security.kubernetes.io/enforce"
    path = f"/api/v1/namespaces/{NAMESPACE}"
    baseline = {"metadata": {"labels": {label: "baseline"}}}
    with merged(api, path, baseline, {"metadata": {"labels": {label: "privileged"}}}):
        configs.apply(name)
        message = configs.wait_condition(name, "ProbesReady", "PodSecurity")
        assert label in message, message
        others = configs.conditions(name)
        configs.wait(
            lambda: all(configs.conditions(name)[c]["status"] == "True" for c in ("CacheReady", "ExporterReady")),
            name,
            f"the others run all the same: {others}",
        )  # fmt: skip
    configs.wait_ready(name)


def test_a_quota_that_is_used_up_is_told(configs: Configs, name: str, api: Api) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": NAMESPACE},
        "spec": {"hard": {"pods": "0"}},
    }
    api.create(quota)
    try:
        configs.apply(name)
        configs.wait_condition(name, "ExporterReady", "Quota")
    finally:
        api.delete(f"/api/v1/namespaces/{NAMESPACE}/resourcequotas/none")
    configs.wait_ready(name)


def test_a_storage_class_that_does_not_exist_is_told(configs: Configs, name: str) -> None:
    configs.apply(name, exporter={"storage": {"storageClassName": "no-such-class"}})
    words = ("no-such-class",)
    configs.wait(lambda: says(configs, name, "ExporterReady", words), name, "it names the class")


def test_events_tell_of_changes_and_are_not_repeated(configs: Configs, name: str, api: Api) -> None:
    configs.apply(name)
    uid = configs.wait_settled(name)["metadata"]["uid"]
    selector = f"involvedObject.uid={uid}"
    first = api.list("/api/v1/namespaces/default/events", fieldSelector=selector)
    configs.nudge(name)
    again = api.list("/api/v1/namespaces/default/events", fieldSelector=selector)

    assert any(event["reason"] == "Ready" for event in first), first
    assert [e["metadata"]["resourceVersion"] for e in again] == [
        e["metadata"]["resourceVersion"] for e in first
    ]
