"""HTTP/1 responses that come in several calls: when they ended and how long they are, at both ends, or not said."""

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farcall_probes.probes import KernelCapture
from farcall_probes.selftest import Pair, open_pair
from support_probes import OK, Watch, connection, make_request, port_of, receive
from support_rests import CHUNKED, LAST_CHUNK, Told, chunk, pass_on, tell

pytestmark = pytest.mark.bpf

BODY = 300


@pytest.fixture(autouse=True)
def alone(capture: KernelCapture) -> Iterator[None]:
    """Only this process is recorded: what others on the machine do must not fill the rings."""
    capture.enable(only_own=True)
    yield
    capture.enable()


def ask(pair: Pair, path: str) -> None:
    pass_on(pair.client, pair.server, make_request(path))


def answer(pair: Pair, *pieces: bytes) -> tuple[int, int]:
    """Each in a call of its own at both ends; when the last one was (before, after)."""
    return [pass_on(pair.server, pair.client, piece) for piece in pieces][-1]


def ask_again(pair: Pair) -> None:
    pair.exchange(make_request("/next"), OK)


def close(pair: Pair) -> None:
    pair.server.close()
    assert pair.client.recv(1) == b""
    pair.client.close()


def leave(pair: Pair) -> None:
    """Nothing more goes over it."""


def check(sides: tuple[list[Told], list[Told]], size: int, last: tuple[int, int]) -> None:
    for side in sides:
        assert [t.size for t in side] == [size]
        assert side[0].first_ns < last[0] <= side[0].last_ns <= last[1]


