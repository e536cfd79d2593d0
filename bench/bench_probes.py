"""What the agent costs: CPU per record in its own code, then the whole process under 1,000 exchanges a second, and its memory.

Two parts. *Code*: 4,096 synthetic records through parse, name, batch and lz4, process time, best of several rounds (what the
code needs, no kernel, no network). *Live*: `farcall agent` over the real probes, an HTTP/1, a Redis and a gRPC load at a fixed rate on
loopback, so that both ends are traced and one exchange is two records; on-CPU time of all its threads from schedstat, divided by
the rows that arrived. Everything in its process counts: drain, parse, name, compress, send, status. Losses stand beside it.
    python bench/bench_probes.py [--rate 1000] [--seconds 10] [--rounds 3] [--code-only]      QUICK=1: shorter
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import grpcload
from farcall.exchange import BatchHeader
from farcall_probes.batches import render_batch
from farcall_probes.capture import Drained
from farcall_probes.clocks import read_offsets
from farcall_probes.identity import Identities
from farcall_probes.policy import Policy
from farcall_probes.tracer import Tracer
from probeload import HEAD, load, serve_http
from support_agent import (
    FakeExporter,
    a_answer,
    make_config,
    make_dns,
    make_drained,
    make_http,
    make_redis,
    write_config,
)
from tls_cost import measure_tls

QUICK = bool(os.environ.get("QUICK"))
RECORDS = 4096
RESULTS = Path(__file__).parent / "results" / "probes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    metric: str
    value: float
    unit: str
    target: str
    holds: bool | None
    spread: list[float]


def make_metric(name: str, values: list[float], unit: str, limit: float | None = None) -> Metric:
    value = statistics.median(values)
    return Metric(
        metric=name,
        value=round(value, 3),
        unit=unit,
        target=f"≤ {limit:g}" if limit is not None else "",
        holds=value <= limit if limit is not None else None,
        spread=[round(min(values), 3), round(max(values), 3)],
    )


# ---- code -----------------------------------------------------------------------------------------------------------


def http_records() -> Drained:
    """Every head is different: request IDs and trace contexts are in real traffic."""
    return make_drained(
        large=[
            make_http(
                HEAD % (i, i % 7, i, i + 1, i + 1),
                conn_id=100 + i % 64,
                seq=i,
                ts_req_ns=10_000 + i * 1_000,
                ts_resp_ns=20_000 + i * 1_000,
            )
            for i in range(RECORDS)
        ]
    )


def redis_records() -> Drained:
    def command(i: int) -> bytes:
        key = b"session:%d" % i
        if i % 2:
            return b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key)
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$10\r\n0123456789\r\n" % (len(key), key)

    return make_drained(
        small=[
            make_redis(command(i), conn_id=100 + i % 64, seq=i, ts_req_ns=10_000 + i * 1_000)
            for i in range(RECORDS)
        ]
    )


def dns_records() -> Drained:
    return make_drained(
        dns=[
            make_dns(a_answer(f"api{i % 50}.example.com", f"203.0.113.{i % 250}"), ts_ns=i)
            for i in range(RECORDS)
        ]
    )


def measure_code(make: Callable[[], Drained], rounds: int, records: int = RECORDS) -> list[float]:
    """µs per record, of each round but the first."""
    with tempfile.TemporaryDirectory() as directory:
        config = make_config(Path(directory))
    policy = Policy(config.capture, mode="local", ids_below=lambda _: set(), apply=lambda _: None)
    tracer = Tracer(
        config,
        identities=Identities(node="bench"),
        policy=policy,
        offsets=read_offsets(),
        watched_since_ns=1,
        trusted=frozenset(),
    )
    costs = []
    for number in range(1, rounds + 2):
        drained = make()
        begin = time.process_time_ns()
        tracer.take(drained, now_ns=time.monotonic_ns())
        for kind, batch in tracer.take_batches():
            header = BatchHeader(
                kind=kind, node="bench", boot_id="0" * 32, number=number, dns_watched_since_ns=1
            )
            render_batch(batch, header)
        tracer.take_cache_writes()
        costs.append((time.process_time_ns() - begin) / 1_000 / records)
    return costs[1:]


# ---- live -----------------------------------------------------------------------------------------------------------


@contextmanager
def child(*argv: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=15)


@contextmanager
def running_server(kind: str) -> Iterator[int]:
    with child(sys.executable, __file__, "--serve", kind) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())


@contextmanager
def running_redis(directory: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir"]
    with child(*argv, str(directory)):
        wait_for(lambda: can_connect(port))
        yield port


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_for(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the benchmark's parts did not start in time")
        time.sleep(0.01)


def read_cpu_ns(pid: int) -> int:
    """On-CPU time of all threads; /proc/PID/stat counts in 10 ms."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def read_rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class LiveAgent:
    """`farcall agent` and an exporter that takes everything; counts rows."""

    def __init__(self, exporter: FakeExporter, pid: int) -> None:
        self.pid = pid
        self._exporter = exporter

    def take_rows(self) -> dict[str, int]:
        """Rows by protocol since the last call; the bodies are let go."""
        found: dict[str, int] = {}
        with self._exporter.changed:
            posted, self._exporter.posted = self._exporter.posted, []
        for post in posted:
            if post.path.endswith("batch"):
                header, table = post.table()
                if header.kind == "exchanges":
                    for word in table["protocol"].to_pylist():
                        found[word] = found.get(word, 0) + 1
        return found

    def read_losses(self) -> dict[str, int]:
        statuses = [p for p in list(self._exporter.posted) if p.path.endswith("status")]
        counters = json.loads(statuses[-1].body)["counters"] if statuses else {}
        return {k: v for k, v in counters.items() if v and k.endswith(("_lost", "_dropped"))}


