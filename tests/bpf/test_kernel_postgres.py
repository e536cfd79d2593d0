"""PostgreSQL over real connections, against a real server and its own clients: one record for each round trip."""

import struct
from collections.abc import Iterator

import pytest

from farcall_probes.events import PROTO_POSTGRES, Flag
from farcall_probes.wire import postgresql
from farcall_probes.wire.outcomes import Outcome, Truncated
from support_postgres import Postgres, running_postgres
from support_probes import CLIENT, SERVER, Seen, Watch, connection, port_of
from support_rests import tell

pytestmark = pytest.mark.bpf

READY = b"Z\0\0\0\5I"
DONE = b"C\0\0\0\rSELECT 1\0" + READY


def message(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(content) + 4) + content


def query(text: str) -> bytes:
    return message(b"Q", text.encode() + b"\0")


def read(seen: Seen) -> postgresql.PostgresRequest:
    request = postgresql.parse_request(seen.request, cut=True)
    if isinstance(request, Truncated):
        return request.partial
    assert not isinstance(request, Outcome)
    return request


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running_postgres() as running:
        yield running


def test_queries_are_exchanges_at_both_ends_with_their_errors(watch: Watch) -> None:
    error = message(b"E", b"SERROR\0C42P01\0Mrelation does not exist\0\0") + READY
    with connection() as pair:
        pair.exchange(query("SELECT 1"), DONE)
        pair.exchange(query("SELECT * FROM nowhere"), error)
        watch.drain()
        client, served = watch.sides(port_of(pair))

    for side in (client, served):
        assert [s.proto for s in side] == [PROTO_POSTGRES] * 2
        assert [read(s).statement for s in side] == [b"SELECT 1", b"SELECT * FROM nowhere"]
        assert [postgresql.find_error(s.response) for s in side] == [None, "42P01"]
    assert [s.key for s in client] == [s.key for s in served]


def test_an_extended_round_trip_is_one_exchange(watch: Watch) -> None:
    parse = message(b"P", b"s1\0SELECT $1::int\0\0\0")
    bind = message(b"B", b"\0s1\0\0\0\0\1\0\0\0\0017\0\0")
    trip = parse + bind + message(b"D", b"P\0") + message(b"E", b"\0\0\0\0\0") + message(b"S")
    with connection() as pair:
        pair.exchange(trip, message(b"1") + message(b"2") + DONE)
        watch.drain()
        client, served = watch.sides(port_of(pair))

    assert len(client) == len(served) == 1
    assert read(client[0]) == (b"SELECT $1::int", ((b"s1", b"SELECT $1::int"),), b"s1", 1)


def test_a_header_that_is_read_apart_and_an_answer_read_in_pieces_are_one_exchange(
    watch: Watch,
) -> None:
    asked = query("SELECT 2")
    with connection() as pair:
        pair.client.sendall(asked)
        pair.server.recv(5)
        pair.server.recv(4096)
        pair.server.sendall(DONE)
        pair.client.recv(5)
        pair.client.recv(4096)
        pair.exchange(query("SELECT 3"), DONE)
        watch.drain()
        client, served = watch.sides(port_of(pair))

    for side in (client, served):
        assert [read(s).statement for s in side] == [b"SELECT 2", b"SELECT 3"]


def test_what_only_looks_like_it_is_no_exchange(watch: Watch) -> None:
    mysql_execute = b"Q\0\0\0\x17" + bytes(80)
    with connection() as pair:
        pair.exchange(mysql_execute, b"\1\0\0\0\3" + bytes(20))
        pair.exchange(b"QUIT\r\nNOOP\r\n", b"+OK bye\r\n")
        pair.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(64))
        watch.drain()
        assert watch.exchanges(port_of(pair)) == []


def test_a_large_answer_of_the_server_lasts_to_its_last_row(watch: Watch, server: Postgres) -> None:
    text = "SELECT repeat('x', 1000) FROM generate_series(1, 2000);"
    server.run("psql", "-q", "-o", "/dev/null", text=text)
    (client,), (served,) = tell(watch, server.port, ask=True)

    assert client.size == served.size > 2_000_000
    assert client.last_ns > client.first_ns and served.last_ns > served.first_ns


def test_psqls_statements_are_all_seen_with_their_outcome(watch: Watch, server: Postgres) -> None:
    text = "\n".join(
        [
            "CREATE TABLE item (id int, name text);",
            "INSERT INTO item VALUES (1, 'secret');",
            "SELECT * FROM item;",
            "SELECT * FROM nowhere;",
            "COPY item FROM STDIN;",
            *(f"{i}\tname{i}" for i in range(20000)),
            "\\.",
            "SELECT count(*) FROM item;",
            "DROP TABLE item;",
        ]
    )
    server.run("psql", "-q", "-o", "/dev/null", text=text)
    watch.drain()
    seen = [s for s in watch.exchanges(server.port) if s.proto == PROTO_POSTGRES]

    for role in (CLIENT, SERVER):
        side = [s for s in seen if s.role == role]
        verbs = [(read(s).statement or b"").split()[0].decode() for s in side]
        assert verbs == ["CREATE", "INSERT", "SELECT", "SELECT", "COPY", "SELECT", "DROP"]
        errors = [postgresql.find_error(s.response) for s in side]
        assert errors == [None, None, None, "42P01", None, None, None]
        assert all(s.flags & Flag.IDENTITY for s in side)


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbenchs_transactions_are_counted_exactly(
    watch: Watch, server: Postgres, mode: str
) -> None:
    server.run("pgbench", "-i", "-q", "-s", "1")
    watch.restart()
    server.run("pgbench", "-n", "-S", "-M", mode, "-c", "4", "-t", "250")
    watch.drain()
    seen = [s for s in watch.exchanges(server.port) if s.proto == PROTO_POSTGRES]

    for role in (CLIENT, SERVER):
        side = [read(s) for s in seen if s.role == role]
        asked = [r for r in side if b"SELECT abalance" in (r.statement or b"") or r.executed]
        assert sum(r.executions for r in asked) == 1000
        assert sum(1 for r in asked if r.parsed and not r.executions) == (
            4 if mode == "prepared" else 0
        )
