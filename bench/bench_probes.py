"""What the probes and the agent cost, on both sides of the system call: targets P1 to P7.

    python bench/bench_probes.py [--only micro,code,start,steady,grid,tls]            QUICK=1: under a minute
    python bench/bench_probes.py --agent-command "CMD" [--agent-ready-s 10]           another agent, in turns as ours
    python bench/bench_probes.py --agent-pid PID                                      another agent, which goes on running

The load comes from a generator in C (costs/load): open loop, a request's latency counts from when it was due. Servers have one
CPU, their clients the other, both ends of each exchange are traced. Losses stand beside speed. The figures go to
bench/results/probes.json, another agent's to probes-other.json; progress goes to stderr. Needs root.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from costs.agents import Agents, CommandAgents, FarcallAgents, RunningAgents
from costs.beginning import measure_start
from costs.generator import build
from costs.grid import describe_grid, judge_grid, measure_grid
from costs.micro import measure_micro
from costs.owncode import measure_code
from costs.processes import BenchError
from costs.report import Metric, Report, find_foreign_tracers, make_metric, tell
from costs.servers import running_servers
from costs.steady import measure_steady
from tls_cost import measure_tls

QUICK = bool(os.environ.get("QUICK"))
RESULTS = Path(__file__).parent / "results"
PARTS = ("micro", "start", "steady", "grid", "code", "tls")
QUICK_PARTS = PARTS[:-1]  # a Go program is built for TLS
OF_ANY_AGENT = ("steady", "grid")


def measure(parts: list[str], agents: Agents, report: Report) -> None:
    if "micro" in parts:
        report.add(measure_micro(quick=QUICK))
    with tempfile.TemporaryDirectory() as place, running_servers(Path(place)) as servers:
        if "start" in parts:
            report.add(measure_start(servers, quick=QUICK))
        if "steady" in parts:
            metrics, losses = measure_steady(agents, servers, quick=QUICK)
            report.add(metrics, losses=losses)
        if "grid" in parts:
            grid = measure_grid(agents, servers, quick=QUICK)
            report.add(judge_grid(grid), grid=describe_grid(grid))
    if "code" in parts:
        report.add(measure_code(quick=QUICK))
    if "tls" in parts:
        report.add(measure_all_tls())


def measure_all_tls() -> list[Metric]:
    tell("tls")
    return [
        make_metric(name, values, "µs", None if name.endswith("paced") else 8)
        for name, values in measure_tls(QUICK).items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--only",
        default=",".join(QUICK_PARTS if QUICK else PARTS),
        help="parts, with commas between them",
    )
    parser.add_argument("--agent-command", help="starts another agent; it is ended by SIGTERM")
    parser.add_argument("--agent-ready-s", type=float, default=10, help="until that agent traces")
    parser.add_argument("--agent-pid", type=int, help="another agent that runs already")
    chosen = parser.parse_args()
    parts = [part for part in PARTS if part in chosen.only.split(",")]
    agents: Agents = FarcallAgents()
    if chosen.agent_command:
        agents = CommandAgents(command=chosen.agent_command, ready_s=chosen.agent_ready_s)
    elif chosen.agent_pid:
        agents = RunningAgents(pid=chosen.agent_pid)
    if agents.name != "farcall":
        parts = [part for part in parts if part in OF_ANY_AGENT]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    build()
    tracers = find_foreign_tracers()
    if tracers and agents.name == "farcall":
        tell(f"others trace this machine, which makes every call dearer without us too: {tracers}")
    begin = time.monotonic()
    name = "probes.json" if agents.name == "farcall" else "probes-other.json"
    report = Report(RESULTS / name, foreign_tracers=tracers)
    try:
        measure(parts, agents, report)
    except BenchError as e:
        print(f"bench: {e}; what was measured before is in {report.path}", file=sys.stderr)
        return 1
    report.show()
    print(f"{time.monotonic() - begin:.0f} s → {report.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