@contextmanager
def running_agent(directory: Path) -> Iterator[tuple[LiveAgent, float]]:
    """The agent, and how long it took until it was ready."""
    with ExitStack() as stack:
        exporter = stack.enter_context(FakeExporter())
        config = write_config(make_config(directory, exporter=exporter.url), directory)
        ready = directory / "ready"
        argv = (sys.executable, "-m", "farcall.commands", "agent", "--config", str(config))
        begin = time.monotonic()
        process = stack.enter_context(child(*argv, "--ready-file", str(ready)))
        wait_for(lambda: ready.exists() or process.poll() is not None)
        if process.poll() is not None:
            raise SystemExit("the agent did not start; its message is above")
        yield LiveAgent(exporter, process.pid), time.monotonic() - begin


def measure_live(
    agent: LiveAgent, kind: str, port: int, rate: int, seconds: float
) -> tuple[float, float]:
    """µs of agent CPU per row, and the share of the 2 rows per exchange that arrived."""
    time.sleep(1.5)  # what came before is flushed
    agent.take_rows()
    before = read_cpu_ns(agent.pid)
    argv = (sys.executable, __file__, "--load", kind, "--port", str(port))
    with child(*argv, "--rate", str(rate), "--seconds", str(seconds)) as load_process:
        assert load_process.stdout is not None
        made = int(load_process.stdout.readline())
    time.sleep(1.5)
    used = read_cpu_ns(agent.pid) - before
    rows = agent.take_rows()
    return used / 1_000 / max(1, sum(rows.values())), rows.get(kind, 0) / (2 * made)


