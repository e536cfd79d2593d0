"""Which request a thread was serving when it sent one of its own: right, or not said.

Each test knows the truth: the path of the inner request names the outer one that it was sent for.
"""

import os
import select
import socket
import threading
from collections.abc import Callable

import pytest

from support_cause import UNKNOWN, Ends, blocking, cause_of, causes, in_thread, served
from support_probes import OK, SERVER, Watch, make_request, port_of

pytestmark = pytest.mark.bpf


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
