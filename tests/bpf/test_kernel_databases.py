"""MySQL's protocol and memcached's over real connections, against real servers: one record for what is asked at once."""

import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest

from farcall_probes.events import PROTO_MEMCACHED, PROTO_MYSQL, Flag
from farcall_probes.wire import memcached, mysql
from farcall_probes.wire.outcomes import Outcome, Truncated
from support_databases import running_mariadb, running_memcached
from support_probes import CLIENT, SERVER, Seen, Watch, connection, port_of, receive
from support_rests import tell

pytestmark = pytest.mark.bpf


def packet(payload: bytes, sequence: int = 0) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes((sequence,)) + payload


OK = packet(b"\0\0\0\2\0\0\0", 1)
ERROR = packet(b"\xff\x7a\x04#42S02Table does not exist", 1)


def read_mysql(seen: Seen) -> mysql.MysqlRequest:
    request = mysql.parse_request(seen.request, cut=True)
    if isinstance(request, Truncated):
        return request.partial
    assert not isinstance(request, Outcome)
    return request


def read_memcached(seen: Seen) -> memcached.MemcachedRequest:
    request = memcached.parse_request(seen.request, cut=True)
    if isinstance(request, Truncated):
        return request.partial
    assert not isinstance(request, Outcome)
    return request


@pytest.fixture(scope="module")
def mariadb() -> Iterator[int]:
    with running_mariadb() as port:
        yield port


@pytest.fixture(scope="module")
def cache() -> Iterator[int]:
    with running_memcached() as port:
        yield port


def test_mysql_commands_are_exchanges_also_when_headers_are_read_apart(watch: Watch) -> None:
    asked = packet(b"\x03SELECT * FROM nowhere")
    with connection() as pair:
        pair.client.sendall(asked)
        pair.server.recv(4)
        pair.server.recv(4096)
        pair.server.sendall(ERROR)
        pair.client.recv(4)
        pair.client.recv(4096)
        pair.exchange(packet(b"\x03SELECT 1"), OK)
        watch.drain()
        client, served = watch.sides(port_of(pair))

    for side in (client, served):
        assert [s.proto for s in side] == [PROTO_MYSQL] * 2
        assert [read_mysql(s).text for s in side] == [b"SELECT * FROM nowhere", b"SELECT 1"]
        assert [mysql.find_error(s.response) for s in side] == ["1146", None]
    assert [s.key for s in client] == [s.key for s in served]


def test_mariadbs_client_is_seen_statement_by_statement(watch: Watch, mariadb: int) -> None:
    text = "\n".join(
        [
            "CREATE DATABASE shop;",
            "USE shop;",
            "CREATE TABLE item (id int, name text);",
            "INSERT INTO item VALUES (1, 'secret');",
            "SELECT * FROM nowhere;",
            "SELECT * FROM item;",
            f"SELECT '{'x' * 9000}';",
            "PREPARE s FROM 'SELECT ?';",
        ]
    )
    subprocess.run(
        ["mariadb", "-h127.0.0.1", f"-P{mariadb}", "-uroot", "--force", "--batch", "--skip-ssl"],
        input=text.encode(),
        capture_output=True,
        timeout=60,
    )
    watch.drain()
    seen = [s for s in watch.exchanges(mariadb) if s.proto == PROTO_MYSQL]

    for role in (CLIENT, SERVER):
        side = [s for s in seen if s.role == role]
        asked = [read_mysql(s) for s in side]
        # The client asks for some things by itself.
        own = [
            a.text or b""
            for a in asked
            if a.command == "QUERY" and b"DATABASE()" not in (a.text or b"")
        ]
        verbs = [text.split(b" ")[0].decode() for text in own if not text.startswith(b"select @@")]
        assert verbs == "CREATE CREATE INSERT SELECT SELECT SELECT PREPARE".split()
        errors = [mysql.find_error(s.response) for s in side]
        assert [e for e in errors if e] == ["1146"]
        assert [a.text for a in asked if a.command == "USE"] == [b"shop"]
        assert any(s.flags & Flag.CUT for s in side)


def test_a_large_answer_of_mariadb_lasts_to_its_last_row(watch: Watch, mariadb: int) -> None:
    words = ["mariadb", "-h127.0.0.1", f"-P{mariadb}", "-uroot", "--batch", "--skip-ssl"]
    text = "SELECT repeat('x', 1000) FROM mysql.seq_1_to_2000;"
    subprocess.run(words, input=text.encode(), stdout=subprocess.DEVNULL, timeout=60, check=True)
    sides = tell(watch, mariadb, ask=True)
    client, served = (max(side, key=lambda told: told.size) for side in sides)

    assert client.size == served.size > 2_000_000
    assert client.last_ns > client.first_ns and served.last_ns > served.first_ns


def test_memcached_is_seen_command_by_command(watch: Watch, cache: int) -> None:
    commands = [
        (b"set key 0 0 5\r\nvalue\r\n", b"STORED\r\n"),
        (b"get key\r\n", b"VALUE key 0 5\r\nvalue\r\nEND\r\n"),
        (b"get nothing\r\n", b"END\r\n"),
        (b"incr key 1\r\n", b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
        (b"mg key v\r\n", b"VA 5\r\nvalue\r\n"),
        (
            b"set a 0 0 1\r\nx\r\nget key\r\nget a\r\n",
            b"STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\nVALUE a 0 1\r\nx\r\nEND\r\n",
        ),
        (b"delete key\r\n", b"DELETED\r\n"),
    ]
    with socket.create_connection(("127.0.0.1", cache)) as client:
        for asked, answer in commands:
            client.sendall(asked)
            assert receive(client, len(answer)) == answer
        local = client.getsockname()[1]
        watch.drain()
        seen = [s for s in watch.exchanges(local) if s.proto == PROTO_MEMCACHED]

    for role in (CLIENT, SERVER):
        side = [s for s in seen if s.role == role]
        read = [read_memcached(s) for s in side]
        assert [r.name for r in read] == "set get get incr mg set delete".split()
        assert [r.commands for r in read] == [1, 1, 1, 1, 1, 3, 1]
        errors = [memcached.find_error(s.response) for s in side]
        assert errors == [None, None, None, "CLIENT_ERROR", None, None, None]


def test_memcacheds_binary_protocol_is_seen(watch: Watch, cache: int) -> None:
    get = struct.pack(">BBHBBHIIQ", 0x80, 0x00, 3, 0, 0, 0, 3, 0, 0) + b"key"
    with socket.create_connection(("127.0.0.1", cache)) as client:
        client.sendall(get)
        assert client.recv(4096)[:2] == b"\x81\x00"
        local = client.getsockname()[1]
        watch.drain()
        seen = watch.exchanges(local)

    assert [read_memcached(s) for s in seen] == [("get", 1, 1)] * 2
    assert {s.proto for s in seen} == {PROTO_MEMCACHED}
