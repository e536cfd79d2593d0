"""Calls of real clients to real Kafka, Cassandra and a server of MongoDB's protocol: each is an exchange, at both ends."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import kafka
import pymongo
import pytest
from cassandra import InvalidRequest
from cassandra.cluster import Cluster
from pymongo.errors import DuplicateKeyError, OperationFailure

from farcall_probes.events import PROTO_CASSANDRA, PROTO_KAFKA, PROTO_MONGODB
from farcall_probes.probes import KernelCapture, open_probes
from support_cassandra import running_cassandra
from support_kafka import running_kafka
from support_mongodb import running_mongodb
from support_multiplexed import Exchange, MultiplexedWatch

pytestmark = pytest.mark.servers

SECRET = "xyzzy-7"


@pytest.fixture(scope="module")
def capture() -> Iterator[KernelCapture]:
    opened = open_probes()
    yield opened
    opened.close()


@contextmanager
def watching(capture: KernelCapture, proto: int, port: int) -> Iterator[MultiplexedWatch]:
    """Drains all the time: other traffic of the machine fills the ring as well."""
    watch = MultiplexedWatch(capture, proto, port)
    ended = threading.Event()

    def drain() -> None:
        while not ended.wait(0.05):
            watch.drain()

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


def check_ends(watch: MultiplexedWatch) -> list[Exchange]:
    """Both ends saw the same calls, with the same keys, and nothing was lost. The client's are returned."""
    client, served = watch.sides()
    assert Counter(x.key for x in client) == Counter(x.key for x in served)
    assert Counter((x.operation, x.collection, x.error) for x in client) == Counter(
        (x.operation, x.collection, x.error) for x in served
    )
    assert watch.unread == 0
    assert watch.pairer.counters["multiplexed_gaps"] == 0
    assert not any(SECRET in str(x) for x in client + served)
    assert all(x.duration_ns >= 0 for x in client + served)
    return client


def test_mongodbs_commands_are_seen_one_by_one(capture: KernelCapture) -> None:
    with (
        running_mongodb() as port,
        watching(capture, PROTO_MONGODB, port) as watch,
        pymongo.MongoClient("127.0.0.1", port) as client,
    ):
        orders = client.shop.orders
        for number in range(23):
            orders.insert_one({"_id": number, "note": SECRET})
        orders.insert_many({"_id": number} for number in range(100, 103))
        assert len(list(orders.find({"note": SECRET}))) == 23
        with pytest.raises(DuplicateKeyError):
            orders.insert_one({"_id": 7})
        with pytest.raises(OperationFailure):
            client.shop.command("nosuch")
    seen = [x for x in check_ends(watch) if x.database == "shop"]

    assert Counter((x.operation, x.collection, x.error, x.size) for x in seen) == {
        ("insert", "orders", None, None): 23,
        ("insert", "orders", None, 3): 1,
        ("find", "orders", None, None): 1,
        ("insert", "orders", "DuplicateKey", None): 1,
        ("nosuch", None, "CommandNotFound", None): 1,
    }
    assert {x.target for x in seen if x.operation == "find"} == {"find orders {filter: {note: ?}}"}


def test_kafkas_requests_are_seen_with_their_topics_groups_and_errors(
    capture: KernelCapture,
) -> None:
    with running_kafka() as port, watching(capture, PROTO_KAFKA, port) as watch:
        server = f"127.0.0.1:{port}"
        for acks, count in (("all", 23), (0, 7)):
            with kafka.KafkaProducer(bootstrap_servers=server, acks=acks) as producer:
                for _ in range(count):
                    producer.send("orders", SECRET.encode()).get(60)
        consumer = kafka.KafkaConsumer(
            "orders", bootstrap_servers=server, group_id="billing", auto_offset_reset="earliest"
        )
        for _ in range(25):
            next(consumer)
        consumer.close()
    seen = check_ends(watch)

    produced = [x for x in seen if x.operation == "Produce"]
    assert {x.collection for x in produced} == {"orders"}
    outcomes = Counter(x.error for x in produced)
    # The client tries again while a topic made by its first record has no leader that knows itself as one.
    assert outcomes.keys() <= {None, "NOT_LEADER_OR_FOLLOWER", "UNKNOWN_TOPIC_OR_PARTITION"}
    assert outcomes[None] == 30
    assert sum(x.response_bytes == 0 for x in produced) == 7
    assert {x.collection for x in seen if x.operation == "Fetch"} == {"orders"}
    joined = [x.error for x in seen if x.operation == "JoinGroup"]
    assert "MEMBER_ID_REQUIRED" in joined and joined[-1] is None
    assert {x.group for x in seen if x.operation in ("JoinGroup", "OffsetCommit")} == {"billing"}


@pytest.mark.parametrize("version", [3, 4, 5])
def test_cassandras_statements_are_seen_also_prepared_and_in_outer_frames(
    capture: KernelCapture, cassandra: int, version: int
) -> None:
    with watching(capture, PROTO_CASSANDRA, cassandra) as watch:
        with Cluster(["127.0.0.1"], port=cassandra, protocol_version=version) as cluster:
            session = cluster.connect()
            session.execute(
                "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = "
                "{'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
            session.execute(
                "CREATE TABLE IF NOT EXISTS shop.orders (id int PRIMARY KEY, note text)"
            )
            insert = session.prepare("INSERT INTO shop.orders (id, note) VALUES (?, ?)")
            for _ in range(10):
                futures = [session.execute_async(insert, (n, SECRET)) for n in range(3)]
                for future in futures:
                    future.result()
            for _ in range(23):
                session.execute(
                    f"SELECT note FROM shop.orders WHERE note = '{SECRET}' ALLOW FILTERING"
                )
            with pytest.raises(InvalidRequest):
                session.execute("SELECT * FROM shop.nowhere")
    client, served = watch.sides()
    assert not any(SECRET in str(x) for x in client + served)
    for side in (client, served):
        counts = Counter((x.operation, x.collection, x.error) for x in side if x.database == "shop")
        assert counts["INSERT", "orders", None] == 30
        assert counts["SELECT", "orders", None] == 23
        assert counts["SELECT", "nowhere", "Invalid"] == 1


@pytest.fixture(scope="module")
def cassandra() -> Iterator[int]:
    with running_cassandra() as port:
        yield port
