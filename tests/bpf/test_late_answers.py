"""`capture.answerTimeoutSeconds` for protocols that answer out of order: real servers are stopped in the middle of a request."""

import json
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import kafka
import pymongo
import pytest
from cassandra.cluster import Cluster

from farcall.envelope import STATUS_PATH
from farcall.exchange import ExchangeFlag
from support_agent import NS, rows_of
from support_agent_live import Scene, running_scene, wait
from support_cassandra import running_cassandra
from support_http2_live import python_peer, serving
from support_kafka import running_kafka
from support_mongodb import running_mongodb
from support_stopped import stopped

pytestmark = pytest.mark.bpf

LIMIT_S = 8  # a server on the JVM, beside two other suites, may take three for an answer
CLIENT = 0
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    spec = {"capture": {"answerTimeoutSeconds": LIMIT_S}}
    with running_scene(tmp_path_factory.mktemp("agent"), spec=spec) as scene:
        yield scene


def find_server(port: int) -> int:
    """The process that listens there."""
    out = subprocess.run(
        ["ss", "-ltnpH", f"sport = :{port}"], capture_output=True, text=True, check=True
    )
    return int(out.stdout.split("pid=")[1].split(",")[0])


def rows_at(scene: Scene, port: int) -> Rows:
    """Of calls to that port, at their client's end."""
    rows = rows_of(scene.exporter.batches("exchanges"))
    return [r for r in rows if (r["role"], r["peer_port"]) == (CLIENT, port)]


def asked_of(scene: Scene, port: int, *operations: str) -> Rows:
    return [r for r in rows_at(scene, port) if r["operation"] in operations]


def wait_late(scene: Scene, port: int, *operations: str) -> Rows:
    """Those told of as late, while the server stands still."""

    def find() -> Rows:
        return [r for r in asked_of(scene, port, *operations) if r["error"] == "timeout"]

    try:
        wait(find, within_s=150)
    except AssertionError:
        seen = [(r["operation"], r["error"]) for r in rows_at(scene, port)]
        raise AssertionError(f"none is late among {seen}; {lost(scene)}") from None
    return find()


def lost(scene: Scene) -> dict[str, int]:
    """What the agent says that it has lost."""
    said = [json.loads(p.body) for p in list(scene.exporter.posted) if p.path == STATUS_PATH]
    counters = said[-1]["counters"] if said else {}
    return {k: v for k, v in counters.items() if v and k.endswith(("lost", "gaps", "orphans"))}


def check_late(rows: Rows) -> None:
    for row in rows:
        assert LIMIT_S * NS <= row["duration_ns"] < 60 * NS
        assert row["flags"] & ExchangeFlag.NO_RESPONSE and not row["response_bytes"]


def test_a_command_of_mongodb(scene: Scene) -> None:
    with running_mongodb() as port, pymongo.MongoClient("127.0.0.1", port) as client:
        orders = client.shop.orders
        orders.insert_one({"_id": 1})
        with stopped(find_server(port)):
            waiting = threading.Thread(target=lambda: orders.find_one({"_id": 1}))
            waiting.start()
            late = wait_late(scene, port, "find")
        waiting.join(60)
        for _ in range(7):
            assert orders.find_one({"_id": 1})
        wait(lambda: len(asked_of(scene, port, "find")) >= 8)
        finds = asked_of(scene, port, "find")

    check_late(late)
    assert [r["error"] for r in sorted(finds, key=lambda r: r["start"])] == ["timeout"] + [None] * 7


def test_a_produce_of_kafka(scene: Scene) -> None:
    with running_kafka() as port:
        with kafka.KafkaProducer(
            bootstrap_servers=f"127.0.0.1:{port}", acks=1, enable_idempotence=False
        ) as producer:
            producer.send("orders", b"before").get(60)
            with stopped(find_server(port)):
                sent = producer.send("orders", b"meanwhile")
                late = wait_late(scene, port, "Produce")
            sent.get(60)
            for _ in range(7):
                producer.send("orders", b"behind").get(60)

        def errors() -> list[str | None]:
            rows = sorted(asked_of(scene, port, "Produce"), key=lambda r: r["start"])
            return [r["error"] for r in rows]

        wait(lambda: errors().count(None) >= 8)
        produced = asked_of(scene, port, "Produce")

    check_late(late)
    # A broker that was away for so long may not lead at once again, and is asked anew.
    assert errors()[:2] == [None, "timeout"] and errors().count("timeout") == 1
    assert errors()[-7:] == [None] * 7
    assert {r["collection"] for r in produced} == {"orders"}


@pytest.mark.parametrize("version", [4, 5])
def test_a_statement_of_cassandra(scene: Scene, version: int) -> None:
    with (
        running_cassandra() as port,
        Cluster(
            ["127.0.0.1"],
            port=port,
            protocol_version=version,
            connect_timeout=60,
            control_connection_timeout=60,
        ) as cluster,
    ):
        session = cluster.connect()
        session.default_timeout = 60
        session.execute("SELECT release_version FROM system.local")
        with stopped(find_server(port)):
            future = session.execute_async("SELECT cluster_name FROM system.local")
            late = wait_late(scene, port, "SELECT")
        future.result()
        for _ in range(7):
            session.execute("SELECT host_id FROM system.local")

        def last() -> Rows:
            return [r for r in asked_of(scene, port, "SELECT") if "host_id" in r["target"]]

        wait(lambda: len(last()) >= 7)

    check_late(late)
    assert [r["error"] for r in last()] == [None] * 7


def test_a_call_of_grpc(scene: Scene) -> None:
    with (
        serving(*python_peer("serve")) as (port,),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call = channel.unary_unary("/farcall.test.Echo/Unary")
        call(b"1", timeout=60)
        with stopped(find_server(port)):
            future = call.future(b"1", timeout=60)
            late = wait_late(scene, port, "POST")
        future.result()
        for _ in range(7):
            call(b"1", timeout=60)
        wait(lambda: len(asked_of(scene, port, "POST")) >= 9)
        calls = sorted(asked_of(scene, port, "POST"), key=lambda r: r["start"])

    check_late(late)
    assert {r["target"] for r in calls} == {"/farcall.test.Echo/Unary"}
    assert [r["error"] for r in calls] == [None, "timeout"] + [None] * 7
