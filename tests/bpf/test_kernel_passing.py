"""Descriptors that reach a process by other ways than socket, accept and fork."""

import ctypes
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from farcall_probes.probes import KernelCapture
from support_probes import OK, SERVER, Watch, make_request, receive

pytestmark = pytest.mark.bpf

COUNT = 23
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438  # the same on every machine

# Serves each connection that it is passed. Reads a file before each, so that the number that the connection gets was
# that of something else a moment ago.
WORKER = """
import socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
while True:
    with open('/proc/self/comm', 'rb', buffering=0) as file:
        file.read()
    message, fds, _, _ = socket.recv_fds(control, 1, 4)
    if not message:
        break
    for fd in fds:
        with socket.socket(fileno=fd) as connection:
            while data := connection.recv(4096):
                connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi')
"""
# The same for connections that it takes out of its parent, whose numbers it is told.
TAKER = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None)
parent = libc.syscall(434, os.getppid(), 0)
for line in sys.stdin:
    with open('/proc/self/comm', 'rb', buffering=0) as file:
        file.read()
    fd = libc.syscall(438, parent, int(line), 0)
    with socket.socket(fileno=fd) as connection:
        print('taken', flush=True)
        while data := connection.recv(4096):
            connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi')
"""


@contextmanager
def opened() -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """(client's end, the end that was accepted here, the client's port)"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with client, accepted:
        yield client, accepted, int(client.getsockname()[1])


def ask(client: socket.socket, number: int) -> None:
    for part in range(2):
        client.sendall(make_request(f"/{number}/{part}"))
        assert receive(client, len(OK)) == OK


def check(watch: Watch, ports: list[int], tgid: int) -> None:
    """Both requests of each connection, at the end of the process that read them."""
    servers = watch.exchanges(*ports, role=SERVER)

    assert [s.path for s in servers] == [f"/{n}/{part}" for n in range(COUNT) for part in range(2)]
    assert {s.tgid for s in servers} == {tgid}
    assert all(s.status == 200 for s in servers)
    assert [s.rport for s in servers] == [port for port in ports for _ in range(2)]


def test_a_connection_that_was_sent_to_another_process_is_that_ones(watch: Watch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        ports = []
        for number in range(COUNT):
            with opened() as (client, accepted, port):
                socket.send_fds(ours, [b"x"], [accepted.fileno()])
                accepted.close()
                ask(client, number)
                ports.append(port)
        ours.close()
        assert worker.wait(60) == 0

    check(watch, ports, worker.pid)


def test_a_connection_that_another_process_took_out_of_its_owner_is_that_ones(watch: Watch) -> None:
    taker = subprocess.Popen(
        [sys.executable, "-c", TAKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert taker.stdin is not None and taker.stdout is not None
    ports = []
    for number in range(COUNT):
        with opened() as (client, accepted, port):
            taker.stdin.write(f"{accepted.fileno()}\n")
            taker.stdin.flush()
            assert taker.stdout.readline() == "taken\n"
            accepted.close()
            ask(client, number)
            ports.append(port)
    taker.stdin.close()
    assert taker.wait(60) == 0
    taker.stdout.close()

    check(watch, ports, taker.pid)


def _fcntl(old: int, new: int) -> int:
    import fcntl

    return int(fcntl.fcntl(old, fcntl.F_DUPFD_CLOEXEC, new))


@pytest.mark.parametrize("copy", [os.dup2, _fcntl], ids=["dup2", "fcntl"])
def test_a_connection_copied_over_a_files_number_is_seen_at_once(
    watch: Watch, capture: KernelCapture, copy: Callable[[int, int], int]
) -> None:
    with opened() as (client, accepted, port):
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(b"this number is a file's, and remembered as such")
            number = os.dup(file.fileno())
            os.write(number, b"so is this")
            os.close(number)
        copied = copy(client.fileno(), number)
        assert copied == number
        try:
            os.write(copied, make_request("/copied"))
            assert receive(accepted, len(make_request("/copied")))
            accepted.sendall(OK)
            assert os.read(copied, 4096) == OK
        finally:
            os.close(copied)

    client_side, server_side = watch.sides(port)
    assert [s.path for s in client_side] == [s.path for s in server_side] == ["/copied"]


def test_vectors_with_flags_are_requests_and_responses_as_any(watch: Watch) -> None:
    """preadv2 and pwritev2 with an offset of -1 are readv and writev that take flags."""
    libc = ctypes.CDLL(None, use_errno=True)

    class Piece(ctypes.Structure):
        _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]

    def call(name: str, sock: socket.socket, *parts: bytes) -> None:
        pieces = (Piece * len(parts))(*(Piece(p, len(p)) for p in parts))
        done = libc[name](sock.fileno(), pieces, len(parts), ctypes.c_long(-1), 0)
        assert done == sum(map(len, parts))

    request = make_request("/vector")
    room = bytes(bytearray(len(request)))
    with opened() as (client, accepted, port):
        call("pwritev2", client, request[:9], request[9:])
        call("preadv2", accepted, room)
        assert room == request
        accepted.sendall(OK)
        assert receive(client, len(OK)) == OK

    client_side, server_side = watch.sides(port)
    assert [s.request for s in client_side] == [s.request for s in server_side] == [request]
