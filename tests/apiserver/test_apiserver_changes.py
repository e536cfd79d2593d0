"""A changed spec is what the cluster holds a moment later: no more, no less, and with no pod replaced in vain."""

from collections.abc import Iterator

import pytest

from support_apiserver import wait_until
from support_apiserver_access import Api, Object
from support_apiserver_configs import Configs, Key, strip, strip_all
from support_apiserver_nodes import Player, Waits, add_node
from support_apiserver_operator import NAMESPACE, OperatorProcess

pytestmark = pytest.mark.apiserver

KEPT = ("Secret", "PersistentVolumeClaim")


@pytest.fixture
def mirror(api: Api) -> Iterator[None]:
    """The Secret that a spec refers to."""
    secret = {"name": "mirror", "namespace": NAMESPACE}
    api.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": secret,
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": '{"auths": {}}'},
        }
    )
    yield
    api.delete(f"/api/v1/namespaces/{NAMESPACE}/secrets/mirror")


def pods_of(api: Api, name: str) -> dict[str, str]:
    """Component and node → uid: another uid is another pod."""
    found = api.list(
        f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=f"app.kubernetes.io/instance={name}"
    )
    component = "app.kubernetes.io/component"
    return {
        f"{pod['metadata']['labels'][component]} {pod['spec'].get('nodeName')}": pod["metadata"][
            "uid"
        ]
        for pod in found
    }


def pod_spec(workload: Object) -> Object:
    found: Object = workload["spec"]["template"]["spec"]
    return found


def without_kept(children: dict[Key, Object]) -> dict[Key, Object]:
    return {key: child for key, child in strip_all(children).items() if key[0] not in KEPT}


