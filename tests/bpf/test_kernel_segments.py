"""Kafka, MongoDB and Cassandra over real connections: every message leaves one segment at each end, however it is cut."""

import os
import time
from collections.abc import Callable

import pytest

from farcall_probes import events
from farcall_probes.events import PROTO_CASSANDRA, PROTO_KAFKA, PROTO_MONGODB, Flag
from farcall_probes.selftest import open_pair
from support_probes import CLIENT, SERVER, Watch, connection, port_of, receive
from support_segments import (
    CLOSED,
    REQUEST,
    RESPONSE,
    answer,
    cassandra_request,
    cassandra_response,
    check,
    check_both,
    kafka_request,
    kafka_response,
    list_segments,
    mongodb_request,
    mongodb_response,
    send,
    texts,
)

pytestmark = pytest.mark.bpf

BOUND = 280  # messages of one call, FC_SEGMENTS_PER_CALL of framing.h

Make = Callable[..., bytes]
PROTOCOLS = [
    pytest.param(PROTO_KAFKA, kafka_request, kafka_response, id="kafka"),
    pytest.param(PROTO_MONGODB, mongodb_request, mongodb_response, id="mongodb"),
    pytest.param(PROTO_CASSANDRA, cassandra_request, cassandra_response, id="cassandra"),
]


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_messages_are_segments_with_their_times_and_places(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    requests, responses = [ask(i + 1) for i in range(5)], [say(i + 1) for i in range(5)]
    with connection() as pair:
        before = time.monotonic_ns()
        for request, response in zip(requests, responses, strict=True):
            send(pair, request)
            answer(pair, response)
        after = time.monotonic_ns()
        check_both(watch, pair, requests, responses, proto)
        segments = list_segments(watch, port_of(pair))

    assert all(before <= s.ts_ns <= after for s in segments)
    places = {
        role: [
            (int(s.record["isn_client"]), int(s.record["isn_server"]), s.request_seq)
            for s in segments
            if s.role == role and s.flags & Flag.IDENTITY
        ]
        for role in (CLIENT, SERVER)
    }
    assert len(places[CLIENT]) >= 9
    assert set(places[CLIENT]) == set(places[SERVER])


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_answers_in_another_order_and_several_in_flight(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    requests = [ask(i) for i in range(1, 8)]
    responses = [say(i) for i in (3, 1, 2, 7, 6, 4, 5)]
    with connection() as pair:
        for request in requests:
            send(pair, request)
        for response in responses:
            answer(pair, response)
        check_both(watch, pair, requests, responses, proto)


@pytest.mark.parametrize("count", [2, 20, 90, 230])
@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_several_messages_of_one_call_are_a_segment_each(
    watch: Watch, proto: int, ask: Make, say: Make, count: int
) -> None:
    requests = [ask(i + 1) for i in range(count)]
    responses = [say(i + 1) for i in range(count)]
    with connection() as pair:
        send(pair, b"".join(requests))
        answer(pair, b"".join(responses))
        check_both(watch, pair, requests, responses, proto)


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_messages_past_the_bound_are_counted_and_the_next_call_is_right(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    first, then = [ask(i + 1) for i in range(BOUND + 54)], ask(BOUND + 55)
    with connection() as pair:
        send(pair, b"".join(first))
        send(pair, then)
        for role in (CLIENT, SERVER):
            segments = list_segments(watch, port_of(pair), role=role)
            assert texts(segments, REQUEST) == [*first[:BOUND], then]
            assert [s.seq for s in segments] == [*range(BOUND), BOUND + 54]

    assert watch.count("segment_beyond_lost") == 2 * 54
    assert watch.count("segment_resync_lost") == 0


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_messages_over_several_calls_are_one_segment(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    requests = [ask(1, body=b"a" * 20_000), ask(2), ask(3, body=b"b" * 3_000)]
    responses = [say(1, body=b"c" * 100_000), say(2), say(3, body=b"d" * 3_000)]
    with connection() as pair:
        for messages, sender, reader in (
            (requests, pair.client, pair.server),
            (responses, pair.server, pair.client),
        ):
            for message in messages:
                for at in range(0, len(message), 5_000):
                    sender.sendall(message[at : at + 5_000])
                    receive(reader, len(message[at : at + 5_000]))
        check_both(watch, pair, requests, responses, proto)


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_a_message_cut_anywhere_is_one_segment_and_whole_while_it_is_short(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    requests, responses = [ask(1)], [say(1)]
    with connection() as pair:
        send(pair, requests[0])
        answer(pair, responses[0])
        for cut in range(1, len(ask(2))):
            requests.append(ask(cut + 1))
            send(pair, requests[-1][:cut])
            send(pair, requests[-1][cut:])
            responses.append(say(cut + 1))
            answer(pair, responses[-1][:cut])
            if cut < len(responses[-1]):
                answer(pair, responses[-1][cut:])
        check_both(watch, pair, requests, responses, proto)


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_a_message_that_comes_byte_by_byte_is_one_segment(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    requests = [ask(1), ask(2), ask(3)]
    with connection() as pair:
        send(pair, requests[0])
        for at in range(len(requests[1])):
            send(pair, requests[1][at : at + 1])
        send(pair, requests[2])
        check_both(watch, pair, requests, [], proto)


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_headers_that_are_read_apart_are_joined_with_what_follows(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    """Brokers read a length of four bytes and then the rest, mongod a header of sixteen."""
    apart = {PROTO_KAFKA: 4, PROTO_MONGODB: 16, PROTO_CASSANDRA: 9}[proto]
    requests = [ask(1), ask(2), ask(3, body=b"x" * 1_500)]
    responses = [say(1), say(2), say(3, body=b"y" * 1_500)]
    with connection() as pair:
        for request, response in zip(requests, responses, strict=True):
            pair.client.sendall(request)
            receive(pair.server, apart)
            receive(pair.server, len(request) - apart)
            pair.server.sendall(response)
            receive(pair.client, 4)
            receive(pair.client, len(response) - 4)
        check_both(watch, pair, requests, responses, proto)


@pytest.mark.parametrize("pieces", [2, 4, 9])
@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_vectors_are_read_piece_by_piece(
    watch: Watch, proto: int, ask: Make, say: Make, pieces: int
) -> None:
    requests = [ask(i, body=b"v" * 200) for i in (1, 2, 3)]
    size = -(-len(requests[0]) // pieces)
    with connection() as pair:
        send(pair, requests[0])
        for request in requests[1:]:
            parts = [request[at : at + size] for at in range(0, len(request), size)]
            assert os.writev(pair.client.fileno(), parts) == len(request)
            receive(pair.server, len(request))
        client = list_segments(watch, port_of(pair), role=CLIENT)
        served = list_segments(watch, port_of(pair), role=SERVER)

    check(served, requests, [], proto)
    assert [s.seq for s in client] == [0, 1, 2]
    assert [s.length for s in client] == [len(r) for r in requests]
    assert texts(client, REQUEST) == requests


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_a_write_that_was_short_or_refused_is_not_counted_twice(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    requests = [ask(1), ask(2, body=b"z" * 4_000_000), ask(3)]
    with connection() as pair:
        send(pair, requests[0])
        pair.client.setblocking(False)
        at, refused = 0, 0
        while at < len(requests[1]):
            try:
                at += pair.client.send(requests[1][at:])
            except BlockingIOError:
                refused += 1
                receive(pair.server, 65_536)
        pair.client.setblocking(True)
        left = len(requests[1]) - 65_536 * refused
        receive(pair.server, left)
        send(pair, requests[2])
        assert refused
        check_both(watch, pair, requests, [], proto)


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_bytes_that_no_hook_sees_do_not_shift_the_messages(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    """Brokers send stored records by sendfile(2)."""
    requests = [ask(1), ask(2)]
    responses = [say(1, body=b"r" * 30_000), say(2)]
    with connection() as pair, open("/dev/shm/farcall-segments", "w+b") as file:
        os.unlink("/dev/shm/farcall-segments")
        file.write(responses[0][900:])
        file.flush()
        send(pair, requests[0])
        pair.server.sendall(responses[0][:900])
        at = 0
        while at < len(responses[0]) - 900:
            at += os.sendfile(pair.server.fileno(), file.fileno(), at, 30_000)
        receive(pair.client, len(responses[0]))
        send(pair, requests[1])
        answer(pair, responses[1])
        check_both(watch, pair, requests, responses, proto)


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_a_connection_that_closes_says_how_many_there_were(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    pair = open_pair()
    port = port_of(pair)
    for i in range(3):
        send(pair, ask(i + 1))
    answer(pair, say(1))
    before = time.monotonic_ns()
    pair.close()
    closed = [s for s in list_segments(watch, port) if s.kind == CLOSED]

    assert {s.role for s in closed} == {CLIENT, SERVER}
    assert [(s.length, s.responses, s.data) for s in closed] == [(3, 1, b"")] * 2
    assert all(before <= s.ts_ns <= time.monotonic_ns() for s in closed)


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_what_makes_no_sense_loses_the_place_until_a_message_begins_with_a_call(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    with connection() as pair:
        send(pair, ask(1))
        answer(pair, say(1))
        send(pair, b"\xff" * 300)
        send(pair, b"text " * 100)
        send(pair, ask(2))
        answer(pair, say(2))
        for role in (CLIENT, SERVER):
            segments = list_segments(watch, port_of(pair), role=role)
            assert texts(segments, REQUEST) == [ask(1), ask(2)]
            assert [s.seq for s in segments if s.kind == REQUEST] == [0, 2]
            assert texts(segments, RESPONSE) == [say(1), say(2)]

    assert watch.count("segment_resync_lost") == 2
    assert watch.count("segment_given_up") == 0


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_what_never_makes_sense_is_plain_tcp_from_then_on(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    pair = open_pair()
    port = port_of(pair)
    send(pair, ask(1))
    for _ in range(260):
        send(pair, b"\xff" * 300)
    send(pair, ask(2))
    pair.close()
    segments = list_segments(watch, port)
    plain = watch.exchanges(port)

    assert [s.data for s in segments if s.kind == REQUEST] == [ask(1)] * 2
    assert watch.count("segment_given_up") == 2
    assert {s.proto for s in plain} == {events.PROTO_TCP}
    assert sorted(s.role for s in plain) == [CLIENT, SERVER]


@pytest.mark.parametrize(("proto", "ask", "say"), PROTOCOLS)
def test_a_connection_met_in_the_middle_is_followed_from_its_next_request_on(
    watch: Watch, proto: int, ask: Make, say: Make
) -> None:
    with connection() as pair:
        send(pair, b"\xff\xfe" * 400)
        answer(pair, b"\xfd\xfc" * 400)
        send(pair, ask(7))
        answer(pair, b"\xfb\xfa" * 300)
        answer(pair, say(7))
        for role in (CLIENT, SERVER):
            segments = list_segments(watch, port_of(pair), role=role)
            check([s for s in segments if s.kind != CLOSED], [ask(7)], [say(7)], proto)
