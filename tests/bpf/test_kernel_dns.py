"""DNS answers where their client reads them, by each system call that resolvers use."""

import ctypes
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from farcall_probes.events import DNS_DATA
from farcall_probes.selftest import map_address
from support_probes import Watch, receive

pytestmark = pytest.mark.bpf

V4, V6 = socket.AF_INET, socket.AF_INET6
RESOLVER = "127.53.71.19"  # a loopback address that nobody else binds


def make_query(number: int) -> bytes:
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + b"\1a\4test\0\0\1\0\1"


def make_answer(number: int, size: int = 60) -> bytes:
    head = struct.pack(">HHHHHH", number, 0x8180, 1, 1, 0, 0) + b"\1a\4test\0\0\1\0\1"
    return head + bytes(i % 251 for i in range(size - len(head)))


@pytest.fixture
def resolver() -> Iterator[socket.socket]:
    with socket.socket(V4, socket.SOCK_DGRAM) as server:
        server.bind((RESOLVER, 53))
        server.settimeout(10)
        yield server


def ask(client: socket.socket, resolver: socket.socket, number: int, size: int = 60) -> None:
    """Query and answer; the answer lies in the client's socket, unread."""
    if _is_connected(client):
        client.send(make_query(number))
    else:
        client.sendto(make_query(number), resolver.getsockname()[:2])
    _, address = resolver.recvfrom(512)
    resolver.sendto(make_answer(number, size), address)


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def data_of(record: np.void) -> bytes:
    return bytes(record["data"])[: int(record["cap"])]


class Mmsghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_len", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_len", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_len", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("end_of_msghdr", ctypes.c_uint32),
        ("len", ctypes.c_uint32),
        ("end_of_mmsghdr", ctypes.c_uint32),
    )


class Messages:
    """`n` datagrams for sendmmsg or recvmmsg."""

    def __init__(self, n: int, size: int, *, named: bool) -> None:
        self.n = n
        self.buffers = [ctypes.create_string_buffer(size) for _ in range(n)]
        self.names = [ctypes.create_string_buffer(28) for _ in range(n)]
        self.vectors = [
            (ctypes.c_uint64 * 2)(ctypes.addressof(b), ctypes.sizeof(b)) for b in self.buffers
        ]
        self.headers = (Mmsghdr * n)()
        for header, vector, name in zip(self.headers, self.vectors, self.names, strict=True):
            header.iov, header.iov_len = ctypes.addressof(vector), 1
            if named:
                header.name, header.name_len = ctypes.addressof(name), 28

    def call(self, function: str, sock: socket.socket) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        flags = socket.MSG_DONTWAIT  # recvmmsg: what is there, not all that was asked for
        arguments = [sock.fileno(), ctypes.byref(self.headers), self.n, flags]
        if function == "recvmmsg":
            arguments.append(None)
        return int(getattr(libc, function)(*arguments))


def read_by_recvmmsg(sock: socket.socket) -> object:
    return Messages(4, 2048, named=True).call("recvmmsg", sock)


CONNECTED: dict[str, Callable[[socket.socket], object]] = {
    "recv": lambda s: s.recv(4096),
    "read": lambda s: os.read(s.fileno(), 4096),
    "recvmsg": lambda s: s.recvmsg(4096),
}
UNCONNECTED: dict[str, Callable[[socket.socket], object]] = {
    "recvfrom": lambda s: s.recvfrom(4096),
    "recvmsg": lambda s: s.recvmsg(4096),
}


@pytest.mark.parametrize("read", CONNECTED)
def test_a_connected_socket_is_seen(watch: Watch, resolver: socket.socket, read: str) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        client.connect((RESOLVER, 53))
        for number in range(5):
            ask(client, resolver, number)
            CONNECTED[read](client)
        answers = watch.answers()

    assert [data_of(a) for a in answers] == [make_answer(n) for n in range(5)]
    for answer in answers:
        assert bytes(answer["raddr"]) == map_address(RESOLVER, V4)
        assert (int(answer["len"]), int(answer["tcp"])) == (60, 0)
        assert int(answer["netns"]) == os.stat("/proc/self/ns/net").st_ino


@pytest.mark.parametrize("read", UNCONNECTED)
def test_an_unconnected_socket_is_seen(watch: Watch, resolver: socket.socket, read: str) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        for number in range(5):
            ask(client, resolver, number)
            UNCONNECTED[read](client)
        answers = watch.answers()

    assert [data_of(a) for a in answers] == [make_answer(n) for n in range(5)]
    assert {bytes(a["raddr"]) for a in answers} == {map_address(RESOLVER, V4)}


