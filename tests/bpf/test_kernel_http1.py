"""HTTP/1 over real connections: every exchange once at each end, with the right answer, or not at all."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from farcall_probes.events import PROTO_HTTP1, Flag
from farcall_probes.probes import open_probes
from farcall_probes.selftest import Pair, open_pair
from support_probes import CLIENT, OK, SERVER, Watch, connection, make_request, port_of, receive

pytestmark = pytest.mark.bpf

Send = Callable[[socket.socket, bytes], object]
Receive = Callable[[socket.socket], bytes]


def send_by_sendmsg(sock: socket.socket, data: bytes) -> object:
    return sock.sendmsg([data[:7], data[7:]])


def send_by_writev(sock: socket.socket, data: bytes) -> object:
    return os.writev(sock.fileno(), [data[:20], data[20:25], data[25:]])


SENDS: dict[str, Send] = {
    "write": lambda s, d: os.write(s.fileno(), d),
    "writev": send_by_writev,
    "send": lambda s, d: s.send(d),
    "sendmsg": send_by_sendmsg,
}


def receive_by_readv(sock: socket.socket) -> bytes:
    first, second = bytearray(10), bytearray(4096)
    n = os.readv(sock.fileno(), [first, second])
    return bytes(first + second)[:n]


RECEIVES: dict[str, Receive] = {
    "read": lambda s: os.read(s.fileno(), 4096),
    "readv": receive_by_readv,
    "recv": lambda s: s.recv(4096),
    "recvmsg": lambda s: s.recvmsg(4096)[0],
}


def check_both_ends(watch: Watch, pair: Pair, requests: list[bytes], statuses: list[int]) -> None:
    for seen in watch.sides(port_of(pair)):
        assert [s.request for s in seen] == [r[:696] for r in requests]
        assert [s.status for s in seen] == statuses
        assert [s.seq for s in seen] == list(range(len(requests)))
        assert [s.request_bytes for s in seen] == [len(r) for r in requests]
        assert all(s.proto == PROTO_HTTP1 for s in seen)
        assert all(s.ts_req_ns <= s.ts_resp_ns for s in seen)
    client, server = watch.sides(port_of(pair))
    assert [s.key for s in client] == [s.key for s in server]
    assert all(s.flags & Flag.IDENTITY for s in client + server)


def test_keep_alive_gives_every_exchange_at_both_ends(watch: Watch) -> None:
    requests = [make_request(f"/{i}") for i in range(23)]
    with connection() as pair:
        for request in requests:
            pair.exchange(request, OK)

        check_both_ends(watch, pair, requests, [200] * 23)


@pytest.mark.parametrize("receive_", RECEIVES)
@pytest.mark.parametrize("send", SENDS)
def test_every_way_to_write_and_read_is_seen(watch: Watch, send: str, receive_: str) -> None:
    requests = [make_request(f"/{send}/{receive_}/{i}") for i in range(3)]
    with connection() as pair:
        for request in requests:
            SENDS[send](pair.client, request)
            assert RECEIVES[receive_](pair.server) == request
            SENDS[send](pair.server, OK)
            assert RECEIVES[receive_](pair.client) == OK

        check_both_ends(watch, pair, requests, [200] * 3)


def test_ipv6_is_seen_with_its_addresses(watch: Watch) -> None:
    with connection(socket.AF_INET6) as pair:
        pair.exchange(make_request("/"), OK)
        client, server = watch.sides(port_of(pair))

    loopback = socket.inet_pton(socket.AF_INET6, "::1")
    for seen in (client[0], server[0]):
        assert int(seen.record["family"]) == socket.AF_INET6
        assert bytes(seen.record["laddr"]) == bytes(seen.record["raddr"]) == loopback
    assert client[0].key == server[0].key


def test_a_connection_older_than_the_hooks_has_addresses_and_key() -> None:
    pair = open_pair()
    try:
        pair.exchange(make_request("/before"), OK)
        with_hooks = open_probes()
        try:
            watch = Watch(with_hooks)
            for i in range(20):
                pair.exchange(make_request(f"/{i}"), OK)
            check_both_ends(watch, pair, [make_request(f"/{i}") for i in range(20)], [200] * 20)
            client, server = watch.sides(port_of(pair))
        finally:
            with_hooks.close()
    finally:
        pair.close()

    assert all(s.flags & Flag.LATE for s in client + server)
    assert all(s.flags & Flag.CONNECTOR for s in client)
    assert not any(s.flags & Flag.CONNECTOR for s in server)
    assert int(client[0].record["conn_open_ns"]) == 0


def test_a_request_in_three_writes_is_one(watch: Watch) -> None:
    request = make_request("/three", body=b"x" * 40)
    with connection() as pair:
        for _ in range(5):
            for piece in (request[:10], request[10:40], request[40:]):
                pair.client.sendall(piece)
                receive(pair.server, len(piece))
            pair.server.sendall(OK)
            receive(pair.client, len(OK))

        check_both_ends(watch, pair, [request] * 5, [200] * 5)


def test_a_response_in_two_writes_is_one(watch: Watch) -> None:
    request = make_request("/")
    with connection() as pair:
        for _ in range(5):
            pair.client.sendall(request)
            receive(pair.server, len(request))
            for piece in (OK[:-2], OK[-2:]):
                pair.server.sendall(piece)
                receive(pair.client, len(piece))

        check_both_ends(watch, pair, [request] * 5, [200] * 5)


@pytest.mark.parametrize("portion", [1, 4, 7])
def test_reading_in_small_portions_loses_nothing(watch: Watch, portion: int) -> None:
    request = make_request("/portions")
    with connection() as pair:
        for _ in range(5):
            pair.client.sendall(request)
            for at in range(0, len(request), portion):
                pair.server.recv(min(portion, len(request) - at))
            pair.server.sendall(OK)
            for at in range(0, len(OK), portion):
                pair.client.recv(min(portion, len(OK) - at))

        check_both_ends(watch, pair, [request] * 5, [200] * 5)


def test_a_length_read_first_loses_nothing(watch: Watch) -> None:
    request = make_request("/four")
    with connection() as pair:
        for _ in range(5):
            pair.client.sendall(request)
            receive(pair.server, 4)
            receive(pair.server, len(request) - 4)
            pair.server.sendall(OK)
            receive(pair.client, len(OK))

        check_both_ends(watch, pair, [request] * 5, [200] * 5)


def test_peeked_bytes_are_not_counted_twice(watch: Watch) -> None:
    request = make_request("/peek")
    with connection() as pair:
        for _ in range(5):
            pair.client.sendall(request)
            pair.server.recv(1, socket.MSG_PEEK)
            pair.server.recvmsg(500, 0, socket.MSG_PEEK)
            receive(pair.server, len(request))
            pair.server.sendall(OK)
            pair.client.recv(500, socket.MSG_PEEK)
            receive(pair.client, len(OK))

        check_both_ends(watch, pair, [request] * 5, [200] * 5)


def test_a_duplicate_of_the_descriptor_is_the_same_connection(watch: Watch) -> None:
    requests = [make_request(f"/{i}") for i in range(5)]
    with connection() as pair, pair.client.dup() as reader:
        for request in requests:
            pair.client.sendall(request)
            receive(pair.server, len(request))
            pair.server.sendall(OK)
            receive(reader, len(OK))

        check_both_ends(watch, pair, requests, [200] * 5)


def test_a_forked_child_on_its_parents_connection_is_the_client(watch: Watch) -> None:
    requests = [make_request(f"/{i}") for i in range(5)]
    with connection() as pair:
        pair.exchange(make_request("/parent"), OK)
        child = os.fork()
        if child == 0:
            for request in requests:
                pair.client.sendall(request)
                receive(pair.client, len(OK))
            os._exit(0)
        for request in requests:
            receive(pair.server, len(request))
            pair.server.sendall(OK)
        os.waitpid(child, 0)
        client, server = watch.sides(port_of(pair))

    assert [s.tgid for s in client] == [os.getpid()] + [child] * 5
    assert [s.path for s in client] == ["/parent"] + [f"/{i}" for i in range(5)]
    assert {int(s.record["parent_tgid"]) for s in client[1:]} == {os.getpid()}
    assert [s.key for s in client] == [s.key for s in server]


def test_eight_threads_are_told_apart(watch: Watch) -> None:
    pairs = [open_pair() for _ in range(8)]

    def run(pair: Pair) -> None:
        for i in range(20):
            pair.exchange(make_request(f"/{i}"), OK)

    threads = [threading.Thread(target=run, args=(pair,)) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for pair in pairs:
        check_both_ends(watch, pair, [make_request(f"/{i}") for i in range(20)], [200] * 20)
        client, _ = watch.sides(port_of(pair))
        assert len({s.tid for s in client}) == 1
        pair.close()


def test_writer_and_reader_may_be_two_threads(watch: Watch) -> None:
    requests = [make_request(f"/{i}") for i in range(20)]
    with connection() as pair:
        turn = threading.Semaphore(0)

        def read_all() -> None:
            for _ in requests:
                receive(pair.client, len(OK))
                turn.release()

        reader = threading.Thread(target=read_all)
        reader.start()
        for request in requests:
            pair.client.sendall(request)
            receive(pair.server, len(request))
            pair.server.sendall(OK)
            turn.acquire()
        reader.join()

        check_both_ends(watch, pair, requests, [200] * 20)


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


@pytest.mark.parametrize("end", [close_by_server, close_by_client, reset_by_server])
def test_a_request_that_stays_without_answer_is_an_exchange(
    watch: Watch, end: Callable[[Pair], None]
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
    seen = watch.exchanges(*ports)

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


def test_the_process_is_the_one_that_made_the_call(watch: Watch) -> None:
    with connection() as pair:
        pair.exchange(make_request("/"), OK)
        seen = watch.exchanges(port_of(pair))

    for s in seen:
        assert s.tgid == os.getpid() and s.tid == threading.get_native_id()
        assert int(s.record["netns"]) == os.stat("/proc/self/ns/net").st_ino
        assert s.record["comm"] == Path("/proc/thread-self/comm").read_bytes().strip()
    assert {s.role for s in seen} == {CLIENT, SERVER}
