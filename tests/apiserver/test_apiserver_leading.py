"""Operators come and go, and so does the API server: one leads, and what was half done is done."""

import signal
from collections.abc import Iterator

import pytest

from support_apiserver import ControlPlane, wait_until
from support_apiserver_access import Api
from support_apiserver_configs import Configs, strip_all
from support_apiserver_operator import OperatorProcess, lease_holder, wait_for_leader
from support_stopped import stop

pytestmark = pytest.mark.apiserver


@pytest.fixture
def second(plane: ControlPlane) -> Iterator[OperatorProcess]:
    process = OperatorProcess(plane, name="operator-b")
    yield process
    if process.is_running():
        process.stop()


def test_one_leads_and_when_it_is_killed_the_other_carries_on(
    configs: Configs, name: str, operator: OperatorProcess, second: OperatorProcess, api: Api
) -> None:
    wait_for_leader(api, operator, alive=operator.check_alive)
    configs.apply(name)
    configs.wait_settled(name)
    second.start(wait=False)
    operator.kill()
    configs.api.delete(configs.path("Service", f"{name}-redis"))
    wait_for_leader(api, second, alive=second.check_alive)

    wait_until(
        lambda: configs.find_child("Service", f"{name}-redis") is not None,
        "the other repairs what was deleted meanwhile",
        second.check_alive,
    )
    second.stop()
    operator.start()
    wait_for_leader(api, operator, alive=operator.check_alive)


def test_an_operator_that_stops_in_order_hands_over(
    configs: Configs, operator: OperatorProcess, second: OperatorProcess, api: Api
) -> None:
    wait_for_leader(api, operator, alive=operator.check_alive)
    second.start(wait=False)

    assert operator.stop() == 0
    assert not operator.is_running()
    wait_for_leader(api, second, alive=second.check_alive)
    assert second.stop() == 0
    assert lease_holder(api) == ""


def test_killed_in_the_middle_of_its_work_it_finishes_when_it_is_back(
    configs: Configs, name: str, operator: OperatorProcess
) -> None:
    other = f"{name}-whole"
    configs.apply(other)
    configs.wait_settled(other)
    whole = {(kind, child.replace(other, "X")) for kind, child in configs.children(other)}
    configs.apply(name)
    wait_until(lambda: bool(configs.children(name)), "the first child is there")
    operator.kill()
    operator.start()
    configs.wait_settled(name)

    assert {(kind, child.replace(name, "X")) for kind, child in configs.children(name)} == whole


def test_a_stopped_process_that_wakes_up_does_not_write_beside_the_new_leader(
    configs: Configs, name: str, operator: OperatorProcess, second: OperatorProcess, api: Api
) -> None:
    """As when a node freezes: the Lease has gone to another, and whoever wakes up must end, not go on."""
    wait_for_leader(api, operator, alive=operator.check_alive)
    second.start(wait=False)
    assert operator.process is not None
    stop(operator.process.pid)
    wait_for_leader(api, second, alive=second.check_alive)
    operator.process.send_signal(signal.SIGCONT)
    wait_until(lambda: not operator.is_running(), "the former leader ends")

    assert second.name in lease_holder(api)
    second.stop()


def test_the_operator_outlives_a_restart_of_the_api_server(
    configs: Configs, name: str, operator: OperatorProcess, plane: ControlPlane
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = strip_all(configs.children(name))
    plane.stop_process("kube-apiserver")
    plane.run_apiserver()
    configs.api.delete(configs.path("Service", f"{name}-redis"))
    configs.wait(lambda: set(configs.children(name)) == set(before), name, "it repairs again")

    # Nothing that needs the other controllers: they take minutes to come back to their senses, whoever caused it.
    configs.apply(name, clusterCIDRs=["172.20.0.0/16"])
    configs.wait(
        lambda: "172.20.0.0/16" in str(configs.child("ConfigMap", f"{name}-config")["data"]),
        name,
        "it follows the spec again",
    )
