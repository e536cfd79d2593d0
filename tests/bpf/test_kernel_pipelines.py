"""Pipelines of HTTP/1 that are longer than a record: how many requests they have is counted in the kernel, head by head."""

import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from farcall.exchange import ExchangeFlag
from farcall_probes import events
from farcall_probes.events import PROTO_HTTP1
from farcall_probes.heads import Heads
from farcall_probes.reading import Reader
from support_nginx import running_nginx
from support_probes import (
    CLIENT,
    OK,
    SERVER,
    Seen,
    Watch,
    connection,
    count_ends,
    make_request,
    port_of,
    receive,
)

pytestmark = pytest.mark.bpf

DECOY = b"\r\n\r\nGET /decoy HTTP/1.1\r\nContent-Length: 7\r\n\r\n"  # a body may hold what looks like requests
LENGTHS = ("Content-Length: ", "content-length:", "CONTENT-LENGTH: ")


def make_post(shape: random.Random, number: int, longest: int) -> bytes:
    body = DECOY + shape.randbytes(shape.choice((0, 1, 9, longest)))
    lines = ["Content-Type: text/plain", "Cookie: a=b", "TE: trailers", "c: d"]
    lines.append(f"{shape.choice(LENGTHS)}{len(body)}")
    shape.shuffle(lines)
    return "\r\n".join([f"POST /{number} HTTP/1.1", *lines, "", ""]).encode() + body


def make_pipeline(shape: random.Random, requests: int, longest: int) -> bytes:
    """GETs, and a POST with a body in each five."""
    made = [
        make_post(shape, number, longest)
        if number % 5 == 2
        else make_request(f"/{number}", "Accept: */*\r\nCookie: c\r\n" * (number % 3))
        for number in range(requests)
    ]
    return b"".join(made)


def exchange_in(watch: Watch, portion: int, *pipelines: bytes) -> int:
    """Each in one write; the server reads as much at a time, and answers it before it reads on. The client's port."""
    with connection() as pair:
        for pipeline in pipelines:
            pair.client.sendall(pipeline)
            for at in range(0, len(pipeline), portion):
                receive(pair.server, min(portion, len(pipeline) - at))
                pair.server.sendall(OK)
            receive(pair.client, len(OK) * len(range(0, len(pipeline), portion)))
        return port_of(pair)


def read_counts(seen: Sequence[Seen]) -> list[int | None]:
    """As they leave the agent."""
    block = np.array([s.record for s in seen], dtype=events.LARGE)
    columns = Reader(masking=True, headers=(), heads=Heads()).read(PROTO_HTTP1, block)
    assert [bool(f & ExchangeFlag.PIPELINED) for f in columns.flags] == [
        n is not None for n in columns.batch_size
    ]
    return list(columns.batch_size)


@pytest.mark.parametrize("longest", [1, 250, 5000])
def test_requests_of_one_write_are_counted_whatever_their_bodies_hold(
    watch: Watch, longest: int
) -> None:
    shape = random.Random(longest)
    sent = [9, 16, 60, 1, 100, 30]
    pipelines = [make_pipeline(shape, n, longest) + make_request("/last" + "x" * 700) for n in sent]
    port = exchange_in(watch, 1 << 20, *pipelines)
    expected = [n + 1 for n in sent]

    assert count_ends(watch, port) == {CLIENT: expected, SERVER: expected}
    for side in watch.sides(port):
        assert read_counts(side) == expected
        assert [s.status for s in side] == [200] * len(sent)


@pytest.mark.parametrize("portion", [1024, 4096, 700, 1001, 2777])
def test_a_pipeline_that_is_answered_in_portions_is_one_and_counted_whole(
    watch: Watch, portion: int
) -> None:
    """As nginx reads one, 1 kB at a time, and Go, 4 kB."""
    shape = random.Random(portion)
    sent = [100, 60, 33]
    port = exchange_in(watch, portion, *(make_pipeline(shape, n, 300) for n in sent))

    assert count_ends(watch, port) == {CLIENT: sent, SERVER: sent}
    assert [len(side) for side in watch.sides(port)] == [3, 3]


