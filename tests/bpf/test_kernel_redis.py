"""Redis over real connections, also against a real server: one record for what is asked at once."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from farcall_probes.events import PROTO_REDIS, SMALL_REQ, Flag
from farcall_probes.probes import open_probes
from farcall_probes.selftest import open_pair
from support_probes import CLIENT, SERVER, Seen, Watch, connection, port_of, receive
from support_redis import command
from support_rests import tell

pytestmark = pytest.mark.bpf


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    directory: Path = tmp_path_factory.mktemp("redis")
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    server = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(60)


def run(program: str, port: int, *words: str) -> None:
    subprocess.run(
        [program, "-p", str(port), *words], check=True, stdout=subprocess.DEVNULL, timeout=60
    )


def split(seen: list[Seen]) -> tuple[list[Seen], list[Seen]]:
    return [s for s in seen if s.role == CLIENT], [s for s in seen if s.role == SERVER]


def test_every_command_is_an_exchange_at_both_ends(watch: Watch) -> None:
    replies = [b"+OK\r\n", b"-ERR no\r\n", b":1\r\n", b"$-1\r\n", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"]
    replies += [b"_\r\n", b"#t\r\n", b"%1\r\n+a\r\n:1\r\n", b"~0\r\n", b",1.5\r\n"]
    with connection() as pair:
        for i, reply in enumerate(replies):
            pair.exchange(command("GET", f"key{i}"), reply)
        client, server = watch.sides(port_of(pair))

    for seen in (client, server):
        assert [s.request for s in seen] == [command("GET", f"key{i}") for i in range(10)]
        assert [s.response for s in seen] == replies
        assert [s.seq for s in seen] == list(range(10))
        assert all(s.proto == PROTO_REDIS for s in seen)
    assert [s.key for s in client] == [s.key for s in server]


def test_a_reply_that_looks_like_a_command_does_not_turn_the_roles(watch: Watch) -> None:
    """Also on a connection older than the hooks whose first bytes seen are the reply."""
    reply = b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n"
    pair = open_pair()
    late = open_probes()
    try:
        watch = Watch(late)
        pair.server.sendall(reply)
        receive(pair.client, len(reply))
        for _ in range(3):
            pair.exchange(command("LRANGE", "list", "0", "-1"), reply)
        port = port_of(pair)
        client, server = watch.sides(port)
    finally:
        late.close()
        pair.close()

    assert [len(client), len(server)] == [3, 3]
    assert {s.lport for s in client} == {port}
    assert all(s.response == reply for s in client + server)


def test_a_pipeline_in_several_writes_is_one_flagged_exchange(watch: Watch) -> None:
    with connection() as pair:
        batch = [command("SET", f"k{i}", "v") for i in range(4)]
        for piece in batch:
            pair.client.sendall(piece)
        receive(pair.server, len(b"".join(batch)))
        pair.server.sendall(b"+OK\r\n" * 4)
        receive(pair.client, 20)
        client, server = watch.sides(port_of(pair))

    assert [s.request for s in client + server] == [b"".join(batch)] * 2
    assert client[0].flags & Flag.PIPELINED


def test_a_large_value_is_counted_whole_and_flagged_as_cut(watch: Watch) -> None:
    request = command("SET", "k", b"v" * 100_000)
    with connection() as pair:
        pair.client.sendall(request[:70_000])
        receive(pair.server, 70_000)
        pair.client.sendall(request[70_000:])
        receive(pair.server, 30_000 + len(request) - 100_000)
        pair.server.sendall(b"+OK\r\n")
        receive(pair.client, 5)
        client, server = watch.sides(port_of(pair))

    for seen in (client[0], server[0]):
        assert seen.request == request[:SMALL_REQ]
        assert seen.request_bytes == len(request)
        assert seen.response == b"+OK\r\n"
        assert seen.flags & Flag.CUT and not seen.flags & Flag.PIPELINED


def test_a_real_server_and_client_agree(watch: Watch, redis_port: int) -> None:
    run("redis-cli", redis_port, "SET", "greeting", "hello")
    client, server = split(watch.exchanges(redis_port))

    assert client[-1].request == command("SET", "greeting", "hello")
    assert server[-1].request == client[-1].request
    assert client[-1].response == server[-1].response == b"+OK\r\n"
    assert client[-1].key == server[-1].key
    assert client[-1].record["comm"] == b"redis-cli"
    assert server[-1].record["comm"] == b"redis-server"


def test_a_benchmark_loses_nothing(watch: Watch, redis_port: int) -> None:
    run("redis-benchmark", redis_port, "-t", "set", "-n", "1500", "-c", "5", "-q")
    client, server = split(watch.exchanges(redis_port))
    sets = [
        [s for s in side if s.request.startswith(b"*3\r\n$3\r\nSET")] for side in (client, server)
    ]

    assert watch.count("small_lost") == 0
    assert [len(side) for side in sets] == [1500, 1500]
    assert {s.key for s in sets[0]} == {s.key for s in sets[1]}


def test_a_benchmarks_pipelines_are_one_record_each(watch: Watch, redis_port: int) -> None:
    run("redis-benchmark", redis_port, "-t", "get", "-n", "3200", "-c", "2", "-P", "16", "-q")
    client, server = split(watch.exchanges(redis_port))
    batches = [
        [s for s in side if s.request.startswith(b"*2\r\n$3\r\nGET")] for side in (client, server)
    ]

    assert [len(side) for side in batches] == [200, 200]
    assert all(s.request.count(b"*2\r\n$3\r\nGET") >= 6 for s in batches[0])


def test_answers_of_a_real_server_are_as_long_at_both_ends(watch: Watch, redis_port: int) -> None:
    value, elements = "v" * 1_000_000, ["e" * 40] * 2000
    with redis.Redis(port=redis_port, decode_responses=True) as client:
        client.set("large", value)
        client.rpush("list", *elements)
        watch.restart()
        assert client.get("large") == value
        assert client.lrange("list", 0, -1) == elements
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(30):
                pipeline.lrange("list", 0, 99)
            assert len(pipeline.execute()) == 30
        client.ping()
        name = client.connection_pool.get_connection()
        try:
            port = int(name._sock.getsockname()[1])
        finally:
            client.connection_pool.release(name)

        client_side, server_side = tell(watch, port)
    array = len("*100\r\n") + 100 * len("$40\r\n\r\n" + "e" * 40)
    sizes = [len(value) + len("$1000000\r\n\r\n"), len("*2000\r\n") + 20 * (array - 6), 30 * array]
    for side in (client_side, server_side):
        assert [t.size for t in side] == sizes
    assert all(t.last_ns > t.first_ns for t in client_side)
