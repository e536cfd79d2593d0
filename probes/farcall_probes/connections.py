"""The connections that records speak of, looked up once per connection and drain instead of once per record.

A connection belongs to the process that used it: a descriptor shared over fork gives one entry per process, since each has
its own identity. The name is bound when a connection is first seen, from answers before its connect, and never again.
Bounded by two generations: what was not used for a whole generation goes, and is bound anew if it comes back.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.evidence import Bound
from farcall_probes.identity import Identity

MAX_GENERATION = 16_384  # entries; about 500 bytes each, their identity shared

# Odd 64-bit constants: a product keeps all bits of the ID, the sum spreads tgid and role over them.
_SPREAD_TGID = np.uint64(0x9E3779B97F4A7C15)
_SPREAD_ROLE = np.uint64(0xC2B2AE3D27D4EB4F)

_NAMES = [
    "conn_id",
    "conn_open_ns",
    "cgroup_id",
    "proc_start_ns",
    "tgid",
    "netns",
    "parent_tgid",
    "lport",
    "rport",
    "laddr",
    "raddr",
    "comm",
    "proto",
    "role",
    "flags",
    "ts_req_ns",
]
_FIELDS = np.dtype([(name, events.EXCHANGE[name]) for name in _NAMES])


@dataclass(frozen=True, slots=True)
class Sight:
    """A connection's part of a record, in the order of _NAMES."""

    conn_id: int
    conn_open_ns: int  # 0: older than the agent's watch
    cgroup_id: int
    proc_start_ns: int
    tgid: int
    netns: int
    parent_tgid: int
    lport: int
    rport: int
    laddr: bytes
    raddr: bytes
    comm: bytes
    proto: int
    role: int
    flags: int
    ts_req_ns: int


class Connection:
    """Mutable on purpose: one per connection, touched on every drain."""

    __slots__ = (
        "_packed",
        "bound",
        "identity",
        "is_client",
        "kept",
        "opened_ns",
        "seen_ns",
        "tcp_identity",
        "watched",
        "written_ns",
    )

    def __init__(
        self, packed: bytes, identity: Identity, bound: Bound | None, *, watched: bool, kept: bool
    ) -> None:
        sight = unpack_sight(packed)
        self._packed = (
            packed  # as an object it would be four times as large, and is looked at once or twice
        )
        self.opened_ns = sight.conn_open_ns
        self.is_client = sight.role == events.ROLE_CLIENT
        self.identity = identity
        self.bound = bound
        self.watched = watched  # the client was watched from its start
        self.kept = kept  # by policy
        self.seen_ns = sight.ts_req_ns  # newest request
        self.tcp_identity = 0  # farcall.dnscache.Binding has it
        self.written_ns = 0  # when its binding went to the cache; 0: not yet

    @property
    def sight(self) -> Sight:
        return unpack_sight(self._packed)


class Connections:
    def __init__(self, *, max_generation: int = MAX_GENERATION) -> None:
        self._young: dict[int, Connection] = {}
        self._old: dict[int, Connection] = {}
        self._max_generation = max_generation

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: int) -> Connection | None:
        connection = self._young.get(key)
        if connection is None and (connection := self._old.pop(key, None)) is not None:
            self._put(key, connection)
        return connection

    def add(self, key: int, connection: Connection) -> None:
        self._put(key, connection)

    def _put(self, key: int, connection: Connection) -> None:
        if len(self._young) >= self._max_generation:
            self._old, self._young = self._young, {}
        self._young[key] = connection

    def values(self) -> list[Connection]:
        return [*self._old.values(), *self._young.values()]


def keys_of(block: Records) -> npt.NDArray[np.uint64]:
    """One number per (connection, process, role)."""
    tgid = block["tgid"].astype(np.uint64) * _SPREAD_TGID
    role = block["role"].astype(np.uint64) * _SPREAD_ROLE
    return np.asarray(block["conn_id"] ^ tgid ^ role, dtype=np.uint64)


def newest_of(
    block: Records, count: int, owners: npt.NDArray[np.intp]
) -> tuple[list[int], list[int]]:
    """For each of `count` connections its newest request's time, and its identity in TCP sequence space, 0 where not known."""
    known = block["flags"] & events.FLAG_IDENTITY != 0
    number = block["isn_client"].astype(np.uint64) << np.uint64(32) | block["isn_server"]
    newest = np.zeros((2, count), dtype=np.uint64)
    np.maximum.at(newest[0], owners, block["ts_req_ns"])
    np.maximum.at(newest[1], owners, np.where(known, number, np.uint64(0)))
    return newest[0].tolist(), newest[1].tolist()


def pack_sights(block: Records, rows: npt.NDArray[np.intp]) -> list[bytes]:
    packed = np.empty(len(rows), dtype=_FIELDS)
    for name in _NAMES:
        packed[name] = block[name][rows]
    data, size = packed.tobytes(), _FIELDS.itemsize
    return [data[at : at + size] for at in range(0, len(data), size)]


def unpack_sight(packed: bytes) -> Sight:
    return Sight(*np.frombuffer(packed, dtype=_FIELDS)[0].item())