@pytest.mark.parametrize("connected", [True, False])
def test_two_answers_read_by_one_recvmmsg_are_two(
    watch: Watch, resolver: socket.socket, connected: bool
) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        if connected:
            client.connect((RESOLVER, 53))
        for _ in range(5):
            ask(client, resolver, 1)
            ask(client, resolver, 2)
            assert read_by_recvmmsg(client) == 2
        answers = watch.answers()

    assert [data_of(a) for a in answers] == [make_answer(1), make_answer(2)] * 5


def test_queries_sent_by_one_sendmmsg_have_both_answers(
    watch: Watch, resolver: socket.socket
) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        client.connect((RESOLVER, 53))
        queries = Messages(2, len(make_query(0)), named=False)
        for number, buffer in enumerate(queries.buffers):
            buffer.raw = make_query(number)
        assert queries.call("sendmmsg", client) == 2
        for number in range(2):
            _, address = resolver.recvfrom(512)
            resolver.sendto(make_answer(number), address)
            client.recv(4096)
        answers = watch.answers()

    assert [data_of(a) for a in answers] == [make_answer(0), make_answer(1)]


def test_ipv6_is_seen(watch: Watch) -> None:
    with socket.socket(V6, socket.SOCK_DGRAM) as server, socket.socket(V6, socket.SOCK_DGRAM) as c:
        server.bind(("::1", 53))
        for number in range(3):
            c.sendto(make_query(number), ("::1", 53))
            _, address = server.recvfrom(512)
            server.sendto(make_answer(number), address)
            c.recvfrom(512)
        answers = watch.answers()

    assert [data_of(a) for a in answers] == [make_answer(n) for n in range(3)]
    assert {bytes(a["raddr"]) for a in answers} == {socket.inet_pton(V6, "::1")}


@pytest.mark.parametrize("size", [1_480, DNS_DATA, DNS_DATA + 1, 4_000])
def test_large_answers_keep_what_fits(watch: Watch, resolver: socket.socket, size: int) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        client.connect((RESOLVER, 53))
        ask(client, resolver, 9, size)
        client.recv(8192)
        answers = watch.answers()

    assert [int(a["len"]) for a in answers] == [size]
    assert data_of(answers[0]) == make_answer(9, size)[:DNS_DATA]


def test_queries_and_other_datagrams_are_not_answers(watch: Watch, resolver: socket.socket) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        client.connect((RESOLVER, 53))
        client.send(make_query(1))
        _, address = resolver.recvfrom(512)  # the resolver's own read of the query
        resolver.sendto(make_query(2), address)  # no answer: its QR bit is clear
        client.recv(512)
        resolver.sendto(b"short", address)
        client.recv(512)

        assert watch.answers() == []
        assert watch.answers(port=client.getsockname()[1]) == []


def test_peeking_at_an_answer_does_not_double_it(watch: Watch, resolver: socket.socket) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        client.connect((RESOLVER, 53))
        ask(client, resolver, 1)
        client.recv(4096, socket.MSG_PEEK)
        client.recv(4096)

        assert len(watch.answers()) == 1


# ---- which question an answer has -----------------------------------------------------------------------------------


def asked_of(record: np.void) -> bytes:
    return bytes(record["asked"])[: int(record["asked_cap"])]


QUESTION = make_query(0)[12:]


@pytest.mark.parametrize("connected", [True, False])
def test_an_answer_comes_with_what_was_asked(
    watch: Watch, resolver: socket.socket, connected: bool
) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        if connected:
            client.connect((RESOLVER, 53))
        ask(client, resolver, 1)
        client.recvfrom(4096)
        answers = watch.answers()

    assert [asked_of(a) for a in answers] == [QUESTION]


def test_both_questions_of_one_sendmmsg_are_known(watch: Watch, resolver: socket.socket) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        client.connect((RESOLVER, 53))
        queries = Messages(2, len(make_query(0)), named=False)
        for number, buffer in enumerate(queries.buffers):
            buffer.raw = make_query(number)
        queries.call("sendmmsg", client)
        for number in (1, 0):
            _, address = resolver.recvfrom(512)
            resolver.sendto(make_answer(number), address)
            client.recv(4096)
        answers = watch.answers()

    assert [asked_of(a) for a in answers] == [QUESTION] * 2


def test_a_socket_that_was_connected_after_its_first_use_is_looked_at_again(
    watch: Watch, resolver: socket.socket
) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        ask(client, resolver, 1)
        client.recvfrom(4096)
        client.connect((RESOLVER, 53))
        ask(client, resolver, 2)
        client.recv(4096)
        answers = watch.answers()

    assert [asked_of(a) for a in answers] == [QUESTION] * 2


