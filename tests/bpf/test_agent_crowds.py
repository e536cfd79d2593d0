"""Many connections and many processes: nothing crashes, memory stays within its bounds, and what is not seen is counted.

FARCALL_CROWD=1: 100,000 connections of 5,000 processes, for a machine with 4 GB to spare. Else a fifth of it.
"""

import os
import signal
from pathlib import Path

import psutil
import pytest

from support_agent import FakeExporter
from support_agent_counts import Told, running_agent
from support_agent_live import wait
from support_crowd import running_crowd
from support_maps import read_maps

pytestmark = [pytest.mark.bpf, pytest.mark.timeout(900)]

PROCESSES = 5_000 if os.environ.get("FARCALL_CROWD") else 1_000
EACH = 20
SPEC = {"capture": {"rateLimits": {"recordsPerSecond": 0}}}
MAY_HOLD = 128 * 2**20  # half of what a pod of the smaller tier may have


def read_rss(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def test_a_crowd_is_followed_within_bounds_and_what_is_not_seen_is_counted(tmp_path: Path) -> None:
    with (
        FakeExporter() as exporter,
        running_agent(tmp_path, exporter, spec=SPEC) as agent,
        running_crowd(tmp_path, PROCESSES, EACH) as crowd,
    ):
        told = Told(exporter, crowd.port)
        before = read_maps(agent.pid)
        for asked in (crowd.ask, crowd.hold, crowd.ask):
            told.look()
            asked()
            told.wait_all(crowd.answered)
            assert max(told.sights.values()) <= crowd.answered
            assert read_rss(agent.pid) < MAY_HOLD
        during = read_maps(agent.pid)
        assert sum(m.memory for m in during.values()) == sum(m.memory for m in before.values())
        assert all(m.entries <= m.most for m in during.values())

        crowd.close()
        wait(  # beside those of others on this machine
            lambda: read_maps(agent.pid)["conns"].entries < during["conns"].most // 4
        )
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=30) == 0
