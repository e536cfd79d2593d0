"""Receive → rows on one core: how many spans a second does the exporter make of 10,000-row batches?

Measured is what the pipeline's thread does for a batch but the store's write: decode and validate, resolve, sides,
join, link, rows. Three mixes: what a node sends (half the rows are server's sights joined in the same batch), client's
sights alone (all external, named by Host), the worst case for naming (every row its own connection, asked of the cache), and
calls inside a cluster of 10,000 pods and 1,000 services, whose catalog's memory is measured as well. Then the exporter beside a
store and a Redis (throughput.py). Then, with all of farcall running: how long from an exchange to a search that finds its span
(visible.py).

    make bench-exporter            figures go to bench/results/exporter.json; QUICK=1 for fewer rounds
    python bench/bench_exporter.py [--only rows,store,visible] [--profile]
"""

import argparse
import cProfile
import gc
import json
import os
import pstats
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import pyarrow as pa

from costs.report import Metric, Report, make_metric, tell
from farcall.dnscache import Answer
from farcall.exchange import ExchangeFlag
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
from throughput import ThroughputError
from throughput import measure as measure_throughput
from visible import VisibleError
from visible import measure as measure_visible

ROWS = 10_000
RESULTS = Path(__file__).parent / "results" / "exporter.json"
CONNECTIONS = 400
CLIENT = "c:abc"  # who() of support_exporter
PARTS = ("rows", "store", "visible")


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


def asking_mix() -> list[Row]:
    """The same, but only the DNS cache knows the names of the Redis servers: the connections are older than the agent."""
    rows = node_mix()
    for row in rows:
        if row["protocol"] == "redis":
            connection = int(row["connection_id"])
            row |= {
                "flags": int(ExchangeFlag.LATE),
                "connection_opened": None,
                "bound_name": None,
                "bound_answered": None,
                "local_port": 1_024 + connection % CONNECTIONS,
                "peer_address": cache_address(connection % CONNECTIONS),
            }
    return rows


def cache_address(number: int) -> str:
    return f"198.51.{number // 200}.{number % 200 + 1}"


def make_answers() -> list[Answer]:
    """What that cache holds: half of the names."""
    return [
        Answer(
            client_key=CLIENT,
            ip=cache_address(number),
            name=f"cache-{number}.example.com",
            answered_at=time.time() - 60,
            trusted=True,
        )
        for number in range(0, CONNECTIONS, 2)
    ]


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


def measure_catalog() -> float:
    """MB."""
    catalog = Catalog()
    gc.collect()
    tracemalloc.start()
    fill_catalog(catalog)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 2**20


MIXES: dict[str, Callable[[], list[Row]]] = {
    "node": node_mix,
    "client": client_mix,
    "naming": naming_mix,
    "cluster": cluster_mix,
}


def measure(name: str, rounds: int) -> list[float]:
    """Spans a second, of each round."""
    table = to_table("exchanges", MIXES[name]())
    context = make_context()
    if name == "cluster":
        fill_catalog(context.catalog)
    rates: list[float] = []
    body = to_bytes(table, header(number=1))
    for _ in range(rounds + 2):
        context.clock.now += 1.0  # type: ignore[attr-defined]
        started = time.process_time()
        tables = build_batch(decode_batch(body), context)
        rates.append(tables["spans"].num_rows / (time.process_time() - started))
    return rates[2:]  # the first two fill caches


def measure_rows(rounds: int) -> list[Metric]:
    metrics = []
    for name in MIXES:
        tell(f"rows: {name}")
        metric, least = f"spans_per_s_per_core, {name} mix", None
        if name == "node":
            metric, least = "spans_per_s_per_core", 100_000
        metrics.append(make_metric(metric, measure(name, rounds), "1/s", at_least=least))
    tell("catalog")
    metrics.append(make_metric("catalog of 10,000 pods", [measure_catalog()], "MB"))
    return metrics


def measure_store(quick: bool) -> list[Metric]:
    tell("store")
    rounds, batches = (2, 8) if quick else (5, 20)
    found = measure_throughput(asking_mix(), make_answers(), rounds=rounds, batches=batches)
    return [
        make_metric("spans_per_s_into_store", found.spans_per_s, "1/s", at_least=30_000),
        make_metric("redis_round_trips_per_1000", [found.round_trips_per_1000], "", 2),
        make_metric("rss_mb", [found.rss_mb], "MB"),
    ]


def measure_visibility(quick: bool) -> list[Metric]:
    tell("visible")
    rounds, seconds = (1, 10.0) if quick else (3, 30.0)
    found = measure_visible(rounds=rounds, seconds=seconds)
    return [
        make_metric("visible_s_p50", found.median_s, "s"),
        make_metric("visible_s_p99", found.p99_s, "s", 2),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--rounds", type=int, default=5 if quick else 30)
    parser.add_argument(
        "--profile", action="store_true", help="print where the node mix's time goes"
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    pa.set_cpu_count(1)
    report = Report(RESULTS)
    try:
        if "rows" in parts:
            report.add(measure_rows(arguments.rounds))
        if "store" in parts:
            report.add(measure_store(quick))
        if "visible" in parts:
            report.add(measure_visibility(quick))
    except (ProductError, ThroughputError, VisibleError) as e:
        print(f"bench: {e}; what was measured before is in {report.path}", file=sys.stderr)
        return 1
    finally:
        report.show()
    if arguments.profile:
        profile = cProfile.Profile()
        profile.runcall(measure, "node", arguments.rounds)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
