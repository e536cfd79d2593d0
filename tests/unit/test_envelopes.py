"""Messages of Cassandra's version 5 come out of their frames, and those that were not captured are a loss."""

from dataclasses import replace

import pytest

from farcall_probes.envelopes import unwrap_frames
from farcall_probes.events import ENDED_LATER, PROTO_CASSANDRA
from farcall_probes.pairing import CAPTURED, Pairer
from support_pairing import Message, list_pairs, make_block
from support_segments import (
    REQUEST,
    RESPONSE,
    cassandra_frame,
    cassandra_request,
    cassandra_response,
)

pytestmark = pytest.mark.unit


def frame_of(kind: int, seq: int, *messages: bytes) -> Message:
    return Message(kind=kind, seq=seq, data=cassandra_frame(*messages), proto=PROTO_CASSANDRA)


def ask(stream: int) -> bytes:
    return cassandra_request(stream, version=5)


def say(stream: int, size: int = 4) -> bytes:
    return cassandra_response(stream, body=b"\0" * size, version=5)


def test_several_messages_of_a_frame_meet_their_answers() -> None:
    block = make_block(
        [
            frame_of(REQUEST, 0, ask(1), ask(2), ask(3)),
            frame_of(RESPONSE, 0, say(3), say(1)),
            frame_of(RESPONSE, 1, say(2)),
        ]
    )
    block["wrapped"] = 1
    pairer = Pairer()

    assert list_pairs(pairer.take(block)) == [
        (ask(3), say(3)),
        (ask(1), say(1)),
        (ask(2), say(2)),
    ]
    assert pairer.counters["multiplexed_gaps"] == 0


def test_messages_of_a_frame_that_goes_on_end_with_it() -> None:
    asked = replace(frame_of(REQUEST, 0, ask(1), ask(2)), ended=ENDED_LATER, ts_ns=1_000)
    asked_end = Message(kind=REQUEST, seq=1, proto=PROTO_CASSANDRA, ts_ns=6_000)
    said = replace(frame_of(RESPONSE, 0, say(2), say(1)), ended=ENDED_LATER, ts_ns=7_000)
    said_end = Message(kind=RESPONSE, seq=1, proto=PROTO_CASSANDRA, ts_ns=9_000)
    block = make_block([asked, asked_end, said, said_end])
    block["wrapped"] = [1, 0, 1, 0]
    pairer = Pairer()
    found = pairer.take(block)

    assert list_pairs(found) == [(ask(2), say(2)), (ask(1), say(1))] and found is not None
    assert found["ts_resp_ns"].tolist() == [7_000] * 2 and found["ended_ns"].tolist() == [9_000] * 2
    assert found["asked_us"].tolist() == [5] * 2 and not any(pairer.counters.values())


def test_messages_behind_what_was_captured_are_a_loss() -> None:
    block = make_block(
        [
            frame_of(REQUEST, 0, ask(1), ask(2)),
            frame_of(RESPONSE, 0, say(1, CAPTURED), say(2)),
        ]
    )
    block["wrapped"] = 1
    pairer = Pairer()
    ((asked, _),) = list_pairs(pairer.take(block))

    assert asked == ask(1)
    assert pairer.counters["multiplexed_requests_lost"] == 1


def test_an_answer_whose_frame_was_not_captured_to_its_end_lasts_to_it() -> None:
    said = frame_of(RESPONSE, 0, say(1, CAPTURED), say(2))
    said_end = Message(kind=RESPONSE, seq=1, proto=PROTO_CASSANDRA, ts_ns=9_000)
    said = replace(said, ended=ENDED_LATER, ts_ns=7_000)
    block = make_block([frame_of(REQUEST, 0, ask(1), ask(2)), said, said_end])
    block["wrapped"] = [1, 1, 0]
    pairer = Pairer()
    found = pairer.take(block)

    assert found is not None and found["ended_ns"].tolist() == [9_000]
    assert pairer.counters["multiplexed_requests_lost"] == 1
    assert pairer.counters["multiplexed_unended"] == 0


def test_what_is_no_frame_stays_one_row_that_pairs_with_nothing() -> None:
    block = make_block([Message(kind=REQUEST, seq=0, data=b"\xff" * 40, proto=PROTO_CASSANDRA)])
    block["wrapped"] = 1
    unwrapped = unwrap_frames(block)

    assert unwrapped.is_unread == [True]
    assert unwrapped.lost_behind == [True]
    assert Pairer().take(block) is None
