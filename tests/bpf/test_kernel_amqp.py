"""AMQP over real connections, cut by hand, and with RabbitMQ and its Python client: as many exchanges as methods and messages."""

import threading
from collections.abc import Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from farcall_probes import events
from farcall_probes.probes import KernelCapture
from support_amqp import (
    HEARTBEAT,
    PROTOCOL,
    close,
    consume,
    content,
    declare,
    declared,
    deliver,
    frame,
    message,
    method,
    publish,
    start_ok,
)
from support_messages import Row, hear, say, see_messages
from support_multiplexed import Exchange, MultiplexedWatch
from support_probes import Watch, connection, port_of
from support_rabbitmq import connect, running_rabbitmq

pytestmark = pytest.mark.bpf

START = method(10, 10, b"\0\x09" + bytes(900), channel=0)
ACK = method(60, 80, bytes(9))


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with running_rabbitmq() as port:
        yield port


def see(watch: Watch, port: int) -> tuple[list[Row], list[Row]]:
    return see_messages(watch, port, events.PROTO_AMQP)


def test_every_method_and_message_is_one_at_both_ends_and_nothing_else_is(watch: Watch) -> None:
    with connection() as pair:
        say(pair, PROTOCOL)
        hear(pair, START)
        say(pair, start_ok("hush" * 300))
        hear(pair, method(10, 30, bytes(8), channel=0))
        say(pair, method(10, 31, bytes(8), channel=0) + method(10, 40, b"\1/\0\0", channel=0))
        hear(pair, method(10, 41, b"\0", channel=0))
        say(pair, method(20, 10, b"\0"))
        hear(pair, method(20, 11, bytes(4)))
        say(pair, declare("q"))
        hear(pair, declared("q"), HEARTBEAT)
        for number in range(7):
            say(pair, publish("ex", f"k.{number}") + message(b"x" * number))
            hear(pair, ACK, deliver("t", "ex", f"k.{number}") + message(b"x" * number))
            say(pair, ACK + HEARTBEAT)
        say(pair, publish("none", "k") + message(b""))
        hear(pair, close(404, (60, 40)))
        say(pair, method(20, 41))

        sides = see(watch, port_of(pair))
    for side in sides:
        assert [row[0] for row in side[:3]] == ["connection.open", "channel.open", "queue.declare"]
        words = ("publish", "deliver")
        assert side[3:-2] == [(word, f"ex:k.{n}", n) for n in range(7) for word in words]
        assert [row[:2] for row in side[-2:]] == [("publish", "none:k"), ("channel.close", None)]


def test_frames_in_one_call_and_in_pieces_are_the_same_messages(watch: Watch) -> None:
    several = b"".join(publish("a", str(n)) + message(b"\xce" * (n * 37)) for n in range(40))
    long = publish("", "long") + message(b"z" * 3000, cut=1000)
    with connection() as pair:
        say(pair, PROTOCOL, several + HEARTBEAT)
        say(pair, *[long[at : at + 100] for at in range(0, len(long), 100)])
        small = publish("", "bytes") + message(b"by byte", cut=3)
        say(pair, *[bytes((byte,)) for byte in small])
        # A frame in a call each, as pika writes them; channels between each other.
        first, second = (publish("", f"c{n}", channel=n) for n in (1, 2))
        say(pair, first, second, content(5, channel=2), content(4), frame(3, 1, b"1234"))
        say(pair, frame(3, 2, b"12"), frame(3, 2, b"345"), publish("", "last") + message(b""))

        sides = see(watch, port_of(pair))
    for side in sides:
        assert side == [
            *[("publish", f"a:{n}", n * 37) for n in range(40)],
            ("publish", "long", 3000),
            ("publish", "bytes", 7),
            ("publish", "c1", 4),
            ("publish", "c2", 5),
            ("publish", "last", 0),
        ]


def test_behind_more_than_one_call_takes_messages_are_found_again_wherever_it_was_cut(
    watch: Watch,
) -> None:
    small = publish("", "small") + message(b"x")
    cut = publish("", "cut") + message(b"in \xce the \xce\1 middle")
    with connection() as pair:
        say(pair, PROTOCOL)
        say(pair, small * 500 + cut[:-9], cut[-9:] + publish("", "next") + message(b"y"))
        say(pair, publish("", "last") + message(b"z"))

        for side in see(watch, port_of(pair)):
            names = [name for _, name, _ in side]
            assert set(names[:-2]) == {"small"} and 250 < len(names) < 500
            assert names[-2:] == ["next", "last"]
    assert watch.count("segment_resync_lost") >= 2
    assert watch.count("segment_beyond_lost") >= 2


