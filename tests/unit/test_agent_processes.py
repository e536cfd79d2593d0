"""Processes that begin are found by the numbers that were given since the last look, whatever /proc it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from farcall_probes.processes import LIST_EVERY_S, Processes
from support_tlsproc import Proc

pytestmark = pytest.mark.unit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_process_that_begins_is_found_once_and_its_threads_are_not() -> None:
    clock = Clock()
    alive = Processes(Path("/proc"), own_tgid=1, clock=clock)
    alive.look()
    alive.look()
    code = "import threading; threading.Thread(target=input, daemon=True).start(); print(1, flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1)
    try:
        assert child.stdout is not None and child.stdout.readline()
        threads = {int(t.name) for t in Path(f"/proc/{child.pid}/task").iterdir()} - {child.pid}
        began = alive.look()[0]
        for _ in range(3):
            later = alive.look()[0]
            assert child.pid not in later
            began |= later
        assert child.pid in began
        assert threads and not threads & began
    finally:
        child.kill()
        child.communicate()
    clock.now += LIST_EVERY_S
    assert child.pid in alive.look()[1]


def test_another_proc_is_listed_each_time(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.start(7)
    proc.start(8)
    alive = Processes(proc.path, own_tgid=8, clock=Clock())

    assert alive.look() == ({7}, set())
    proc.start(9)
    proc.end(7)
    assert alive.look() == ({9}, {7})
    assert alive.look() == (set(), set())


def test_numbers_that_lead_to_nobody_are_not_believed_for_long(tmp_path: Path) -> None:
    """A file of that name that somebody else fills, as container runtimes may."""
    proc = Proc(tmp_path)
    (proc.path / "self").symlink_to(str(os.getpid()))
    proc.start(7)
    (proc.path / "loadavg").write_text("0.00 0.00 0.00 1/1 99\n")
    clock = Clock()
    alive = Processes(proc.path, own_tgid=1, clock=clock)
    alive.look()
    alive.look()
    proc.start(9)
    assert alive.look() == (set(), set())

    clock.now += LIST_EVERY_S
    assert alive.look() == ({9}, set())
    proc.start(10)
    assert alive.look() == ({10}, set())
