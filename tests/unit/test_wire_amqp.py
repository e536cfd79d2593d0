"""AMQP's methods, and the heads of messages behind them: whole, cut at each length, and any bytes at all."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire import amqp
from farcall_probes.wire.amqp import AmqpMethod, parse_method
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated
from farcall_probes.wire.tracecontext import B3, W3C
from support_amqp import (
    HEARTBEAT,
    PROTOCOL,
    close,
    consume,
    content,
    declare,
    declared,
    deliver,
    get,
    get_ok,
    long_text,
    message,
    method,
    publish,
    short,
    start_ok,
    table,
)

pytestmark = pytest.mark.unit

TRACE, SPAN = bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331")
PARENT = f"00-{TRACE.hex()}-{SPAN.hex()}-01"
# One value of each type that RabbitMQ knows, before the one that is looked for.
VALUES = {
    "t": (b"t", b"\1"),
    "b": (b"b", b"\1"),
    "B": (b"B", b"\1"),
    "s": (b"s", bytes(2)),
    "u": (b"u", bytes(2)),
    "I": (b"I", bytes(4)),
    "i": (b"i", bytes(4)),
    "l": (b"l", bytes(8)),
    "f": (b"f", bytes(4)),
    "d": (b"d", bytes(8)),
    "D": (b"D", bytes(5)),
    "T": (b"T", bytes(8)),
    "V": (b"V", b""),
    "S": long_text("x" * 40),
    "x": (b"x", struct.pack(">I", 3) + b"abc"),
    "A": (b"A", struct.pack(">I", 2) + b"t\1"),
    "F": (b"F", table({"k": (b"t", b"\0")})),
}


def whole(kind: amqp.Kind, name: str, **said: Any) -> AmqpMethod:
    return AmqpMethod(kind, name, **{"channel": 1, **said})


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (
            publish("ex", "a.b") + message(b"hello"),
            whole(amqp.PUBLISH, "publish", exchange="ex", routing_key="a.b", body_bytes=5),
        ),
        (
            publish("", "q", channel=513) + message(b"", channel=513),
            AmqpMethod((60, 40), "publish", 513, "", "q", body_bytes=0),
        ),
        (
            deliver("tag", "ex", "k") + content(1 << 40),
            whole(
                amqp.DELIVER,
                "deliver",
                exchange="ex",
                routing_key="k",
                tag="tag",
                body_bytes=1 << 40,
            ),
        ),
        (
            get_ok("ex", "k") + message(b"abc"),
            whole(amqp.GET_OK, "get-ok", exchange="ex", routing_key="k", body_bytes=3),
        ),
        (declare("q"), whole((50, 10), "queue.declare", queue="q")),
        (declare("q", 16), whole((50, 10), "queue.declare", queue="q", is_answered=False)),
        (declared("q"), whole((50, 11), "queue.declare-ok", queue="q")),
        (get("q"), whole(amqp.GET, "get", queue="q")),
        (consume("q", "t"), whole(amqp.CONSUME, "consume", queue="q", tag="t")),
        (method(60, 72, b"\0"), whole(amqp.GET_EMPTY, "get-empty")),
        (method(85, 10, b"\1"), whole((85, 10), "confirm.select", is_answered=False)),
        (method(90, 21), whole((90, 21), "ok")),
        (
            close(404, (60, 40)),
            whole(amqp.CLOSE_CHANNEL, "channel.close", error="not-found", failed=(60, 40)),
        ),
        (
            close(200, (0, 0), channel=0),
            whole(amqp.CLOSE, "connection.close", channel=0, failed=(0, 0)),
        ),
        (
            close(999, (0, 0), channel=0),
            whole(amqp.CLOSE, "connection.close", channel=0, error="999", failed=(0, 0)),
        ),
        (method(60, 120, bytes(9)), whole(amqp.NACK, "nack", error="nack")),
    ],
)
def test_methods_are_read_with_their_message(data: bytes, found: AmqpMethod) -> None:
    assert parse_method(data) == found
    assert parse_method(data + HEARTBEAT) == found
    bodies = 8 + (found.body_bytes or 0) if found.body_bytes and found.body_bytes < 99 else 0
    for end in range(len(data) - bodies):  # nothing of the message's bytes is read
        assert parse_method(data[:end]) is NEED_MORE
        outcome = parse_method(data[:end], cut=True)
        assert isinstance(outcome, Truncated) if end >= 11 else outcome is NOT_MINE
        if isinstance(outcome, Truncated):
            assert outcome.partial.kind == found.kind
    for end in range(len(data) - bodies, len(data)):
        assert parse_method(data[:end], cut=True) == found


@pytest.mark.parametrize(
    "data",
    [
        PROTOCOL,
        HEARTBEAT + bytes(8),
        start_ok("hush"),
        method(10, 10, bytes(40), channel=0),
        method(60, 80, bytes(9)),
        method(60, 40, b"\0\0\xff"),
        content(5),
        declare("q")[:-1] + b"\0",
        b"\1\0\1\xff\xff\xff\xff" + bytes(40),
    ],
)
def test_anything_else_is_none(data: bytes) -> None:
    assert parse_method(data) is NOT_MINE
    assert parse_method(data, cut=True) is NOT_MINE


def test_headers_say_the_trace() -> None:
    said = {"TraceParent": long_text(PARENT), "tracestate": long_text("a=b")}
    data = publish("ex", "k") + message(b"hello", table({**VALUES, **said}))
    found = parse_method(data)

    assert isinstance(found, AmqpMethod)
    assert (found.ids, found.trace_format, found.trace_state) == ((TRACE, SPAN), W3C, "a=b")
    b3 = {"b3": long_text(f"{TRACE.hex()}-{SPAN.hex()}-1")}
    found = parse_method(publish("ex", "k") + content(5, table(b3)))
    assert isinstance(found, AmqpMethod) and (found.ids, found.trace_format) == ((TRACE, SPAN), B3)


@pytest.mark.parametrize("before", [(b"?", b"\1"), (b"S", b"\xff" * 4), (b"F", b"\0\1\0\0")])
def test_behind_a_value_that_cannot_be_read_nothing_is(before: tuple[bytes, bytes]) -> None:
    headers = table({"odd": before, "traceparent": long_text(PARENT)})
    found = parse_method(publish("ex", "k") + content(5, headers))

    assert isinstance(found, AmqpMethod) and found.ids == (None, None) and found.body_bytes == 5


def test_what_is_to_come_of_a_message_is_counted() -> None:
    begun = publish("ex", "k") + content(9)
    assert amqp.count_message(begun, len(begun)) == 9
    assert amqp.count_message(begun, len(begun) + 8 + 4) == 5
    assert amqp.count_message(begun[:-1], len(begun) + 8 + 9) == 0
    assert amqp.count_message(publish("ex", "k"), 30) is None
    assert amqp.read_size(content(9)) == 9


@given(st.binary(max_size=300))
def test_any_bytes_have_one_of_the_outcomes(tail: bytes) -> None:
    for begin in (b"", b"\1\0\1", publish("ex", "k"), publish("ex", short("k").decode())[:-3]):
        data = begin + tail
        for cut in (False, True):
            outcome = parse_method(data, cut=cut)
            assert isinstance(outcome, AmqpMethod | Truncated | Outcome)
            assert not (cut and outcome is NEED_MORE)
        amqp.count_message(data, len(data))
