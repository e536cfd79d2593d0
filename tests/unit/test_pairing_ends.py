"""Messages that go on behind their first call: told of with their last byte, or as they stand where it does not come."""

from dataclasses import replace

import pytest

from farcall_probes import events
from farcall_probes.pairing import UNENDED_NS, Pairer
from support_pairing import Message, make_block
from support_segments import CLOSED, REQUEST, RESPONSE, kafka_request, kafka_response

pytestmark = pytest.mark.unit

LATER = events.ENDED_LATER
GOES_ON = [
    Message(kind=REQUEST, seq=0, data=kafka_request(1), ts_ns=10_000, ended=LATER, length=9_000),
    Message(kind=REQUEST, seq=1, ts_ns=14_000),
    Message(kind=REQUEST, seq=2, data=kafka_request(2), ts_ns=20_000, ended_ns=23_000),
    Message(kind=RESPONSE, seq=0, data=kafka_response(1), ts_ns=30_000, ended=LATER, length=70_000),
]
ENDS = [
    Message(kind=RESPONSE, seq=1, ts_ns=90_000),
    Message(kind=RESPONSE, seq=2, data=kafka_response(2), ts_ns=91_000, ended_ns=92_000),
]


@pytest.mark.parametrize("drains", [1, 2, 6])
def test_what_goes_on_in_later_calls_lasts_to_its_last_byte(drains: int) -> None:
    pairer, messages = Pairer(), GOES_ON + ENDS
    width = len(messages) // drains
    found = [
        pairer.take(make_block(messages[at : at + width])) for at in range(0, len(messages), width)
    ]
    rows = [row for exchanges in found if exchanges is not None for row in exchanges]

    names = ("ts_req_ns", "ts_resp_ns", "ended_ns", "asked_us", "req_bytes", "resp_bytes")
    assert [tuple(int(row[name]) for name in names) for row in rows] == [
        (10_000, 30_000, 90_000, 4, 9_000, 70_000),
        (20_000, 91_000, 92_000, 3, len(kafka_request(2)), len(kafka_response(2))),
    ]
    assert len(pairer) == 0 and not any(pairer.counters.values())


@pytest.mark.parametrize("how", ["gap", "close", "late", "agent"])
def test_a_response_whose_end_does_not_come_is_told_as_it_stands(how: str) -> None:
    pairer = Pairer()
    assert pairer.take(make_block(GOES_ON)) is None
    if how == "gap":
        found = pairer.take(make_block([replace(ENDS[1], seq=5)]))
    elif how == "close":
        closed = Message(kind=CLOSED, seq=1, ts_ns=99_000, length=3, responses=1)
        found = pairer.take(make_block([closed]))
    elif how == "late":
        found = pairer.tell_late(30_000 + UNENDED_NS + 1, 10 * UNENDED_NS)
    else:
        found = pairer.let_go()

    assert found is not None
    assert (found["ts_resp_ns"][0], found["ended_ns"][0]) == (30_000, 30_000)
    assert pairer.counters["multiplexed_unended"] == 1