def measure_all_live(rate: int, seconds: float, rounds: int) -> tuple[list[Metric], dict[str, int]]:
    costs: dict[str, list[float]] = {"http": [], "redis": [], "grpc": []}
    seen: dict[str, list[float]] = {"http": [], "redis": [], "grpc": []}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis_port = stack.enter_context(running_redis(directory))
        http_port = stack.enter_context(running_server("http"))
        grpc_port = stack.enter_context(running_server("grpc"))
        agent, ready_s = stack.enter_context(running_agent(directory))
        time.sleep(2)
        rss_at_start = read_rss_mb(agent.pid)
        idle_from = read_cpu_ns(agent.pid)
        time.sleep(3)
        idle = (read_cpu_ns(agent.pid) - idle_from) / 3e9 * 100
        for _ in range(rounds):
            for kind, port in (("http", http_port), ("redis", redis_port), ("grpc", grpc_port)):
                cost, share = measure_live(agent, kind, port, rate, seconds)
                costs[kind].append(cost)
                seen[kind].append(share * 100)
        time.sleep(3.5)  # a status of the time after the load
        losses = agent.read_losses()
        rss = read_rss_mb(agent.pid)
    return [
        make_metric(f"agent CPU per HTTP/1 record at {rate}/s", costs["http"], "µs"),
        make_metric(f"agent CPU per Redis record at {rate}/s", costs["redis"], "µs"),
        make_metric("agent_cpu_us_grpc", costs["grpc"], "µs", 10),
        make_metric("HTTP/1 exchanges seen, both ends", seen["http"], "%"),
        make_metric("gRPC calls seen, both ends", seen["grpc"], "%"),
        make_metric("Redis exchanges seen, both ends", seen["redis"], "%"),
        make_metric("agent CPU without load", [idle], "% of a core"),
        make_metric("agent RSS at start", [rss_at_start], "MB", 60),
        make_metric("agent RSS after the load", [rss], "MB", 60),
        make_metric("start to ready", [ready_s], "s", 1),
    ], losses


# ---- report ---------------------------------------------------------------------------------------------------------


def describe_machine() -> dict[str, str]:
    model = next(
        (
            x.split(":")[1].strip()
            for x in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in x
        ),
        platform.machine(),
    )
    return {
        "cpu": f"{os.cpu_count()} × {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": f"{os.getloadavg()[0]:.2f}",
    }


def report(metrics: list[Metric], losses: dict[str, int]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "versions": {name: version(name) for name in ("farcall", "numpy", "pyarrow")},
        "machine": describe_machine(),
        "losses": losses,
        "metrics": [asdict(m) for m in metrics],
    }
    RESULTS.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for m in metrics:
        holds = {None: "", True: "holds", False: "MISSED"}[m.holds]
        spread = f"[{m.spread[0]:g} … {m.spread[1]:g}]"
        print(f"{m.metric:<44} {m.value:>9g} {m.unit:<12} {spread:<20} {m.target:<6} {holds}")
    print(f"losses: {losses or 'none'}   → {RESULTS}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=4 if QUICK else 10)
    parser.add_argument("--rounds", type=int, default=1 if QUICK else 3)
    parser.add_argument("--code-only", action="store_true")
    parser.add_argument("--serve", choices=("http", "grpc"), help=argparse.SUPPRESS)
    parser.add_argument("--load", choices=("http", "redis", "grpc"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        return serve_http() if chosen.serve == "http" else grpcload.serve()
    if chosen.load:
        return load(chosen.port, chosen.load, chosen.rate, chosen.seconds)
    rounds = 5 if QUICK else 15
    metrics = [
        make_metric("code per HTTP/1 record", measure_code(http_records, rounds), "µs", 6),
        make_metric("code per Redis record", measure_code(redis_records, rounds), "µs", 4),
        make_metric("code per DNS answer", measure_code(dns_records, rounds), "µs"),
        # A drain of 100 ms at 10,000 calls/s; a call is three records.
        make_metric(
            "code per gRPC call", measure_code(grpcload.Rounds(1024).make, rounds, 1024), "µs", 10
        ),
    ]
    losses: dict[str, int] = {}
    if not chosen.code_only:
        live, losses = measure_all_live(chosen.rate, chosen.seconds, chosen.rounds)
        metrics += [*live, *(make_metric(n, v, "µs", 8) for n, v in measure_tls(QUICK).items())]
    report(metrics, losses)


if __name__ == "__main__":
    main()
