"""Receive → rows on one core: how many spans a second does the exporter make of 10,000-row batches?

Measured is what the pipeline's thread does for a batch but the store's write: decode and validate, resolve, sides,
join, link, rows. Three mixes: what a node sends (half the rows are server's sights joined in the same batch), client's
sights alone (all external, named by Host), the worst case for naming (every row its own connection, asked of the cache), and
calls inside a cluster of 10,000 pods and 1,000 services, whose catalog's memory is measured as well. Then, with all of
farcall running: how long from an exchange to a search that finds its span (visible.py).

    make bench-exporter            figures go to bench/results/exporter.json; QUICK=1 for fewer rounds
    python bench/bench_exporter.py --profile
"""

import argparse
import cProfile
import gc
import json
import os
import platform
import pstats
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import pyarrow as pa

from farcall_exporter.batches import build_batch
from farcall_exporter.cluster.catalog import Catalog
from farcall_exporter.decode import decode_batch
from naming.product import ProductError
from support_cluster_objects import controller, owned_by, pod, put, service
from support_exporter import (
    IDENTITY,
    NS,
    T0,
    WATCHED,
    Row,
    exchange,
    header,
    make_context,
    redis_exchange,
    seen_from_server,
    to_bytes,
    to_table,
)
from visible import VisibleError
from visible import measure as measure_visible

ROWS = 10_000
RESULTS = Path(__file__).parent / "results" / "exporter.json"
CONNECTIONS = 400


