"""The same as test_kernel_cause.py of protocols that answer out of order, where a server uses them in order."""

import select
import threading
from collections.abc import Callable

import pytest

from farcall_probes.events import SEGMENT_REQUEST
from farcall_probes.selftest import Pair
from support_cause import UNKNOWN, Ends, causes, in_thread
from support_probes import SERVER, Watch, port_of
from support_segments import (
    cassandra_request,
    cassandra_response,
    kafka_request,
    kafka_response,
    list_segments,
    mongodb_request,
    mongodb_response,
)

pytestmark = pytest.mark.bpf

# Protocols that answer out of order: (the request of a number, its response, what their readers read first)
Messages = tuple[Callable[[int], bytes], Callable[[int], bytes], int]
MULTIPLEXED: dict[str, Messages] = {
    "kafka": (kafka_request, kafka_response, 4),
    "mongodb": (mongodb_request, mongodb_response, 16),
    "cassandra": (cassandra_request, cassandra_response, 9),
}


def served_messages(watch: Watch, pair: Pair) -> list[tuple[int, int]]:
    segments = list_segments(watch, port_of(pair), role=SERVER)
    return [
        (int(s.record["conn_id"]), int(s.record["seq"]))
        for s in segments
        if s.kind == SEGMENT_REQUEST
    ]


@pytest.mark.parametrize("messages", MULTIPLEXED.values(), ids=MULTIPLEXED)
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "header apart"])
def test_a_message_that_is_answered_before_the_next_one_is_a_cause_too(
    watch: Watch, ends: Ends, messages: Messages, is_whole: bool
) -> None:
    request, response, header = messages

    def serve() -> None:
        for number in range(3):
            size = len(request(number))
            got = b"" if is_whole else ends.outer.server.recv(header)
            while len(got) < size:
                got += ends.outer.server.recv(size - len(got))
            ends.ask()
            ends.ask()
            ends.outer.server.sendall(response(number))

    server = threading.Thread(target=serve)
    server.start()
    for number in range(3):
        ends.outer.client.sendall(request(number))
        ends.outer.client.recv(4096)
    server.join()
    ends.ask()

    requests = served_messages(watch, ends.outer)
    assert len(requests) == 3
    assert causes(watch, ends.inner) == [*(r for r in requests for _ in range(2)), UNKNOWN]


def ask_while_served(ends: Ends, spoil: Callable[[Ends], object]) -> None:
    """A thread reads a message, `spoil` happens, and it asks."""

    def serve() -> None:
        read_another(ends, mongodb_request(1))
        spoil(ends)
        ends.ask()
        ends.outer.server.sendall(mongodb_response(1))
        ends.outer.client.recv(4096)

    in_thread(serve)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ends: ends.outer.server.sendall(mongodb_response(1)),
        lambda ends: ends.outer.server.sendall(mongodb_response(1)[:5]),
        lambda ends: in_thread(lambda: ends.outer.server.sendall(mongodb_response(1))),
        lambda ends: read_another(ends, mongodb_request(2)),
        lambda ends: read_another(ends, mongodb_request(2)[:5]),
        lambda ends: in_thread(lambda: read_another(ends, mongodb_request(2))),
    ],
    ids=[
        "answered",
        "begun to answer",
        "answered by another thread",
        "another read",
        "another begun",
        "another read by another thread",
    ],
)
def test_a_message_is_served_until_any_other_goes_over_its_connection(
    watch: Watch, ends: Ends, spoil: Callable[[Ends], object]
) -> None:
    ask_while_served(ends, spoil)

    assert causes(watch, ends.inner) == [UNKNOWN]


def read_another(ends: Ends, request: bytes) -> None:
    ends.outer.client.sendall(request)
    ends.outer.server.recv(4096)


def test_messages_that_come_together_are_nobodys_cause(watch: Watch, ends: Ends) -> None:
    ends.outer.client.sendall(mongodb_request(1) + mongodb_request(2))
    ends.outer.server.recv(4096)
    ends.ask()
    ends.outer.server.sendall(mongodb_response(1) + mongodb_response(2))
    ends.outer.client.recv(4096)
    ends.outer.client.sendall(mongodb_request(3))
    ends.outer.server.recv(4096)
    ends.ask()
    ends.outer.server.sendall(mongodb_response(3))
    ends.outer.client.recv(4096)

    assert causes(watch, ends.inner) == [UNKNOWN, served_messages(watch, ends.outer)[2]]


def test_a_thread_that_reads_messages_before_it_answers_hands_them_on(
    watch: Watch, ends: Ends
) -> None:
    def serve() -> None:
        for number in (1, 2):
            read_another(ends, mongodb_request(number))
        in_thread(lambda: ends.outer.server.sendall(mongodb_response(1) + mongodb_response(2)))
        ends.outer.client.recv(4096)
        read_another(ends, mongodb_request(3))
        ends.ask()
        ends.outer.server.sendall(mongodb_response(3))
        ends.outer.client.recv(4096)

    in_thread(serve)

    assert causes(watch, ends.inner) == [UNKNOWN]


def test_messages_of_a_descriptor_that_does_not_block_are_an_event_loops(
    watch: Watch, ends: Ends
) -> None:
    ends.outer.server.setblocking(False)
    ends.outer.client.sendall(mongodb_request(1))
    select.select([ends.outer.server], [], [], 60)
    ends.outer.server.recv(4096)
    ends.ask()
    ends.outer.server.sendall(mongodb_response(1))
    ends.outer.client.recv(4096)

    assert causes(watch, ends.inner) == [UNKNOWN]