def test_a_field_that_leaves_the_spec_leaves_the_children(
    configs: Configs, name: str, mirror: None
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = without_kept(configs.children(name))
    limits = {"resources": {"limits": {"cpu": "700m"}}, "priorityClassName": "system-node-critical"}
    configs.apply(name, probe=limits, images={"pullSecrets": ["mirror"]})
    configs.wait(lambda: has_pull_secret(configs, name), name, "the agents have a pull secret")
    configs.wait_settled(name)
    configs.apply(name)
    configs.wait(lambda: not has_pull_secret(configs, name), name, "the pull secret is gone")
    configs.wait_settled(name)

    after = without_kept(configs.children(name))
    assert set(after) == set(before)
    for key in before:
        assert forget_generation(after[key]) == forget_generation(before[key]), key


def has_pull_secret(configs: Configs, name: str) -> bool:
    spec = pod_spec(configs.child("DaemonSet", f"{name}-probe"))
    return bool(spec.get("imagePullSecrets"))


def test_an_object_that_is_no_longer_wanted_is_deleted(configs: Configs, name: str) -> None:
    clickhouse = {"clickhouse": {"url": "http://clickhouse.data.svc:8123"}}
    configs.apply(name, exporter={**clickhouse, "replicas": 2})
    budget = ("PodDisruptionBudget", f"{name}-exporter")
    configs.wait(lambda: budget in configs.children(name), name, "there is a budget")
    configs.apply(name, exporter={**clickhouse, "replicas": 1})

    configs.wait(lambda: budget not in configs.children(name), name, "the budget is gone")
    configs.wait_ready(name)


def test_switching_the_tier_there_and_back_restores_the_same_state(
    configs: Configs, name: str
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = without_kept(configs.children(name))
    status = configs.get(name)["status"]["effective"]
    configs.apply(name, tier="Scale")
    configs.wait_settled(name)
    scale = configs.get(name)["status"]["effective"]
    configs.apply(name, tier="Hobby")
    configs.wait_settled(name)

    assert (status["dnsTTLSeconds"], scale["dnsTTLSeconds"]) == (3_600, 604_800)
    after = without_kept(configs.children(name))
    assert set(after) == set(before)
    for key in before:
        assert forget_generation(after[key]) == forget_generation(before[key]), key
    assert configs.get(name)["status"]["effective"] == status


def forget_generation(manifest: Object) -> Object:
    """The effective config says which generation it is of, and a recreated Service may get another address."""
    text = {k: v for k, v in manifest.items() if k not in ("data", "spec")}
    data = dict(manifest.get("data", {}))
    data.pop("effective.json", None)
    annotations = {
        key: value
        for key, value in text["metadata"]["annotations"].items()
        if not ("effective.json" in manifest.get("data", {}) and key.startswith("farcall.dev/"))
    }
    metadata = {**text["metadata"], "annotations": annotations}
    return {**text, "metadata": metadata, "data": data, "spec": manifest.get("spec")}


def test_a_live_change_reaches_the_config_and_replaces_no_pod(
    configs: Configs, name: str, api: Api
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = pods_of(api, name)
    configs.apply(name, dns={"holdWhileConnected": True})
    path = configs.path("ConfigMap", f"{name}-config")
    configs.wait(
        lambda: '"hold_while_connected": true' in api.get(path)["data"]["effective.json"].replace('":true', '": true'),
        name,
        "the config holds the change",
    )  # fmt: skip
    configs.wait_settled(name)

    assert before and pods_of(api, name) == before


def test_a_new_operator_process_replaces_no_pod_and_writes_nothing_anew(
    configs: Configs, name: str, api: Api, operator: OperatorProcess
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = strip_all(configs.children(name))
    pods = pods_of(api, name)
    operator.stop()
    operator.start()
    configs.nudge(name)
    configs.wait_settled(name)

    assert strip_all(configs.children(name)) == before
    assert pods_of(api, name) == pods


def test_the_exporter_rolls_before_the_agents(configs: Configs, name: str, player: Player) -> None:
    """An agent must never speak to an exporter that is older than it."""
    configs.apply(name)
    configs.wait_settled(name)
    player.set_script("exporter", Waits("ContainerCreating"))
    configs.apply(name, images={"registry": "mirror.example.com/farcall"})
    configs.wait(
        lambda: is_from_mirror(configs, "Deployment", f"{name}-exporter"),
        name,
        "the exporter rolls",
    )
    configs.nudge(name)

    assert not is_from_mirror(configs, "DaemonSet", f"{name}-probe")
    player.reset()
    configs.wait(
        lambda: is_from_mirror(configs, "DaemonSet", f"{name}-probe"), name, "the agents roll"
    )
    configs.wait_ready(name)


def is_from_mirror(configs: Configs, kind: str, child: str) -> bool:
    images = [c["image"] for c in pod_spec(configs.child(kind, child))["containers"]]
    return all(image.startswith("mirror.example.com/") for image in images)


def test_a_larger_volume_keeps_the_cache_s_pod(configs: Configs, name: str, api: Api) -> None:
    """A StatefulSet's claim templates cannot change: it is recreated, and its pod and volume are left where they are."""
    configs.apply(name, tier="Scale", dnsCache={"persistence": {"size": "4Gi"}})
    configs.wait_settled(name)
    first = configs.child("StatefulSet", f"{name}-redis")
    pod = api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}-redis-0")["metadata"]["uid"]
    configs.apply(name, tier="Scale", dnsCache={"persistence": {"size": "6Gi"}})
    claim = configs.path("PersistentVolumeClaim", f"data-{name}-redis-0")
    wait_until(
        lambda: api.get(claim)["spec"]["resources"]["requests"]["storage"] == "6Gi",
        "the claim grows",
        configs.operator.check_alive,
        within_s=180,
        describe=lambda: configs.describe(name),
    )
    configs.wait(
        lambda: (found := configs.find_child("StatefulSet", f"{name}-redis")) is not None
        and found["metadata"]["uid"] != first["metadata"]["uid"],
        name,
        "the StatefulSet is another",
    )  # fmt: skip
    configs.wait_settled(name)

    assert api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}-redis-0")["metadata"]["uid"] == pod


def test_a_volume_never_shrinks(configs: Configs, name: str) -> None:
    configs.apply(name, tier="Scale", dnsCache={"persistence": {"size": "4Gi"}})
    configs.wait_settled(name)
    before = strip(configs.child("PersistentVolumeClaim", f"data-{name}-redis-0"))
    with pytest.raises(Exception, match=r"(?i)shrink|smaller"):
        configs.apply(name, tier="Scale", dnsCache={"persistence": {"size": "2Gi"}})

    assert strip(configs.child("PersistentVolumeClaim", f"data-{name}-redis-0")) == before


def test_paused_nothing_is_changed_and_unpaused_all_of_it_is(configs: Configs, name: str) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = strip_all(configs.children(name))
    configs.apply(name, tier="Scale", paused=True)
    configs.wait_condition(name, "Ready", "Paused")
    service = configs.path("Service", f"{name}-redis")
    configs.api.delete(service)
    configs.apply(name, tier="Scale", paused=True, logs={"enabled": False})
    configs.wait_for_observed(name)

    left = strip_all(configs.children(name))
    assert set(before) - set(left) == {("Service", f"{name}-redis")}
    assert all(left[key] == before[key] for key in left)
    configs.apply(name, tier="Scale")
    configs.wait_ready(name)
    assert configs.api.find(service) is not None


def test_of_two_that_overlap_the_younger_touches_nothing_until_the_older_is_gone(
    configs: Configs, name: str
) -> None:
    younger = f"{name}-younger"
    configs.apply(name)
    configs.wait_ready(name)
    configs.apply(younger, namespaces={"include": [name, younger]})
    message = configs.wait_condition(younger, "Stalled", "Overlap")

    assert name in message
    assert configs.kstatus(younger) == "Failed"
    assert configs.children(younger) == {}
    configs.delete(name)
    configs.wait_ready(younger)


def test_nodes_that_join_get_an_agent_and_count_as_inside(
    configs: Configs, name: str, api: Api
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    add_node(api, "node-late", "10.244.77.0/24")
    try:
        path = configs.path("ConfigMap", f"{name}-config")
        configs.wait(
            lambda: "10.244.77.0/24" in api.get(path)["data"]["effective.json"],
            name,
            "its pods' addresses are inside",
        )
        configs.wait(lambda: probes(configs, name) == "4/4", name, "it has an agent")
    finally:
        api.delete("/api/v1/nodes/node-late")
    configs.wait(lambda: probes(configs, name) == "3/3", name, "it has left")


def probes(configs: Configs, name: str) -> str:
    return str(configs.get(name)["status"]["probes"])
