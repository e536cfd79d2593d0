"""Loading: proved before anything is reported, refused loudly, gone without a trace, and explained by the doctor."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from farcall_probes import artefact, btf, doctor, selftest, sites
from farcall_probes.maps import MapSizes, read_locked_bytes
from farcall_probes.probes import ESSENTIAL, KernelCapture, ProbesError, open_probes

pytestmark = pytest.mark.bpf


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_all_hooks_and_proofs_are_on_and_closing_frees_everything() -> None:
    before = count_descriptors()

    opened = open_probes()
    names = {c.name for c in opened.capabilities}
    off = [c for c in opened.capabilities if not c.on]
    opened.close()
    opened.close()

    assert off == []
    assert {f"kernel/{name}" for name in ESSENTIAL} <= names
    assert {"self-test/ipv4", "self-test/ipv6", "self-test/dns"} <= names
    assert count_descriptors() == before


def test_signals_do_not_keep_programs_from_being_loaded() -> None:
    """Each stops the verifier where it is."""
    tgkill = ctypes.CDLL(None).tgkill
    done = threading.Event()
    sent: list[threading.Thread] = []
    before = set(threading.enumerate())

    def disturb() -> None:
        while not done.wait(0.02) and len(sent) < 4:  # five in a row are too many for one program
            for thread in set(threading.enumerate()) - before - {threading.current_thread()}:
                # By its number in the kernel: pthread_kill reads memory that a thread which has just ended has given back.
                if not tgkill(os.getpid(), thread.native_id, signal.SIGUSR1):
                    sent.append(thread)

    former = signal.signal(signal.SIGUSR1, lambda *_: None)
    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        opened = open_probes()
    finally:
        done.set()
        disturbing.join()
        signal.signal(signal.SIGUSR1, former)
    off = [c for c in opened.capabilities if not c.on]
    opened.close()
    assert len(sent) >= 3
    assert off == []


@pytest.mark.parametrize(
    ("name", "shift"),
    [
        ("OFF_SOCKET_SK", 8),
        ("OFF_SK_DADDR", 4),
        ("OFF_SK_SADDR6", 16),
        ("OFF_SK_NUM", 2),
        ("OFF_SK_NET", 8),
        ("OFF_TASK_START", 8),
        ("OFF_TASK_PARENT", 16),
        ("OFF_TCP_COPIED", 4),
        ("OFF_TCP_WRITE", -8),
        ("OFF_TCP_SND_UNA", 4),
        ("OFF_TCP_ACKED", -8),
        ("OFF_BIND_REUSE", 4),
        ("OFF_FDT_FD", 8),
        ("NUM_REG_1", 8),
    ],
)
def test_a_wrong_offset_is_found_by_the_self_test(name: str, shift: int) -> None:
    values = sites.find_values(btf.read_vmlinux())
    values[name] += shift
    early = selftest.open_pair()
    capture = KernelCapture(artefact.read_artefact(), values, MapSizes())
    try:
        capture.enable()
        with pytest.raises(selftest.SelfTestError, match="nothing is recorded"):
            selftest.rehearse(capture, early)
    finally:
        capture.close()
        early.close()


def test_a_kernel_whose_programs_can_not_load_by_themselves_has_them_ask_for_each_word() -> None:
    """Before Linux 6.2: the same programs, with the other way through them."""
    values = sites.find_values(btf.read_vmlinux())
    assert values["NUM_CAST"] and values["NUM_WORD_TYPE"]
    early = selftest.open_pair()
    capture = KernelCapture(
        artefact.read_artefact(), values | {"NUM_CAST": 0, "NUM_WORD_TYPE": 0}, MapSizes()
    )
    try:
        capture.enable(only_own=True)
        selftest.rehearse(capture, early)
    finally:
        capture.close()
        early.close()


def test_two_agents_can_watch_side_by_side() -> None:
    first, second = open_probes(), open_probes()
    try:
        for capture in (first, second):
            capture.drain()  # what others of this machine did meanwhile
            selftest.rehearse_tcp(capture, socket.AF_INET, "both")
    finally:
        first.close()
        second.close()


def test_the_maps_take_the_memory_that_is_promised() -> None:
    opened = open_probes()
    try:
        total = sum(read_locked_bytes(fd) for fd in opened.maps.list_fds().values())
    finally:
        opened.close()

    assert total <= 41 * 2**20


_OPEN = (
    "from farcall_probes.probes import open_probes, ProbesError\n"
    "try: open_probes()\n"
    "except ProbesError as e: print(e)"
)


def run_as_nobody(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, *words],
        capture_output=True,
        text=True,
        cwd="/",
    )


def test_the_doctor_finds_this_machine_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["fit"] is True
    assert all(f["on"] for f in document["findings"] if f["essential"])


def test_the_doctor_tells_nobody_what_is_missing_and_what_mends_it() -> None:
    done = run_as_nobody("-m", "farcall.commands", "doctor")

    assert done.returncode == 1
    assert "sudo farcall doctor" in done.stdout
    assert "nothing can be loaded" in done.stdout
    assert "cannot trace" in done.stdout
    assert "Traceback" not in done.stderr


def test_opening_without_rights_says_so() -> None:
    done = run_as_nobody("-c", _OPEN)

    assert "run as root" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_missing_artefact_names_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(artefact.ArtefactError, match="make setup"):
        artefact.read_artefact(tmp_path / "artefact.json")
    assert issubclass(ProbesError, Exception)


def test_the_artefact_beside_the_sources_is_theirs() -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "farcall_probes.compile", "--check"],
        cwd=Path(artefact.__file__).parent.parent,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "programs" in done.stdout
