"""HTTP/1 connections that end, and descriptors that become something else."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from farcall_probes import events
from farcall_probes.events import Flag
from farcall_probes.selftest import Pair, open_pair
from support_probes import (
    CLIENT,
    OK,
    Watch,
    check_both_ends,
    connection,
    make_request,
    port_of,
    receive,
)

pytestmark = pytest.mark.bpf


def close_by_server(pair: Pair) -> None:
    pair.server.close()
    assert pair.client.recv(10) == b""
    pair.client.close()


def close_by_client(pair: Pair) -> None:
    pair.client.close()
    pair.server.close()


def reset_by_server(pair: Pair) -> None:
    pair.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.server.close()
    with pytest.raises(ConnectionResetError):
        pair.client.recv(10)
    pair.client.close()


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (close_by_server, (events.END_SERVER_CLOSED, events.END_SERVER_CLOSED)),
        (close_by_client, (events.END_CLIENT_CLOSED, events.END_CLIENT_CLOSED)),
        (reset_by_server, (events.END_RESET, events.END_SERVER_CLOSED)),
    ],
)
def test_a_request_that_stays_without_answer_is_an_exchange_and_says_why(
    watch: Watch, end: Callable[[Pair], None], why: tuple[int, int]
) -> None:
    pair = open_pair()
    port = port_of(pair)
    pair.exchange(make_request("/answered"), OK)
    pair.client.sendall(make_request("/unanswered"))
    receive(pair.server, len(make_request("/unanswered")))
    before = time.monotonic_ns()
    end(pair)

    client, server = watch.sides(port)

    for seen in (client, server):
        assert [(s.path, s.status) for s in seen] == [("/answered", 200), ("/unanswered", 0)]
        assert seen[1].flags & Flag.NO_RESPONSE and not seen[0].flags & Flag.NO_RESPONSE
        assert before <= seen[1].ts_resp_ns <= time.monotonic_ns()
    assert client[1].key == server[1].key
    assert tuple(int(s[1].record["end"]) for s in (client, server)) == why
    assert int(client[0].record["end"]) == events.END_NONE
    assert watch.count("no_response") >= 2


def test_a_half_closed_client_still_gets_its_answer(watch: Watch) -> None:
    with connection() as pair:
        request = make_request("/half")
        pair.client.sendall(request)
        pair.client.shutdown(socket.SHUT_WR)
        receive(pair.server, len(request))
        assert pair.server.recv(10) == b""
        pair.server.sendall(OK)
        pair.server.close()
        receive(pair.client, len(OK))

        check_both_ends(watch, pair, [request], [200])


def test_a_descriptor_number_reused_for_another_connection_is_not_confused(watch: Watch) -> None:
    ports = []
    for i in range(10):
        with connection() as pair:
            ports.append(port_of(pair))
            pair.exchange(make_request(f"/{i}"), OK)
    client, server = watch.sides(*ports)

    assert [(s.lport, s.path) for s in client] == [(p, f"/{i}") for i, p in enumerate(ports)]
    assert [(s.rport, s.path) for s in server] == [(p, f"/{i}") for i, p in enumerate(ports)]
    assert len({s.conn_id for s in client + server}) == 20


def test_a_file_on_a_closed_sockets_number_adds_nothing_to_another_connection(
    watch: Watch, tmp_path: Path
) -> None:
    """The kernel reuses a sock's memory at once, so the old number still leads to a sock in flight."""
    (tmp_path / "file").write_bytes(b"+PONG" * 300)
    request = make_request("/only", body=b"b" * 100)
    ports = []
    for _ in range(20):
        old = open_pair()
        old.exchange(make_request("/old"), OK)
        numbers = (old.client.fileno(), old.server.fileno())
        old.close()
        files = [os.open(tmp_path / "file", os.O_RDONLY) for _ in range(8)]
        assert set(numbers) <= set(files)
        with connection() as pair:
            ports.append(port_of(pair))
            pair.client.sendall(request[:-50])
            receive(pair.server, len(request) - 50)
            for number in numbers:
                os.read(number, 1_331)
            pair.client.sendall(request[-50:])
            receive(pair.server, 50)
            pair.server.sendall(OK)
            receive(pair.client, len(OK))
        for number in files:
            os.close(number)
    # A port of an old pair may come again.
    seen = [s for s in watch.exchanges(*ports) if b"/old" not in s.request]

    assert len(seen) == 40
    assert {(s.request, s.request_bytes, s.status) for s in seen} == {(request, len(request), 200)}


