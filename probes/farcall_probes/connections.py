"""The connections that records speak of: one row for each, found for all records of a drain at once.

A connection belongs to the process that used it: a descriptor shared over fork gives one entry per process, since each has
its own identity. The name is bound when a connection is first seen, from answers before its connect, and never again.
Bounded by two generations: when there is no room, what was not used for a whole generation goes, and is bound anew if it comes
back. Where more are in use than the kernel side has room for, those that are followed message by message come with another number
time and again: who has the same ends and was opened at the same moment is the same one, and keeps what is known of it. Of two that
are older than the agent's watch that is not certain: they have no name, and the second one takes over no more than whose it is.

The rows are arrays, not objects: 20,000 connections take 3 MB instead of 10. A place is a row's number. What has gone keeps its
row until `settle`, because exchanges that wait for their batch know their connection by its place.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from farcall_probes import events, records
from farcall_probes.arraysets import distinct
from farcall_probes.capture import Records
from farcall_probes.evidence import Bound
from farcall_probes.identity import Identity

MAX_GENERATION = 16_384  # entries
_SLACK = 4096  # rows beyond two generations before the table grows: of those that have gone and are not settled
_FEW = 1024  # shared values that are not worth being looked through

# Odd 64-bit constants: a product keeps all bits of the ID, the sum spreads tgid, role and ports over them.
_SPREAD_TGID = np.uint64(0x9E3779B97F4A7C15)
_SPREAD_ROLE = np.uint64(0xC2B2AE3D27D4EB4F)
_SPREAD_PORTS = np.uint64(0x165667B19E3779F9)

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
_ROW = np.dtype(
    [
        *((name, events.EXCHANGE[name]) for name in _NAMES),
        ("seen_ns", "<u8"),  # newest request
        ("written_ns", "<u8"),  # when its binding went to the cache; 0: not yet
        ("tcp_identity", "<u8"),  # farcall.dnscache.Binding has it; 0: not known
        ("identity", "<u4"),
        ("bound", "<u4"),  # 0: none
        ("generation", "<u4"),  # that it was last used in
        ("watched", "?"),  # the client was watched from its start
        ("kept", "?"),  # by policy
    ]
)
_DESCRIBED = np.dtype([(name, _ROW[name]) for name in ("identity", "bound", "watched", "kept")])
# What says that two connections are one, and what is known of it then.
_ENDS = (
    "conn_open_ns",
    "proc_start_ns",
    "tgid",
    "netns",
    "lport",
    "rport",
    "laddr",
    "raddr",
    "role",
)
_OF_ENDS = _DESCRIBED.names or ()
_OF_ONE = ("written_ns", "tcp_identity")
Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
T = TypeVar("T", bound=Hashable)


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


class Shared(Generic[T]):
    """Values that many rows have, each once; a row has the value's number."""

    def __init__(self, *first: T) -> None:
        self.values: list[T] = list(first)
        self._numbers = {value: number for number, value in enumerate(first)}

    def number(self, value: T) -> int:
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number

    def keep(self, used: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Forgets all but these, in ascending order; the new number of each that there was."""
        numbers = np.zeros(len(self.values), dtype=np.uint32)
        numbers[used] = np.arange(len(used), dtype=np.uint32)
        self.values = [self.values[number] for number in used.tolist()]
        self._numbers = {value: number for number, value in enumerate(self.values)}
        return numbers


class _Index:
    """Keys in ascending order, and the place that each has."""

    def __init__(self) -> None:
        self.keys: Keys = np.zeros(0, dtype=np.uint64)
        self.places: Places = np.zeros(0, dtype=np.int32)

    def find(self, keys: Keys) -> Places:
        """-1 where there is none."""
        if not len(self.keys):
            return np.full(len(keys), -1, dtype=np.int32)
        at = np.searchsorted(self.keys, keys)
        at[at == len(self.keys)] = 0
        return np.where(self.keys[at] == keys, self.places[at], np.int32(-1))

    def insert(self, keys: Keys, places: Places) -> None:
        """`keys` ascend."""
        at = np.searchsorted(self.keys, keys)
        self.keys = np.insert(self.keys, at, keys)
        self.places = np.insert(self.places, at, places)

    def keep(self, is_left: Mask) -> None:
        self.keys, self.places = self.keys[is_left], self.places[is_left]


class Connections:
    def __init__(self, *, max_generation: int = MAX_GENERATION) -> None:
        self.rows = records.make_room(2 * max_generation + _SLACK, _ROW)
        self.identities: Shared[Identity] = Shared()
        self.bounds: Shared[Bound | None] = Shared(None)
        self._rows_there = _Index()
        self._by_ends = _Index()
        self._free: Places = np.zeros(0, dtype=np.int32)  # of those below _top
        self._gone: list[Places] = []
        self._top = 0  # rows that were ever used: no page behind them is touched
        self._max_generation = max_generation
        self._generation = 1
        self._young = 0  # rows of this generation
        self._many = _FEW

    def __len__(self) -> int:
        return len(self._rows_there.keys)

    @property
    def places(self) -> Places:
        return self._rows_there.places

    def find(self, keys: Keys) -> Places:
        """-1 where there is none."""
        places = self._rows_there.find(keys)
        known = places[places >= 0]
        old = known[self.rows["generation"][known] != self._generation]
        if len(old):
            self._use(distinct(old))
        return places

    def _use(self, old: Places) -> None:
        self._count_young(len(old))
        self.rows["generation"][old] = self._generation

    def _count_young(self, more: int) -> None:
        if self._young + more > self._max_generation:
            self._generation += 1
            self._young = 0
        self._young += more

    def _make_room(self) -> None:
        """What was not used in this generation nor in the one before it goes: no more than two generations are left."""
        generations = self.rows["generation"]
        self._gone.append(self.places[generations[self.places] < self._generation - 1])
        for index in (self._rows_there, self._by_ends):
            index.keep(generations[index.places] >= self._generation - 1)

    def add(self, keys: Keys, block: Records) -> tuple[Places, Places]:
        """Rows for keys that are not there, in ascending order; `block` has a record for each. All of them, and those that are new:
        of a new one the caller says who and which name it is (`describe`)."""
        self._count_young(len(keys))
        if len(self) + len(keys) > 2 * self._max_generation:
            self._make_room()
        places = self._take_free(len(keys))
        fresh = np.zeros(len(keys), dtype=_ROW)
        for name in _NAMES:
            fresh[name] = block[name]
        fresh["seen_ns"] = fresh["ts_req_ns"]
        fresh["generation"] = self._generation
        self.rows[places] = fresh
        self._rows_there.insert(keys, places)
        is_new = self._take_over(places, fresh)
        return places, places[is_new]

    def _take_over(self, places: Places, fresh: Records) -> Mask:
        """Those of these rows that were not there under another number; of the others that goes."""
        ends = _number_ends(fresh)
        before = self._by_ends.find(ends)
        is_new = before < 0
        for name in _ENDS:
            is_new |= self.rows[name][before] != fresh[name]
        gone = before[~is_new]
        if len(gone):
            heirs = places[~is_new]
            for name in _OF_ENDS:
                self.rows[name][heirs] = self.rows[name][gone]
            is_one = self.rows["conn_open_ns"][heirs] > 0
            for name in _OF_ONE:
                self.rows[name][heirs[is_one]] = self.rows[name][gone[is_one]]
            self._gone.append(distinct(gone))
            is_gone = np.zeros(self._top, dtype=np.bool_)
            is_gone[gone] = True
            for index in (self._rows_there, self._by_ends):
                index.keep(~is_gone[index.places])
        order = np.argsort(ends)
        self._by_ends.insert(ends[order], places[order])
        return is_new

    def sight(self, place: int) -> Sight:
        return Sight(*self.rows[_NAMES][place].item())

    def describe(self, places: Places, described: Sequence[tuple[int, int, bool, bool]]) -> None:
        """Of each, in the order of _DESCRIBED, with the numbers of its identity and its bound."""
        told = np.array(described, dtype=_DESCRIBED)
        for name in _DESCRIBED.names or ():
            self.rows[name][places] = told[name]

    def _take_free(self, count: int) -> Places:
        again, self._free = self._free[:count], self._free[count:]
        first, self._top = self._top, self._top + count - len(again)
        if self._top > len(self.rows):
            grown = records.make_room(self._top + self._max_generation, _ROW)
            grown[:first] = self.rows[:first]
            self.rows = grown
        return np.concatenate((again, np.arange(first, self._top, dtype=np.int32)))

    def note_use(self, block: Records, places: Places) -> None:
        """When each was last used, and its identity in TCP sequence space where that is known."""
        asked_ns, seen_ns = block["ts_req_ns"], self.rows["seen_ns"]
        order = np.argsort(asked_ns, kind="stable")  # of one that is used twice the later use stays
        used = places[order]
        seen_ns[used] = np.maximum(seen_ns[used], asked_ns[order])
        known = np.flatnonzero(block["flags"] & events.FLAG_IDENTITY)
        number = block["isn_client"].astype(np.uint64) << np.uint64(32) | block["isn_server"]
        self.rows["tcp_identity"][places[known]] = number[known]

    def settle(self) -> None:
        """Nobody knows a connection by its place any more, but of those that are there."""
        if self._gone:
            self._free = np.concatenate((self._free, *self._gone))
            self._gone = []
        if max(len(self.identities.values), len(self.bounds.values)) > self._many:
            self._forget_unused()

    def _forget_unused(self) -> None:
        identity, bound = (self.rows[name][self.places] for name in ("identity", "bound"))
        self.rows["identity"][self.places] = self.identities.keep(distinct(identity))[identity]
        none = np.zeros(1, dtype=np.uint32)
        used = distinct(np.concatenate((none, bound)))
        self.rows["bound"][self.places] = self.bounds.keep(used)[bound]
        held = max(len(self.identities.values), len(self.bounds.values))
        self._many = max(_FEW, 2 * held)

    def values(self) -> list["Connection"]:
        return [Connection(self, place) for place in self.places.tolist()]


class Connection:
    """One row, for what is done to one at a time. Of use until the connections are settled."""

    __slots__ = ("_all", "place")

    def __init__(self, connections: Connections, place: int) -> None:
        self._all = connections
        self.place = place

    @property
    def sight(self) -> Sight:
        return self._all.sight(self.place)

    @property
    def identity(self) -> Identity:
        return self._all.identities.values[self._read("identity")]

    @property
    def bound(self) -> Bound | None:
        return self._all.bounds.values[self._read("bound")]

    @property
    def is_client(self) -> bool:
        return self._read("role") == events.ROLE_CLIENT

    @property
    def kept(self) -> bool:
        return bool(self._read("kept"))

    @property
    def opened_ns(self) -> int:
        return self._read("conn_open_ns")

    @property
    def seen_ns(self) -> int:
        return self._read("seen_ns")

    @property
    def tcp_identity(self) -> int:
        return self._read("tcp_identity")

    @property
    def written_ns(self) -> int:
        return self._read("written_ns")

    @written_ns.setter
    def written_ns(self, now_ns: int) -> None:
        self._all.rows["written_ns"][self.place] = now_ns

    def _read(self, name: str) -> int:
        return int(self._all.rows[name][self.place])


def keys_of(block: Records) -> Keys:
    """One number per (connection, process, role)."""
    return np.asarray(block["conn_id"] ^ _spread(block), dtype=np.uint64)


def _number_ends(block: Records) -> Keys:
    """The same for the same _ENDS; seldom the same for others."""
    ports = block["lport"].astype(np.uint64) << np.uint64(16) | block["rport"]
    return np.asarray(block["conn_open_ns"] ^ _spread(block) ^ ports * _SPREAD_PORTS)


def _spread(block: Records) -> Keys:
    tgid = block["tgid"].astype(np.uint64) * _SPREAD_TGID
    role = block["role"].astype(np.uint64) * _SPREAD_ROLE
    return np.asarray(tgid ^ role, dtype=np.uint64)
