"""Writes the corpora beside it anew: the bytes of real servers and clients, as a proxy between them saw them.

    make servers && .venv/bin/python tests/corpus/wire/record.py

One line for each kind of request: its bytes and its response's in hex, both cut at what fits a record twice. Then:
`UPDATE_GOLDEN=1 .venv/bin/pytest -m golden tests/golden/test_multiplexed_wire.py`, and read the difference.
"""

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1]))

import kafka  # noqa: E402
import pymongo  # noqa: E402
from cassandra.auth import PlainTextAuthProvider  # noqa: E402
from cassandra.cluster import Cluster, NoHostAvailable, Session  # noqa: E402
from cassandra.query import BatchStatement, SimpleStatement  # noqa: E402
from kafka.admin import KafkaAdminClient, NewTopic  # noqa: E402
from pymongo.errors import PyMongoError  # noqa: E402

from farcall_probes.wire import cassandra, mongodb  # noqa: E402
from farcall_probes.wire import kafka as kafka_wire  # noqa: E402
from farcall_probes.wire.cassandra import OuterFrame  # noqa: E402
from farcall_probes.wire.inflating import inflate_lz4  # noqa: E402
from support_cassandra import running_cassandra  # noqa: E402
from support_jvm import find_server  # noqa: E402
from support_kafka import running_kafka  # noqa: E402
from support_mongodb import running_mongodb  # noqa: E402
from support_ports import find_free_port  # noqa: E402

KEPT = 1648  # bytes of a message
Pair = tuple[bytes, bytes | None]


class Recorder:
    """A proxy on loopback that keeps both directions of each connection."""

    def __init__(self, target: int, port: int = 0) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[tuple[bytearray, bytearray]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._target))
            kept = (bytearray(), bytearray())
            self.connections.append(kept)
            for ends in ((client, server, kept[0]), (server, client, kept[1])):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                kept += data
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def ignore(calls: list[Callable[[], object]], errors: type[Exception]) -> None:
    """Some are meant to fail: the server's errors are recorded as well."""
    for call in calls:
        with suppress(errors):
            call()


# ---- Kafka ------------------------------------------------------------------------------------------------------


def use_kafka(address: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=address, client_id="admin")
    topics = [NewTopic("orders", 2, 1), NewTopic("payments", 1, 1)]
    ignore([lambda: admin.create_topics(topics)] * 2, Exception)
    for acks, topic in ((1, "orders"), (0, "payments")):
        with kafka.KafkaProducer(
            bootstrap_servers=address, client_id="shop", acks=acks, enable_idempotence=False
        ) as producer:
            for number in range(4):
                producer.send(topic, b"secret value %d" % number, key=b"secret key").get(60)
    consumer = kafka.KafkaConsumer(
        "orders",
        "payments",
        bootstrap_servers=address,
        client_id="billing-1",
        group_id="billing",
        auto_offset_reset="earliest",
    )
    for _ in range(8):
        next(consumer)
    consumer.commit()
    consumer.close()
    ignore([lambda: admin.describe_groups(["billing"])], Exception)
    ignore([lambda: admin.delete_topics(["nosuch"])], Exception)
    admin.close()
    jars, compiler = find_server("kafka") / "jars", find_server("mongodb") / "jars"
    with tempfile.TemporaryDirectory() as classes:
        compile_it = ["java", "-jar", str(next(compiler.glob("ecj-*.jar"))), "-17"]
        path = ":".join(map(str, jars.glob("*.jar")))
        source = str(FOLDER / "Shop.java")
        subprocess.run([*compile_it, "-cp", path, "-d", classes, source], check=True)
        subprocess.run(["java", "-cp", f"{classes}:{path}", "Shop", address], check=True)


def read_kafka(recorder: Recorder) -> Iterator[tuple[object, Pair]]:
    for sent, received in recorder.connections:
        answers = {kafka_wire.find_correlation(m): m for m in split_kafka(bytes(received))}
        for data in split_kafka(bytes(sent)):
            request = kafka_wire.parse_request(data)
            assert isinstance(request, kafka_wire.KafkaRequest), data.hex()
            answer = answers.get(request.correlation) if request.is_answered else None
            response = kafka_wire.parse_response(answer, request) if answer else None
            error = response.error if isinstance(response, kafka_wire.KafkaResponse) else None
            named = bool(request.topics) + bool(request.topic_ids)
            yield (request.api_key, request.version, error, named, answer is None), (data, answer)


