"""HTTP/1 where order is hard: interim answers, pipelining, writes that fail and come again."""

import select
import socket
import threading

import pytest

from farcall_probes.events import Flag
from support_probes import OK, Watch, check_both_ends, connection, make_request, port_of, receive

pytestmark = pytest.mark.bpf

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


@pytest.mark.parametrize("interim", [CONTINUE, HINTS])
@pytest.mark.parametrize("glued", [False, True])
def test_interim_responses_are_not_the_answer(watch: Watch, interim: bytes, glued: bool) -> None:
    head, body = make_request("/upload", "Expect: 100-continue\r\n"), b"y" * 30
    with connection() as pair:
        for _ in range(3):
            pair.client.sendall(head)
            receive(pair.server, len(head))
            for piece in [interim + OK] if glued else [interim, OK]:
                pair.server.sendall(piece)
                receive(pair.client, len(piece))
                if not glued and piece == interim:
                    pair.client.sendall(body)
                    receive(pair.server, len(body))
        client, server = watch.sides(port_of(pair))

    for seen in (client, server):
        assert [s.status for s in seen] == [200] * 3
        assert [s.path for s in seen] == ["/upload"] * 3


def test_switching_protocols_is_an_answer(watch: Watch) -> None:
    with connection() as pair:
        pair.exchange(
            make_request("/ws", "Upgrade: websocket\r\n"),
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        )
        client, server = watch.sides(port_of(pair))

    assert [s.status for s in client + server] == [101, 101]


def test_methods_without_a_body_in_the_answer_keep_the_pairs(watch: Watch) -> None:
    with connection() as pair:
        for method in (b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"CONNECT", b"TRACE", b"PUT"):
            request = method + b" /m HTTP/1.1\r\nHost: a.test\r\n\r\n"
            pair.exchange(request, b"HTTP/1.1 204 No Content\r\n\r\n")
        client, server = watch.sides(port_of(pair))

    for seen in (client, server):
        assert [s.request.split(b" ")[0] for s in seen] == [
            b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"CONNECT", b"TRACE", b"PUT",
        ]  # fmt: skip
        assert [s.status for s in seen] == [204] * 7


def test_pipelined_requests_in_one_write_are_one_record(watch: Watch) -> None:
    batch = b"".join(make_request(f"/{i}") for i in range(4))
    with connection() as pair:
        for _ in range(3):
            pair.client.sendall(batch)
            receive(pair.server, len(batch))
            for _ in range(4):
                pair.server.sendall(OK)
            receive(pair.client, 4 * len(OK))
        client, server = watch.sides(port_of(pair))

    for seen in (client, server):
        assert [s.request for s in seen] == [batch] * 3
    assert [s.key for s in client] == [s.key for s in server]


def test_requests_in_flight_beside_another_are_counted_and_never_mispaired(watch: Watch) -> None:
    """A window of two, sliding: only the first is followed until all are answered."""
    answers = [OK.replace(b"200", str(200 + i).encode()) for i in range(6)]
    with connection() as pair:
        pair.client.sendall(make_request("/0"))
        for i in range(1, 6):
            pair.client.sendall(make_request(f"/{i}"))
            receive(pair.server, len(make_request("/0")))
            pair.server.sendall(answers[i - 1])
            receive(pair.client, len(OK))
        receive(pair.server, len(make_request("/0")))
        pair.server.sendall(answers[5])
        receive(pair.client, len(OK))
        pair.client.sendall(make_request("/6"))
        receive(pair.server, len(make_request("/6")))
        pair.server.sendall(OK.replace(b"200", b"206"))
        receive(pair.client, len(OK))
        client, server = watch.sides(port_of(pair))

    for seen in (client, server):
        assert all(s.status == 200 + int(s.path[1:]) for s in seen)
        assert [s.seq for s in seen] == [int(s.path[1:]) for s in seen]
    assert [s.path for s in client] == ["/0", "/6"]
    assert client[0].flags & Flag.PIPELINED
    assert watch.count("overwritten") == 5


def test_a_request_written_while_response_bytes_are_unread_gets_its_own_answer(
    watch: Watch,
) -> None:
    with connection() as pair:
        pair.client.sendall(make_request("/0"))
        receive(pair.server, len(make_request("/0")))
        pair.server.sendall(OK)
        for i in range(1, 6):
            receive(pair.client, len(OK) - 2)
            pair.client.sendall(make_request(f"/{i}"))
            receive(pair.client, 2)
            receive(pair.server, len(make_request("/0")))
            pair.server.sendall(OK.replace(b"200", str(200 + i).encode()))
        receive(pair.client, len(OK))
        client, server = watch.sides(port_of(pair))

    for seen in (client, server):
        assert [(s.path, s.status) for s in seen] == [(f"/{i}", 200 + i) for i in range(6)]


def test_a_write_that_was_short_or_refused_counts_its_bytes_once(watch: Watch) -> None:
    """A body larger than the socket's buffer on a non-blocking socket: EAGAIN and short writes, many times."""
    body = bytes(2_000_000)
    request = make_request("/large", body=body)
    with connection() as pair:
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
        pair.client.setblocking(False)
        reader = threading.Thread(target=receive, args=(pair.server, len(request)))
        left, refused = memoryview(request), 0
        while left:
            try:
                left = left[pair.client.send(left) :]
            except BlockingIOError:
                refused += 1
                if not reader.ident:
                    reader.start()
                select.select([], [pair.client], [])
        reader.join()
        pair.server.sendall(OK)
        select.select([pair.client], [], [])
        receive(pair.client, len(OK))

        assert refused > 3
        check_both_ends(watch, pair, [request], [200])


def test_a_request_refused_whole_and_retried_is_one(watch: Watch) -> None:
    with connection() as pair:
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        pair.client.setblocking(False)
        filled = 0
        try:
            while True:  # a protocol that is not ours fills the buffer
                filled += pair.client.send(bytes(65_536))
        except BlockingIOError:
            pass
        request = make_request("/retried")
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                pair.client.send(request)
        receive(pair.server, filled)
        select.select([], [pair.client], [])
        assert pair.client.send(request) == len(request)
        receive(pair.server, len(request))
        pair.server.sendall(OK)
        select.select([pair.client], [], [])
        receive(pair.client, len(OK))
        client, server = watch.sides(port_of(pair))

    assert [(s.path, s.status, s.request_bytes) for s in client] == [
        ("/retried", 200, len(request))
    ]
    assert [s.key for s in client] == [s.key for s in server]
