"""The store: what the hop costs, how fast rows go in, how long a reader waits, what it holds in memory.

A real `farcall store` on loopback, our own writer and reader, synthetic spans (10 a trace) and log lines over the
last two hours. The same two statements are also run on a handle inside this process's child, without HTTP: their difference
is the hop. Every time is a median of single calls, one client, warm; `spread` is p95 less median.

    make bench-store            figures go to bench/results/store.json; QUICK=1 for a run under a minute
"""

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import clickhouse_connect
from clickhouse_connect.driver import httputil

from farcall.api import LogQuery, SpanQuery, Window
from farcall_store.reader import StoreReader
from farcall_store.writer import StoreWriter
from support_store import StoreProcess, build_table, log_line, span, span_id, trace_id

RESULTS = Path(__file__).parent / "results" / "store.json"
QUICK = os.environ.get("QUICK") == "1"
BATCH = 10_000
BATCHES = 5 if QUICK else 30  # of spans, and as many of lines
CALLS = 40 if QUICK else 200
SPREAD_NS = 2 * 3600 * 1_000_000_000
SERVICES = [f"service-{n}" for n in range(12)]
HOSTS = [f"host-{n}.example.com" for n in range(40)]
POINT = "SELECT Body FROM otel_logs WHERE TraceId = '{trace}' LIMIT 100"

_IN_PROCESS = """
import json, statistics, sys, time
from pathlib import Path
from farcall_store.engine import Engine, run
from farcall_store.roles import Limits, reader_settings
engine = Engine(Path(sys.argv[1]), memory_bytes=4 << 30)
handle = engine.connect(reader_settings(Limits()))
def p50(sql):
    times = []
    for _ in range(int(sys.argv[2])):
        start = time.perf_counter()
        run(handle, sql, "Native")
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)
print(json.dumps([p50("SELECT 1"), p50(sys.argv[3])]))
"""

Figure = dict[str, object]


def figure(
    metric: str,
    value: float,
    unit: str,
    target: float | None,
    *,
    at_most: bool = True,
    spread: float = 0.0,
) -> Figure:
    holds = None if target is None else (value <= target if at_most else value >= target)
    return {"metric": metric, "value": round(value, 2), "unit": unit, "target": target, "holds": holds, "spread": round(spread, 2)}  # fmt: skip


def time_calls(
    metric: str, call: Callable[[], object], target: float | None, calls: int = CALLS
) -> Figure:
    call()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    middle = statistics.median(times)
    return figure(
        metric, middle, "ms p50", target, spread=sorted(times)[int(len(times) * 0.95)] - middle
    )


