"""What an agent uses at a steady load, and what it loses: CPU per exchange, memory, maps, exchanges and DNS answers that did not arrive.

Both ends of each exchange are on this machine, so one exchange is two rows; CPU is of the whole process and per row, from the
load's beginning until all of it was sent.
"""

import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from costs.agents import Agent, Agents, Farcall
from costs.generator import Outcome, Plan, load, loading, read_outcome
from costs.processes import read_bpf_maps_mb
from costs.reference import Machine
from costs.report import Metric, make_metric, tell
from costs.servers import Servers

_RATE = 5_000
_DNS_RATE = 8_192
_DNS_SERVER = "127.53.53.53"  # nobody else's
_DNS_DOMAIN = ".shop.example.com"
_ENDS = 2
_SAMPLE_S = 5.0
_MANY = 10_000
# Of these each stands for one exchange that is no row. (kernel_orphan does too, but of whatever else this machine does.)
_COUNTED = (
    "kernel_small_lost",
    "kernel_large_lost",
    "kernel_capped_lost",
    "kernel_sampled_dropped",
    "kernel_connections_lost",
    "http_unread_dropped",
    "records_faulted_lost",
    "queue_exchanges_dropped",
    "refused_exchanges_dropped",
)


@dataclass(slots=True)
class _Taken:
    """One load under one agent. `lost`: rows that did not arrive; `posts_lost`: of the agent's own posts, as the exporter's end of
    them is traced; `counted`: of both those that the agent says it lost."""

    outcomes: list[Outcome]
    us_per_row: float
    us_by_sample: list[float]
    rss_mb: float
    machine: Machine
    lost: int = 0
    posts_lost: int = 0
    counted: int = 0
    losses: Counter[str] = field(default_factory=Counter)

    @property
    def uncounted(self) -> int:
        return self.lost + self.posts_lost - self.counted


def measure_steady(
    agents: Agents, servers: Servers, *, quick: bool
) -> tuple[list[Metric], dict[str, dict[str, int]]]:
    """Metrics, and each load's losses by counter."""
    with agents.running() as agent:
        idle_s = 1 if quick else 4
        time.sleep(2)
        at_start_mb = agent.rss_mb()
        before = agent.cpu_ns()
        time.sleep(idle_s)
        idle = (agent.cpu_ns() - before) / (idle_s * 1e9) * 100
        known: Counter[str] = Counter()
        if isinstance(agent, Farcall):
            agent.take_rows()
            known = agent.read_losses()
        taken = {}
        for name, plans in _plans(servers, quick=quick).items():
            tell(f"steady: {name}")
            taken[name] = _take(agent, plans, known)
        maps_mb = read_bpf_maps_mb(agent.pid)
        metrics = _judge(taken, known=isinstance(agent, Farcall))
        metrics += [
            make_metric("agent_rss_mb", [taken["10,000 connections"].rss_mb], "MB", 60),
            make_metric("agent_rss_mb at start", [at_start_mb], "MB", 60),
            make_metric(
                "agent_rss_mb, highest",
                [t.rss_mb for t in taken.values()],
                "MB",
                value=max(t.rss_mb for t in taken.values()),
            ),
            make_metric("bpf_maps_mb", [maps_mb], "MB", 40),
            make_metric("agent CPU without load", [idle], "% of a core"),
        ]
        if isinstance(agent, Farcall):
            metrics += _measure_dns(agent, seconds=1.5 if quick else 15)
    return metrics, {name: dict(t.losses) for name, t in taken.items()}


def _plans(servers: Servers, *, quick: bool) -> dict[str, Sequence[Plan]]:
    long_s, short_s = (3, 1.5) if quick else (60, 20)
    http = Plan(kind="http", port=servers.nginx.port, rate=_RATE, seconds=long_s)
    grpc = replace(http, kind="grpc", port=servers.grpc.port, seconds=short_s)
    return {
        "HTTP/1": [http],
        "Redis": [replace(http, kind="redis", port=servers.redis.port)],
        "gRPC": [grpc],
        "gRPC, 2,500/s": [replace(grpc, rate=_RATE / 2)],
        "churn": [
            replace(http, seconds=short_s),
            replace(http, rate=100, seconds=short_s, churn=True),
        ],
        "10,000 connections": [replace(http, seconds=short_s, connections=_MANY)],
        "overload": [replace(http, rate=0, seconds=short_s / 3, connections=32)],
    }