def split_kafka(stream: bytes) -> Iterator[bytes]:
    while len(stream) >= 4:
        end = 4 + int.from_bytes(stream[:4], "big")
        yield stream[:end]
        stream = stream[end:]


# ---- MongoDB ----------------------------------------------------------------------------------------------------


def use_mongodb(port: int) -> None:
    with pymongo.MongoClient("127.0.0.1", port, appname="shop") as client:
        shop, orders = client.shop, client.shop.orders
        unacknowledged = orders.with_options(write_concern=pymongo.WriteConcern(w=0))
        calls: list[Callable[[], object]] = [
            lambda: orders.insert_one({"_id": 1, "customer": "secret customer", "n": 5}),
            lambda: orders.insert_many(
                [{"_id": n, "customer": f"secret {n}"} for n in range(2, 40)]
            ),
            lambda: orders.insert_one({"_id": 1}),
            lambda: shop.command("nosuch"),
            lambda: orders.update_many({"n": 5}, {"$set": {"n": 6, "customer": "secret"}}),
            lambda: list(orders.find({"customer": "secret customer", "n": {"$gt": 1}}).limit(3)),
            lambda: list(orders.find({}, batch_size=10)),
            lambda: list(
                orders.aggregate([{"$match": {"n": 6}}, {"$group": {"_id": "$customer"}}])
            ),
            lambda: orders.distinct("customer"),
            lambda: orders.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}}),
            lambda: orders.delete_one({"_id": 2}),
            lambda: orders.create_index("n"),
            lambda: shop.list_collection_names(),
            lambda: client.admin.command("ping"),
            lambda: shop.command("explain", {"find": "orders", "filter": {"n": 6}}),
            lambda: client.admin.command("createUser", "secret user", pwd="secret", roles=[]),
            lambda: client.admin.command("renameCollection", "shop.nosuch", to="shop.none"),
            lambda: orders.drop(),
            lambda: client.drop_database("shop"),
            lambda: unacknowledged.insert_one({"_id": 100, "customer": "secret"}),
        ]
        ignore(calls, PyMongoError)


def read_mongodb(recorder: Recorder) -> Iterator[tuple[object, Pair]]:
    for sent, received in recorder.connections:
        answers = {mongodb.find_correlation(m): m for m in split_mongodb(bytes(received))}
        for data in split_mongodb(bytes(sent)):
            request = mongodb.parse_request(data)
            assert isinstance(request, mongodb.MongoRequest), data.hex()
            answer = answers.get(request.correlation)
            response = mongodb.parse_response(answer, request) if answer else None
            error = response.error if isinstance(response, mongodb.MongoResponse) else None
            yield (mongodb.render_text(request), error, request.is_answered), (data, answer)


def split_mongodb(stream: bytes) -> Iterator[bytes]:
    while len(stream) >= 4:
        end = int.from_bytes(stream[:4], "little")
        yield stream[:end]
        stream = stream[end:]


# ---- Cassandra --------------------------------------------------------------------------------------------------


def use_cassandra(session: Session, version: int) -> None:
    schema = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    session.execute(f"CREATE KEYSPACE IF NOT EXISTS shop WITH replication = {schema}")
    session.execute("USE shop")
    session.execute("CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, customer text, u uuid)")
    session.execute(
        "INSERT INTO shop.orders (id, customer, u) "
        "VALUES (7, 'secret customer', f81d4fae-7dec-11d0-a765-00a0c91e6bf6)"
    )
    session.execute("SELECT * FROM orders WHERE id = %s", (7,))
    update = session.prepare("UPDATE orders SET customer = ? WHERE id = ?")
    session.execute(update, (f"secret {version}", 8))
    delete = SimpleStatement("DELETE FROM orders WHERE id = 9")
    for order in ((update, delete), (delete, update)):
        batch = BatchStatement()
        for statement in order:
            batch.add(statement, ("secret 9", 9) if statement is update else None)
        session.execute(batch)
    again = f"CREATE KEYSPACE shop WITH replication = {schema}"
    failing = ["SELEC", "SELECT * FROM nosuch", again, "CREATE USER bob WITH PASSWORD 'secret'"]
    ignore([lambda text=text: session.execute(text) for text in failing * 2], Exception)  # type: ignore[misc]
    session.execute("SELECT * FROM orders", trace=True)
    if version > 3:
        session.execute(delete, custom_payload={"k": b"secret"})
    session.execute("INSERT INTO orders (id, customer) VALUES (12, %s)", ("secret big " * 20_000,))
    session.execute("SELECT * FROM orders WHERE id = 12")


