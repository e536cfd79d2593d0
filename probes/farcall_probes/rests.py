"""Exchanges of HTTP/1, databases and caches whose response goes on behind its first call: held until it has ended, as their span's
time and size say.

The kernel side tells of the rest in a record of its own (bpf/rest.h), when the next request begins, when the connection closes,
and when it is asked. A row leaves as soon as its response is known to be whole, which the head's Content-Length, the
last chunk or the close say; of a database, its last bytes or the next request; of a cache, the length of its value, or that it
looks whole and then the next request came, or nothing for a while. One that goes on for longer than HOLD_NS (an event stream), or for which there is no room, leaves as
it stands, and is counted: its time is that of the first byte then.

Held are the records as they came, in an array of a fixed size; they are parsed once they leave. No I/O: who asks is a parameter.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes import events, records
from farcall_probes.capture import Records
from farcall_probes.connections import Places
from farcall_probes.giveway import give_way, in_pieces
from farcall_probes.lengths import ANSWERED, measure_answers, widen
from farcall_probes.reading import read_status
from farcall_probes.responses import End, KnownResponses, Sizes, measure_responses

__all__ = ["ANSWERED", "Ended", "Rests", "split_rests"]

_ASKED = (
    "commands",
    "req_bytes",
    "asked_us",
)  # of a pipeline that is read, or written, in portions
_AT_ONCE = (events.PROTO_REDIS, events.PROTO_MEMCACHED)  # what is asked at once is one exchange
MAX_HELD = 4096  # 1 kB each, touched as they are needed
HOLD_NS = 60 * 1_000_000_000  # an exporter remembers the other end for as long (clients.REMEMBER_S)
MAX_EARLY = 1024
ASK_FIRST_NS = 100_000_000  # by then the next request of a busy connection has said it
_BACKOFF = 2  # each wait before the next question is so much longer than the one before

Ask = Callable[[int, int, int], bool]  # (sock, conn_id, seq) → whether more may be told
_COUNTERS = (
    "responses_unended",  # left before their response had ended: too long, or no room, or the agent ended
    "responses_untold",  # nothing was told of their rest: it came in one call after all, or its record was lost
    "rests_unmatched",  # rests of exchanges that nobody waits for
)


class Ended(NamedTuple):
    """Exchanges whose response has ended, or is waited for no longer."""

    block: Records  # as they were held
    sizes: Sizes
    ends_ns: npt.NDArray[np.uint64]  # of the response's last byte


@dataclass(slots=True)
class _Row:
    key: tuple[int, int]
    sk: int
    end: End
    size: int
    last_ns: int
    until_ns: int
    wait_ns: int = ASK_FIRST_NS


class Rests:
    def __init__(self, *, max_held: int = MAX_HELD, hold_ns: int = HOLD_NS) -> None:
        self._hold_ns = hold_ns
        self._known = KnownResponses()
        self._kept = records.make_room(max_held, events.LARGE)
        self._asked = [self._kept[name] for name in _ASKED]
        self._free = records.Slots(max_held)
        self._rows: dict[int, _Row] = {}  # by slot
        self._slots: dict[tuple[int, int], int] = {}  # by conn_id and seq
        self._due: list[tuple[int, int, tuple[int, int]]] = []  # a heap: when, slot, key
        self._over: list[tuple[int, tuple[int, int]]] = []  # nothing more is told of those
        self._done: list[tuple[int, _Row]] = []
        # Rings are read in portions, so a rest may be read before its exchange.
        self._early: OrderedDict[tuple[int, int], list[int]] = OrderedDict()
        self.counters: Counter[str] = Counter(dict.fromkeys(_COUNTERS, 0))

    def __len__(self) -> int:
        return len(self._rows)

    # ---- in ---------------------------------------------------------------------------------------------------

    def hold(
        self, block: Records, now_ns: int, statuses: npt.NDArray[np.int32] | None = None
    ) -> tuple[Sizes, npt.NDArray[np.bool_]]:
        """Sizes of the responses of these records, and which are held from here on; others are as whole as they will ever be."""
        if statuses is None:
            statuses = read_status(block)
        measured = measure_responses(block, statuses, self._known)
        return self._hold(block, now_ns, *measured)

    def hold_answers(self, block: Records, places: Places, now_ns: int) -> tuple[Records, Places]:
        """Those of these records, of one protocol of ANSWERED, that are not held, and their places."""
        held = self._hold(block, now_ns, *measure_answers(block))[1]
        return (records.pick(block, ~held), places[~held]) if held.any() else (block, places)

    def _hold(
        self, block: Records, now_ns: int, sizes: Sizes, ends: npt.NDArray[np.uint8]
    ) -> tuple[Sizes, npt.NDArray[np.bool_]]:
        held = ends != End.HERE
        if held.any():
            is_alone = block["flags"] & events.FLAG_PIPELINED == 0
            held &= is_alone | np.isin(block["proto"], _AT_ONCE)
        rows = np.flatnonzero(held)
        if not len(rows):
            return sizes, held
        beyond = rows[len(self._free) :]
        held[beyond] = False
        self.counters["responses_unended"] += len(beyond)
        rows = rows[: len(rows) - len(beyond)]
        slots = self._free.take(len(rows))
        give_way()
        self._kept[slots] = widen(block[rows])
        give_way()
        names = ("conn_id", "seq", "sk", "ts_resp_ns")
        columns = [block[name][rows].tolist() for name in names]
        columns += [ends[rows].tolist(), sizes[rows].tolist()]
        held_rows = zip(slots, *columns, strict=True)
        for slot, conn_id, seq, sk, last_ns, end, size in in_pieces(held_rows):
            key = (conn_id, seq)
            until_ns = now_ns + self._hold_ns
            self._rows[slot] = _Row(key, sk, End(end), size, last_ns, until_ns)
            self._slots[key] = slot
            heapq.heappush(self._due, (now_ns + ASK_FIRST_NS, slot, key))
            if key in self._early:
                self._apply(slot, *self._early.pop(key))
        return sizes, held

    def take(self, rests: Records) -> None:
        """Records of SEGMENT_REST."""
        names = ("conn_id", "seq", "ts_resp_ns", "resp_bytes", "end", "ended", *_ASKED)
        columns = [rests[name].tolist() for name in names]
        for conn_id, seq, *told in in_pieces(zip(*columns, strict=True)):
            slot = self._slots.get((conn_id, seq))
            if slot is not None:
                self._apply(slot, *told)
                continue
            self._early[conn_id, seq] = told
            if len(self._early) > MAX_EARLY:
                self._early.popitem(last=False)
                self.counters["rests_unmatched"] += 1

    def _apply(self, slot: int, last_ns: int, size: int, why: int, ended: int, *asked: int) -> None:
        row = self._rows[slot]
        if not _is_whole(row, size, why, ended):
            return
        if asked[0] > self._asked[0][slot]:
            for column, value in zip(self._asked, asked, strict=True):
                column[slot] = value
        if row.end != End.PIPELINE:  # the row's answer is the first one
            row.last_ns = max(last_ns, row.last_ns)
            if row.end != End.LENGTH or size < row.size:
                row.size = size
        self._finish(slot)

    def ask(self, now_ns: int, ask: Ask) -> None:
        """Has those told of whose time has come. What is told is in the next drain; of those that `ask` says are over, nothing
        is told behind that."""
        while self._due and self._due[0][0] <= now_ns:
            _, slot, key = heapq.heappop(self._due)
            row = self._rows.get(slot)
            if row is None or row.key != key:
                continue
            if now_ns >= row.until_ns:
                self.counters["responses_unended"] += 1
                self._finish(slot)
            elif ask(row.sk, *key):
                row.wait_ns *= _BACKOFF
                heapq.heappush(self._due, (min(now_ns + row.wait_ns, row.until_ns), slot, key))
            else:
                self._over.append((slot, key))

    def ask_all(self, ask: Ask) -> None:
        """The same of all, whenever their time is."""
        rows = [(slot, row.key) for slot, row in self._rows.items() if not ask(row.sk, *row.key)]
        self._over += rows

    # ---- out --------------------------------------------------------------------------------------------------

    def settle(self, *, is_whole: bool = True) -> Ended | None:
        """What leaves at the end of a drain, whose rests were taken: what has ended, and what was said to be over before it.
        `is_whole`: nothing was left in the rings."""
        over, self._over = (self._over, []) if is_whole else ([], self._over)
        for slot, key in over:
            row = self._rows.get(slot)
            if row is not None and row.key == key:
                self.counters["responses_untold"] += 1
                self._finish(slot)
        return self._take_done()

    def let_go(self) -> Ended | None:
        """All, as they stand."""
        self.counters["responses_unended"] += len(self._rows)
        for slot in list(self._rows):
            self._finish(slot)
        return self._take_done()

    def _finish(self, slot: int) -> None:
        row = self._rows.pop(slot)
        self._slots.pop(row.key, None)
        self._done.append((slot, row))

    def _take_done(self) -> Ended | None:
        if not self._done:
            return None
        done, self._done = self._done, []
        slots = [slot for slot, _ in done]
        ended = Ended(
            self._kept[slots],
            np.array([row.size for _, row in done], dtype=np.uint64),
            np.array([row.last_ns for _, row in done], dtype=np.uint64),
        )
        self._free.give_back(slots)
        return ended


def _is_whole(row: _Row, size: int, why: int, ended: int) -> bool:
    """Whether the response has ended with what its rest's record says."""
    if why == events.REST_CLOSED:
        return True
    if row.end == End.LENGTH:
        return size >= row.size
    if row.end == End.PIPELINE:
        return ended != events.ENDED_LATER
    if row.end == End.ANSWER:
        return why == events.REST_NEXT or ended == events.ENDED_ANSWER
    if row.end == End.QUIET:
        looks_whole = ended == events.ENDED_BLANK and why == events.REST_NEXT
        return looks_whole or ended == events.ENDED_ANSWER
    if (
        row.end == End.CHUNKS
    ):  # behind trailers a request follows; an event of a stream may end as they do
        last = ended == events.ENDED_BLANK and why == events.REST_NEXT
        return last or ended == events.ENDED_CHUNKS
    return False


def split_rests(small: Records) -> tuple[Records, Records]:
    """Records of exchanges, and those of SEGMENT_REST."""
    is_rest = small["segment"] == events.SEGMENT_REST
    return (small[~is_rest], small[is_rest]) if is_rest.any() else (small, small[:0])
