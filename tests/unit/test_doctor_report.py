"""What the doctor says: the verdict follows what is essential, and every cause is printed."""

from pathlib import Path

import pytest

from farcall_probes.doctor import (
    Finding,
    check_capabilities,
    find_io_uring_users,
    is_fit,
    read_effective_capabilities,
    render_findings,
)
from farcall_probes.loader import Attached
from farcall_probes.probes import ESSENTIAL, describe_attached

pytestmark = pytest.mark.unit

BPF, PERFMON, SYS_ADMIN = 1 << 39, 1 << 38, 1 << 21


@pytest.mark.parametrize(
    ("effective", "fit"),
    [(0, False), (BPF, False), (BPF | PERFMON, True), (SYS_ADMIN, True), ((1 << 41) - 1, True)],
)
def test_capabilities_decide_what_can_be_loaded(effective: int, fit: bool) -> None:
    assert is_fit(list(check_capabilities(effective))) == fit


def test_effective_capabilities_are_read_from_the_status() -> None:
    assert (
        read_effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n")
        == (1 << 41) - 1
    )
    assert read_effective_capabilities("Name:\tx\n") == 0


def test_every_cause_and_cost_is_printed() -> None:
    findings = [
        Finding(name="ground", on=True, essential=True, note="solid"),
        Finding(name="hook", on=False, why="the kernel has none", cost="nothing is read"),
    ]

    text = render_findings(findings, 60)

    assert "the kernel has none" in text and "nothing is read" in text and "solid" in text
    assert "can trace this machine" in text


def test_an_essential_thing_off_is_the_verdict() -> None:
    findings = [Finding(name="ground", on=False, essential=True, why="gone", cost="all")]

    assert not is_fit(findings)
    assert "OFF" in render_findings(findings, None)
    assert "cannot trace" in render_findings(findings, None)


def test_a_hook_that_is_off_says_what_it_costs() -> None:
    for name in ESSENTIAL:
        capability = describe_attached(Attached(name, "refused"))
        assert not capability.on
        assert capability.why == "refused" and capability.cost
    assert describe_attached(Attached("sys_exit_readv")).cost == ""


def test_processes_that_hold_an_io_uring_are_found(tmp_path: Path) -> None:
    for pid, name, target in (("12", "db", "anon_inode:[io_uring]"), ("13", "web", "socket:[1]")):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "comm").write_text(name + "\n")
        (tmp_path / pid / "fd" / "4").symlink_to(target)
    (tmp_path / "14").mkdir()  # gone while we looked
    (tmp_path / "self").mkdir()

    assert find_io_uring_users(tmp_path) == (["db (12)"], 0)