def test_answers_that_nobody_asked_for_come_without_a_question(
    watch: Watch, resolver: socket.socket
) -> None:
    """Another transaction's, and one to bytes that are no query. Numbers of its own: a sock's memory is used again soon."""
    asked, other_number = 0x7101, 0x7102
    with (
        socket.socket(V4, socket.SOCK_DGRAM) as client,
        socket.socket(V4, socket.SOCK_DGRAM) as other,
    ):
        for end in (client, other):
            end.connect((RESOLVER, 53))
        client.send(make_query(asked))
        _, address = resolver.recvfrom(512)
        resolver.sendto(make_answer(other_number), address)
        client.recv(4096)
        other.send(b"no query at all")
        _, address = resolver.recvfrom(512)
        resolver.sendto(make_answer(asked), address)
        other.recv(4096)
        answers = watch.answers()

    got = [(data_of(a), asked_of(a)) for a in answers]
    assert got == [(make_answer(other_number), b""), (make_answer(asked), b"")]


def test_a_forged_answer_leaves_the_right_one_its_question(
    watch: Watch, resolver: socket.socket
) -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as client:
        client.connect((RESOLVER, 53))
        client.send(make_query(1))
        _, address = resolver.recvfrom(512)
        for _ in range(2):
            resolver.sendto(make_answer(1), address)
            client.recv(4096)
        answers = watch.answers()

    assert [asked_of(a) for a in answers] == [QUESTION] * 2


def frame(*messages: bytes) -> bytes:
    return b"".join(struct.pack(">H", len(m)) + m for m in messages)


TCP_PORTIONS: dict[str, Callable[[bytes], list[int]]] = {
    "whole": lambda stream: [len(stream)],
    "prefix apart": lambda stream: [2, len(stream) - 2],
    "prefix byte by byte": lambda stream: [1, 1, len(stream) - 2],
}


@pytest.mark.parametrize("portions", TCP_PORTIONS)
@pytest.mark.parametrize("size", [60, 1_800, 3_000])
def test_an_answer_over_tcp_is_seen_however_its_prefix_is_read(
    watch: Watch, portions: str, size: int
) -> None:
    with socket.create_server((RESOLVER, 53)) as listener:
        client = socket.create_connection((RESOLVER, 53), 10)
        server, _ = listener.accept()
        with client, server:
            for number in range(3):
                client.sendall(frame(make_query(number)))
                receive(server, len(frame(make_query(number))))
                stream = frame(make_answer(number, size))
                server.sendall(stream)
                for n in TCP_PORTIONS[portions](stream):
                    receive(client, n)
            answers = watch.answers()

    assert [data_of(a) for a in answers] == [make_answer(n, size)[:DNS_DATA] for n in range(3)]
    for answer in answers:
        assert (int(answer["tcp"]), int(answer["len"])) == (1, size)
        assert bytes(answer["raddr"]) == map_address(RESOLVER, V4)
        assert int(answer["conn_open_ns"]) > 0


def test_two_answers_in_one_tcp_read_are_two(watch: Watch) -> None:
    with socket.create_server((RESOLVER, 53)) as listener:
        client = socket.create_connection((RESOLVER, 53), 10)
        server, _ = listener.accept()
        with client, server:
            server.sendall(frame(make_answer(1), make_answer(2, 200)))
            client.recv(4096)
            server.sendall(frame(make_answer(3)))
            client.recv(4096)
            answers = watch.answers()

    assert [data_of(a) for a in answers] == [make_answer(1), make_answer(2, 200), make_answer(3)]


def test_a_real_lookup_is_seen_under_the_process_that_asked(watch: Watch, tmp_path: Path) -> None:
    """The C library's resolver, in a process of its own with its own resolver configuration."""
    (resolv := tmp_path / "resolv.conf").write_text(f"nameserver {RESOLVER}\noptions timeout:5\n")
    script = (
        "import ctypes, socket\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.unshare(0x20000)\n"  # CLONE_NEWNS
        "libc.mount(None, b'/', None, 0x44000, None)\n"  # MS_REC | MS_PRIVATE
        f"libc.mount(b'{resolv}', b'/etc/resolv.conf', None, 0x1000, None)\n"
        "try: socket.getaddrinfo('lookup.test', 80)\n"
        "except OSError: pass\n"
    )
    with socket.socket(V4, socket.SOCK_DGRAM) as server:
        server.bind((RESOLVER, 53))
        server.settimeout(20)
        child = subprocess.Popen([sys.executable, "-c", script])
        try:
            for _ in range(2):
                query, address = server.recvfrom(512)
                server.sendto(query[:2] + b"\x81\x83" + query[4:], address)
        finally:
            child.wait(30)
        answers = watch.answers(tgid=child.pid)

    assert len(answers) == 2
    assert all(b"\x06lookup\x04test" in data_of(a) for a in answers)
