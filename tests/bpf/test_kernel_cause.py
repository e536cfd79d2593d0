"""Which request a thread was serving when it sent one of its own: right, or not said.

Each test knows the truth: the path of the inner request names the outer one that it was sent for.
"""

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from farcall_probes.events import SEGMENT_REQUEST
from farcall_probes.selftest import Pair
from support_probes import CLIENT, OK, SERVER, Seen, Watch, connection, make_request, port_of
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


ANSWERS = {b"*": b"+PONG\r\n", b"Q": b"C\0\0\0\x0dSELECT 1\0"}


@dataclass(frozen=True, slots=True)
class Ends:
    """`outer` is served by the test; `inner` is where it asks for more, and a thread of its own answers there."""

    outer: Pair
    inner: Pair

    def ask(self, request: bytes = make_request("/inner")) -> None:
        self.inner.client.sendall(request)
        self.inner.client.recv(4096)

    def answer_inner(self) -> None:
        while request := self.inner.server.recv(4096):
            self.inner.server.sendall(ANSWERS.get(request[:1], OK))


@contextmanager
def blocking() -> Iterator[Pair]:
    """A connection whose descriptors make their readers wait, as most servers with threads have them."""
    with connection() as pair:
        pair.client.setblocking(True)
        pair.server.setblocking(True)
        yield pair


@pytest.fixture
def ends() -> Iterator[Ends]:
    with blocking() as outer, connection() as inner:
        made = Ends(outer, inner)
        answering = threading.Thread(target=made.answer_inner)
        answering.start()
        yield made
        inner.client.shutdown(socket.SHUT_WR)
        answering.join()


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def cause_of(seen: Seen) -> tuple[int, int]:
    return int(seen.record["cause_conn_id"]), int(seen.record["cause_seq"])


def causes(watch: Watch, pair: Pair) -> list[tuple[int, int]]:
    return [cause_of(s) for s in watch.exchanges(port_of(pair), role=CLIENT)]


def served(watch: Watch, pair: Pair) -> list[tuple[int, int]]:
    return [(s.conn_id, s.seq) for s in watch.exchanges(port_of(pair), role=SERVER)]


UNKNOWN = (0, 0)


def test_what_a_thread_sends_while_it_serves_has_that_request_as_its_cause(
    watch: Watch, ends: Ends
) -> None:
    def serve() -> None:
        for _ in range(3):
            ends.outer.server.recv(4096)
            ends.ask()
            ends.ask()
            ends.outer.server.sendall(OK)

    server = threading.Thread(target=serve)
    server.start()
    for at in range(3):
        ends.outer.client.sendall(make_request(f"/outer/{at}"))
        ends.outer.client.recv(4096)
    server.join()

    requests = served(watch, ends.outer)
    assert len(requests) == 3
    assert causes(watch, ends.inner) == [r for r in requests for _ in range(2)]
    assert all(cause_of(s) == UNKNOWN for s in watch.exchanges(port_of(ends.outer)))
    assert all(cause_of(s) == UNKNOWN for s in watch.exchanges(port_of(ends.inner), role=SERVER))


def test_a_request_that_is_read_in_small_pieces_is_a_cause_too(watch: Watch, ends: Ends) -> None:
    ends.outer.client.sendall(make_request("/outer"))
    while select.select([ends.outer.server], [], [], 0)[0]:
        ends.outer.server.recv(3)
    ends.ask()
    ends.outer.server.sendall(OK)
    ends.outer.client.recv(4096)

    assert causes(watch, ends.inner) == served(watch, ends.outer) != [UNKNOWN]


def test_the_body_of_the_request_changes_nothing(watch: Watch, ends: Ends) -> None:
    ends.outer.client.sendall(make_request("/outer", body=b"x" * 5000)[:400])
    ends.outer.server.recv(4096)
    ends.ask()
    ends.outer.client.sendall(b"x" * 600)
    ends.outer.server.recv(4096)
    ends.ask()
    ends.outer.server.sendall(OK)
    ends.outer.client.recv(4096)

    (request,) = served(watch, ends.outer)
    assert causes(watch, ends.inner) == [request, request]


def test_after_the_answer_nothing_is_served(watch: Watch, ends: Ends) -> None:
    ends.outer.exchange(make_request("/outer"), OK)
    ends.ask()

    assert causes(watch, ends.inner) == [UNKNOWN]


def test_after_another_thread_has_answered_nothing_is_served(watch: Watch, ends: Ends) -> None:
    ends.outer.client.sendall(make_request("/outer"))
    ends.outer.server.recv(4096)
    in_thread(lambda: ends.outer.server.sendall(OK))
    ends.outer.client.recv(4096)
    ends.ask()

    assert causes(watch, ends.inner) == [UNKNOWN]


def test_a_thread_that_was_handed_the_request_has_no_cause(watch: Watch, ends: Ends) -> None:
    ends.outer.client.sendall(make_request("/outer"))
    ends.outer.server.recv(4096)
    in_thread(ends.ask)
    ends.outer.server.sendall(OK)
    ends.outer.client.recv(4096)

    assert causes(watch, ends.inner) == [UNKNOWN]


