"""Messages of Kafka, MongoDB and Cassandra that come in several calls: when their last byte went, at both ends."""

import os
import time

import numpy as np
import pytest

from farcall_probes import events
from farcall_probes.pairing import Pairer
from support_probes import CLIENT, SERVER, Watch, connection, port_of, receive
from support_rests import pass_on
from support_segments import (
    Make,
    cassandra_frame,
    cassandra_request,
    cassandra_response,
    each_protocol,
    kafka_request,
    kafka_response,
    list_segments,
)

pytestmark = pytest.mark.bpf

Call = tuple[int, int]


def pair_up(watch: Watch, port: int, role: int) -> np.ndarray:
    records = [s.record for s in list_segments(watch, port, role=role)]
    found = Pairer().take(np.array(records, dtype=events.LARGE))
    assert found is not None
    return found


def is_within(ns: int, call: Call) -> bool:
    return call[0] - 1_000 <= ns <= call[1]


@each_protocol
def test_a_message_in_several_calls_ends_with_its_last_byte(
    watch: Watch, ask: Make, answer: Make
) -> None:
    asked, answered = ask(1, body=b"q" * 9_000), answer(1, body=b"r" * 9_000)
    with connection() as pair:
        asked_calls = [
            pass_on(pair.client, pair.server, asked[at : at + 4_096])
            for at in range(0, len(asked), 4_096)
        ]
        calls = [
            pass_on(pair.server, pair.client, answered[at : at + 4_096])
            for at in range(0, len(answered), 4_096)
        ]
        pass_on(pair.client, pair.server, ask(2))
        pass_on(pair.server, pair.client, answer(2))
        for role in (CLIENT, SERVER):
            large, small = pair_up(watch, port_of(pair), role)
            assert (large["req_bytes"], large["resp_bytes"]) == (len(asked), len(answered))
            assert is_within(int(large["ts_resp_ns"]), calls[0])
            assert is_within(int(large["ended_ns"]), calls[-1])
            asked_ns = int(large["ts_req_ns"]) + 1_000 * int(large["asked_us"])
            assert is_within(asked_ns, asked_calls[-1])
            assert small["asked_us"] == 0 and small["ended_ns"] == small["ts_resp_ns"]


@each_protocol
def test_what_follows_in_the_call_that_ends_a_message_is_taken_too(
    watch: Watch, ask: Make, answer: Make
) -> None:
    large = answer(1, body=b"r" * 9_000)
    with connection() as pair:
        for number in (1, 2):
            pass_on(pair.client, pair.server, ask(number))
        pass_on(pair.server, pair.client, large[:5_000])
        last = pass_on(pair.server, pair.client, large[5_000:] + answer(2))
        for role in (CLIENT, SERVER):
            one, two = pair_up(watch, port_of(pair), role)
            assert is_within(int(one["ended_ns"]), last)
            assert two["resp_bytes"] == len(answer(2))


def frames_of(message: bytes, sizes: list[int], *, packed: bool) -> bytes:
    """The message in frames of so many bytes and a last one."""
    parts = [message[sum(sizes[:at]) :][:size] for at, size in enumerate(sizes)]
    parts.append(message[sum(sizes) :])
    whole = len(parts) == 1
    return b"".join(cassandra_frame(part, whole=whole, packed=packed) for part in parts)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("sizes", [[], [131_071], [131_060, 131_060]])
@pytest.mark.parametrize("step", [30_000, 43_699])
def test_a_message_of_cassandra_5_ends_with_the_last_byte_of_its_last_frame(
    watch: Watch, packed: bool, sizes: list[int], step: int
) -> None:
    startup = cassandra_request(0, 1, b"\0\1\0\x0bCQL_VERSION\0\x053.4.5", version=5)
    body = b"x" * (sum(sizes) + 80_000)
    asked = cassandra_request(1, body=body, version=5)
    answered = cassandra_response(1, body=body, version=5)
    small = [cassandra_request(2, version=5), cassandra_response(2, version=5)]
    with connection() as pair:
        pass_on(pair.client, pair.server, startup)
        pass_on(pair.server, pair.client, cassandra_response(0, 2, b"", version=5))
        calls = []
        for sender, receiver, message in (
            (pair.client, pair.server, asked),
            (pair.server, pair.client, answered),
        ):
            data = frames_of(message, sizes, packed=packed)
            pieces = [data[at : at + step] for at in range(0, len(data), step)]
            calls.append([pass_on(sender, receiver, piece) for piece in pieces])
        pass_on(pair.client, pair.server, cassandra_frame(small[0], packed=packed))
        pass_on(pair.server, pair.client, cassandra_frame(small[1], packed=packed))
        for role in (CLIENT, SERVER):
            _, large, last = pair_up(watch, port_of(pair), role)
            assert (large["req_bytes"], large["resp_bytes"]) == (len(asked), len(answered))
            assert is_within(int(large["ts_resp_ns"]), calls[1][0])
            assert is_within(int(large["ended_ns"]), calls[1][-1])
            asked_ns = int(large["ts_req_ns"]) + 1_000 * int(large["asked_us"])
            assert is_within(asked_ns, calls[0][-1])
            assert last["asked_us"] == 0 and last["ended_ns"] == last["ts_resp_ns"]


def test_what_a_broker_sends_by_the_kernel_ends_where_it_does(watch: Watch) -> None:
    answered = kafka_response(1, body=b"r" * 16_000)
    with connection() as pair:
        pass_on(pair.client, pair.server, kafka_request(1))
        first = pass_on(pair.server, pair.client, answered[:200])
        log = os.memfd_create("log")
        os.write(log, answered[200:])
        before_ns = time.monotonic_ns()
        assert os.sendfile(pair.server.fileno(), log, 0, 15_808) == 15_808
        os.close(log)
        receive(pair.client, 15_808)
        after_ns = time.monotonic_ns()
        for role in (CLIENT, SERVER):
            (found,) = pair_up(watch, port_of(pair), role)
            assert is_within(int(found["ts_resp_ns"]), first)
            assert is_within(int(found["ended_ns"]), (before_ns, after_ns))
