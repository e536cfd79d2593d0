"""The CPU ceiling under a real load: a part of the calls is left out, and those that are taken stand for all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farcall.envelope import STATUS_PATH
from farcall.exchange import LEFT_OUT_SHIFT
from support_agent import FakeExporter
from support_agent_counts import count_losses, running_agent
from support_crowd import running_crowd

pytestmark = pytest.mark.bpf

MILLICORES = 25  # two or three times what an agent needs for nothing
ROUNDS = 200  # below the ceiling, of 200 calls each
NO_LOSSES = ("kernel_sampled_dropped", "in_flight_lost")
EVERY_CALL = "capture/every-call"


class Weights:
    """By role: for how many calls those that were told of stand, and the variance of that number."""

    def __init__(self, exporter: FakeExporter, port: int) -> None:
        self._exporter, self._port = exporter, port

    def read(self) -> Iterator[tuple[int, float, float]]:
        weights: dict[int, list[np.ndarray]] = {0: [], 1: []}
        for table in self._exporter.batches("exchanges"):
            roles, flags = table["role"].to_numpy(), table["flags"].to_numpy()
            for role, column in ((0, "peer_port"), (1, "local_port")):
                ours = (roles == role) & (table[column].to_numpy() == self._port)
                weights[role].append(2**16 / (2**16 - (flags[ours] >> LEFT_OUT_SHIFT)))
        for found in weights.values():
            each = np.concatenate(found)
            yield len(each), float(each.sum()), float((each * (each - 1)).sum())


def read_statuses(exporter: FakeExporter) -> list[dict[str, Any]]:
    return [json.loads(p.body) for p in list(exporter.posted) if p.path == STATUS_PATH]


def read_shares(exporter: FakeExporter) -> list[float]:
    return [status["gauges"]["kept_share"] for status in read_statuses(exporter)]


def test_what_is_taken_below_the_ceiling_stands_for_all_calls(tmp_path: Path) -> None:
    spec = {"capture": {"rateLimits": {"cpuMillicores": MILLICORES, "recordsPerSecond": 0}}}
    with (
        FakeExporter() as exporter,
        running_agent(tmp_path, exporter, spec=spec) as agent,
        running_crowd(tmp_path, 20, 10) as crowd,
    ):
        weights = Weights(exporter, crowd.port)
        while min(read_shares(exporter), default=1) == 1:
            crowd.ask()
        for _ in range(ROUNDS):
            crowd.ask()
        agent.terminate()
        assert agent.wait(timeout=30) == 0
        told = list(weights.read())

    last = read_statuses(exporter)[-1]
    # Others on this machine may have filled a ring.
    lost = count_losses(last) - sum(last["counters"][name] for name in NO_LOSSES)
    for count, total, variance in told:
        assert count < crowd.answered
        assert 5 * variance**0.5 < 0.3 * crowd.answered
        assert abs(total - crowd.answered) < 5 * variance**0.5 + lost
    (every_call,) = [c for c in last["capabilities"] if c["name"] == EVERY_CALL]
    assert not every_call["on"] and "cpuMillicores" in every_call["why"]
    assert last["gauges"]["kept_share"] < 1