def test_a_descriptor_that_does_not_block_is_an_event_loops(watch: Watch, ends: Ends) -> None:
    ends.outer.server.setblocking(False)
    ends.outer.client.sendall(make_request("/outer"))
    select.select([ends.outer.server], [], [], 5)
    ends.outer.server.recv(4096)
    ends.ask()
    ends.outer.server.sendall(OK)
    ends.outer.client.recv(4096)

    assert causes(watch, ends.inner) == [UNKNOWN]


@pytest.mark.parametrize(
    "read",
    [
        lambda s: s.recv(4096, socket.MSG_DONTWAIT),
        lambda s: s.recvmsg(4096, 0, socket.MSG_DONTWAIT),
    ],
    ids=["recv", "recvmsg"],
)
def test_a_read_that_does_not_wait_is_an_event_loops(
    watch: Watch, ends: Ends, read: Callable[[socket.socket], object]
) -> None:
    ends.outer.client.sendall(make_request("/outer"))
    read(ends.outer.server)
    ends.ask()
    ends.outer.server.sendall(OK)
    ends.outer.client.recv(4096)

    assert causes(watch, ends.inner) == [UNKNOWN]


def test_a_descriptor_in_an_epoll_is_an_event_loops(watch: Watch, ends: Ends) -> None:
    with select.epoll() as poll:
        poll.register(ends.outer.server, select.EPOLLIN)
        for path in ("/polled", "/not-polled"):
            ends.outer.client.sendall(make_request(path))
            ends.outer.server.recv(4096)
            ends.ask()
            ends.outer.server.sendall(OK)
            ends.outer.client.recv(4096)
            if path == "/polled":
                poll.unregister(ends.outer.server)

    polled, not_polled = causes(watch, ends.inner)
    assert polled == UNKNOWN
    assert not_polled == served(watch, ends.outer)[1]


def test_a_thread_that_reads_before_it_answers_is_a_loop_for_good(watch: Watch, ends: Ends) -> None:
    def serve() -> None:
        with blocking() as other:
            for pair in (ends.outer, other):
                pair.client.sendall(make_request("/outer"))
                pair.server.recv(4096)
            ends.ask()
            for pair in (ends.outer, other):
                pair.server.sendall(OK)
                pair.client.recv(4096)
        ends.outer.client.sendall(make_request("/alone"))
        ends.outer.server.recv(4096)
        ends.ask()
        ends.outer.server.sendall(OK)
        ends.outer.client.recv(4096)

    in_thread(serve)

    assert causes(watch, ends.inner) == [UNKNOWN, UNKNOWN]


def test_a_client_that_went_away_makes_no_loop_of_the_thread(watch: Watch, ends: Ends) -> None:
    """Threads of a pool meet many clients that do not wait for their answer."""

    def serve() -> None:
        with blocking() as impatient:
            impatient.client.sendall(make_request("/impatient"))
            impatient.server.recv(4096)
        ends.outer.client.sendall(make_request("/outer"))
        ends.outer.server.recv(4096)
        ends.ask()
        ends.outer.server.sendall(OK)
        ends.outer.client.recv(4096)

    in_thread(serve)

    assert causes(watch, ends.inner) == served(watch, ends.outer) != [UNKNOWN]


def test_a_second_request_read_before_the_first_is_answered_makes_it_uncertain(
    watch: Watch, ends: Ends
) -> None:
    for path in ("/first", "/second"):
        ends.outer.client.sendall(make_request(path))
        ends.outer.server.recv(4096)
    ends.ask()
    ends.outer.server.sendall(OK + OK)
    ends.outer.client.recv(4096)

    assert causes(watch, ends.inner) == [UNKNOWN]


def test_a_thread_that_accepts_has_handed_its_request_on(watch: Watch, ends: Ends) -> None:
    def serve() -> None:
        ends.outer.client.sendall(make_request("/outer"))
        ends.outer.server.recv(4096)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            socket.create_connection(listener.getsockname()).close()
            listener.accept()[0].close()
        ends.ask()
        ends.outer.server.sendall(OK)
        ends.outer.client.recv(4096)

    in_thread(serve)

    assert causes(watch, ends.inner) == [UNKNOWN]


def test_a_forked_child_serves_nothing(watch: Watch, ends: Ends) -> None:
    ends.outer.client.sendall(make_request("/outer"))
    ends.outer.server.recv(4096)
    child = os.fork()
    if child == 0:
        ends.ask()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    ends.outer.server.sendall(OK)
    ends.outer.client.recv(4096)

    assert causes(watch, ends.inner) == [UNKNOWN]


def test_other_protocols_are_caused_too(watch: Watch, ends: Ends) -> None:
    ends.outer.client.sendall(make_request("/outer"))
    ends.outer.server.recv(4096)
    ends.ask(b"*1\r\n$4\r\nPING\r\n")
    ends.ask(b"Q\0\0\0\x0dselect 1\0")
    ends.outer.server.sendall(OK)
    ends.outer.client.recv(4096)

    (request,) = served(watch, ends.outer)
    assert causes(watch, ends.inner) == [request, request]


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
