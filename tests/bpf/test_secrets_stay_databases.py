"""As test_secrets_stay.py, for databases and brokers: passwords, literals, bound values, documents, records, and errors that repeat
what they were given."""

import asyncio
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import kafka
import nats
import pika
import pymongo
import pytest
from cassandra import InvalidRequest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable
from cassandra.query import BatchStatement
from pymongo.errors import PyMongoError

from support_cassandra import running_cassandra
from support_databases import running_mariadb
from support_kafka import running_kafka
from support_mongodb import running_mongodb
from support_nats import running_nats
from support_postgres import running_postgres
from support_rabbitmq import connect, running_rabbitmq
from support_secrets import Leavings, Secrets

pytestmark = pytest.mark.bpf

CASSANDRA = PlainTextAuthProvider("cassandra", "cassandra")


def test_postgresqls_statements_and_errors(
    left: Leavings, secrets: Secrets, tmp_path: Path
) -> None:
    email = secrets.word("literal, and the error that repeats it")
    statements = [
        "CREATE TABLE users (email text PRIMARY KEY);",
        f"INSERT INTO users VALUES ('{email}');",
        f"INSERT INTO users VALUES ('{email}');",  # Key (email)=(…) already exists
        f"SELECT '{email}'::int;",  # invalid input syntax for type integer: "…"
        f"CREATE USER bob PASSWORD '{secrets.word('CREATE USER')}';",
        f"SET app.token TO {secrets.word('SET without quotes')};",
        f"SELECT $x${secrets.word('dollar quotes')}$x$, E'\\'{secrets.word('escape string')}';",
        f"SELECT 1 /* a /* b */ {secrets.word('nested comment')} */; -- {secrets.word('comment')}",
        f"SELECT '{'x' * 9000}', '{secrets.word('behind the cut')}';",
        f"DO $$ BEGIN RAISE EXCEPTION '{secrets.word('RAISE')}'; END $$;",
        f"NOTIFY news, '{secrets.word('NOTIFY')}';",
        f"PREPARE find AS SELECT $1::text; EXECUTE find('{secrets.word('EXECUTE')}');",
        f"COPY users FROM STDIN;\n{secrets.word('COPY')}\n{secrets.word('another COPY')}\n\\.",
        "SELECT * FROM users;",
        "SELECT 'the end' FROM users;",
    ]
    bound = tmp_path / "bound.sql"
    bound.write_text("SELECT 1 FROM users WHERE email = :secret;\n")
    with running_postgres(password=secrets.word("password")) as server:
        server.run("psql", "-v", "ON_ERROR_STOP=0", text="\n".join(statements))
        for mode in ("extended", "prepared"):
            words = ["-n", "-t", "5", "-M", mode, "-D", f"secret={secrets.word(f'bound, {mode}')}"]
            server.run("pgbench", *words, "-f", str(bound))
        left.wait_targets(
            server.port,
            {
                "INSERT INTO users VALUES (?);",
                "SELECT ?::int;",
                "SET app.token TO ?;",
                "SELECT ? FROM users;",
                "SELECT ? FROM users WHERE email = $1;",
            },
        )
        rows = left.rows(lambda r: r["local_port"] == server.port)

    assert {"23505", "22P02", "P0001"} <= {r["error"] for r in rows}
    assert not secrets.find_in(left.read())


def packet(payload: bytes, sequence: int = 0) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes((sequence,)) + payload


