"""Requests and responses of protocols that answer out of order → whole exchanges, matched by the number that the protocol gives.

The kernel side ships each message as a segment record, numbered per connection and direction (events.h, enum fc_segment).
Kafka's correlation ID and MongoDB's request ID are never used twice at a time; Cassandra's stream is used again once it is
answered. So an answer belongs to the request in flight with its number, unless another answer was lost in between, and that
shows as a gap: what is in flight on that connection is unknown from there on, counted, and never paired. Requests that were lost
are counted, and cost no others: their numbers were free, so their answers find nothing. A pair is right or not made.

Numbers are read for a whole drain at once. Records of requests stay in the drain's own array; only those still in flight at
its end are copied, into an array of a fixed size.
"""

from collections import Counter

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.envelopes import Unwrapped, unwrap_frames
from farcall_probes.giveway import in_pieces
from farcall_probes.inflight import Connection, Done, Entry, Late
from farcall_probes.numbering import read_numbers
from farcall_probes.places import number_sealed
from farcall_probes.records import Slots, as_bytes, make_room

CAPTURED = events.LARGE_REQ + events.LARGE_RESP
# What comes out: like events.LARGE, with all that was captured of both.
PAIRED = np.dtype(
    [
        *((name, events.EXCHANGE[name]) for name in events.EXCHANGE.names or ()),
        ("req", f"V{CAPTURED}"),
        ("resp", f"V{CAPTURED}"),
        ("ended_ns", "<u8"),  # the response's last byte
    ]
)

MAX_IN_FLIGHT = 8192  # of all connections; 1 kB each
MAX_CONNECTIONS = 8192  # in each of two generations
# A Kafka consumer waits on purpose until all others have joined its group, for five minutes at most.
PATIENCE_NS = 330 * 1_000_000_000
# When too many are in flight, those go first that have waited for so long.
CROWDED_AGE_NS = 30 * 1_000_000_000
UNENDED_NS = 60 * 1_000_000_000  # as of HTTP/1, see rests.py
_SWEEP_NS = 1_000_000_000

_NOTHING = np.zeros(0, dtype=events.LARGE)
_HEAD = events.EXCHANGE.itemsize
_RECORD = events.LARGE.itemsize
_EVENT_STREAM = -1  # of what a Cassandra server says unasked

_COUNTERS = (
    "multiplexed_gaps",  # places where segments of a connection were lost
    "multiplexed_requests_lost",  # requests given up there: their answer is not known
    "multiplexed_dropped",  # requests given up because too many were in flight, or too many connections
    "multiplexed_timeouts",  # requests without an answer for as long as the config allows, told of as such
    "multiplexed_unended",  # told of before their response had ended: too long, or its end was lost
    "multiplexed_orphans",  # responses without a request seen; a server's own messages are among them
    "multiplexed_unanswered",  # requests that ask for no answer
)


