"""Pipelines of Redis and PostgreSQL that are longer than a record: how many commands they have is counted in the kernel."""

import random
import struct
import subprocess
from pathlib import Path

import pytest

from farcall_probes.events import LARGE_REQ, SMALL_REQ
from farcall_probes.selftest import Pair
from support_agent_live import target_redis
from support_postgres import running_postgres
from support_probes import (
    CLIENT,
    SERVER,
    Seen,
    Watch,
    connection,
    count_ends,
    port_of,
    receive,
)
from support_redis import command

pytestmark = pytest.mark.bpf

DECOY = b"\r\n*3\r\n$3\r\nSET\r\n"  # a value may hold what looks like commands


def counts(side: list[Seen]) -> list[int]:
    return [int(seen.record["commands"]) for seen in side]


def make_pipeline(shape: random.Random, commands: int, longest: int) -> bytes:
    values = [
        DECOY + shape.randbytes(shape.choice((0, 1, 9, 10, 99, 100, longest)))
        for _ in range(commands)
    ]
    return b"".join(
        command("GET", value) if number % 3 else command("SET", f"key{number}", value)
        for number, value in enumerate(values)
    )


def ask(pair: Pair, *pieces: bytes) -> None:
    """All in one write; the answer comes when all was read."""
    size = sum(map(len, pieces))
    assert pair.client.sendmsg(pieces) == size
    receive(pair.server, size)
    pair.server.sendall(b"+OK\r\n")
    receive(pair.client, 5)


@pytest.mark.parametrize("longest", [1, 250, 5000])
def test_commands_of_one_write_are_counted_whatever_their_values_hold(
    watch: Watch, longest: int
) -> None:
    shape = random.Random(longest)
    sent = [1, 2, 16, 60, 150] if longest < 5000 else [1, 2, 16, 60]
    with connection() as pair:
        for commands in sent:
            request = make_pipeline(shape, commands, longest)
            ask(pair, request + command("SET", "last", "v" * SMALL_REQ))
        client, server = watch.sides(port_of(pair))

    assert counts(client) == [commands + 1 for commands in sent]
    assert counts(server) == counts(client)


def test_commands_are_counted_over_the_seams_of_writes_and_their_pieces(watch: Watch) -> None:
    shape = random.Random(7)
    with connection() as pair:
        for size in (1, 7, 100, 231, 233, 700, 4096):
            request = make_pipeline(shape, 40, 300) if size > 7 else make_pipeline(shape, 8, 60)
            for at in range(0, len(request), size):
                pair.client.sendall(request[at : at + size])
            receive(pair.server, len(request))
            pair.server.sendall(b"+OK\r\n")
            receive(pair.client, 5)
        client, _ = watch.sides(port_of(pair))
    assert counts(client) == [8, 8, *[40] * 5]


