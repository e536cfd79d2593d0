"""HTTP/1 over real connections: every exchange once at each end, with the right answer, or not at all."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from farcall_probes.events import Flag
from farcall_probes.probes import open_probes
from farcall_probes.selftest import Pair, open_pair
from support_probes import (
    CLIENT,
    OK,
    SERVER,
    Watch,
    check_both_ends,
    connection,
    make_request,
    port_of,
    receive,
)

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


def test_a_dual_stack_server_shows_ipv4_clients_as_mapped_addresses(watch: Watch) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        client = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        server, _ = listener.accept()
        with client, server:
            request = make_request("/mapped")
            client.sendall(request)
            receive(server, len(request))
            server.sendall(OK)
            receive(client, len(OK))
            ends = watch.sides(client.getsockname()[1])

    mapped = bytes(10) + b"\xff\xff" + socket.inet_aton("127.0.0.1")
    for seen in ends[0] + ends[1]:
        assert bytes(seen.record["laddr"]) == bytes(seen.record["raddr"]) == mapped
    assert [s.key for s in ends[0]] == [s.key for s in ends[1]]


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


def test_the_process_is_the_one_that_made_the_call(watch: Watch) -> None:
    with connection() as pair:
        pair.exchange(make_request("/"), OK)
        seen = watch.exchanges(port_of(pair))

    for s in seen:
        assert (s.tgid, s.tid) == (os.getpid(), watch.capture.own_tgid)  # of its main thread
        assert int(s.record["netns"]) == os.stat("/proc/self/ns/net").st_ino
        assert s.record["comm"] == Path("/proc/thread-self/comm").read_bytes().strip()
    assert {s.role for s in seen} == {CLIENT, SERVER}
