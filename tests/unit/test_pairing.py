"""Requests and responses that come in any order meet by their number, and a loss never makes a wrong pair."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcall_probes import events, pairing
from farcall_probes.events import PROTO_CASSANDRA, PROTO_KAFKA, PROTO_MONGODB
from farcall_probes.pairing import Pairer
from support_pairing import Message, list_pairs, make_block
from support_segments import (
    CLOSED,
    MAKERS,
    REQUEST,
    RESPONSE,
    cassandra_request,
    cassandra_response,
    kafka_request,
    kafka_response,
    mongodb_message,
    mongodb_request,
    mongodb_response,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("proto", MAKERS)
def test_answers_meet_their_requests_in_any_order_over_several_drains(proto: int) -> None:
    ask, say = MAKERS[proto]
    pairer = Pairer()
    first = [Message(kind=REQUEST, seq=i, data=ask(i + 1), proto=proto, ts_ns=i) for i in range(4)]
    then = [
        Message(kind=RESPONSE, seq=i, data=say(n), proto=proto, ts_ns=100 + i)
        for i, n in enumerate((3, 1, 4, 2))
    ]
    assert pairer.take(make_block(first)) is None
    one = pairer.take(make_block(then[:2]))
    two = pairer.take(make_block(then[2:]))

    assert list_pairs(one) == [(ask(3), say(3)), (ask(1), say(1))]
    assert list_pairs(two) == [(ask(4), say(4)), (ask(2), say(2))]
    assert one is not None
    assert one["seq"].tolist() == [2, 0]
    assert one["ts_req_ns"].tolist() == [2, 0] and one["ts_resp_ns"].tolist() == [100, 101]
    assert one["resp_bytes"].tolist() == [len(say(3)), len(say(1))]
    assert set(one["segment"].tolist()) == {events.SEGMENT_NONE}
    assert len(pairer) == 0


def test_the_identity_of_the_answer_is_lent_to_a_request_that_has_none() -> None:
    block = make_block(
        [
            Message(kind=REQUEST, seq=0, data=kafka_request(1)),
            Message(kind=RESPONSE, seq=0, data=kafka_response(1), flags=events.FLAG_IDENTITY),
        ]
    )
    block["isn_client"][1], block["isn_server"][1] = 11, 22
    block["request_seq"] = (5, 6)
    (exchange,) = Pairer().take(block)  # type: ignore[misc]

    assert (exchange["isn_client"], exchange["isn_server"], exchange["request_seq"]) == (11, 22, 5)
    assert exchange["flags"] & events.FLAG_IDENTITY


def test_a_gap_makes_what_is_in_flight_unknown() -> None:
    pairer = Pairer()
    ended = pairer.take(
        make_block(
            [
                Message(kind=REQUEST, seq=0, data=kafka_request(1)),
                Message(kind=REQUEST, seq=1, data=kafka_request(2)),
                Message(kind=RESPONSE, seq=1, data=kafka_response(2)),
                Message(kind=REQUEST, seq=2, data=kafka_request(3)),
                Message(kind=RESPONSE, seq=2, data=kafka_response(3)),
            ]
        )
    )

    assert list_pairs(ended) == [(kafka_request(3), kafka_response(3))]
    assert pairer.counters["multiplexed_gaps"] == 1
    assert pairer.counters["multiplexed_requests_lost"] == 2
    assert pairer.counters["multiplexed_orphans"] == 1


def test_requests_that_were_not_seen_cost_no_others() -> None:
    pairer = Pairer()
    ended = pairer.take(
        make_block(
            [
                Message(kind=REQUEST, seq=0, data=kafka_request(1)),
                Message(kind=REQUEST, seq=3, data=kafka_request(4)),
                Message(kind=RESPONSE, seq=0, data=kafka_response(2)),
                Message(kind=RESPONSE, seq=1, data=kafka_response(1)),
                Message(kind=RESPONSE, seq=2, data=kafka_response(4)),
                Message(kind=CLOSED, seq=3, length=5, responses=3),
            ]
        )
    )

    assert list_pairs(ended) == [
        (kafka_request(1), kafka_response(1)),
        (kafka_request(4), kafka_response(4)),
    ]
    assert pairer.counters["multiplexed_gaps"] == 2
    assert pairer.counters["multiplexed_requests_lost"] == 3
    assert pairer.counters["multiplexed_orphans"] == 1


@pytest.mark.parametrize(
    ("proto", "ask", "answer"),
    [
        (PROTO_KAFKA, kafka_request, kafka_response),
        (PROTO_MONGODB, mongodb_request, mongodb_response),
    ],
)
@pytest.mark.parametrize("drains", [1, 2])
def test_inside_tls_the_place_of_a_request_is_its_number(
    proto: int, ask: Callable[[int], bytes], answer: Callable[[int], bytes], drains: int
) -> None:
    """A server took three records from its socket at once."""
    numbers = (7, 4_000_000_000 - 2**32, 9)
    asked = [
        Message(kind=REQUEST, seq=at, data=ask(n), proto=proto, flags=events.FLAG_TLS)
        for at, n in enumerate(numbers)
    ]
    answered = [
        Message(kind=RESPONSE, seq=at, data=answer(n), proto=proto, flags=events.FLAG_TLS)
        for at, n in enumerate(numbers)
    ]
    pairer = Pairer()
    blocks = [make_block(asked + answered)] if drains == 1 else map(make_block, (asked, answered))
    found = [pairer.take(block) for block in blocks][-1]

    assert found is not None
    assert found["request_seq"].tolist() == [7, 4_000_000_000, 9]


def test_requests_of_a_connection_that_closes_were_not_answered() -> None:
    pairer = Pairer()
    assert pairer.take(make_block([Message(kind=REQUEST, seq=0, data=kafka_request(1))])) is None
    (ended,) = pairer.take(  # type: ignore[misc]
        make_block([Message(kind=CLOSED, seq=0, length=1, ts_ns=77)])
    )

    assert ended["flags"] & events.FLAG_NO_RESPONSE
    assert (ended["ts_resp_ns"], ended["resp_cap"], ended["resp_bytes"]) == (77, 0, 0)
    assert len(pairer) == 0


def test_a_close_that_counts_more_answers_than_came_says_nothing_of_the_requests() -> None:
    pairer = Pairer()
    messages = [
        Message(kind=REQUEST, seq=0, data=kafka_request(1)),
        Message(kind=CLOSED, seq=1, length=1, responses=1),
    ]

    assert pairer.take(make_block(messages)) is None
    assert pairer.counters["multiplexed_requests_lost"] == 1


def make_produce(correlation: int, acks: int, version: int) -> bytes:
    flexible = version >= 9
    head = struct.pack(">hhih", 0, version, correlation, 1) + b"c" + (b"\0" if flexible else b"")
    name = b"\0" if flexible else b"\xff\xff"
    body = head + name + struct.pack(">hi", acks, 1000)
    body += b"\x02\x07orders\x01\0\0" if flexible else b"\0\0\0\x01\0\x06orders\0\0\0\0"
    return struct.pack(">i", len(body)) + body


@pytest.mark.parametrize(
    ("proto", "data", "is_answered"),
    [
        (PROTO_KAFKA, make_produce(1, 0, 9), False),
        (PROTO_KAFKA, make_produce(1, 0, 7), False),
        (PROTO_KAFKA, make_produce(1, 1, 9), True),
        (PROTO_KAFKA, make_produce(1, -1, 7), True),
        (PROTO_MONGODB, mongodb_request(1)[:16] + b"\2\0\0\0" + mongodb_request(1)[20:], False),
        (PROTO_MONGODB, mongodb_request(1)[:16] + b"\0\0\1\0" + mongodb_request(1)[20:], True),
        (PROTO_MONGODB, mongodb_message(1, opcode=2002), False),
        (PROTO_MONGODB, mongodb_message(1, opcode=2004), True),
    ],
)
def test_what_asks_for_no_answer_is_an_exchange_at_once(
    proto: int, data: bytes, is_answered: bool
) -> None:
    pairer = Pairer()
    ended = pairer.take(make_block([Message(kind=REQUEST, seq=0, data=data, proto=proto, ts_ns=5)]))

    assert list_pairs(ended) == ([] if is_answered else [(data, b"")])
    assert len(pairer) == is_answered
    if ended is not None:
        assert not ended["flags"][0] & events.FLAG_NO_RESPONSE
        assert ended["ts_resp_ns"][0] == 5


def test_what_a_server_says_unasked_pairs_with_nothing() -> None:
    pairer = Pairer()
    event = cassandra_response(-1, opcode=0x0C)
    ended = pairer.take(
        make_block(
            [
                Message(kind=REQUEST, seq=0, data=cassandra_request(1), proto=PROTO_CASSANDRA),
                Message(kind=RESPONSE, seq=0, data=event, proto=PROTO_CASSANDRA),
                Message(kind=RESPONSE, seq=1, data=cassandra_response(1), proto=PROTO_CASSANDRA),
            ]
        )
    )

    assert list_pairs(ended) == [(cassandra_request(1), cassandra_response(1))]


def test_requests_that_wait_too_long_are_told_of_as_unanswered() -> None:
    pairer = Pairer()
    asked = [
        Message(kind=REQUEST, seq=at, data=kafka_request(at), ts_ns=1 + 10 * at) for at in range(2)
    ]
    pairer.take(make_block(asked))
    assert pairer.tell_late(now_ns=6, limit_ns=5) is None
    (ended,) = pairer.tell_late(now_ns=7, limit_ns=5)  # type: ignore[misc]
    assert pairer.tell_late(now_ns=8, limit_ns=5) is None

    assert bytes(ended["req"])[: int(ended["req_cap"])] == kafka_request(0)
    assert ended["flags"] & events.FLAG_NO_RESPONSE
    assert (ended["end"], ended["ts_resp_ns"]) == (events.END_TIMEOUT, 7)
    assert pairer.counters["multiplexed_timeouts"] == 1 and len(pairer) == 1


def test_who_waits_for_others_on_purpose_may_wait_for_longer() -> None:
    pairer = Pairer()
    join = bytearray(kafka_request(1))
    join[4:6] = b"\0\x0b"  # JoinGroup
    asked = [
        Message(kind=REQUEST, seq=0, data=bytes(join), ts_ns=1),
        Message(kind=REQUEST, seq=1, data=kafka_request(2), ts_ns=2),
    ]
    pairer.take(make_block(asked))
    ended = pairer.tell_late(now_ns=100, limit_ns=5)
    assert ended is not None and list_pairs(ended) == [(kafka_request(2), b"")]
    ended = pairer.tell_late(now_ns=pairing.PATIENCE_NS + 2, limit_ns=5)
    assert ended is not None and list_pairs(ended) == [(bytes(join), b"")]


def test_an_answer_that_comes_too_late_pairs_with_nothing_else() -> None:
    pairer = Pairer()
    pairer.take(make_block([Message(kind=REQUEST, seq=0, data=kafka_request(1), ts_ns=1)]))
    pairer.tell_late(now_ns=100, limit_ns=5)
    ended = pairer.take(
        make_block(
            [
                Message(kind=REQUEST, seq=1, data=kafka_request(2), ts_ns=101),
                Message(kind=RESPONSE, seq=0, data=kafka_response(1), ts_ns=102),
                Message(kind=RESPONSE, seq=1, data=kafka_response(2), ts_ns=103),
            ]
        )
    )

    assert list_pairs(ended) == [(kafka_request(2), kafka_response(2))]
    assert pairer.counters["multiplexed_orphans"] == 1


def test_memory_is_bounded_and_what_is_given_up_is_counted() -> None:
    pairer = Pairer(max_in_flight=8, max_connections=4)
    for conn_id in range(40):
        pairer.take(
            make_block(
                Message(kind=REQUEST, seq=i, data=kafka_request(i), conn_id=conn_id)
                for i in range(3)
            )
        )
        assert len(pairer) <= 8
    assert pairer.counters["multiplexed_dropped"] == 120 - len(pairer)


def test_when_it_is_crowded_the_oldest_go() -> None:
    pairer = Pairer(max_in_flight=2)
    old = [Message(kind=REQUEST, seq=i, data=kafka_request(i), ts_ns=1) for i in range(2)]
    late = pairing.CROWDED_AGE_NS + 2
    pairer.take(make_block(old))
    pairer.take(make_block([Message(kind=REQUEST, seq=2, data=kafka_request(9), ts_ns=late)]))

    assert pairer.counters["multiplexed_dropped"] == 2
    assert len(pairer) == 1


# What a connection may say: None is a new request, a number answers one of those in flight.
Script = list[tuple[int, int | None]]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[int, list[Message]]:
    """Any conversation that keeps to its protocol: Cassandra's few streams are used again, the others' numbers never are."""
    proto = draw(st.sampled_from(sorted(MAKERS)))
    ask, say = MAKERS[proto]
    messages: list[Message] = []
    for conn_id in range(draw(st.integers(1, 3))):
        in_flight: list[tuple[int, int]] = []
        seqs = {REQUEST: 0, RESPONSE: 0}
        for tag in range(draw(st.integers(0, 25))):
            free = [s for s in range(3) if s not in [n for n, _ in in_flight]]
            number = tag + 1 if proto != PROTO_CASSANDRA else (free[0] if free else None)
            if in_flight and (number is None or draw(st.booleans())):
                number, request = in_flight.pop(draw(st.integers(0, len(in_flight) - 1)))
                kind, data = RESPONSE, say(number, body=b"%08d" % request)
            else:
                assert number is not None
                in_flight.append((number, tag))
                kind, data = REQUEST, ask(number, body=b"%08d" % tag)
            messages.append(
                Message(kind=kind, seq=seqs[kind], data=data, proto=proto, conn_id=conn_id)
            )
            seqs[kind] += 1
        if draw(st.booleans()):
            messages.append(
                Message(
                    kind=CLOSED,
                    seq=seqs[RESPONSE],
                    proto=proto,
                    conn_id=conn_id,
                    length=seqs[REQUEST],
                    responses=seqs[RESPONSE],
                )
            )
    return proto, messages


@settings(deadline=None, max_examples=400)
@given(conversations(), st.data())
def test_no_loss_and_no_cut_into_drains_makes_a_wrong_pair(
    conversation: tuple[int, list[Message]], data: st.DataObject
) -> None:
    _, messages = conversation
    lost = data.draw(st.sets(st.integers(0, max(len(messages) - 1, 0))))
    arrived = [m for at, m in enumerate(messages) if at not in lost]
    pairer = Pairer()
    pairs: list[tuple[bytes, bytes]] = []
    while arrived:
        size = data.draw(st.integers(1, len(arrived)))
        pairs += list_pairs(pairer.take(make_block(arrived[:size])))
        arrived = arrived[size:]

    assert all(not answer or answer[-8:] == asked[-8:] for asked, answer in pairs)
    asked = [m for m in messages if m.kind == REQUEST]
    answered = [m for m in messages if m.kind == RESPONSE]
    closed = {m.conn_id for m in messages if m.kind == CLOSED}
    if not lost:
        unanswered = sum(m.conn_id in closed for m in asked) - sum(
            m.conn_id in closed for m in answered
        )
        assert sum(bool(answer) for _, answer in pairs) == len(answered)
        assert sum(not answer for _, answer in pairs) == unanswered
        assert pairer.counters["multiplexed_gaps"] == 0
