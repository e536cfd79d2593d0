"""Programs that the kernel leaves out: what they did not see is counted."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from farcall_probes import bpfsys, tracefs
from farcall_probes.probes import KernelCapture

pytestmark = pytest.mark.bpf

SOON_S = 60


@contextmanager
def hooked_to_timers(capture: KernelCapture, name: str) -> Iterator[int]:
    """One of the hooks' programs, that interrupts run too. System calls' meet another program of their CPU only where the kernel
    can be preempted; so does this one on any."""
    names = [c.name for c in capture.capabilities if c.on and c.name.startswith("kernel/")]
    program = capture._loaded._hooked[names.index(f"kernel/{name}")]
    event = tracefs.read_event_id(tracefs.ensure_tracefs(), "timer", "hrtimer_expire_entry")
    hook = bpfsys.attach_tracepoint("hrtimer_expire_entry", program, event)
    try:
        yield program
    finally:
        os.close(hook)


def test_what_a_program_that_is_left_out_did_not_see_is_counted(capture: KernelCapture) -> None:
    before = capture.read_counters()["kernel_missed_lost"]
    with hooked_to_timers(capture, "sys_exit_dup") as program:
        begun = bpfsys.read_misses(program)
        deadline = time.monotonic() + SOON_S
        while bpfsys.read_misses(program) == begun and time.monotonic() < deadline:
            capture.maps.read_counts()  # no program of a perf event runs on this CPU meanwhile
    missed = bpfsys.read_misses(program) - begun
    capture.stop_recording()

    assert missed > 0
    assert capture.read_counters()["kernel_missed_lost"] >= before + missed
