"""How long an agent needs from its start until its first exchange is at the exporter, while calls are being made all the time."""

import time

from costs.agents import FarcallAgents
from costs.generator import Plan, loading
from costs.report import Metric, make_metric, tell
from costs.servers import Servers

_RATE = 200


def measure_start(servers: Servers, *, quick: bool) -> list[Metric]:
    rounds = 1 if quick else 7
    ready, first = [], []
    seconds = 60 * rounds  # it ends with the block
    with loading(Plan(kind="http", port=servers.nginx.port, rate=_RATE, seconds=seconds)):
        for number in range(rounds):
            tell(f"start: {number + 1} of {rounds}")
            with FarcallAgents().running() as agent:
                ready.append(time.monotonic() - agent.started)
                agent.wait_for_rows()
                first.append(time.monotonic() - agent.started)
    return [
        make_metric("start_s", first, "s", 1),
        make_metric("start until it traces", ready, "s"),
    ]
