"""Where the Prometheus operator is installed, its ServiceMonitors are children like any other."""

from collections.abc import Iterator

import pytest

from support_apiserver import ControlPlane, running_control_plane, wait_until
from support_apiserver_access import Api, Object
from support_apiserver_configs import OWNER, Configs
from support_apiserver_nodes import Player, add_node, add_storage_class
from support_apiserver_operator import NAMESPACE, OperatorProcess, install

pytestmark = pytest.mark.apiserver

MONITORS = f"/apis/monitoring.coreos.com/v1/namespaces/{NAMESPACE}/servicemonitors"
# The group, version and names of the Prometheus operator's; what is in a spec is its own business.
CRD: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "names": {"kind": "ServiceMonitor", "plural": "servicemonitors"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def is_established(api: Api) -> bool:
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD['metadata']['name']}"
    conditions = (api.get(path).get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own: the others' operators know no such kind."""
    with running_control_plane(tmp_path_factory.mktemp("monitored")) as plane, plane.api() as api:
        add_node(api, "node-a", "10.244.0.0/24")
        add_storage_class(api)
        api.create(CRD)
        wait_until(lambda: is_established(api), "the kind is served")
        install(plane)
        yield plane


@pytest.fixture(scope="module")
def its_operator(monitored: ControlPlane) -> Iterator[OperatorProcess]:
    player = Player(monitored.url, monitored.pki.ca).start()
    process = OperatorProcess(monitored).start()
    yield process
    process.stop()
    player.stop()


def list_monitors(api: Api, name: str) -> dict[str, Object]:
    found = api.list(MONITORS, labelSelector=f"{OWNER}={name}")
    return {item["metadata"]["name"]: item for item in found}


def test_monitors_are_made_and_go_with_their_owner(
    monitored: ControlPlane, its_operator: OperatorProcess
) -> None:
    with monitored.api() as api:
        configs = Configs(api, its_operator)
        configs.apply("watched")
        configs.wait_settled("watched")
        made = list_monitors(api, "watched")
        assert set(made) == {"watched-exporter", "watched-probe"}
        assert {m["spec"]["endpoints"][0]["path"] for m in made.values()} == {"/metrics"}

        configs.delete("watched")
        configs.wait(lambda: not list_monitors(api, "watched"), "watched", "its monitors are gone")