def node_mix() -> list[Row]:
    """Half HTTP between two pods, seen from both ends; a quarter HTTP outside; a quarter Redis by DNS."""
    rows: list[Row] = []
    for i in range(ROWS // 4):
        connection = i % CONNECTIONS
        inside = exchange(
            start=T0 + i * 100_000,
            flags=WATCHED | IDENTITY,
            connection_id=connection,
            sequence=i,
            isn_client=connection + 1,
            isn_server=connection + 77,
            request_seq=1_000 + 120 * (i // CONNECTIONS),
            peer_address="10.244.0.15",
            peer_port=8080,
            host="inventory.shop.svc:8080",
            target=f"/stock/{i}",
            query="page=?",
            user_agent="python-requests/2.32",
        )
        outside = exchange(
            start=T0 + i * 100_000,
            connection_id=10_000 + connection,
            sequence=i,
            host=f"api-{connection % 50}.example.com",
            target=f"/v1/items/{i % 97}",
            peer_address=f"203.0.113.{connection % 200}",
        )
        cache = redis_exchange(
            start=T0 + i * 100_000,
            connection_id=20_000 + connection,
            sequence=i,
            bound_name="cache.example.com",
            bound_answered=T0 - 2 * NS,
        )
        rows += [inside, seen_from_server(inside, pod="inventory-5f"), outside, cache]
    return rows


def client_mix() -> list[Row]:
    return [
        exchange(
            start=T0 + i * 100_000,
            connection_id=i % CONNECTIONS,
            sequence=i,
            host=f"api-{i % 50}.example.com",
            target=f"/v1/items/{i % 97}",
            peer_address=f"203.0.113.{i % 200}",
        )
        for i in range(ROWS)
    ]


def naming_mix() -> list[Row]:
    return [
        redis_exchange(
            start=T0 + i * 100_000,
            connection_id=i,
            flags=1 << 3,
            connection_opened=None,
            local_port=1_024 + i,
            peer_address=f"203.0.{i % 100}.{i % 200}",
        )
        for i in range(ROWS)
    ]


PODS, SERVICES = 10_000, 1_000


def cluster_mix() -> list[Row]:
    """Half to cluster IPs, half to pods, from 400 pods of the node; every second one is joined in the same batch."""
    rows: list[Row] = []
    for i in range(ROWS * 2 // 3):
        connection = i % CONNECTIONS
        target = (i * 7 % 500) * 20  # a node calls a few hundred of them
        by_service = i % 2 == 0
        client = exchange(
            start=T0 + i * 100_000,
            flags=WATCHED | IDENTITY,
            connection_id=connection,
            sequence=i,
            isn_client=connection + 1,
            isn_server=connection + 77,
            request_seq=1_000 + 120 * (i // CONNECTIONS),
            peer_address=service_address(target % SERVICES) if by_service else pod_address(target),
            peer_port=80 if by_service else 8080,
            host=f"app-{target % SERVICES}.shop.svc:8080",
            pod_uid=f"00000000-0000-4000-8000-{connection:012}",
            target=f"/stock/{i % 97}",
        )
        rows.append(client)
        if i % 2:
            rows.append(seen_from_server(client, pod_uid=f"00000000-0000-4000-8000-{target:012}"))
    return rows[:ROWS]


def pod_address(number: int) -> str:
    return f"10.244.{number // 250}.{number % 250 + 2}"


def service_address(number: int) -> str:
    return f"10.96.{number // 250}.{number % 250 + 2}"


def fill_catalog(catalog: Catalog) -> None:
    """Ten pods a Deployment, each selected by one service; as JSON text, as the API server sends it."""
    for number in range(SERVICES):
        replicas = controller(
            "ReplicaSet", f"app-{number}-7d9c", {"kind": "Deployment", "name": f"app-{number}", "uid": f"d-{number}"}
        )  # fmt: skip
        selector = {"app": f"app-{number}"}
        put(catalog, replicas, service(f"app-{number}", service_address(number), selector=selector))
        for pod_number in range(number, PODS, SERVICES):
            made = pod(
                f"app-{number}-7d9c-{pod_number:05}",
                pod_address(pod_number),
                owner=owned_by(replicas),
                labels={**selector, "pod-template-hash": "7d9c", "team": f"team-{number % 20}"},
                node=f"node-{pod_number % 100}",
            )
            made["metadata"]["uid"] = f"00000000-0000-4000-8000-{pod_number:012}"
            put(catalog, json.loads(json.dumps(made)))


def measure_catalog() -> dict[str, float]:
    catalog = Catalog()
    gc.collect()
    tracemalloc.start()
    fill_catalog(catalog)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"pods": PODS, "services": SERVICES, "mb": round(held / 2**20, 1)}


MIXES: dict[str, Callable[[], list[Row]]] = {
    "node": node_mix,
    "client": client_mix,
    "naming": naming_mix,
    "cluster": cluster_mix,
}


def measure(name: str, rounds: int) -> dict[str, float]:
    table = to_table("exchanges", MIXES[name]())
    context = make_context()
    if name == "cluster":
        fill_catalog(context.catalog)
    times: list[float] = []
    spans = 0
    body = to_bytes(table, header(number=1))
    for _ in range(rounds + 2):
        context.clock.now += 1.0  # type: ignore[attr-defined]
        started = time.process_time()
        tables = build_batch(decode_batch(body), context)
        times.append(time.process_time() - started)
        spans = tables["spans"].num_rows
    best = times[2:]  # the first two fill caches
    median = statistics.median(best)
    return {
        "spans": spans,
        "rows": table.num_rows,
        "batch_bytes": len(body),
        "median_ms": round(median * 1e3, 1),
        "worst_ms": round(max(best) * 1e3, 1),
        "rows_per_s": round(table.num_rows / median),
        "spans_per_s": round(spans / median),
    }


def render(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--rounds", type=int, default=5 if quick else 30)
    parser.add_argument(
        "--profile", action="store_true", help="print where the node mix's time goes"
    )
    parser.add_argument("--only-visible", action="store_true", help="leave the others' figures")
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    results: dict[str, dict[str, object]] = {}
    if arguments.only_visible:
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    else:
        results = {name: dict(measure(name, arguments.rounds)) for name in MIXES}
        results["catalog"] = dict(measure_catalog())
    fault = ""
    try:
        rounds, seconds = (1, 10.0) if quick else (3, 30.0)
        results["visible"] = measure_visible(rounds=rounds, seconds=seconds)
    except (ProductError, VisibleError) as e:
        fault = f"! how long it takes until a span is visible was not measured: {e}"
    print(
        f"{platform.machine()}, Python {platform.python_version()}, pyarrow {pa.__version__}, one thread"
    )
    for name, figures in results.items():
        print(f"{name:8} " + "  ".join(f"{key} {render(value)}" for key, value in figures.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if arguments.profile:
        profile = cProfile.Profile()
        profile.runcall(measure, "node", arguments.rounds)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    if fault:
        print(fault, file=sys.stderr)
    return 2 if fault else 0


if __name__ == "__main__":
    raise SystemExit(main())