class Pairer:
    """All such connections. `take` is given the records in the order in which the kernel made them."""

    PROTOCOLS = (events.PROTO_KAFKA, events.PROTO_MONGODB, events.PROTO_CASSANDRA)

    def __init__(
        self, *, max_in_flight: int = MAX_IN_FLIGHT, max_connections: int = MAX_CONNECTIONS
    ) -> None:
        self._max_in_flight, self._max_connections = max_in_flight, max_connections
        self._young: dict[int, Connection] = {}
        self._old: dict[int, Connection] = {}
        self._kept = make_room(max_in_flight, events.LARGE)
        self._free = Slots(max_in_flight)
        self._freed: list[int] = []  # of this drain: their records are read at its end
        self._fresh: list[Entry] = []  # of this drain
        self._in_flight = 0
        self._swept_ns = 0
        self._ended: list[Done] = []
        # Responses that ended behind their drain: they stand behind its records.
        self._late: list[Records] = []
        self._size = 0  # of this drain
        self.counters: Counter[str] = Counter(dict.fromkeys(_COUNTERS, 0))

    def __len__(self) -> int:
        return self._in_flight

    def take(self, block: Records) -> Records | None:
        """`block`: segments as events.LARGE, contiguous. What ended with them, as PAIRED with `segment` 0, or None."""
        unwrapped = unwrap_frames(block)
        self._walk(unwrapped)
        return self._end_drain(unwrapped.block)

    def tell_late(self, now_ns: int, limit_ns: int) -> Records | None:
        """To be called now and then: requests that have waited longer than this, once each, as PAIRED without a response. Their
        answers will be told of no more."""
        patient_ns = now_ns - max(limit_ns, PATIENCE_NS)
        for connection in self._all():
            for entry in self._take_older(connection, now_ns - limit_ns, patient_ns):
                self.counters["multiplexed_timeouts"] += 1
                self._ended.append(Done(entry.at, -1, now_ns, events.END_TIMEOUT))
            if connection.late and connection.late[0].ts_ns < now_ns - UNENDED_NS:
                self._end_late(connection)
        return self._end_drain(_NOTHING)

    def _end_drain(self, block: Records) -> Records | None:
        if self._late:
            block = np.concatenate([block, *self._late])
        ended = self._build(block) if self._ended else None
        self._ended, self._late, self._size = [], [], 0
        self._free.give_back(self._freed)
        self._freed = []
        self._keep(block)
        return ended

    def _walk(self, unwrapped: Unwrapped) -> None:
        block, firsts, losses, unread = unwrapped
        self._size = len(block)
        numbers, silent, patient = read_numbers(block)
        names = (
            "conn_id",
            "seq",
            "segment",
            "ts_req_ns",
            "req_bytes",
            "resp_bytes",
            "end",
            "ended",
            "ts_resp_ns",
        )
        columns = [block[name].tolist() for name in names]
        flags = [column.tolist() for column in (numbers, silent, patient)]
        connections, counters = self._young, self.counters
        for row, (
            conn_id,
            seq,
            segment,
            ts_ns,
            size,
            others,
            end,
            ended,
            ended_ns,
            number,
            is_silent,
            is_patient,
            is_first,
            is_lost,
            is_unread,
        ) in enumerate(in_pieces(zip(*columns, *flags, firsts, losses, unread, strict=True))):
            connection = connections.get(conn_id)
            if connection is None:
                connection = self._find(conn_id)
                connections = self._young
            if segment == events.SEGMENT_REQUEST:
                if seq != connection.requests and is_first:
                    self._miss(seq - connection.requests)
                connection.requests = seq + 1 & 0xFFFFFFFF
                if is_unread:
                    pass
                elif not size:
                    for entry in connection.asking:
                        entry.end(ts_ns)
                    connection.asking.clear()
                elif is_silent:
                    counters["multiplexed_unanswered"] += 1
                    self._ended.append(Done(row, -1, ts_ns))
                else:
                    entry = Entry(row, ts_ns, is_patient)
                    entry.end(ended_ns)
                    self._begin(connection, number, entry)
                    if ended == events.ENDED_LATER:
                        if is_first:
                            connection.asking.clear()
                        connection.asking.append(entry)
            elif segment == events.SEGMENT_RESPONSE:
                if seq != connection.responses and is_first:
                    self._lose(connection)
                connection.responses = seq + 1 & 0xFFFFFFFF
                if connection.late and is_first:
                    self._end_late(connection, 0 if size else ts_ns)
                if not size:
                    continue
                answered = None if is_unread else connection.in_flight.pop(number, None)
                if answered is None:
                    counters["multiplexed_orphans"] += 1
                elif ended == events.ENDED_LATER:
                    connection.late.append(Late(answered, block[row : row + 1].copy(), ts_ns))
                else:
                    done = Done(answered.at, row, ts_ns, 0, ended_ns, answered.asked_us)
                    self._ended.append(done)
                    self._release(answered)
            else:
                if size != connection.requests:
                    self._miss(size - connection.requests)
                if others != connection.responses:
                    self._lose(connection)
                self._end_all(connection, ts_ns, end)
                del connections[conn_id]
            if is_lost and segment == events.SEGMENT_REQUEST:
                self._miss(1)  # or more: how many lie behind what was captured is not known
            elif is_lost:  # what goes on is the frame that they are in: its end comes
                self._lose(connection, is_late_lost=False)

    # ---- connections ------------------------------------------------------------------------------------------

    def _find(self, conn_id: int) -> Connection:
        connection = self._old.pop(conn_id, None) or Connection()
        if len(self._young) >= self._max_connections:
            for gone in self._old.values():
                self.counters["multiplexed_dropped"] += len(gone.in_flight)
                self._end_late(gone)
                self._give_up(gone)
            self._old, self._young = self._young, {}
        self._young[conn_id] = connection
        return connection

    def _miss(self, count: int) -> None:
        """So many requests were not seen."""
        self.counters["multiplexed_gaps"] += 1
        self.counters["multiplexed_requests_lost"] += count & 0xFFFFFFFF

    def _lose(self, connection: Connection, *, is_late_lost: bool = True) -> None:
        """Responses were not seen, of requests that may be in flight."""
        self.counters["multiplexed_gaps"] += 1
        self.counters["multiplexed_requests_lost"] += len(connection.in_flight)
        if is_late_lost:
            self._end_late(connection)
        self._give_up(connection)

    def _end_late(self, connection: Connection, ended_ns: int = 0) -> None:
        """The responses that are waited for have ended, or are told of as they stand."""
        for entry, record, ts_ns in connection.late:
            self.counters["multiplexed_unended"] += not ended_ns
            answer = self._size + len(self._late)
            self._late.append(record)
            self._ended.append(Done(entry.at, answer, ts_ns, 0, ended_ns, entry.asked_us))
            self._release(entry)
        connection.late.clear()

    def let_go(self) -> Records | None:
        """All responses that are waited for, as they stand."""
        for connection in self._all():
            self._end_late(connection)
        return self._end_drain(_NOTHING)

    def _give_up(self, connection: Connection) -> None:
        for entry in connection.in_flight.values():
            self._release(entry)
        connection.in_flight.clear()

    def _end_all(self, connection: Connection, ts_ns: int, end: int) -> None:
        self._end_late(connection)
        for entry in connection.in_flight.values():
            why, us = end or events.END_SERVER_CLOSED, entry.asked_us
            self._ended.append(Done(entry.at, -1, ts_ns, why, asked_us=us))
            self._release(entry)
        connection.in_flight.clear()

    # ---- requests ---------------------------------------------------------------------------------------------

    def _begin(self, connection: Connection, number: int, entry: Entry) -> None:
        before = connection.in_flight.pop(number, None)
        if before is not None:  # its answer was lost, and its number is in use again
            self.counters["multiplexed_requests_lost"] += 1
            self._release(before)
        if self._in_flight >= self._max_in_flight and not self._make_room(entry.ts_ns):
            self.counters["multiplexed_dropped"] += 1
            return
        connection.in_flight[number] = entry
        self._fresh.append(entry)
        self._in_flight += 1

    def _release(self, entry: Entry) -> None:
        entry.is_open = False
        self._in_flight -= 1
        if entry.at < 0:
            self._freed.append(-1 - entry.at)

    def _make_room(self, now_ns: int) -> bool:
        """At most once in a while: it looks at all of them."""
        if now_ns - self._swept_ns < _SWEEP_NS:
            return False
        self._swept_ns = now_ns
        self.counters["multiplexed_dropped"] += sum(
            len(self._take_older(c, now_ns - CROWDED_AGE_NS, now_ns)) for c in self._all()
        )
        return self._in_flight < self._max_in_flight

    def _all(self) -> list[Connection]:
        return [*self._old.values(), *self._young.values()]

    def _take_older(self, connection: Connection, limit_ns: int, patient_ns: int) -> list["Entry"]:
        """Those that are gone with it. The oldest stand first, so nearly always the first decides."""
        numbers = []
        for number, entry in connection.in_flight.items():
            if entry.ts_ns >= limit_ns:
                break
            if not entry.is_patient or entry.ts_ns < patient_ns:
                numbers.append(number)
        gone = [connection.in_flight.pop(number) for number in numbers]
        for entry in gone:
            self._release(entry)
        return gone

    # ---- records ----------------------------------------------------------------------------------------------

    def _build(self, block: Records) -> Records:
        places, answers, times, ends, lasts, asked = (
            np.array(column, dtype=np.int64) for column in zip(*self._ended, strict=True)
        )
        out = np.zeros(len(places), dtype=PAIRED)
        raw = as_bytes(out)
        from_block = places >= 0
        raw[from_block, :_RECORD] = as_bytes(block)[places[from_block]]
        raw[~from_block, :_RECORD] = as_bytes(self._kept)[-1 - places[~from_block]]
        answered = np.flatnonzero(answers >= 0)
        rows = answers[answered]
        raw[answered, _RECORD : _RECORD + CAPTURED] = as_bytes(block)[rows, _HEAD:]
        out["resp_bytes"] = 0
        out["resp_bytes"][answered] = block["req_bytes"][rows]
        out["resp_cap"][answered] = block["req_cap"][rows]
        out["ts_resp_ns"] = times
        out["ended_ns"] = np.where(lasts > 0, lasts, times)
        out["asked_us"] = asked
        out["end"] = ends
        out["segment"] = events.SEGMENT_NONE
        out["flags"][ends > 0] |= np.uint32(events.FLAG_NO_RESPONSE)
        lend_identity(out, answered, block, rows)
        number_sealed(out, raw)
        return out

    def _keep(self, block: Records) -> None:
        entries = [entry for entry in self._fresh if entry.is_open]
        self._fresh = []
        if not entries:
            return
        slots = self._free.take(len(entries))
        self._kept[slots] = block[[entry.at for entry in entries]]
        for entry, slot in zip(entries, slots, strict=True):
            entry.at = -1 - slot


def lend_identity(
    out: Records, answered: npt.NDArray[np.intp], block: Records, rows: npt.NDArray[np.integer]
) -> None:
    """The first request of a connection goes out before a second sight of its identity was had; its answer, of these rows of
    `block`, has it."""
    missing = ~out["flags"][answered] & block["flags"][rows] & events.FLAG_IDENTITY != 0
    at, source = answered[missing], rows[missing]
    for name in ("isn_client", "isn_server"):
        out[name][at] = block[name][source]
    out["flags"][at] |= np.uint32(events.FLAG_IDENTITY)
