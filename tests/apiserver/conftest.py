"""One control plane for the tier, with nodes, a storage class and the operator's rights; one operator that tests share.

A test that stops or kills the operator may do so: whoever comes next starts it again.
"""

import itertools
from collections.abc import Iterator

import pytest

from support_apiserver import ControlPlane, running_control_plane
from support_apiserver_access import Api
from support_apiserver_configs import Configs
from support_apiserver_nodes import Player, add_node, add_storage_class
from support_apiserver_operator import OperatorProcess, install

NODES = (("node-a", "amd64"), ("node-b", "amd64"), ("node-c", "arm64"))
DNS_ADDRESS = "10.96.0.10"
_NUMBERS = itertools.count(1)
# Compares what was asked with what is granted: the more was asked before, the better.
LAST = "test_apiserver_rights"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LAST in item.nodeid)  # stable: all others stay in their order


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running_control_plane(tmp_path_factory.mktemp("plane")) as started:
        with started.api() as api:
            for number, (name, arch) in enumerate(NODES):
                add_node(api, name, f"10.244.{number}.0/24", arch=arch)
            add_storage_class(api)
            api.create(build_dns_service())
        install(started)
        yield started


def build_dns_service() -> dict[str, object]:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns"},
        },
        "spec": {"clusterIP": DNS_ADDRESS, "ports": ports, "selector": {"k8s-app": "kube-dns"}},
    }


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[Api]:
    with plane.api() as opened:
        yield opened


@pytest.fixture(scope="session")
def shared_player(plane: ControlPlane) -> Iterator[Player]:
    player = Player(plane.url, plane.pki.ca).start()
    yield player
    player.stop()


@pytest.fixture
def player(shared_player: Player) -> Iterator[Player]:
    yield shared_player
    shared_player.reset()


@pytest.fixture(scope="session")
def shared_operator(plane: ControlPlane) -> Iterator[OperatorProcess]:
    process = OperatorProcess(plane)
    yield process
    if process.is_running():
        process.stop()


@pytest.fixture
def operator(shared_operator: OperatorProcess, player: Player) -> OperatorProcess:
    if not shared_operator.is_running():
        shared_operator.start()
    return shared_operator


@pytest.fixture
def configs(api: Api, operator: OperatorProcess) -> Iterator[Configs]:
    used = Configs(api, operator)
    before = len(operator.list_faults())
    yield used
    if not operator.is_running():
        operator.start()
    used.forget()
    assert operator.list_faults()[before:] == [], "the operator stumbled, whatever came of it"


@pytest.fixture
def name() -> str:
    """A TracingConfig's that no other test has."""
    return f"t{next(_NUMBERS)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """A failure tells what the operator and the control plane said last."""
    report = yield
    if report.failed:
        operator = getattr(item, "funcargs", {}).get("operator")
        plane = getattr(item, "funcargs", {}).get("plane")
        if operator is not None and operator.log.exists():
            report.sections.append(("the operator's log", operator.tail()))
        if plane is not None:
            report.sections.append(("the control plane's logs", plane.logs()))
    return report
