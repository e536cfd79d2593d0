"""AMQP's frames become exchanges: a method with its answer, a message from its first frame to its last."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.channels import Channels
from farcall_probes.messages import DELIVERED
from farcall_probes.multiplexed import MultiplexedReader
from farcall_probes.pairing import UNENDED_NS
from support_amqp import (
    close,
    consume,
    content,
    declare,
    declared,
    deliver,
    frame,
    get,
    get_ok,
    long_text,
    message,
    method,
    publish,
    short,
    table,
)
from support_pairing import Message, make_block
from support_segments import CLOSED, REQUEST, RESPONSE

pytestmark = pytest.mark.unit

AMQP = events.PROTO_AMQP
TEXT = b"x" * 20


class Talk:
    """What both ends say, numbered and timed one by one."""

    def __init__(self, *, max_kept: int = 64) -> None:
        self.channels = Channels(max_kept=max_kept, max_connections=4)
        self._numbers = {REQUEST: 0, RESPONSE: 0}
        self._now = 0
        self._reader = MultiplexedReader(masking=True)
        self.found: list[tuple[str | None, str | None, str | None]] = []
        self.times: list[tuple[int, int, int]] = []  # first byte, answer's first, last
        self.sizes: list[tuple[int, int]] = []

    def say(self, kind: int, data: bytes, **more: int) -> None:
        self._now += 100
        said = Message(kind=kind, seq=self._numbers[kind], data=data, proto=AMQP, ts_ns=self._now)
        self._numbers[kind] += 1
        self.take(self.channels.take(make_block([replace(said, **more)])))

    def lose(self, kind: int) -> None:
        self._numbers[kind] += 1

    def close(self, end: int = 0) -> None:
        asked, told = self._numbers.values()
        closed = Message(kind=CLOSED, seq=told, proto=AMQP, ts_ns=self._now, length=asked)
        block = make_block([replace(closed, responses=told)])
        block["end"] = end
        self.take(self.channels.take(block))

    def take(self, done: Records | None) -> None:
        if done is None:
            return
        assert not done["segment"].any()
        columns = self._reader.read(AMQP, done)
        assert len(columns.rows) == len(done) and columns.collection is not None
        self.found += zip(columns.operation, columns.collection, columns.error, strict=True)
        names = ("ts_req_ns", "ts_resp_ns", "ended_ns")
        self.times += [tuple(map(int, row)) for row in np.stack([done[n] for n in names], 1)]
        sizes = [columns.request_bytes, columns.response_bytes]
        if all(column is not None for column in sizes):
            self.sizes += zip(*(column.tolist() for column in sizes if column is not None))  # noqa: B905

    def count(self) -> dict[str, int]:
        return {name: n for name, n in self.channels.counters.items() if n}


def test_a_method_is_paired_with_its_answer_on_its_own_channel() -> None:
    talk = Talk()
    talk.say(REQUEST, declare("a"))
    talk.say(REQUEST, declare("b", channel=2))
    talk.say(RESPONSE, declared("b", channel=2))
    talk.say(RESPONSE, declared("a"))

    assert talk.found == [("queue.declare", "b", None), ("queue.declare", "a", None)]
    assert talk.times == [(200, 300, 300), (100, 400, 400)]
    assert not talk.count() and len(talk.channels) == 0


def test_what_waits_for_nothing_is_told_at_once() -> None:
    talk = Talk()
    talk.say(REQUEST, declare("a", 16))
    assert talk.found == [("queue.declare", "a", None)]
    talk.say(RESPONSE, declared("a"))
    assert len(talk.found) == 1
    assert talk.count() == {"multiplexed_unanswered": 1, "multiplexed_orphans": 1}


@pytest.mark.parametrize(
    "pieces",
    [
        [publish("ex", "k") + message(TEXT)],
        [publish("ex", "k"), message(TEXT)[:-28], frame(3, 1, TEXT)],
        [publish("ex", "k") + content(20), frame(3, 1, TEXT[:5]), frame(3, 1, TEXT[5:])],
        [publish("ex", "k") + message(TEXT, cut=12)[:-16], frame(3, 1, TEXT[12:])],
    ],
)
def test_a_message_is_one_however_its_frames_came(pieces: list[bytes]) -> None:
    talk = Talk()
    for piece in pieces:
        talk.say(REQUEST, piece)

    assert talk.found == [("publish", "ex:k", None)] and talk.sizes == [(20, 0)]
    assert talk.times == [(100, 100 * len(pieces), 100 * len(pieces))]


def test_messages_of_several_channels_may_lie_between_each_other() -> None:
    talk = Talk()
    for channel in (1, 2):
        talk.say(RESPONSE, deliver("t", "ex", f"k{channel}", channel=channel))
    for channel in (2, 1):
        talk.say(RESPONSE, content(20, channel=channel))
    for channel in (1, 2):
        talk.say(RESPONSE, frame(3, channel, TEXT))

    assert [row[:2] for row in talk.found] == [("deliver", "ex:k1"), ("deliver", "ex:k2")]
    assert talk.sizes == [(0, 20)] * 2 and len(talk.channels) == 0


def test_the_last_frame_lasts_to_its_last_byte() -> None:
    talk = Talk()
    talk.say(REQUEST, publish("ex", "k") + message(TEXT), ended=events.ENDED_LATER)
    talk.say(RESPONSE, declared("other"))
    assert not talk.found
    talk.say(REQUEST, b"", ts_ns=777)
    assert talk.times == [(100, 777, 777)]


def test_what_is_delivered_has_the_other_direction_turned_round() -> None:
    block = make_block(
        [
            Message(kind=REQUEST, seq=0, data=publish("ex", "k") + message(TEXT), proto=AMQP),
            Message(kind=RESPONSE, seq=0, data=deliver("t", "e", "k") + message(TEXT), proto=AMQP),
        ]
    )
    block["isn_client"], block["isn_server"] = 7, 9
    done = Channels().take(block)

    assert done is not None and done["seq"].tolist() == [0, DELIVERED]
    assert done["isn_client"].tolist() == [7, 9] and done["isn_server"].tolist() == [9, 7]


def test_a_message_that_is_fetched_is_its_answer() -> None:
    talk = Talk()
    talk.say(REQUEST, get("q"))
    talk.say(RESPONSE, get_ok("ex", "k") + content(20))
    talk.say(RESPONSE, frame(3, 1, TEXT))
    talk.say(REQUEST, get("q"))
    talk.say(RESPONSE, method(60, 72, b"\0"))

    assert talk.found == [("get", "ex:k:q", None), ("get-empty", "q", None)]
    assert talk.sizes == [(0, 20)] and talk.times == [(100, 200, 300), (400, 500, 500)]


def test_a_delivery_names_the_queue_of_its_consumer() -> None:
    talk = Talk()
    talk.say(REQUEST, consume("q", ""))
    talk.say(RESPONSE, method(60, 21, short("amq.ctag-1")))
    talk.say(RESPONSE, deliver("amq.ctag-1", "ex", "k") + message(b""))
    talk.say(RESPONSE, deliver("amq.ctag-1", "", "q") + message(b""))
    talk.say(RESPONSE, deliver("amq.ctag-1", "", "", channel=2) + message(b"", channel=2))

    assert [row[1] for row in talk.found] == ["q", "ex:k:q", "q", "amq.default"]


def test_a_queue_that_the_server_named_is_known_by_that_name() -> None:
    talk = Talk()
    talk.say(REQUEST, declare(""))
    talk.say(RESPONSE, declared("amq.gen-x"))
    assert talk.found == [("queue.declare", "amq.gen-x", None)]


def test_a_channel_that_is_closed_answers_what_it_is_closed_for() -> None:
    talk = Talk()
    talk.say(REQUEST, declare("a"))
    talk.say(REQUEST, declare("b"))
    talk.say(REQUEST, declare("c", channel=2))
    talk.say(RESPONSE, close(406, (50, 10)))
    assert talk.found == [
        ("queue.declare", "a", "precondition-failed"),
        ("queue.declare", "b", "no_response"),
    ]
    talk.say(REQUEST, method(20, 41))
    talk.say(RESPONSE, declared("c", channel=2))
    assert talk.found[2:] == [("queue.declare", "c", None)] and not talk.count()


def test_closing_for_what_nobody_waits_for_is_told_by_itself() -> None:
    talk = Talk()
    talk.say(REQUEST, get("q"))
    talk.say(RESPONSE, close(404, (60, 40)))
    talk.say(RESPONSE, close(320, (0, 0), channel=0))
    assert talk.found == [
        ("channel.close", None, "not-found"),
        ("get", "q", "no_response"),
        ("connection.close", None, "connection-forced"),
    ]


def test_what_a_broker_does_not_take_has_failed() -> None:
    talk = Talk()
    returned = b"\x01\x38" + short("NO_ROUTE") + short("ex") + short("k")
    talk.say(RESPONSE, method(60, 50, returned) + message(TEXT))
    talk.say(RESPONSE, method(60, 120, bytes(9)))
    talk.say(REQUEST, method(60, 120, bytes(9)))  # a consumer's: nobody failed
    assert talk.found == [("return", "ex:k", "no-route"), ("nack", None, "nack")]


def test_behind_a_loss_nothing_is_paired_that_was_asked_before() -> None:
    talk = Talk()
    talk.say(REQUEST, declare("a"))
    talk.say(REQUEST, publish("ex", "k"))
    talk.lose(RESPONSE)
    talk.say(RESPONSE, declared("a"))

    assert talk.found == [("publish", "ex:k", None)]
    assert talk.count() == {
        "multiplexed_gaps": 1,
        "multiplexed_requests_lost": 1,
        "multiplexed_orphans": 1,
        "messages_unended": 1,
    }
    talk.say(REQUEST, frame(3, 1, TEXT))
    assert talk.count()["messages_orphans"] == 1 and len(talk.channels) == 0


def test_what_is_open_when_its_connection_closes_is_told_as_it_stands() -> None:
    talk = Talk()
    talk.say(REQUEST, declare("a"))
    talk.say(REQUEST, publish("ex", "k", channel=2) + content(20, channel=2))
    talk.close(events.END_RESET)

    assert sorted(talk.found) == [("publish", "ex:k", None), ("queue.declare", "a", "reset")]
    assert talk.count() == {"messages_unended": 1} and len(talk.channels) == 0


def test_what_waits_too_long_is_told_of() -> None:
    talk = Talk()
    talk.say(REQUEST, declare("a"))
    talk.say(REQUEST, publish("ex", "k", channel=2))
    talk.take(talk.channels.tell_late(UNENDED_NS, 2 * UNENDED_NS))
    assert not talk.found
    talk.take(talk.channels.tell_late(UNENDED_NS + 1000, UNENDED_NS))
    assert sorted(talk.found) == [("publish", "ex:k", None), ("queue.declare", "a", "timeout")]
    talk.say(REQUEST, publish("ex", "k"))
    talk.take(talk.channels.let_go())
    assert len(talk.found) == 3 and len(talk.channels) == 0


def test_heads_without_end_are_of_bounded_memory() -> None:
    talk = Talk()
    talk.say(REQUEST, publish("ex", "k"))
    head = content(20, table({"why": long_text("x" * 200)}))
    tracemalloc.start()
    for _ in range(2000):
        talk.say(REQUEST, head)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 100 * len(head)


def test_no_more_is_kept_than_there_is_room_for() -> None:
    talk = Talk(max_kept=2)
    for number in range(5):
        talk.say(REQUEST, declare(f"q{number}"))
    talk.say(REQUEST, publish("ex", "k"))
    assert len(talk.channels) == 2 and talk.count() == {"multiplexed_dropped": 4}
    for connection in range(2, 7):  # of four
        talk.channels.take(
            make_block([Message(kind=REQUEST, seq=0, data=b"", proto=AMQP, conn_id=connection)])
        )
    assert len(talk.channels) == 0 and talk.count()["multiplexed_dropped"] == 6