def test_commands_are_counted_over_the_pieces_of_one_write(watch: Watch) -> None:
    """As Node.js and Netty write them: each command, or each argument, a buffer of its own."""
    whole = [command("GET", f"key{number}") for number in range(50)]
    heads = [b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$300\r\n", b"v" * 300 + b"\r\n"] * 30
    with connection() as pair:
        for pieces in (whole, heads):
            ask(pair, *pieces)
        client, server = watch.sides(port_of(pair))
    assert counts(client) == counts(server) == [50, 30]


@pytest.mark.parametrize(
    "garbage", [b"*3\r\n$3\r\nSET\r\n$x\r\n", b"*3\r\n$99999999999\r\n", b"*3\r\n*3\r\n", b"*3\r\n"]
)
def test_what_is_no_command_ends_the_count(watch: Watch, garbage: bytes) -> None:
    whole = command("SET", "k", "v" * 150) * 2
    with connection() as pair:
        ask(pair, whole + garbage + whole)
        client, server = watch.sides(port_of(pair))
    assert counts(client) == counts(server) == [3]


def test_more_commands_than_steps_are_counted_in_part(watch: Watch) -> None:
    request = command("SET", "k", "v") * 3000
    with connection() as pair:
        ask(pair, request)
        client, _ = watch.sides(port_of(pair))
    assert 400 <= counts(client)[0] < 3000


def test_a_benchmarks_pipelines_are_counted_whole(watch: Watch, tmp_path: Path) -> None:
    with target_redis(tmp_path, "127.0.0.1") as port:
        words = ["-p", str(port), "-q", "-t", "set", "-n", "3200", "-c", "2", "-P", "16"]
        subprocess.run(["redis-benchmark", *words, "-d", "40"], check=True, capture_output=True)
        sets = [s for s in watch.exchanges(port) if s.request.startswith(b"*3\r\n$3\r\nSET")]

    for side in ([s for s in sets if s.role == CLIENT], [s for s in sets if s.role != CLIENT]):
        assert sum(counts(side)) == 3200


@pytest.mark.parametrize("portion", [16_384, 4_097, 1_000])
def test_a_pipeline_that_is_answered_in_portions_is_one_and_counted_whole(
    watch: Watch, portion: int
) -> None:
    """As redis-server reads one, 16 kB at a time: each portion is answered before the next is read."""
    shape = random.Random(portion)
    with connection() as pair:
        for commands in (60, 300, 25):
            request = make_pipeline(shape, commands, 120)
            pair.client.sendall(request)
            left = len(request)
            while left:
                receive(pair.server, min(portion, left))
                left -= min(portion, left)
                pair.server.sendall(b"+OK\r\n")
                receive(pair.client, 5)
        port = port_of(pair)
    counted = count_ends(watch, port)
    sides = watch.sides(port)

    assert [len(side) for side in sides] == [3, 3]
    assert counted == {CLIENT: [60, 300, 25], SERVER: [60, 300, 25]}


def test_a_pipeline_that_is_written_while_it_is_answered_is_one(watch: Watch) -> None:
    request = make_pipeline(random.Random(5), 100, 120)
    with connection() as pair:
        for at in range(0, len(request), 3000):
            piece = request[at : at + 3000]
            pair.client.sendall(piece)
            receive(pair.server, len(piece))
            pair.server.sendall(b"+OK\r\n")
            receive(pair.client, 5)
        pair.exchange(command("GET", "next"), b"$-1\r\n")
        counted = count_ends(watch, port_of(pair))
    assert counted == {CLIENT: [100, 0], SERVER: [100, 0]}


def test_a_benchmarks_long_pipelines_are_counted_whole_at_both_ends(
    watch: Watch, tmp_path: Path
) -> None:
    with target_redis(tmp_path, "127.0.0.1") as port:
        words = ["-p", str(port), "-q", "-t", "set", "-n", "4000", "-c", "1", "-P", "1000"]
        subprocess.run(["redis-benchmark", *words, "-d", "40"], check=True, capture_output=True)
    counted = count_ends(watch, port)
    assert {role: sum(side) for role, side in counted.items()} == {CLIENT: 4000, SERVER: 4000}


def message(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(content) + 4) + content


def make_batch(shape: random.Random, executions: int) -> bytes:
    """As drivers write a batch: one statement, many values."""
    binds = [
        message(b"B", b"\0s\0" + shape.randbytes(shape.choice((8, 100, 900))))
        for _ in range(executions)
    ]
    executes = [bind + message(b"E", b"\0" + bytes(4)) for bind in binds]
    return message(b"P", b"s\0INSERT INTO t VALUES ($1)\0\0\0") + b"".join(executes) + message(b"S")


def test_statements_of_a_batch_are_counted_over_the_seams_of_writes(watch: Watch) -> None:
    shape = random.Random(3)
    with connection() as pair:
        for size in (1 << 20, 4096, 700):
            request = make_batch(shape, 50)
            for at in range(0, len(request), size):
                pair.client.sendall(request[at : at + size])
            receive(pair.server, len(request))
            pair.server.sendall(message(b"C", b"INSERT 0 1\0") + message(b"Z", b"I"))
            receive(pair.client, 22)
        client, _ = watch.sides(port_of(pair))
    assert counts(client) == [50] * 3


def test_a_long_query_is_one_and_a_short_batch_is_not_counted(watch: Watch) -> None:
    answer = message(b"C", b"INSERT 0 1\0") + message(b"Z", b"I")
    with connection() as pair:
        pair.exchange(message(b"Q", b"SELECT '" + b"E" * LARGE_REQ + b"'\0"), answer)
        pair.exchange(make_batch(random.Random(1), 1)[:LARGE_REQ], answer)
        client, server = watch.sides(port_of(pair))
    assert counts(client) == counts(server) == [1, 0]


def test_a_benchmarks_batches_are_counted_whole(watch: Watch, tmp_path: Path) -> None:
    script = tmp_path / "batch.sql"
    script.write_text("\\startpipeline\n" + "SELECT 1 + 1, 'abcdefgh';\n" * 100 + "\\endpipeline\n")
    with running_postgres() as server:
        watch.restart()
        server.run("pgbench", "-n", "-M", "extended", "-f", str(script), "-t", "20")
        seen = [s for s in watch.exchanges(server.port) if s.request_bytes > LARGE_REQ]
    for side in ([s for s in seen if s.role == CLIENT], [s for s in seen if s.role != CLIENT]):
        assert counts(side) == [100] * 20


def test_a_batch_that_is_answered_while_it_is_read_is_counted_whole(watch: Watch) -> None:
    """The server reads 8 kB at a time and writes as often as it has as much to say."""
    shape = random.Random(4)
    request = make_batch(shape, 120)
    with connection() as pair:
        pair.client.sendall(request)
        for at in range(0, len(request), 8192):
            receive(pair.server, min(8192, len(request) - at))
            answer = message(b"C", b"INSERT 0 1\0") * 3
            if at + 8192 >= len(request):
                answer += message(b"Z", b"I")
            pair.server.sendall(answer)
            receive(pair.client, len(answer))
        port = port_of(pair)
    counted = count_ends(watch, port)
    assert counted == {CLIENT: [120], SERVER: [120]}


def test_a_benchmarks_long_batches_are_counted_whole_at_both_ends(
    watch: Watch, tmp_path: Path
) -> None:
    script = tmp_path / "batch.sql"
    script.write_text("\\startpipeline\n" + "SELECT 1 + 1, 'abcdefgh';\n" * 400 + "\\endpipeline\n")
    with running_postgres() as server:
        watch.restart()
        server.run("pgbench", "-n", "-M", "extended", "-f", str(script), "-t", "10")
        port = server.port
    counted = count_ends(watch, port)
    assert {role: max(side) for role, side in counted.items()} == {CLIENT: 400, SERVER: 400}
    assert {role: sum(side) for role, side in counted.items()} == {CLIENT: 4000, SERVER: 4000}