@pytest.mark.parametrize(
    "first", [HEARTBEAT, ACK, declare("q"), consume("q", "t"), start_ok("x" * 2000)]
)
def test_a_connection_that_was_open_before_is_known_by_what_its_client_says(
    watch: Watch, first: bytes
) -> None:
    with connection() as pair:
        hear(pair, deliver("t", "ex", "too early") + message(b"x"))
        say(pair, first, publish("", "q") + message(b"hello"))
        hear(pair, deliver("t", "", "q") + message(b"hello"))

        for side in see(watch, port_of(pair)):
            assert side[-2:] == [("publish", "q", 5), ("deliver", "q", 5)]


@pytest.mark.parametrize(
    "first",
    [
        b"AMQP\0\1\0\0",
        declare("q")[:-1] + b"\0",
        method(60, 130),
        method(61, 40),
        method(60, 40, channel=0),
    ],
)
def test_what_reads_nearly_as_it_is_none(watch: Watch, first: bytes) -> None:
    with connection() as pair:
        say(pair, first, first)
        assert watch.segments(port_of(pair)) == []


def watch_channel(capture: KernelCapture, port: int) -> tuple[MultiplexedWatch, BlockingChannel]:
    watch = MultiplexedWatch(capture, events.PROTO_AMQP, port)
    return watch, connect(port).channel()


def check(watch: MultiplexedWatch) -> tuple[list[Exchange], list[Exchange]]:
    client, server = watch.sides()
    assert watch.unread == 0 and not +watch.pairer.counters
    assert {x.key for x in client} == {x.key for x in server}
    assert len({x.key for x in client}) == len(client) == len(server)
    return client, server


def test_a_real_broker_gets_and_delivers_what_its_client_published(
    capture: KernelCapture, server: int
) -> None:
    watch, channel = watch_channel(capture, server)
    channel.queue_declare("orders")
    channel.exchange_declare("shop", "topic")
    channel.queue_bind("orders", "shop", "order.*")
    channel.confirm_delivery()
    for number in range(23):
        channel.basic_publish("shop", "order.new", b"x" * number)
    channel.basic_publish("", "orders", b"y" * 300_000)  # three frames
    for _ in range(7):
        channel.basic_get("orders", auto_ack=True)
    for at, (delivered, _, _) in enumerate(channel.consume("orders"), 1):
        channel.basic_ack(delivered.delivery_tag)
        if at == 17:
            break
    channel.cancel()
    assert channel.basic_get("orders", auto_ack=True)[0] is None
    channel.connection.close()

    for side in check(watch):
        counts = {word: 0 for word in ("publish", "get", "get-empty", "deliver")}
        for x in side:
            if x.operation in counts:
                counts[x.operation] += 1
        assert counts == {"publish": 24, "get": 7, "get-empty": 1, "deliver": 17}
        names = {x.collection for x in side if x.operation == "deliver"}
        assert names == {"shop:order.new:orders", "orders"}
        others = [(x.operation, x.collection) for x in side if x.operation not in counts]
        assert others == [
            ("connection.open", None),
            ("channel.open", None),
            ("queue.declare", "orders"),
            ("exchange.declare", "shop"),
            ("queue.bind", "shop:order.*:orders"),
            ("confirm.select", None),
            ("consume", "orders"),
            ("cancel", None),
            ("channel.close", None),
            ("connection.close", None),
        ]
        assert all(x.error is None and x.duration_ns >= 0 for x in side)


def test_what_a_broker_refuses_says_why(capture: KernelCapture, server: int) -> None:
    watch, channel = watch_channel(capture, server)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.queue_declare("none", passive=True)
    other = channel.connection.channel()
    other.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError):
        other.basic_publish("", "nobody", b"x", mandatory=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        other.basic_publish("none", "k", b"x")
    other.connection.close()
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(server, password="wrong")

    for side in check(watch):
        assert [(x.operation, x.collection, x.error) for x in side if x.error] == [
            ("queue.declare", "none", "not-found"),
            ("return", "nobody", "no-route"),
            ("channel.close", None, "not-found"),
            ("connection.close", None, "access-refused"),
        ]


def test_clients_at_once_lose_nothing(capture: KernelCapture, server: int) -> None:
    """Each with a connection and a queue of its own; calls of many messages."""
    watch = MultiplexedWatch(capture, events.PROTO_AMQP, server)

    def use(number: int) -> None:
        channel = connect(server).channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        for _ in range(97):
            channel.basic_publish("", queue, b"x" * number)
        for at, _ in enumerate(channel.consume(queue, auto_ack=True), 1):
            if at == 97:
                break
        channel.connection.close()

    threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        watch.drain()
    for side in check(watch):
        for operation in ("publish", "deliver"):
            assert sum(x.operation == operation for x in side) == 3 * 97
