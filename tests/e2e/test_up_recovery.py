"""A component that is killed comes back, and the demo's expectations hold again for what happens after that."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_e2e import Up, farcall_up, wait_held, wait_until

pytestmark = pytest.mark.e2e
HELD_WITHIN_S = 120
BACK_WITHIN_S = 60


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with farcall_up(tmp_path_factory.mktemp("recovery"), "hobby.yaml") as started:
        wait_held(started, since_ns=time.time_ns(), within_s=HELD_WITHIN_S)
        yield started


@pytest.mark.parametrize("component", ["redis", "agent", "exporter", "store", "console", "demo"])
def test_the_expectations_hold_again_after_a_kill(up: Up, component: str) -> None:
    killed = up.read_pid(component)
    others = {name: pid for name, pid in up.list_pids().items() if name != component}
    os.kill(killed, signal.SIGKILL)
    killed_at_ns = time.time_ns()
    wait_until(
        lambda: is_back(up, component, killed, killed_at_ns),
        BACK_WITHIN_S,
        lambda: f"{component} did not come back:\n{up.read_output()[-2000:]}",
    )

    found = wait_held(up, since_ns=time.time_ns(), within_s=HELD_WITHIN_S)

    assert len(found) == 7
    assert {name: pid for name, pid in up.list_pids().items() if name != component} == others


def is_back(up: Up, component: str, killed: int, killed_at_ns: int) -> bool:
    if not up.run_dir.pid_file(component).exists() or up.read_pid(component) == killed:
        return False  # there is none while nothing runs
    ready = up.run_dir.ready_file(component)
    return ready.exists() and ready.stat().st_mtime_ns > killed_at_ns


def test_what_was_lost_meanwhile_is_counted(up: Up) -> None:
    """The status shows every component's counters; an agent that had to drop says how much."""
    components = {c.kind: c for c in up.open_view().read_status().components}

    assert {"agent", "exporter"} <= set(components)
    assert any(
        name.endswith(("_lost", "_dropped", "_refused")) for name in components["agent"].counters
    )


def test_logs_of_every_component_are_kept(up: Up) -> None:
    logs: Path = up.run_dir.path / "logs"

    assert {"agent", "exporter", "store", "console", "demo"} <= {p.stem for p in logs.glob("*.log")}