def build_spans(batch: int, now: int, dice: random.Random) -> list[dict[str, object]]:
    rows = []
    for n in range(BATCH):
        number = batch * BATCH + n
        root = number - number % 10
        at = now - SPREAD_NS + (root * 7919 % 1_000_003) * (SPREAD_NS // 1_000_003) + n
        host = HOSTS[number % 40]
        attributes = {
            "server.address": host, "farcall.destination.name": host, "farcall.name.source": "http", "http.request.method": "GET",
            "http.response.status_code": "200" if dice.random() > 0.02 else "503", "url.path": f"/api/{number % 97}", "network.peer.address": f"203.0.113.{number % 200}",
        }  # fmt: skip
        rows.append(
            span(
                at, trace_id(root + 1), span_id(number + 1), ParentSpanId="" if number == root else span_id(root + 1),
                SpanName=f"GET /api/{number % 97}", ServiceName=SERVICES[number % 12], Duration=dice.randrange(10**5, 10**9),
                DestinationLabel=host, SpanAttributes=attributes, ResourceAttributes={"k8s.pod.name": f"pod-{number % 30}"},
            )
        )  # fmt: skip
    return rows


def build_logs(batch: int, now: int, dice: random.Random) -> list[dict[str, object]]:
    rows = []
    for n in range(BATCH):
        number = batch * BATCH + n
        at = now - SPREAD_NS + (number * 7919 % 1_000_003) * (SPREAD_NS // 1_000_003)
        body = f"request {number} for user u{dice.randrange(50_000)} took {dice.randrange(900)} ms on {HOSTS[n % 40]}"
        if number % 5_000 == 0:
            body += " and the flux capacitor failed"
        user = {"user.id": f"u{dice.randrange(50_000)}"}
        rows.append(log_line(at, body, TraceId=trace_id(number - number % 10 + 1), LogAttributes=user, ServiceName=SERVICES[n % 12]))  # fmt: skip
    return rows


def bench_writes(store: StoreProcess, now: int) -> list[Figure]:
    writer = StoreWriter(store.url, password=store.password("writer"))
    dice, figures = random.Random(1), []
    for name, build, target in (("spans", build_spans, 60_000), ("logs", build_logs, 100_000)):
        times = []
        for batch in range(BATCHES):
            table = build_table(name, build(batch, now, dice))
            start = time.perf_counter()
            writer.write({name: table}, token=f"{name}:{batch}")
            times.append(time.perf_counter() - start)
        slowest = sorted(times)[int(len(times) * 0.95)]
        middle = statistics.median(times)
        figures.append(
            figure(f"write {name}, batches of 10,000", BATCH / middle, "rows/s", target, at_most=False, spread=BATCH / middle - BATCH / slowest)
        )  # fmt: skip
    return figures


def bench_hop(store: StoreProcess, point: str) -> list[Figure]:
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=store.port, username="reader", password=store.password("reader"), database="farcall",
        autogenerate_session_id=False, compress=False, pool_mgr=httputil.get_pool_manager(),
    )  # fmt: skip
    return [
        time_calls("SELECT 1 over HTTP", lambda: client.query("SELECT 1"), 2.0),
        time_calls("logs of a trace over HTTP", lambda: client.query(point), 20.0),
    ]


def bench_reads(store: StoreProcess, now: int) -> list[Figure]:
    reader = StoreReader(store.url, password=store.password("reader"))
    hour = Window(from_ns=now - SPREAD_NS // 2, to_ns=now + 1)
    whole = Window(from_ns=now - SPREAD_NS, to_ns=now + 1)
    some = trace_id(5 * 10 + 1)
    calls = max(20, CALLS // 4)

    def spans(q: str) -> Callable[[], object]:
        return lambda: reader.list_spans(SpanQuery(q=q, window=whole))

    def logs(q: str) -> Callable[[], object]:
        return lambda: reader.list_logs(LogQuery(q=q, window=whole))

    return [
        time_calls("reader: newest 100 traces, 1 h", lambda: reader.list_traces(SpanQuery(window=hour)), 100.0, calls),
        time_calls("reader: newest 100 spans", spans(""), 60.0, calls),
        time_calls("reader: one trace of 10 spans", lambda: reader.read_trace(some), 60.0, calls),
        time_calls("reader: spans to a host", spans("destination:host-7.example.com"), 100.0, calls),
        time_calls("reader: spans status_code>=500", spans("http.response.status_code>=500"), 150.0, calls),
        time_calls("reader: logs of a trace", lambda: reader.list_logs(LogQuery(trace_ids=(some,))), 60.0, calls),
        time_calls("reader: rare words in logs", logs("flux capacitor"), 60.0, calls),
        time_calls("reader: rare regex in logs", logs("/the flux \\w+ failed$/"), 100.0, calls),
        time_calls("reader: attribute in logs", logs("user.id:u4711"), 60.0, calls),
        time_calls("reader: histogram of 2 h", lambda: reader.count_logs(LogQuery(window=whole)), 100.0, calls),
    ]  # fmt: skip


def read_rss_mb(store: StoreProcess) -> float:
    assert store.process is not None
    pages = Path(f"/proc/{store.process.pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def bench_in_process(folder: Path, point: str, over_http: list[Figure]) -> list[Figure]:
    done = subprocess.run(
        [sys.executable, "-c", _IN_PROCESS, str(folder / "state"), str(CALLS), point],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    alone = json.loads(done.stdout)
    hops = [float(str(one["value"])) - base for one, base in zip(over_http, alone, strict=True)]
    return [
        figure("SELECT 1 in process", alone[0], "ms p50", None),
        figure("logs of a trace in process", alone[1], "ms p50", None),
        figure("the hop, SELECT 1", hops[0], "ms", 1.0),
        figure("the hop, logs of a trace", hops[1], "ms", 2.5),
    ]


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        store = StoreProcess(Path(name))
        start = time.perf_counter()
        try:
            store.start()
            figures = [figure("start to ready", time.perf_counter() - start, "s", 3.0)]
            figures.append(figure("RSS at rest", read_rss_mb(store), "MB", 300.0))
            now = time.time_ns()
            figures += bench_writes(store, now)
            point = POINT.format(trace=trace_id(51))
            hop = bench_hop(store, point)
            figures += hop + bench_reads(store, now)
            figures.append(figure("RSS after load and reads", read_rss_mb(store), "MB", 700.0))
            store.stop()
            figures += bench_in_process(store.folder, point, hop)
        finally:
            store.kill()
    report(figures)
    return 0


def report(figures: list[Figure]) -> None:
    machine = {
        "cpus": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release(), "python": platform.python_version(),
        "load_average": os.getloadavg()[0], "rows": BATCH * BATCHES,
    }  # fmt: skip
    versions = {
        name: version(name)
        for name in ("farcall", "chdb-core-lite", "clickhouse-connect", "pyarrow")
    }
    for one in figures:
        mark = {True: "holds", False: "MISSED", None: ""}[one["holds"]]  # type: ignore[index]
        print(
            f"{one['metric']:40} {one['value']:>12,} {one['unit']:8} target {one['target'] or '-':>8} spread {one['spread']:>9} {mark}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"versions": versions, "machine": machine, "metrics": figures}, indent=2) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    raise SystemExit(main())
