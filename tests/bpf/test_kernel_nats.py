"""NATS over real connections, cut by hand, and with a real server and its Python client: as many exchanges as messages."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator

import nats
import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.messages import Messages
from farcall_probes.probes import KernelCapture
from farcall_probes.selftest import Pair
from support_messages import Row, hear, say, see_messages
from support_multiplexed import Exchange, MultiplexedWatch
from support_nats import running_nats
from support_probes import CLIENT, Watch, connection, make_request, port_of

pytestmark = pytest.mark.bpf

INFO = b'INFO {"server_id":"x","version":"2.12.2","padding":"' + b"x" * 700 + b'"}\r\n'
CONNECT = b'CONNECT {"verbose":false,"pass":"secret"}\r\n'
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with running_nats() as port:
        yield port


def publish(subject: str, payload: bytes) -> bytes:
    return b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(payload), payload)


def deliver(subject: str, payload: bytes) -> bytes:
    return b"MSG %s 12 %d\r\n%s\r\n" % (subject.encode(), len(payload), payload)


def begin(pair: Pair) -> None:
    hear(pair, INFO)
    say(pair, CONNECT, b"PING\r\n")
    hear(pair, b"PONG\r\n")


def see(watch: Watch, port: int) -> tuple[list[Row], list[Row]]:
    return see_messages(watch, port, events.PROTO_NATS)


def test_every_message_is_one_at_both_ends_and_nothing_else_is(watch: Watch) -> None:
    with connection() as pair:
        begin(pair)
        say(pair, b"SUB orders.* 12\r\n")
        for number in range(23):
            say(pair, publish(f"orders.{number}", b"x" * number))
            hear(pair, deliver(f"orders.{number}", b"x" * number))
        say(pair, b"UNSUB 12\r\n")
        hear(pair, b"-ERR 'Slow Consumer'\r\n")

        sides = see(watch, port_of(pair))
    for side in sides:
        said = [row for row in side if row[0] == "publish"]
        heard = [row for row in side if row[0] == "receive"]
        assert said == [("publish", f"orders.{n}", n) for n in range(23)]
        assert heard == [("receive", f"orders.{n}", n) for n in range(23)]
        assert [row for row in side if row not in said + heard] == [("error", None, 0)]


def test_messages_in_one_call_and_in_pieces_are_each_one(watch: Watch) -> None:
    several = b"".join(publish(f"a.{n}", b"y" * (n * 37)) for n in range(40)) + b"PING\r\n"
    long = publish("long", b"z" * 3000)
    with connection() as pair:
        begin(pair)
        say(pair, several)
        say(pair, *[long[at : at + 100] for at in range(0, len(long), 100)])
        say(pair, *[bytes((byte,)) for byte in publish("bytes", b"by byte")])
        hear(pair, b"PONG\r\n")
        say(pair, publish("last", b""))

        sides = see(watch, port_of(pair))
    for side in sides:
        assert [row for row in side if row[0] == "publish"] == [
            *[("publish", f"a.{n}", n * 37) for n in range(40)],
            ("publish", "long", 3000),
            ("publish", "bytes", 7),
            ("publish", "last", 0),
        ]


def test_behind_more_than_one_call_takes_messages_are_found_again_wherever_it_was_cut(
    watch: Watch,
) -> None:
    cut = publish("cut", b"in the\r\nmiddle")
    with connection() as pair:
        begin(pair)
        say(pair, *[publish("small", b"x") * 400 + cut[:-10], cut[-10:] + publish("next", b"y")])
        say(pair, publish("last", b"z"))

        for side in see(watch, port_of(pair)):
            subjects = [subject for _, subject, _ in side]
            assert set(subjects[:-2]) == {"small"} and 250 < len(subjects) < 400
            assert subjects[-2:] == ["next", "last"]
    assert watch.count("segment_resync_lost") >= 2


def test_a_message_lasts_to_its_last_byte(watch: Watch) -> None:
    data = publish("long", b"z" * 3000)
    with connection() as pair:
        begin(pair)
        say(pair, data[:1000])
        before_ns = time.monotonic_ns()
        say(pair, data[1000:])
        block = np.array(watch.segments(port_of(pair)), dtype=events.LARGE)

    done = Messages().take(block)
    assert done is not None and len(done) == 2
    assert (done["ts_req_ns"] < before_ns).all() and (done["ended_ns"] > before_ns).all()


@pytest.mark.parametrize("first", [b"SUB orders 1\r\n", publish("orders", b"x"), CONNECT])
def test_a_connection_that_was_open_before_is_known_by_what_its_client_says(
    watch: Watch, first: bytes
) -> None:
    with connection() as pair:
        say(pair, first, publish("orders", b"hello"))
        hear(pair, deliver("orders", b"hello"))

        for side in see(watch, port_of(pair)):
            assert side[-2:] == [("publish", "orders", 5), ("receive", "orders", 5)]


def test_a_tunnel_is_none(watch: Watch) -> None:
    with connection() as pair:
        say(pair, b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n")
        hear(pair, b"HTTP/1.1 200 OK\r\n\r\n")

        assert [s.proto for s in watch.exchanges(port_of(pair))] == [events.PROTO_HTTP1] * 2


@pytest.mark.parametrize(
    "first",
    [b"PUB without a size\r\n", b"SUBSCRIBE me to the list\r\n", b"PUBLIC \r\n12345678\r\n"],
)
def test_what_reads_as_a_word_of_it_is_none(watch: Watch, first: bytes) -> None:
    with connection() as pair:
        say(pair, first)
        pair.exchange(make_request("/after"), b"HTTP/1.1 204 No Content\r\n\r\n")

        assert watch.segments(port_of(pair)) == []
        assert [s.path for s in watch.exchanges(port_of(pair), role=CLIENT)] == ["/after"]


def watch_server(
    capture: KernelCapture, port: int, use: Callable[[nats.NATS], Awaitable[None]]
) -> tuple[list[Exchange], list[Exchange]]:
    watch = MultiplexedWatch(capture, events.PROTO_NATS, port)

    async def run() -> None:
        client = await nats.connect(f"nats://127.0.0.1:{port}", connect_timeout=60)
        try:
            await use(client)
        finally:
            await client.close()

    asyncio.run(run())
    sides = watch.sides()
    assert watch.unread == 0
    return sides


def test_a_real_server_gets_and_delivers_what_its_client_published(
    capture: KernelCapture, server: int
) -> None:
    async def use(client: nats.NATS) -> None:
        orders = await client.subscribe("orders.>")
        for number in range(50):
            await client.publish(f"orders.{number}", b"x" * number)
        await client.publish("orders.traced", b"", headers={"traceparent": TRACEPARENT})
        for _ in range(51):
            await orders.next_msg(timeout=60)

    subjects = [*[f"orders.{n}" for n in range(50)], "orders.traced"]
    client_side, server_side = watch_server(capture, server, use)
    for side in (client_side, server_side):
        for operation in ("publish", "receive"):
            assert [x.collection for x in side if x.operation == operation] == subjects
        assert len(side) == 102
    assert {x.key for x in client_side} == {x.key for x in server_side}


def test_who_may_not_publish_hears_of_it(
    capture: KernelCapture, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = tmp_path_factory.mktemp("nats") / "server.conf"
    config.write_text(
        'authorization {users: [{user: u, password: "hush", permissions: {publish: "allowed"}}]}\n'
    )
    with running_nats(["-c", config]) as port:
        watch = MultiplexedWatch(capture, events.PROTO_NATS, port)
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b'CONNECT {"user":"u","pass":"hush"}\r\n' + publish("secret.plan", b"x"))
            heard = b""
            while b"-ERR" not in heard or not heard.endswith(b"\r\n"):
                heard += raw.recv(4096)
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b'CONNECT {"user":"u","pass":"wrong"}\r\n')
            while raw.recv(4096):
                pass

        for side in watch.sides():
            assert [(x.operation, x.collection, x.error) for x in side] == [
                ("publish", "secret.plan", None),
                ("error", "secret.plan", "permissions_violation"),
                ("error", None, "authorization_violation"),
            ]
