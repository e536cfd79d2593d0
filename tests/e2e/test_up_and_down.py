"""Starting, asking, running two beside each other, and Ctrl-C: what a user does with `farcall up`."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farcall_demo import network
from farcall_demo.expectations import of_host
from support_e2e import Up, farcall_up, is_running, run_farcall, wait_held, wait_until

pytestmark = pytest.mark.e2e
HELD_WITHIN_S = 120


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with farcall_up(tmp_path_factory.mktemp("up"), "hobby.yaml") as started:
        wait_held(started, since_ns=time.time_ns(), within_s=HELD_WITHIN_S)
        yield started


def ask(up: Up, *arguments: str) -> str:
    done = run_farcall(*arguments, "--run-root", str(up.run_root))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_spans_are_json_for_a_script(up: Up) -> None:
    spans = json.loads(
        ask(up, "spans", "-q", of_host(up.plan, "report"), "-o", "json", "--limit", "5")
    )

    assert spans["items"]
    for span in spans["items"]:
        assert span["destination"] == "Unknown External Service"
        assert span["unknown_reason"] == "no_dns_seen"
        assert span["attributes"]["network.peer.address"] == up.plan.api


def test_spans_are_a_table_for_a_person(up: Up) -> None:
    table = ask(up, "spans", "-q", of_host(up.plan, "storefront"), "--limit", "3").splitlines()

    assert table[0].split()[:2] == ["TIME", "SERVICE"]
    assert len(table) == 4
    assert all("api.example.com" in line for line in table[1:])


def test_traces_and_logs_are_listed(up: Up) -> None:
    assert "storefront" in ask(up, "traces", "-q", of_host(up.plan, "storefront"), "--limit", "3")
    assert "order" in ask(up, "logs", "-q", "paid", "--limit", "3")


def test_the_unknown_destination_is_explained(up: Up) -> None:
    (span,) = json.loads(
        ask(up, "spans", "-q", of_host(up.plan, "report"), "-o", "json", "--limit", "1")
    )["items"]

    told = ask(up, "explain", span["span_id"])

    assert f"report called {up.plan.api}:8080" in told
    assert "no_dns_seen" in told


def test_the_redis_name_is_explained_by_the_answer_that_led_there(up: Up) -> None:
    (span,) = json.loads(
        ask(up, "spans", "-q", of_host(up.plan, "cart"), "-o", "json", "--limit", "1")
    )["items"]

    told = ask(up, "explain", span["trace_id"], span["span_id"])

    assert "It is shown as cache.example.com" in told
    (answer,) = [line for line in told.splitlines() if line.startswith(" * ")]
    assert f"cart asked {up.plan.resolver} for cache.example.com" in answer


def test_login_prints_a_link_to_the_console(up: Up) -> None:
    link = ask(up, "login").strip()

    assert link.startswith(up.open_view().read_config().endpoints.console + "/login?token=")


def test_a_query_that_makes_no_sense_is_exit_code_2(up: Up) -> None:
    done = run_farcall("spans", "-q", 'service:"cart', "--run-root", str(up.run_root))

    assert done.returncode == 2
    assert "(q)" in done.stderr


def test_two_instances_run_side_by_side(up: Up, tmp_path: Path) -> None:
    with farcall_up(tmp_path, "scale.yaml") as other:
        since_ns = time.time_ns()
        assert other.plan.slot != up.plan.slot

        wait_held(other, since_ns=since_ns, within_s=HELD_WITHIN_S)
        wait_held(up, since_ns=since_ns, within_s=HELD_WITHIN_S)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    with farcall_up(tmp_path, "scale.yaml") as up:
        wait_held(up, since_ns=time.time_ns(), within_s=HELD_WITHIN_S, only=["HTTP by host name"])
        pids = [*up.list_pids().values(), *list_demo_pids(up)]
        cgroups = list_own_cgroups(up)
        prefix = up.plan.prefix
        assert cgroups

        assert up.stop(how) == 0

    wait_until(
        lambda: not any(is_running(pid) for pid in pids),
        5,
        lambda: f"still running: {[pid for pid in pids if is_running(pid)]}",
    )
    assert not list((tmp_path / "run").glob("*"))
    assert not list(network.RUN_NETNS.glob(f"{prefix}*"))
    assert not list(network.ETC_NETNS.glob(f"{prefix}*"))
    assert not [path for path in cgroups if path.exists()]


def list_own_cgroups(up: Up) -> list[Path]:
    """The configured directory is shared with every other instance that runs; this one's is below it."""
    shared = [Path(path) for path in up.open_view().read_config().capture.own_cgroups]
    found = [path for directory in shared for path in directory.glob("*/cgroup.procs")]
    return [path.parent for path in found if str(up.process.pid) in path.read_text().split()]


def list_demo_pids(up: Up) -> list[int]:
    names = network.list_namespaces(up.plan.instance)
    return [pid for name in names for pid in network.list_pids(name)]