@pytest.mark.parametrize("go_on", [ask_again, close, leave])
@pytest.mark.parametrize(
    "pieces",
    [
        (CHUNKED + chunk(b"a" * BODY), chunk(b"b" * 5), chunk(b"c") + LAST_CHUNK),
        (CHUNKED, chunk(b"b" * BODY), LAST_CHUNK),
        (CHUNKED + chunk(b"short"), LAST_CHUNK[:2], LAST_CHUNK[2:]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"body", b"after"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n" + b"x" * 300, b"y" * 300),
    ],
    ids=["chunks", "head alone", "cut last chunk", "length", "long"],
)
def test_a_response_in_several_calls_lasts_to_its_last_byte(
    watch: Watch, pieces: tuple[bytes, ...], go_on: Callable[[Pair], None]
) -> None:
    with connection() as pair:
        port = port_of(pair)
        ask(pair, "/slow")
        last = answer(pair, *pieces)
        go_on(pair)

        check(tell(watch, port, ask=go_on is leave), sum(map(len, pieces)), last)


def postgres(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(content) + 4) + content


def mysql(number: int, content: bytes) -> bytes:
    return struct.pack("<I", len(content))[:3] + bytes([number]) + content


ROW = postgres(b"D", b"\0\1" + struct.pack(">I", 800) + b"r" * 800)
READY = postgres(b"C", b"SELECT 2\0") + postgres(b"Z", b"I")
EOF, OK_INSTEAD = b"\xfe\0\0\2\0", b"\xfe\0\0\2\0\0\0"
SQL_ROW = mysql(4, b"\xfc\x20\x03" + b"r" * 800)


@pytest.mark.parametrize("go_on", [True, False], ids=["next", "asked"])
@pytest.mark.parametrize(
    ("query", "pieces"),
    [
        (postgres(b"Q", b"SELECT 1\0"), (postgres(b"T", b"\0\0") + ROW, ROW, ROW + READY)),
        (postgres(b"Q", b"SELECT 1\0"), (postgres(b"T", b"\0\0") + ROW, READY[:-3], READY[-3:])),
        (mysql(0, b"\3SELECT 1"), (mysql(1, b"\1") + SQL_ROW, SQL_ROW, SQL_ROW + mysql(6, EOF))),
        (mysql(0, b"\3SELECT 1"), (mysql(1, b"\1") + SQL_ROW, SQL_ROW, mysql(6, OK_INSTEAD))),
    ],
    ids=["postgresql", "postgresql, cut", "mysql", "mysql, without EOF"],
)
def test_a_databases_answer_lasts_to_its_last_byte(
    watch: Watch, query: bytes, pieces: tuple[bytes, ...], go_on: bool
) -> None:
    with connection() as pair:
        pass_on(pair.client, pair.server, query)
        last = answer(pair, *pieces)
        if go_on:
            pass_on(pair.client, pair.server, query)

        sides = tell(watch, port_of(pair), ask=not go_on)
        check(sides, sum(map(len, pieces)), last)


def test_what_follows_the_end_of_a_databases_answer_is_none_of_it(watch: Watch) -> None:
    """A cursor is fetched from by messages that begin no round trip for us."""
    pieces = (postgres(b"T", b"\0\0") + ROW, postgres(b"s") + postgres(b"Z", b"T"))
    with connection() as pair:
        pass_on(pair.client, pair.server, postgres(b"Q", b"SELECT 1\0"))
        last = answer(pair, *pieces)
        pass_on(pair.client, pair.server, postgres(b"E", b"\0\0\0\0\2") + postgres(b"S"))
        answer(pair, ROW, READY)

        check(tell(watch, port_of(pair), ask=True), sum(map(len, pieces)), last)


@pytest.mark.parametrize(
    ("query", "whole"),
    [
        (postgres(b"Q", b"SELECT 1\0"), postgres(b"T", b"\0\0") + ROW + READY),
        (mysql(0, b"\3SELECT 1"), mysql(1, b"\1") + SQL_ROW + mysql(3, EOF)),
        (mysql(0, b"\3DELETE FROM t"), mysql(1, b"\0\2\0\2\0\0\0")),
        (mysql(0, b"\3DELETE FROM t"), mysql(1, b"\xff\x7a\x04#42S02no such table")),
    ],
)
def test_a_databases_answer_in_one_call_has_no_rest(
    watch: Watch, query: bytes, whole: bytes
) -> None:
    with connection() as pair:
        for _ in range(2):
            pair.exchange(query, whole)

        assert len(watch.exchanges(port_of(pair))) == 4
        assert tell(watch, port_of(pair), ask=True) == ([], [])


def test_trailers_end_a_response_once_the_next_request_follows(watch: Watch) -> None:
    pieces = (CHUNKED, chunk(b"body"), b"0\r\nX-Sum: 5\r\n\r\n")
    with connection() as pair:
        ask(pair, "/trailers")
        last = answer(pair, *pieces)

        assert all(not t.last_ns for side in tell(watch, port_of(pair), ask=True) for t in side)
        watch.restart()
        ask(pair, "/again")
        last = answer(pair, *pieces)
        ask_again(pair)

        check(tell(watch, port_of(pair)), sum(map(len, pieces)), last)


def test_each_of_many_responses_of_a_connection_has_its_own_end(watch: Watch) -> None:
    pieces = (CHUNKED, chunk(b"x" * 50), LAST_CHUNK)
    lasts = []
    with connection() as pair:
        for n in range(23):
            ask(pair, f"/{n}")
            lasts.append(answer(pair, *pieces))
        ask_again(pair)

        sides = tell(watch, port_of(pair))
    for side in sides:
        assert [t.path for t in side] == [f"/{n}" for n in range(23)]
        assert {t.size for t in side} == {sum(map(len, pieces))}
        for told, last in zip(side, lasts, strict=True):
            assert last[0] <= told.last_ns <= last[1]


def test_a_response_without_a_length_ends_with_its_connection(watch: Watch) -> None:
    pieces = (b"HTTP/1.0 200 OK\r\n\r\nfirst", b"second", b"third" * 100)
    pair = open_pair()
    port = port_of(pair)
    ask(pair, "/old")
    last = answer(pair, *pieces)
    assert all(not t.last_ns for side in tell(watch, port, ask=True) for t in side)
    last = answer(pair, b"fourth")
    close(pair)

    check(tell(watch, port), sum(map(len, pieces)) + 6, last)


def test_a_peer_that_closed_has_said_its_last_byte(watch: Watch) -> None:
    """Who has read all of it may keep its end open for long."""
    pieces = (b"HTTP/1.0 200 OK\r\n\r\n", b"body")
    with connection() as pair:
        ask(pair, "/old")
        last = answer(pair, *pieces)
        pair.server.close()
        assert pair.client.recv(1) == b""

        check(tell(watch, port_of(pair), ask=True), sum(map(len, pieces)), last)


def test_a_file_that_the_kernel_sends_ends_where_it_does(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"f" * 100_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with connection() as pair, (tmp_path / "file").open("rb") as file:
        ask(pair, "/file")
        answer(pair, head)
        before_ns = time.monotonic_ns()
        sent = 0
        while sent < 100_000:
            n = os.sendfile(pair.server.fileno(), file.fileno(), sent, 100_000 - sent)
            receive(pair.client, n)
            sent += n
        after_ns = time.monotonic_ns()

        check(tell(watch, port_of(pair), ask=True), len(head) + 100_000, (before_ns, after_ns))


def test_a_write_that_is_taken_in_parts_ends_with_the_last_of_them(watch: Watch) -> None:
    size = 8_000_000
    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    with connection() as pair:
        pair.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
        pair.server.setblocking(False)
        ask(pair, "/big")
        sent = 0
        while sent < len(data):  # all that is left, each time: as event loops do
            before_ns = time.monotonic_ns()
            try:
                n = pair.server.send(data[sent:])
            except BlockingIOError:
                n = 0
            sent += n
            receive(pair.client, n)

        for side in tell(watch, port_of(pair), ask=True):
            assert [t.size for t in side] == [len(data)]
            assert side[0].last_ns >= before_ns


def test_an_end_that_is_not_there_yet_is_not_said(watch: Watch) -> None:
    """The next request is sent while the response before is still on its way."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n"
    with connection() as pair:
        ask(pair, "/first")
        answer(pair, head, b"x" * 300)
        ask(pair, "/second")
        answer(pair, b"y" * 300, OK)

        assert [t.last_ns for side in tell(watch, port_of(pair)) for t in side] == [0, 0]


def test_what_follows_a_switch_of_protocols_is_no_body(watch: Watch) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    with connection() as pair:
        ask(pair, "/socket")
        answer(pair, switch, b"\x81\x05hello", b"\x81\x05again")

        assert tell(watch, port_of(pair), ask=True) == ([], [])


def test_a_response_in_one_call_has_no_rest(watch: Watch) -> None:
    whole = CHUNKED + chunk(b"x" * BODY) + LAST_CHUNK
    pair = open_pair()
    port = port_of(pair)
    for response in (OK, whole):
        pair.exchange(make_request("/one"), response)
    ask_again(pair)
    close(pair)

    assert len(watch.rests(port)) == 0
    assert tell(watch, port) == ([], [])


def test_an_exchange_that_is_not_told_has_no_rest(watch: Watch) -> None:
    with connection() as pair:
        probe = make_request("/healthz", "User-Agent: kube-probe/1.30\r\n")
        pass_on(pair.client, pair.server, probe)
        answer(pair, CHUNKED, LAST_CHUNK)
        ask_again(pair)

        assert len(watch.rests(port_of(pair))) == 0


def test_a_request_in_several_calls_tells_its_last_byte(watch: Watch) -> None:
    head = b"POST /upload HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1500\r\n\r\n"
    with connection() as pair:
        pass_on(pair.client, pair.server, head)
        pass_on(pair.client, pair.server, b"x" * 1000)
        before_ns, after_ns = pass_on(pair.client, pair.server, b"y" * 500)
        answer(pair, OK)
        ask_again(pair)

        for seen in watch.sides(port_of(pair)):
            asked, at_once = (int(s.record["asked_us"]) * 1000 for s in seen)
            assert before_ns - 1000 <= seen[0].ts_req_ns + asked <= after_ns
            assert at_once == 0
