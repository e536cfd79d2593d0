"""Kafka, Cassandra and the server of MongoDB's protocol start for tests, and real clients are served."""

import kafka
import pymongo
import pytest
from cassandra.cluster import Cluster
from pymongo.errors import DuplicateKeyError, OperationFailure

from support_cassandra import running_cassandra
from support_kafka import running_kafka
from support_mongodb import running_mongodb

pytestmark = pytest.mark.servers


def test_what_is_produced_to_kafka_is_consumed() -> None:
    with running_kafka() as port:
        server = f"127.0.0.1:{port}"
        with kafka.KafkaProducer(bootstrap_servers=server) as producer:
            for number in range(7):
                producer.send("orders", str(number).encode()).get(60)
        consumer = kafka.KafkaConsumer(
            "orders", bootstrap_servers=server, group_id="tests", auto_offset_reset="earliest"
        )
        try:
            assert [int(next(consumer).value) for _ in range(7)] == list(range(7))
        finally:
            consumer.close()


def test_what_is_written_to_cassandra_is_read_at_each_version_of_its_protocol() -> None:
    with running_cassandra() as port:
        for version in (3, 4, 5):
            with (
                Cluster(
                    ["127.0.0.1"],
                    port=port,
                    protocol_version=version,
                    connect_timeout=60,  # the driver's own patience is 2 to 10 s, and a loaded machine's not
                    control_connection_timeout=60,
                ) as cluster
            ):
                session = cluster.connect()
                session.default_timeout = 60
                session.execute(
                    "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = "
                    "{'class': 'SimpleStrategy', 'replication_factor': 1}"
                )
                session.execute("CREATE TABLE IF NOT EXISTS shop.orders (id int PRIMARY KEY)")
                insert = session.prepare("INSERT INTO shop.orders (id) VALUES (?)")
                session.execute(insert, (version,))
                found = {row.id for row in session.execute("SELECT id FROM shop.orders")}
                assert version in found


def test_what_is_inserted_by_mongodbs_protocol_is_found_and_errors_have_codes() -> None:
    with (
        running_mongodb() as port,
        pymongo.MongoClient("127.0.0.1", port) as client,
    ):
        orders = client.shop.orders
        orders.insert_many({"_id": number} for number in range(300))
        assert sorted(order["_id"] for order in orders.find(batch_size=100)) == list(range(300))
        with pytest.raises(DuplicateKeyError):
            orders.insert_one({"_id": 7})
        with pytest.raises(OperationFailure) as failed:
            client.shop.command("nosuch")
        assert failed.value.code == 59