def _take(agent: Agent, plans: Sequence[Plan], known: Counter[str]) -> _Taken:
    """`known`: the losses so far, brought up to date: what one load counted is not the next one's."""
    begin_ns = agent.cpu_ns()
    with ExitStack() as stack:
        loads = [stack.enter_context(loading(plan)) for plan in plans]
        samples, machine = _sample(agent, loads[0])
        outcomes = [read_outcome(p, plan) for p, plan in zip(loads, plans, strict=True)]
        rss_mb = agent.rss_mb()
    rows = _ENDS * sum(o.answered for o in outcomes)
    taken = _Taken(outcomes, 0.0, [], rss_mb, machine)
    if isinstance(agent, Farcall):
        arrived = agent.take_rows()
        used_ns = agent.cpu_ns() - begin_ns
        taken.lost = rows - arrived.count_at(plans[0].port)
        taken.posts_lost = arrived.posts_lost
        rows = max(1, arrived.count())
        now = agent.read_losses()
        taken.losses = now - known
        known.update(taken.losses)
        if taken.losses:  # of posts too, that were made meanwhile: those behind them show them
            taken.posts_lost += agent.take_rows().posts_lost
        if taken.lost or taken.posts_lost:
            taken.counted = sum(taken.losses[name] for name in _COUNTED)
    else:
        used_ns = agent.cpu_ns() - begin_ns
    taken.us_per_row = used_ns / 1e3 / rows
    per_s = rows / outcomes[0].seconds
    taken.us_by_sample = [ns / 1e3 / (per_s * seconds) for ns, seconds in samples]
    return taken


def _sample(agent: Agent, load: "subprocess.Popen[str]") -> tuple[list[tuple[int, float]], Machine]:
    """The agent's ns of CPU in each few seconds of the load, and how many seconds they were. And what the machine was like."""
    samples, machine = [], Machine()
    while True:
        cpu, at = agent.cpu_ns(), time.monotonic()
        machine.ask()
        try:
            load.wait(_SAMPLE_S)
            return samples, machine
        except subprocess.TimeoutExpired:
            samples.append((agent.cpu_ns() - cpu, time.monotonic() - at))


def _judge(taken: dict[str, _Taken], *, known: bool) -> list[Metric]:
    metrics = []
    for name, key, limit in (
        ("HTTP/1", "agent_cpu_us_http1", 6),
        ("Redis", "agent_cpu_us_redis", 4),
        ("gRPC", "agent_cpu_us_grpc", 10),
        ("gRPC, 2,500/s", "agent_cpu_us_grpc at 2,500/s", None),
        ("10,000 connections", "agent_cpu_us_http1 with 10,000 connections", None),
    ):
        one = taken[name]
        values = one.us_by_sample or [one.us_per_row]
        metrics.append(make_metric(key, values, "µs", limit, value=one.us_per_row))
        metrics += one.machine.tell(name)
    if not known:
        return metrics
    steady = [t for name, t in taken.items() if name != "overload"]
    metrics.append(
        make_metric(
            "lost_exchanges",
            [t.lost for t in steady],
            "rows",
            0,
            value=sum(abs(t.lost) for t in steady),
        )
    )
    uncounted = [t.uncounted for t in steady]
    metrics.append(
        make_metric(
            "lost_exchanges, not counted", uncounted, "rows", 0, value=max(0, max(uncounted))
        )
    )
    over = taken["overload"]
    metrics.append(make_metric("overload: rows lost", [over.lost], "rows"))
    metrics.append(
        make_metric("overload: rows lost and not counted", [abs(over.uncounted)], "rows", 0)
    )
    metrics.append(make_metric("overload: exchanges", [over.outcomes[0].per_s], "1/s"))
    made = [o for t in steady for o in t.outcomes]
    metrics.append(
        make_metric("requests sent late, by the generator", [sum(o.late for o in made)], "requests")
    )
    metrics.append(make_metric("requests failed", [sum(o.failed for o in made)], "requests", 0))
    return metrics


def _measure_dns(agent: Farcall, seconds: float) -> list[Metric]:
    tell("steady: DNS")
    agent.take_rows()
    begin_ns = agent.cpu_ns()
    outcome = load(Plan(kind="dns", rate=_DNS_RATE, seconds=seconds), _DNS_SERVER)
    seen = agent.take_rows().count_dns(_DNS_DOMAIN)
    used_us = (agent.cpu_ns() - begin_ns) / 1e3
    return [
        make_metric("lost_dns_answers", [abs(outcome.answered - seen)], "answers", 0),
        make_metric("DNS answers", [outcome.per_s], "1/s"),
        make_metric("agent CPU per DNS answer", [used_us / max(1, seen)], "µs"),
    ]