def read_cassandra(recorder: Recorder) -> Iterator[tuple[object, Pair]]:
    for sent, received in recorder.connections:
        answers: dict[int | None, list[bytes]] = {}
        for data in split_cassandra(bytes(received)):
            answers.setdefault(cassandra.find_correlation(data), []).append(data)
        for data in split_cassandra(bytes(sent)):
            request = cassandra.parse_request(data)
            assert isinstance(request, cassandra.CassandraRequest), data.hex()
            waiting = answers.get(request.correlation) or [b""]
            answer = waiting.pop(0)
            response = cassandra.parse_response(answer, request) if answer else None
            error = response.error if isinstance(response, cassandra.CassandraResponse) else None
            if b"FROM system" not in (request.statement or b""):
                yield (*request[:1], *request[2:], error), (data, answer or None)


def split_cassandra(stream: bytes) -> Iterator[bytes]:
    """Envelopes, out of frames where there are some."""
    whole, at = b"", 0
    while at < len(stream):
        frame = cassandra.parse_outer_frame(stream[at:])
        if isinstance(frame, OuterFrame):
            at += frame.header_bytes
            payload = stream[at : at + frame.payload_bytes]
            whole += inflate_lz4(payload, 1 << 20) if frame.is_compressed else payload
            at += frame.payload_bytes + 4
        else:
            end = at + 9 + int.from_bytes(stream[at + 5 : at + 9], "big")
            whole += stream[at:end]
            at = end
        while len(whole) >= 9:
            end = 9 + int.from_bytes(whole[5:9], "big")
            if len(whole) < end:
                break
            yield whole[:end]
            whole = whole[end:]


# ---- all --------------------------------------------------------------------------------------------------------


def write(name: str, pairs: Iterator[tuple[object, Pair]]) -> None:
    """The first of each kind."""
    seen: dict[object, Pair] = {}
    for kind, pair in pairs:
        seen.setdefault(kind, pair)
    lines = [
        json.dumps({"request": sent[:KEPT].hex(), "response": got[:KEPT].hex() if got else None})
        for sent, got in seen.values()
    ]
    (FOLDER / f"{name}.ndjson").write_text("\n".join(lines) + "\n", encoding="ascii")
    print(f"{name}: {len(lines)} kinds of requests")


def connect(cluster: Callable[[], Cluster]) -> tuple[Cluster, Session]:
    """The first user is made some seconds after the server listens."""
    for _ in range(60):
        made = cluster()
        try:
            return made, made.connect()
        except NoHostAvailable:
            made.shutdown()
            time.sleep(1)
    raise AssertionError("Cassandra lets nobody in")


def main() -> None:
    advertised = find_free_port()
    with running_kafka(advertised=advertised) as port:
        recorder = Recorder(port, advertised)
        use_kafka(f"127.0.0.1:{advertised}")
        write("kafka", read_kafka(recorder))
    with running_mongodb() as port:
        recorder = Recorder(port)
        use_mongodb(recorder.port)
        write("mongodb", read_mongodb(recorder))
    login = PlainTextAuthProvider("cassandra", "cassandra")
    with running_cassandra(authenticator="PasswordAuthenticator") as port:
        frames: list[str] = []
        for version, compression in ((3, False), (4, False), (4, "lz4"), (5, False), (5, "lz4")):
            recorder = Recorder(port)
            cluster, session = connect(
                lambda recorder=recorder, version=version, compression=compression: Cluster(  # type: ignore[misc]
                    ["127.0.0.1"],
                    port=recorder.port,
                    protocol_version=version,
                    compression=compression,
                    auth_provider=login,
                )
            )
            use_cassandra(session, version)
            cluster.shutdown()
            name = f"cassandra-v{version}" + (f"-{compression}" if compression else "")
            write(name, read_cassandra(recorder))
            if version == 5:
                sent = bytes(recorder.connections[-1][0])
                frames.append(json.dumps({"sent": sent[:2400].hex()}))
        (FOLDER / "cassandra-frames.ndjson").write_text("\n".join(frames) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
