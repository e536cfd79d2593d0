"""For tests of the kernel side: both ends of real connections, and the records they left.

Other processes of the machine are traced too, so everything is picked by this process' own ports.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from farcall_probes import events
from farcall_probes.capture import Drained
from farcall_probes.events import PROTO_HTTP1, Flag
from farcall_probes.heads import Heads
from farcall_probes.probes import KernelCapture
from farcall_probes.reading import Reader
from farcall_probes.selftest import Pair, open_pair
from support_frames import widen

CLIENT, SERVER = events.ROLE_CLIENT, events.ROLE_SERVER
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def make_request(path: str, head: str = "", body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"GET {path} HTTP/1.1\r\nHost: a.test\r\n{head}{length}\r\n".encode() + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One exchange record, its captured bytes cut at their caps."""

    role: int
    seq: int
    proto: int
    request: bytes
    response: bytes
    request_bytes: int
    response_bytes: int
    flags: events.Flag
    key: tuple[int, int, int]
    lport: int
    rport: int
    tgid: int
    tid: int
    conn_id: int
    ts_req_ns: int
    ts_resp_ns: int
    record: np.void

    @property
    def path(self) -> str:
        return self.request.split(b" ", 2)[1].decode()

    @property
    def status(self) -> int:
        return int(self.response[9:12]) if self.response else 0


def _cut(record: np.void, name: str) -> bytes:
    return bytes(record[name])[: int(record[f"{name}_cap"])]


def _whole(record: np.void) -> bytes:
    """The response, from where it begins in the request's room."""
    begin = -int(record["resp_more"]) or None
    before = bytes(record["req"])[begin:] if begin else b""
    return before + _cut(record, "resp")


def see(record: np.void) -> Seen:
    return Seen(
        role=int(record["role"]),
        seq=int(record["seq"]),
        proto=int(record["proto"]),
        request=_cut(record, "req"),
        response=_whole(record),
        request_bytes=int(record["req_bytes"]),
        response_bytes=int(record["resp_bytes"]),
        flags=events.Flag(int(record["flags"])),
        key=(int(record["isn_client"]), int(record["isn_server"]), int(record["request_seq"])),
        lport=int(record["lport"]),
        rport=int(record["rport"]),
        tgid=int(record["tgid"]),
        tid=int(record["tid"]),
        conn_id=int(record["conn_id"]),
        ts_req_ns=int(record["ts_req_ns"]),
        ts_resp_ns=int(record["ts_resp_ns"]),
        record=record.copy(),
    )


class Watch:
    """Drains a capture and keeps what belongs to ports that a test asks for."""

    def __init__(self, capture: KernelCapture) -> None:
        self.capture = capture
        self._before: dict[str, int] = {}
        self._drained: list[Drained] = []
        self.restart()

    def restart(self) -> None:
        """Forgets what was recorded so far."""
        self.capture.drain()
        self._drained.clear()
        self._before = self.capture.read_counters()

    def drain(self) -> None:
        self._drained.append(self.capture.drain())

    def count(self, name: str) -> int:
        """Growth of a counter since the last restart."""
        name = f"kernel_{name}"
        return self.capture.read_counters()[name] - self._before[name]

    def count_lost(self) -> int:
        """Records that the rings had no room for since the last restart. The rings are the whole machine's, so they may be of
        somebody else; what a test misses of its own cannot be more."""
        return sum(self.count(f"{kind}_lost") for kind in ("small", "large", "segment"))

    def drain_until(self, client: "subprocess.Popen[str]") -> None:
        """Keeps room in the rings until a process has ended."""
        while client.poll() is None:
            self.drain()
            time.sleep(0.02)

    def run(self, words: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        """A client that ends by itself, and well."""
        client = subprocess.Popen(words, env=env, text=True)
        try:
            self.drain_until(client)
        finally:
            client.kill()
            client.wait()
        assert client.returncode == 0

    def exchanges(self, *ports: int, role: int | None = None) -> list[Seen]:
        """In the order of submission, those with one of `ports` at either end."""
        self.drain()
        found = []
        for drained in self._drained:
            for records in (drained.large, drained.small):
                mask = np.isin(records["lport"], ports) | np.isin(records["rport"], ports)
                mask &= records["segment"] == events.SEGMENT_NONE
                found += [see(record) for record in records[mask]]
        return [seen for seen in found if role is None or seen.role == role]

    def segments(self, *ports: int) -> list[np.void]:
        """The same for records that are one message."""
        self.drain()
        found = []
        for drained in self._drained:
            records = np.concatenate([drained.large, widen(drained.frames)])
            mask = np.isin(records["lport"], ports) | np.isin(records["rport"], ports)
            mask &= records["segment"] != events.SEGMENT_NONE
            found += [record.copy() for record in records[mask]]
        return found

    def rests(self, *ports: int) -> np.ndarray:
        """Records of how responses went on, as events.SMALL."""
        self.drain()
        records = np.concatenate([drained.small for drained in self._drained])
        mask = np.isin(records["lport"], ports) | np.isin(records["rport"], ports)
        found: np.ndarray = records[mask & (records["segment"] == events.SEGMENT_REST)]
        return found

    def sides(self, *ports: int) -> tuple[list[Seen], list[Seen]]:
        """(client's, server's)"""
        seen = self.exchanges(*ports)
        return [s for s in seen if s.role == CLIENT], [s for s in seen if s.role == SERVER]

    def heads(self, *conn_ids: int) -> list[np.void]:
        self.drain()
        return [
            record
            for drained in self._drained
            for record in drained.heads
            if int(record["conn_id"]) in conn_ids
        ]

    def answers(self, port: int = 53, tgid: int | None = None) -> list[np.void]:
        self.drain()
        wanted = os.getpid() if tgid is None else tgid
        return [
            record
            for drained in self._drained
            for record in drained.dns
            if int(record["rport"]) == port and int(record["tgid"]) == wanted
        ]


def count_ends(watch: Watch, *ports: int) -> dict[int, list[int]]:
    """By role the commands of each exchange, with those that were told of after its first answer. The last ones' are when their
    connection closes."""
    counted: dict[tuple[int, int, int], int] = {}
    for seen in watch.exchanges(*ports):
        counted[seen.role, seen.conn_id, seen.seq] = int(seen.record["commands"])
    for told in watch.rests(*ports):
        key = int(told["role"]), int(told["conn_id"]), int(told["seq"])
        counted[key] = max(counted[key], int(told["commands"]))
    return {role: [n for key, n in counted.items() if key[0] == role] for role in (CLIENT, SERVER)}


def read_sizes(seen: list[Seen]) -> list[int]:
    """Of HTTP/1 responses, as they leave the agent."""
    block = np.array([s.record for s in seen], dtype=events.LARGE)
    columns = Reader(masking=True, headers=(), heads=Heads()).read(PROTO_HTTP1, block)
    assert columns.response_bytes is not None
    return [int(n) for n in columns.response_bytes]


@contextmanager
def connection(family: int = socket.AF_INET) -> Iterator[Pair]:
    pair = open_pair(family)
    try:
        yield pair
    finally:
        pair.close()


def port_of(pair: Pair) -> int:
    """The client's port: no two connections of a test share it."""
    return int(pair.client.getsockname()[1])


def receive(sock: socket.socket, n: int) -> bytes:
    """Exactly `n` bytes."""
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        assert piece, "the peer closed"
        data += piece
    return data


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
