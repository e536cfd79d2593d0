"""Which connections are open already, as /proc tells: of this very machine, and of one that was written down."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from farcall_probes import opensockets
from farcall_probes.opensockets import OpenSocket, OpenSockets

pytestmark = pytest.mark.unit

# As Linux 6.1 wrote it: a listener, its accepted end, a client's end, one that is closing.
HEADING = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TABLE = HEADING + (
    b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 71001 1 00 100 0 0 10 0\n"
    b"   1: 0100007F:1F90 0200007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 71002 1 00 20 4 30 10 -1\n"
    b"   2: 05000A0A:9C40 0A7100CB:18EB 01 00000000:00000000 00:00000000 00000000     0        0 71003 1 00 20 4 30 10 -1\n"
    b"   3: 05000A0A:9C41 0A7100CB:18EB 06 00000000:00000000 00:00000000 00000000     0        0 0 3 00\n"
)
TABLE_6 = HEADING + (
    b"   0: B80D0120000000000000000001000000:A000 B80D0120000000000000000010000000:0CEA 01 00000000:00000000 00:00000000 00000000     0        0 71004 1 00 20 4 30 10 -1\n"
    b"   1: 0000000000000000FFFF000005000A0A:A001 0000000000000000FFFF00000A7100CB:18EB 01 00000000:00000000 00:00000000 00000000     0        0 71005 1 00 20 4 30 10 -1\n"
)


class Proc:
    """A /proc of the test's own, with one network namespace."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._netns = path / "netns"
        self._netns.touch()

    def add(self, tgid: int, inodes: list[int], tcp: bytes = TABLE, tcp6: bytes = TABLE_6) -> None:
        folder = self.path / str(tgid)
        for name in ("net", "ns", "fd"):
            (folder / name).mkdir(parents=True)
        (folder / "net/tcp").write_bytes(tcp)
        (folder / "net/tcp6").write_bytes(tcp6)
        (folder / "ns/net").symlink_to(self._netns)
        (folder / "fd/0").symlink_to("/dev/null")
        for number, inode in enumerate(inodes, start=1):
            (folder / f"fd/{number}").symlink_to(f"socket:[{inode}]")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def find(sockets: OpenSockets) -> set[tuple[int, str, str]]:
    return {(s.tgid, s.local, s.peer) for s in sockets.find() if s is not None}


def test_clients_ends_are_found_with_their_processes(proc: Proc) -> None:
    proc.add(10, [71001, 71002, 71003, 99])
    proc.add(11, [71004, 71005, 71003])

    assert find(OpenSockets(proc.path)) == {
        (10, "10.10.0.5:40000", "203.0.113.10:6379"),
        (11, "10.10.0.5:40000", "203.0.113.10:6379"),
        (11, "2001:db8::1:40960", "2001:db8::10:3306"),
        (11, "10.10.0.5:40961", "203.0.113.10:6379"),  # an IPv6 socket with a mapped address
    }


def test_lines_that_are_no_sockets_are_passed_over(proc: Proc) -> None:
    broken = HEADING + b"".join(
        [
            b"\n",
            b"0: 05000A0A:9C40\n",
            b"0: xyz:9C40 0A7100CB:18EB 01 0 0 0 0 0 71010 1\n",
            b"0: 05000A0A:9C40 0A7100CB:18EB 01 0 0 0 0 0 no 1\n",
            b"0: 05000A0A05000A0A:9C40 0A7100CB:18EB 01 0 0 0 0 0 71011 1\n",
            b"0: :9C40 :18EB 01 0 0 0 0 0 71012 1\n",
            b"0: 05000A0A:FFFFFF 0A7100CB:18EB 01 0 0 0 0 0 71013 1\n",
            TABLE.splitlines(keepends=True)[3],
        ]
    )
    proc.add(10, [71010, 71011, 71012, 71013, 71003], broken, b"")

    assert find(OpenSockets(proc.path)) == {(10, "10.10.0.5:40000", "203.0.113.10:6379")}


def test_what_is_too_many_is_left_out_and_counted(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opensockets, "MAX_SOCKETS", 1)
    monkeypatch.setattr(opensockets, "MAX_PROCESSES", 1)
    for tgid in (10, 11):
        proc.add(tgid, [71003, 71004, 71005])
    sockets = OpenSockets(proc.path)

    assert len(find(sockets)) == 1
    assert sockets.left_out == 2 + 1  # connections, and a process


def test_a_process_that_ends_meanwhile_is_no_trouble(proc: Proc) -> None:
    proc.add(10, [71003])
    (proc.path / "12").mkdir()
    sockets = OpenSockets(proc.path).find()
    next(sockets)
    for path in (proc.path / "10/net").iterdir():
        path.unlink()

    assert [s for s in sockets if s is not None] == []


def test_a_proc_that_is_not_there_has_no_sockets(tmp_path: Path) -> None:
    assert find(OpenSockets(tmp_path / "none")) == set()


@pytest.fixture(params=["127.0.0.1", "::1"])
def link(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A connection of this process to itself."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(family))
        server.bind((request.param, 0))
        server.listen()
        taken: list[socket.socket] = []
        thread = threading.Thread(target=lambda: taken.append(server.accept()[0]))
        thread.start()
        client = stack.enter_context(socket.create_connection(server.getsockname()[:2]))
        thread.join()
        stack.enter_context(taken[0])
        yield client


def test_a_real_connection_is_found_at_its_clients_end_alone(link: socket.socket) -> None:
    local, peer = ("{}:{}".format(*name[:2]) for name in (link.getsockname(), link.getpeername()))
    found = [s for s in OpenSockets().find() if s is not None and s.tgid == os.getpid()]

    assert OpenSocket(tgid=os.getpid(), local=local, peer=peer) in found
    assert (peer, local) not in [(s.local, s.peer) for s in found]
