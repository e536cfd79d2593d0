"""The demo's network and programs, without farcall: real namespaces, real DNS, and nothing left afterwards."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farcall_demo import network, workload
from farcall_demo.plan import Claim, DemoError, Plan
from farcall_demo.processes import App, Processes, python_app
from support_e2e import RUN

pytestmark = pytest.mark.e2e
WITHIN_S = 60


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def plan() -> Iterator[Plan]:
    claim = Claim(RUN)
    try:
        network.build_network(claim.plan)
        yield claim.plan
    finally:
        network.remove_network(claim.plan.instance)
        claim.release()


@pytest.fixture
def processes(plan: Plan, tmp_path: Path) -> Iterator[Processes]:
    started = Processes(prefix=plan.prefix, logs=tmp_path)
    try:
        yield started
    finally:
        started.stop()


def run_in(plan: Plan, host: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", plan.namespace(host), *command],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def answers(plan: Plan, host: str, name: str) -> str:
    return run_in(plan, host, "getent", "ahostsv4", name).stdout


def test_pods_resolve_names_and_reach_them(plan: Plan, processes: Processes) -> None:
    for app in workload.list_servers(plan):
        processes.start(app)
    wait_until(lambda: plan.cache in answers(plan, "cart", "cache.example.com"), "no DNS answer")

    assert plan.inventory in answers(plan, "frontend", "inventory")
    assert answers(plan, "outside", "api.example.com") == ""
    fetch = "import urllib.request as u; print(u.urlopen('http://api.example.com/api/data').status)"
    wait_until(
        lambda: run_in(plan, "storefront", sys.executable, "-c", fetch).stdout == "200\n",
        "the external service does not answer by its name",
    )


def test_the_workload_calls_without_complaint(
    plan: Plan, processes: Processes, tmp_path: Path
) -> None:
    for app in workload.list_servers(plan):
        processes.start(app)
    wait_until(lambda: plan.cache in answers(plan, "cart", "cache.example.com"), "no DNS answer")
    for app in workload.list_clients(plan, otlp_http="http://127.0.0.1:9"):
        processes.start(app)
    processes.start_once(workload.report_app(plan))
    wait_until(lambda: "6379" in run_in(plan, "cart", "ss", "-tn").stdout, "cart has no connection")
    time.sleep(2)  # a few calls of each

    assert processes.restart_ended() == []
    for name in ("storefront", "cart", "frontend", "visitor", "report", "inventory"):
        assert (tmp_path / f"demo-{name}.log").read_text() == "", name


def test_the_relay_carries_from_inside_to_loopback(plan: Plan, processes: Processes) -> None:
    processes.start(App(name="sink", host=None, command=python_app("web", "127.0.0.1:14318")))
    processes.start(
        App(
            name="otlp-relay",
            host=None,
            command=workload.relay_command(plan, "http://127.0.0.1:14318"),
        )
    )
    url = f"http://{plan.node}:{workload.OTLP_PORT}/v1/traces"
    fetch = f"import urllib.request as u; print(u.urlopen('{url}').read().decode())"
    wait_until(
        lambda: "/v1/traces" in run_in(plan, "checkout", sys.executable, "-c", fetch).stdout,
        "nothing came through the relay",
    )


def test_nothing_is_left_when_it_is_removed(plan: Plan, processes: Processes) -> None:
    for app in workload.list_servers(plan):
        processes.start(app)
    before = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True)

    processes.stop()
    network.remove_network(plan.instance)

    after = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True)
    assert network.list_namespaces(plan.instance) == []
    assert list(network.ETC_NETNS.glob(f"{plan.prefix}*")) == []
    assert before.stdout == after.stdout


def test_a_killed_demo_takes_its_processes_along(tmp_path: Path) -> None:
    instance = f"{RUN}killed"
    script = f"""
import sys, time
from pathlib import Path
from farcall_demo import network, workload
from farcall_demo.plan import Claim
from farcall_demo.processes import Processes
claim = Claim({instance!r})
network.build_network(claim.plan)
processes = Processes(prefix=claim.plan.prefix, logs=Path({str(tmp_path)!r}))
for app in workload.list_servers(claim.plan):
    processes.start(app)
print("up", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"up\n"
        names = network.list_namespaces(instance)
        assert any(network.list_pids(name) for name in names)
        killed.send_signal(signal.SIGKILL)
    try:
        wait_until(
            lambda: not any(network.list_pids(name) for name in names), "its processes live on"
        )
        claim = Claim(instance)  # the names that it held are free again
        claim.release()
    finally:
        network.remove_network(instance)
    assert network.list_namespaces(instance) == []


def test_a_missing_tool_is_named_with_its_package() -> None:
    with pytest.raises(DemoError, match="apt-get install dnsmasq-base"):
        network.check_tools(lambda name: None if name == "dnsmasq" else name)