@pytest.mark.parametrize("size", [700, 701, 997])
def test_a_pipeline_that_arrives_in_pieces_is_counted_over_their_seams(
    watch: Watch, size: int
) -> None:
    request = make_pipeline(random.Random(size), 50, 40)
    with connection() as pair:
        for at in range(0, len(request), size):
            pair.client.sendall(request[at : at + size])
            receive(pair.server, len(request[at : at + size]))
        pair.server.sendall(OK * 50)
        receive(pair.client, len(OK) * 50)
        port = port_of(pair)
    assert count_ends(watch, port) == {CLIENT: [50], SERVER: [50]}


def test_a_pipeline_of_several_buffers_is_counted_over_their_seams(watch: Watch) -> None:
    request = make_pipeline(random.Random(2), 40, 40)
    with connection() as pair:
        for first in range(900, 960):
            size = pair.client.sendmsg([request[:first], request[first:1000], request[1000:]])
            receive(pair.server, size)
            pair.server.sendall(OK)
            receive(pair.client, len(OK))
        port = port_of(pair)
    assert count_ends(watch, port) == {CLIENT: [40] * 60, SERVER: [40] * 60}


def test_a_request_with_a_long_body_is_one_and_the_next_is_another(watch: Watch) -> None:
    long = make_request("/long", body=DECOY * 2000)
    with connection() as pair:
        for _ in range(2):
            pair.client.sendall(long[:900])
            receive(pair.server, 900)
            pair.server.sendall(OK)  # before it has read the body
            receive(pair.client, len(OK))
            pair.client.sendall(long[900:])
            receive(pair.server, len(long) - 900)
            pair.exchange(make_request("/short"), OK)
        sides = watch.sides(port_of(pair))

    for side in sides:
        assert [s.path for s in side] == ["/long", "/short"] * 2
        assert read_counts(side) == [None] * 4


@pytest.mark.parametrize(
    "end",
    [
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 123456789\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"\x81\x05hello",
    ],
)
def test_the_count_ends_behind_what_does_not_say_where_it_ends(watch: Watch, end: bytes) -> None:
    some = make_pipeline(random.Random(1), 30, 10)
    with connection() as pair:
        pair.client.sendall(some + end + some)
        receive(pair.server, 2 * len(some) + len(end))
        pair.server.sendall(OK)
        receive(pair.client, len(OK))
        pair.exchange(make_request("/next"), OK)
        client, server = watch.sides(port_of(pair))

    expected = 31 if end.startswith(b"POST") else 30
    for side in (client, server):
        assert [s.path for s in side] == ["/0", "/next"]
        assert [int(s.record["commands"]) for s in side] == [expected, 0]


def test_more_requests_than_steps_are_counted_in_part(watch: Watch) -> None:
    port = exchange_in(watch, 1 << 20, make_request("/") * 3000, make_request("/next"))
    counted = count_ends(watch, port)
    assert 300 <= counted[CLIENT][0] < 3000
    assert [side[1:] for side in counted.values()] == [[0], [0]]


@contextmanager
def talk(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(20)
        yield client


@pytest.mark.parametrize("requests", [16, 100])
def test_nginx_and_its_client_count_the_same(watch: Watch, tmp_path: Path, requests: int) -> None:
    with running_nginx(tmp_path) as port:
        (tmp_path / "files" / "hi").write_text("hi")
        watch.restart()
        with talk(port) as client:
            for _ in range(5):
                client.sendall(
                    make_request("/hi", "Accept: text/plain,text/html;q=0.9\r\n") * requests
                )
                answers = b""
                while answers.count(b"HTTP/1.1 200") < requests or not answers.endswith(b"hi"):
                    answers += client.recv(65_536)
    counted = count_ends(watch, port)
    assert [len(side) for side in counted.values()] == [5, 5]
    assert counted == {CLIENT: [requests] * 5, SERVER: [requests] * 5}
