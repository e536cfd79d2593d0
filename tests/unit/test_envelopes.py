"""Messages of Cassandra's version 5 come out of their frames, and those that were not captured are a loss."""

import pytest

from farcall_probes.envelopes import unwrap_frames
from farcall_probes.events import PROTO_CASSANDRA
from farcall_probes.pairing import CAPTURED, Pairer
from farcall_probes.wire import cassandra
from support_pairing import Message, list_pairs, make_block
from support_segments import REQUEST, RESPONSE, cassandra_request, cassandra_response

pytestmark = pytest.mark.unit


def make_frame(*messages: bytes) -> bytes:
    payload = b"".join(messages)
    head = (len(payload) | 1 << 17).to_bytes(3, "little")
    return head + cassandra._crc24(head).to_bytes(3, "little") + payload + b"\0" * 4


def frame_of(kind: int, seq: int, *messages: bytes) -> Message:
    return Message(kind=kind, seq=seq, data=make_frame(*messages), proto=PROTO_CASSANDRA)


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


def test_what_is_no_frame_stays_one_row_that_pairs_with_nothing() -> None:
    block = make_block([Message(kind=REQUEST, seq=0, data=b"\xff" * 40, proto=PROTO_CASSANDRA)])
    block["wrapped"] = 1
    unwrapped = unwrap_frames(block)

    assert unwrapped.is_unread == [True]
    assert unwrapped.lost_behind == [True]
    assert Pairer().take(block) is None