def execute_bound(port: int, value: str) -> None:
    """What every connector does with a value that it binds; MariaDB's own client has no command for it."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.recv(4096)
        # Protocol 4.1, secure connection; no more than 16 MB; utf8mb4; user root, nothing for a password.
        login = struct.pack("<IIB23x", 0x0000_8200, 1 << 24, 45) + b"root\0\0"
        string = b"\0\1\xfe\0" + bytes((len(value),)) + value.encode()
        answer = b""
        for asked in (packet(login, 1), packet(b"\x16SELECT ? AS bound"), None):
            number = answer[5:9]
            link.sendall(asked or packet(b"\x17" + number + b"\0\1\0\0\0" + string))
            answer = link.recv(4096)
            assert answer[4] != 0xFF, answer


def test_mysqls_statements_and_errors(left: Leavings, secrets: Secrets) -> None:
    email = secrets.word("literal, and the error that repeats it")
    text = "\n".join(
        [
            "CREATE DATABASE shop; USE shop; CREATE TABLE users (email varchar(99) PRIMARY KEY);",
            f"INSERT INTO users VALUES ('{email}');",
            f'INSERT INTO users VALUES ("{email}");',
            f"CREATE USER bob IDENTIFIED BY '{secrets.word('CREATE USER')}';",
            f"SET @token = '{secrets.word('SET')}';",
            f"PREPARE s FROM 'SELECT ?, ''{secrets.word('PREPARE')}'''; EXECUTE s USING @token;",
            f"SELECT 1 # {secrets.word('comment')}\n;",
            f"SELECT _utf8mb4'{secrets.word('introducer')}', '{'x' * 9000}{secrets.word('cut')}';",
            f"SELECT x'{secrets.word('hexadecimal').encode().hex()}';",
        ]
    )
    with running_mariadb() as port:
        words = ["-h127.0.0.1", f"-P{port}", "-uroot", f"-p{secrets.word('password')}"]
        subprocess.run(
            ["mariadb", *words, "--force", "--batch", "--skip-ssl", "--comments"],
            input=text.encode(),
            capture_output=True,
            timeout=60,
        )
        execute_bound(port, secrets.word("bound value"))
        shown = {"INSERT INTO users VALUES (?)", "SET @token = ?", "SELECT ? AS bound"}
        left.wait_targets(port, shown)
        rows = left.rows(lambda r: r["local_port"] == port)

    assert "1062" in {r["error"] for r in rows}
    assert not secrets.find_in(left.read())


def test_mongodbs_documents(left: Leavings, secrets: Secrets) -> None:
    with running_mongodb() as port:
        login = {"username": "bob", "password": secrets.word("SASL")}
        with pymongo.MongoClient("127.0.0.1", port, authMechanism="PLAIN", **login) as client:
            with pytest.raises(PyMongoError):
                client.shop.orders.find_one()
        with pymongo.MongoClient("127.0.0.1", port) as client:
            orders = client.shop.orders
            known = secrets.word("_id, and the error that repeats it")
            orders.insert_one({"_id": known, "note": secrets.odd("inserted value")})
            with pytest.raises(PyMongoError):
                orders.insert_one({"_id": known})
            orders.insert_many({"n": n, secrets.word("inserted key"): 1} for n in range(3))
            list(orders.find({"note": secrets.word("filter"), "n": {"$gt": 1}}).limit(2))
            orders.update_one(
                {"note": secrets.word("update")}, {"$set": {"n": secrets.word("new value")}}
            )
            orders.delete_many({"note": {"$in": [secrets.word("delete")]}})
            list(orders.aggregate([{"$match": {"note": secrets.word("aggregate")}}]))
            for command in (
                {"createUser": "bob", "pwd": secrets.word("createUser"), "roles": []},
                {"nosuch": secrets.word("unknown command")},
                {"ping": 1, "comment": secrets.word("comment")},
            ):
                try:
                    client.admin.command(command)
                except PyMongoError:
                    pass
        left.wait_targets(port, {"find orders {filter: {note: ?, n: {$gt: ?}}, limit: ?}"})
        left.wait_targets(port, {"saslStart", "createUser", "ping {comment: ?}"})
        rows = left.rows(lambda r: r["local_port"] == port)

    assert "DuplicateKey" in {r["error"] for r in rows}
    assert not secrets.find_in(left.read())


def test_kafkas_records(left: Leavings, secrets: Secrets) -> None:
    password = secrets.word("SASL")
    with running_kafka(login=("bob", password)) as port:
        where = {
            "bootstrap_servers": f"127.0.0.1:{port}",
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": "bob",
            "sasl_plain_password": password,
        }
        record = {
            "key": secrets.word("key").encode(),
            "value": secrets.odd("value").encode(),
            "headers": [("token", secrets.word("header").encode())],
        }
        for packed in (None, "gzip"):
            with kafka.KafkaProducer(compression_type=packed, **where) as producer:
                for _ in range(5):
                    producer.send("orders", **record).get(60)
        consumer = kafka.KafkaConsumer(
            "orders", group_id="billing", auto_offset_reset="earliest", **where
        )
        for _ in range(10):
            next(consumer)
        consumer.close()

        def operations() -> set[str]:
            return {r["operation"] for r in left.rows(lambda r: r["local_port"] == port)}

        wanted = {"SaslAuthenticate", "Produce", "Fetch", "JoinGroup"}
        left.scene.exporter.wait_for(lambda _: wanted <= operations(), within_s=60)

    assert not secrets.find_in(left.read())


def test_nats_messages(left: Leavings, secrets: Secrets) -> None:
    password = secrets.word("NATS")
    header = {"token": secrets.word("header"), "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}

    async def use(port: int) -> None:
        where = f"nats://127.0.0.1:{port}"
        client = await nats.connect(where, user="bob", password=password, connect_timeout=60)
        orders = await client.subscribe("orders.*")
        for _ in range(5):
            await client.publish("orders.new", secrets.odd("value").encode(), headers=header)
            await orders.next_msg(timeout=60)
        await client.close()

    with running_nats(["--user", "bob", "--pass", password]) as port:
        asyncio.run(use(port))
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b'CONNECT {"user":"bob","pass":"%s"}\r\n' % secrets.word("wrong").encode())
            while raw.recv(4096):
                pass

        def see(role: int) -> list[tuple[object, ...]]:
            names = ("operation", "collection", "error", "trace_id")
            rows = left.rows(lambda r: r["role"] == role and r["protocol"] == "nats")
            return sorted((tuple(r[name] for name in names) for r in rows), key=str)

        traced = ("orders.new", None, b"\xaa" * 16)
        wanted = [("error", None, "authorization_violation", None)]
        wanted += [("publish", *traced)] * 5 + [("receive", *traced)] * 5
        left.scene.exporter.wait_for(lambda _: see(0) == see(1) == wanted, within_s=60)

    assert not secrets.find_in(left.read())


def test_amqps_messages(left: Leavings, secrets: Secrets) -> None:
    password, wrong = secrets.word("AMQP"), secrets.word("wrong")
    headers = {"token": secrets.word("header"), "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    properties = pika.BasicProperties(headers=headers, reply_to=secrets.word("reply"))
    with running_rabbitmq({"default_pass": password}) as port:
        channel = connect(port, password=password).channel()
        channel.queue_declare("orders", arguments={"x-why": secrets.word("argument")})
        for _ in range(5):
            channel.basic_publish("", "orders", secrets.odd("value").encode(), properties)
        for at, _ in enumerate(channel.consume("orders", auto_ack=True), 1):
            if at == 5:
                break
        channel.connection.close()
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            connect(port, password=wrong)

        def see(role: int) -> list[tuple[object, ...]]:
            rows = left.rows(lambda r: r["role"] == role and r["protocol"] == "amqp")
            names = ("operation", "collection", "error", "trace_id")
            found = [tuple(r[name] for name in names) for r in rows]
            return sorted((row for row in found if row[2] or row[3]), key=str)

        wanted = [("connection.close", None, "access-refused", None)]
        traced = ("orders", None, b"\xaa" * 16)
        wanted += [("deliver", *traced)] * 5 + [("publish", *traced)] * 5
        left.scene.exporter.wait_for(lambda _: see(0) == see(1) == wanted, within_s=60)

    assert not secrets.find_in(left.read())


def wait_login(port: int) -> None:
    """The server listens before it has made its first user; a client that was refused is of no more use."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with Cluster(["127.0.0.1"], port=port, auth_provider=CASSANDRA) as cluster:
                cluster.connect()
            return
        except NoHostAvailable:
            assert time.monotonic() < deadline
            time.sleep(1)


