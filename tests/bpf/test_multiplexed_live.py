"""`farcall agent` beside real Kafka, Cassandra and a server of MongoDB's protocol: what real clients ask is counted exactly, at both ends."""

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support_agent import rows_of
from support_agent_live import Scene, running_scene
from support_cassandra import running_cassandra
from support_kafka import running_kafka
from support_mongodb import running_mongodb

pytestmark = pytest.mark.bpf

CLIENT, SERVER = 0, 1
Row = dict[str, Any]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running_scene(tmp_path_factory.mktemp("agent")) as scene:
        yield scene


def run(scene: Scene, code: str, *, name: str) -> None:
    scene.run(textwrap.dedent(code), name=name)


def both_sides(
    scene: Scene, name: str, port: int, *, wanted: Callable[[Row], bool], count: int
) -> list[list[Row]]:
    """What was seen of the client of that service, and of the server's end of its connections, once there are `count` of each."""

    def find() -> list[list[Row]]:
        rows = [r for r in rows_of(scene.exporter.batches("exchanges")) if wanted(r)]
        ours = [r for r in rows if r["service"] == scene.service(name) and r["peer_port"] == port]
        ends = {r["local_port"] for r in ours}
        theirs = [r for r in rows if r["local_port"] == port and r["peer_port"] in ends]
        return [ours, theirs]

    scene.exporter.wait_for(lambda _: all(len(side) >= count for side in find()))
    sides = find()
    assert [len(side) for side in sides] == [count, count]
    assert [{r["role"] for r in side} for side in sides] == [{CLIENT}, {SERVER}]
    return sides


def test_what_is_produced_and_fetched_is_seen_with_its_topic(scene: Scene) -> None:
    with running_kafka() as port:
        run(
            scene,
            f"""
            import kafka
            where = dict(bootstrap_servers="127.0.0.1:{port}", client_id="shop")
            for acks, topic in ((1, "orders"), (0, "payments")):
                with kafka.KafkaProducer(acks=acks, enable_idempotence=False, **where) as producer:
                    for number in range(23):
                        producer.send(topic, b"secret value").get(60)
            consumer = kafka.KafkaConsumer(
                "orders", group_id="billing", auto_offset_reset="earliest", **where
            )
            for _ in range(23):
                next(consumer)
            consumer.commit()
            consumer.close()
            """,
            name="kafka",
        )
        # Of the first records one may have come before their topic had a leader; the client tries again.
        sides = both_sides(
            scene,
            "kafka",
            port,
            wanted=lambda r: r["operation"] == "Produce" and r["error"] is None,
            count=46,
        )
        commits = both_sides(
            scene,
            "kafka",
            port,
            wanted=lambda r: r["operation"] == "OffsetCommit" and r["group"] == "billing",
            count=2,
        )
    for side in sides:
        assert Counter(r["collection"] for r in side) == {"orders": 23, "payments": 23}
        assert "secret" not in str(side)
    assert {r["collection"] for r in commits[0]} == {"orders"}


def test_commands_are_seen_with_their_collection_and_errors(scene: Scene) -> None:
    with running_mongodb() as port:
        run(
            scene,
            f"""
            import pymongo
            from pymongo.errors import PyMongoError
            with pymongo.MongoClient("127.0.0.1", {port}) as client:
                orders = client.shop.orders
                for number in range(23):
                    orders.insert_one({{"_id": number, "customer": "secret"}})
                for number in range(7):
                    try:
                        orders.insert_one({{"_id": number}})
                    except PyMongoError:
                        pass
                for number in range(11):
                    list(orders.find({{"customer": "secret"}}).limit(5))
            """,
            name="mongodb",
        )
        sides = both_sides(
            scene, "mongodb", port, wanted=lambda r: r["operation"] in ("insert", "find"), count=41
        )
    for side in sides:
        assert Counter((r["operation"], r["error"]) for r in side) == {
            ("insert", None): 23,
            ("insert", "DuplicateKey"): 7,
            ("find", None): 11,
        }
        assert {(r["database"], r["collection"]) for r in side} == {("shop", "orders")}
        assert "secret" not in str(side)


@pytest.mark.parametrize("version", [3, 4])
def test_statements_are_seen_with_their_keyspace_and_errors(scene: Scene, version: int) -> None:
    with running_cassandra() as port:
        run(
            scene,
            f"""
            from cassandra import InvalidRequest
            from cassandra.cluster import Cluster
            patient = dict(connect_timeout=60, control_connection_timeout=60)
            with Cluster(["127.0.0.1"], port={port}, protocol_version={version}, **patient) as cluster:
                session = cluster.connect()
                session.default_timeout = 60
                session.execute(
                    "CREATE KEYSPACE shop WITH replication = "
                    "{{'class': 'SimpleStrategy', 'replication_factor': 1}}"
                )
                session.execute("CREATE TABLE shop.orders (id int PRIMARY KEY, customer text)")
                insert = session.prepare("INSERT INTO shop.orders (id, customer) VALUES (?, ?)")
                for number in range(23):
                    session.execute(insert, (number, "secret"))
                for number in range(11):
                    session.execute("SELECT * FROM shop.orders WHERE id = %s", (number,))
                for number in range(7):
                    try:
                        session.execute("SELECT customer FROM shop.nosuch")
                    except InvalidRequest:
                        pass
            """,
            name=f"cassandra-{version}",
        )
        sides = both_sides(
            scene,
            f"cassandra-{version}",
            port,
            wanted=lambda r: r["database"] == "shop" and r["operation"] in ("INSERT", "SELECT"),
            count=41,
        )
    for side in sides:
        assert Counter((r["operation"], r["collection"], r["error"]) for r in side) == {
            ("INSERT", "orders", None): 23,
            ("SELECT", "orders", None): 11,
            ("SELECT", "nosuch", "Invalid"): 7,
        }
        assert "secret" not in str(side)