def test_a_descriptor_replaced_by_dup2_is_walked_anew(watch: Watch) -> None:
    with connection() as first, connection() as second:
        first.exchange(make_request("/first"), OK)
        second.exchange(make_request("/second"), OK)
        os.dup2(second.client.fileno(), first.client.fileno())
        first.client.sendall(make_request("/moved"))
        receive(second.server, len(make_request("/moved")))
        second.server.sendall(OK)
        receive(first.client, len(OK))
        client = watch.exchanges(port_of(second), role=CLIENT)

    assert [s.path for s in client] == ["/second", "/moved"]


def test_a_number_that_was_no_socket_becomes_visible_within_a_second(
    watch: Watch, tmp_path: Path
) -> None:
    """dup2 over a file that was read before: nothing tells the kernel side."""
    (tmp_path / "file").write_bytes(b"text")
    number = os.open(tmp_path / "file", os.O_RDONLY)
    os.read(number, 4)
    with connection() as pair:
        os.dup2(pair.client.fileno(), number)
        deadline = time.monotonic() + 60
        seen: list[str] = []
        while not seen and time.monotonic() < deadline:
            os.write(number, make_request("/seen"))
            receive(pair.server, len(make_request("/seen")))
            pair.server.sendall(OK)
            os.read(number, 4096)
            seen = [s.path for s in watch.exchanges(port_of(pair), role=CLIENT)]
            time.sleep(0.05)
    os.close(number)

    assert seen


def test_answers_to_requests_that_were_not_seen_are_counted(watch: Watch) -> None:
    with connection() as pair:
        pair.server.sendall(OK)
        receive(pair.client, len(OK))
        seen = watch.exchanges(port_of(pair))

    assert seen == []
    assert watch.count("orphan") >= 2


def test_a_request_that_waits_too_long_is_told_while_it_waits_and_never_again(watch: Watch) -> None:
    with connection() as pair:
        pair.exchange(make_request("/before"), OK)
        pair.client.sendall(make_request("/late"))
        receive(pair.server, len(make_request("/late")))
        assert watch.capture.tell_late(60_000_000_000) == 0
        assert watch.capture.tell_late(1) >= 2
        assert [len(seen) for seen in watch.sides(port_of(pair))] == [2, 2]
        watch.capture.tell_late(1)
        pair.server.sendall(OK)
        receive(pair.client, len(OK))
        pair.exchange(make_request("/after"), OK)
        client, server = watch.sides(port_of(pair))

    for seen in (client, server):
        assert [(s.path, s.status) for s in seen] == [
            ("/before", 200),
            ("/late", 0),
            ("/after", 200),
        ]
        assert [int(s.record["end"]) for s in seen] == [0, events.END_TIMEOUT, 0]
        assert [bool(s.flags & Flag.NO_RESPONSE) for s in seen] == [False, True, False]
    assert [s.key for s in client] == [s.key for s in server]
    assert watch.count("timed_out") >= 2


def test_whoever_closes_a_late_request_tells_nothing_more(watch: Watch) -> None:
    pair = open_pair()
    pair.client.sendall(make_request("/late"))
    receive(pair.server, len(make_request("/late")))
    watch.capture.tell_late(1)
    port = port_of(pair)
    pair.close()

    assert [len(seen) for seen in watch.sides(port)] == [1, 1]


def test_many_idle_connections_are_looked_through(watch: Watch) -> None:
    """More than one block of the table, and none of them waits."""
    pairs = [open_pair() for _ in range(400)]
    for pair in pairs:
        pair.exchange(make_request("/idle"), OK)
    waiting = pairs[200]
    ports = [port_of(pair) for pair in pairs]
    waiting.client.sendall(make_request("/late"))
    receive(waiting.server, len(make_request("/late")))
    watch.capture.tell_late(1)
    for pair in pairs:
        pair.close()
    late = [s for s in watch.exchanges(*ports) if s.record["end"] == events.END_TIMEOUT]

    assert [s.path for s in late] == ["/late", "/late"]