@pytest.fixture(scope="module")
def cassandra() -> Iterator[int]:
    with running_cassandra(authenticator="PasswordAuthenticator") as port:
        wait_login(port)
        yield port


@pytest.mark.parametrize("version", [4, 5])
def test_cassandras_statements(
    left: Leavings, secrets: Secrets, cassandra: int, version: int
) -> None:
    def connect(user: str, password: str) -> Cluster:
        return Cluster(
            ["127.0.0.1"],
            port=cassandra,
            protocol_version=version,
            auth_provider=PlainTextAuthProvider(user, password),
            connect_timeout=60,
            control_connection_timeout=60,
        )

    password, user = secrets.word("CREATE ROLE, and the token"), f"bob{version}"
    with connect("cassandra", "cassandra") as cluster:
        session = cluster.connect()
        session.default_timeout = 60
        session.execute(f"CREATE ROLE {user} WITH PASSWORD = '{password}' AND LOGIN = true")
        session.execute(
            f"CREATE KEYSPACE shop{version} WITH replication = "
            "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        session.execute(f"CREATE TABLE shop{version}.users (id int PRIMARY KEY, note text)")
    with connect(user, password) as cluster:
        session = cluster.connect(f"shop{version}")
        session.default_timeout = 60
        session.execute(f"INSERT INTO users (id, note) VALUES (1, '{secrets.word('literal')}')")
        insert = session.prepare("INSERT INTO users (id, note) VALUES (?, ?)")
        batch = BatchStatement()
        for number in range(5):
            session.execute(insert, (number, secrets.word("bound value")))
            batch.add(insert, (number, secrets.word("bound in a batch")))
        batch.add(f"INSERT INTO users (id, note) VALUES (9, '{secrets.word('text in a batch')}')")
        session.execute(batch)
        session.execute(
            "SELECT note FROM users WHERE note = %s ALLOW FILTERING",
            (secrets.word("bound by text"),),
        )
        session.execute(f"SELECT note FROM users WHERE id = 1 -- {secrets.word('comment')}\n")
        for wrong in (
            f"SELECT * FROM users WHERE id = '{secrets.word('error of a type')}'",
            f"SELECT * FROM users WHERE id = 1 AND nowhere = '{secrets.word('error of a name')}'",
        ):
            with pytest.raises(InvalidRequest):
                session.execute(wrong)
    shown = {"INSERT INTO users (id, note) VALUES (?)", "SELECT note FROM users WHERE id = ?"}
    left.wait_targets(cassandra, {*shown, f"CREATE ROLE {user} WITH PASSWORD = ? AND LOGIN = true"})

    assert not secrets.find_in(left.read())
