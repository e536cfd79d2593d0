"""AMQP: what a client asks on a channel is paired with its answer, and frames of a message are put together, each an exchange.

A channel's answers come in the order of what was asked, and say which method they answer: a pair is right or not made. Messages that are
published, delivered or returned are answered by nobody: each is an exchange of its own, as NATS' are (messages.py). A message that is fetched
(basic.get) is the answer's. What goes wrong is said by closing the channel, or the connection, with the method that was wrong: it is
that one's answer if that one waits, and else an exchange of its own.

The kernel side ships a method and the message that follows it in one record as far as they came together, and each further frame in
one of its own.
"""

from collections import Counter, deque
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from farcall_probes import events, records
from farcall_probes.capture import Records
from farcall_probes.giveway import in_pieces
from farcall_probes.messages import build_messages
from farcall_probes.pairing import CAPTURED, UNENDED_NS, lend_identity
from farcall_probes.records import as_bytes
from farcall_probes.wire import amqp

MAX_KEPT = 4096  # requests without their answer, and messages without their end; 1 kB each
MAX_CONNECTIONS = 8192
_HEAD = events.EXCHANGE.itemsize
_RECORD = events.LARGE.itemsize
_NOTHING = np.zeros(0, dtype=events.LARGE)
_ASKING, _TELLING = events.SEGMENT_REQUEST, events.SEGMENT_RESPONSE

_COUNTERS = (
    "multiplexed_gaps",
    "multiplexed_requests_lost",
    "multiplexed_dropped",
    "multiplexed_timeouts",
    "multiplexed_orphans",
    "multiplexed_unanswered",
    "messages_unended",
    "messages_orphans",
)


@dataclass(slots=True)
class _Call:
    """A method of one end, and the message behind it."""

    row: int  # of its first record in this drain's block
    kind: amqp.Kind
    data: bytes  # captured
    half: int
    left: int | None  # bytes of its message that are to come; None: nobody said how many
    ends_later: bool  # of its newest frame
    begun_ns: int
    ended_ns: int = 0
    is_waiting: bool = False  # for its answer
    is_joined: bool = False  # not all of `data` is in that record
    record: Records | None = None  # a copy of it, of what is kept longer than the drain

    def keep(self, block: Records) -> None:
        if self.record is None:
            self.record = block[self.row : self.row + 1].copy()

    @property
    def is_whole(self) -> bool:
        return self.left is not None and self.left <= 0 and not self.ends_later


class _Connection:
    __slots__ = ("coming", "late", "numbers", "waiting")

    def __init__(self) -> None:
        self.numbers = {_ASKING: 0, _TELLING: 0}  # the next segment's
        self.coming: dict[tuple[int, int], _Call] = {}  # by direction and channel
        self.late: dict[int, tuple[int, int]] = {}  # by direction, whose frame goes on
        self.waiting: dict[int, deque[_Call]] = {}  # by channel: for their answers

    def __len__(self) -> int:
        return len(self.coming) + sum(map(len, self.waiting.values()))


@dataclass(slots=True)
class _Done:
    call: _Call
    answer: _Call | None = None
    ended_ns: int = 0
    end: int = 0  # why there is none (events.END_*)


class Channels:
    """`take` is given the records in the order in which the kernel made them."""

    PROTOCOLS = (events.PROTO_AMQP,)

    def __init__(self, *, max_kept: int = MAX_KEPT, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max_kept, self._max_connections = max_kept, max_connections
        self._connections: dict[int, _Connection] = {}
        self._kept = 0
        self._done: list[_Done] = []
        self._block = _NOTHING  # this drain's
        self._asked: list[_Call] = []  # in it
        self.counters: Counter[str] = Counter(dict.fromkeys(_COUNTERS, 0))

    def __len__(self) -> int:
        """Requests in flight, and messages without their end."""
        return self._kept

    def take(self, block: Records) -> Records | None:
        """`block`: segments as events.LARGE, contiguous. What ended with them, as PAIRED with `segment` 0, or None."""
        self._block, raw = block, as_bytes(block)
        names = ("conn_id", "segment", "seq", "req_bytes", "resp_bytes", "req_cap", "ended", "end")
        times = ("ts_req_ns", "ts_resp_ns")
        columns = [block[name].tolist() for name in (*names, *times)]
        for row, *values in in_pieces(zip(count(), *columns, strict=False)):
            connection_id, half, number, size, others, cap, ended, end, ts_ns, whole_ns = values
            connection = self._find(connection_id)
            if half == events.SEGMENT_CLOSED:
                if (size, others) != tuple(connection.numbers.values()):
                    self._lose(connection)
                self._close(connection, ts_ns, end)
                del self._connections[connection_id]
                continue
            if number != connection.numbers[half]:
                self._lose(connection)
            connection.numbers[half] = number + 1 & 0xFFFFFFFF
            self._end_frame(connection, half, 0 if size else ts_ns)
            if not size:
                continue
            data = raw[row, _HEAD : _HEAD + cap].tobytes()
            frame = amqp.parse_frame(data)
            if frame is None:
                continue
            if frame.type == amqp.METHOD:
                call = self._begin_call(connection, half, frame.channel, data, size)
            else:
                call = self._continue_call(connection, half, frame, data)
            if call is None:
                continue
            if frame.type == amqp.METHOD:
                call.row, call.begun_ns = row, ts_ns
            call.ended_ns, call.ends_later = whole_ns or ts_ns, ended == events.ENDED_LATER
            if call.ends_later:
                connection.late[half] = (half, frame.channel)
            self._settle(connection, frame.channel, call)
        return self._build()

    # ---- frames -----------------------------------------------------------------------------------------------

    def _begin_call(
        self, connection: _Connection, half: int, channel: int, data: bytes, size: int
    ) -> _Call | None:
        """`size`: bytes of the method and what was told with it."""
        self._give_up(connection, (half, channel))
        kind = amqp.read_kind(data)
        if kind is None:
            return None
        left = amqp.count_message(data, size) if kind in amqp.CARRIES else 0
        return _Call(0, kind, data, half, left, ends_later=False, begun_ns=0)

    def _continue_call(
        self, connection: _Connection, half: int, frame: amqp.Frame, data: bytes
    ) -> _Call | None:
        """The message that the frame belongs to."""
        call = connection.coming.get((half, frame.channel))
        if call is None:
            self.counters["messages_orphans"] += 1
            return None
        if frame.type == amqp.HEAD:
            call.data = (call.data + data)[
                :CAPTURED
            ]  # heads that never end their message are bounded, too
            call.is_joined = True
            call.left = amqp.read_size(data)
        elif call.left is not None:
            call.left -= frame.bytes - amqp.FRAME
        return call

    def _end_frame(self, connection: _Connection, half: int, ended_ns: int) -> None:
        """The newest frame of this direction, if it went on. `ended_ns` 0: its end was not told."""
        key = connection.late.pop(half, None)
        call = connection.coming.get(key) if key is not None else None
        if key is None or call is None:
            return
        if not ended_ns:
            self._give_up(connection, key)
            return
        call.ends_later, call.ended_ns = False, ended_ns
        self._settle(connection, key[1], call)

    def _settle(self, connection: _Connection, channel: int, call: _Call) -> None:
        """Goes on with a call that is whole, and keeps any other until the rest comes."""
        key = (call.half, channel)
        is_kept = connection.coming.get(key) is call
        if call.is_whole:
            if is_kept:
                del connection.coming[key]
                self._kept -= 1
            self._end_call(connection, channel, call)
        elif not is_kept and self._has_room():
            call.keep(self._block)
            connection.coming[key] = call
            self._kept += 1

    def _has_room(self) -> bool:
        self.counters["multiplexed_dropped"] += self._kept >= self._max_kept
        return self._kept < self._max_kept

    def _give_up(self, connection: _Connection, key: tuple[int, int]) -> None:
        """Of a message the end will not come: it is told of as it stands."""
        call = connection.coming.pop(key, None)
        if call is None:
            return
        self._kept -= 1
        self.counters["messages_unended"] += 1
        call.ended_ns = call.ended_ns or call.begun_ns
        self._end_call(connection, key[1], call)

    # ---- calls ------------------------------------------------------------------------------------------------

    def _end_call(self, connection: _Connection, channel: int, call: _Call) -> None:
        kind = call.kind
        if call.half == _ASKING:
            if kind == amqp.PUBLISH:
                self._done.append(_Done(call))
            elif kind in amqp.ANSWERS:
                self._ask(connection, channel, call)
        elif kind in (amqp.DELIVER, amqp.RETURN, amqp.NACK):
            self._done.append(_Done(call))
        elif kind in (amqp.CLOSE, amqp.CLOSE_CHANNEL):
            self._refuse(connection, channel, call)
        else:
            self._answer(connection, channel, call)

    def _ask(self, connection: _Connection, channel: int, call: _Call) -> None:
        method = amqp.parse_method(call.data, cut=True)
        if isinstance(method, amqp.AmqpMethod) and not method.is_answered:
            self.counters["multiplexed_unanswered"] += 1
            self._done.append(_Done(call))
        elif self._has_room():
            connection.waiting.setdefault(channel, deque()).append(call)
            call.is_waiting = True
            self._asked.append(call)
            self._kept += 1

    def _answer(self, connection: _Connection, channel: int, call: _Call) -> None:
        waiting = connection.waiting.get(channel)
        if waiting and call.kind in amqp.ANSWERS[waiting[0].kind]:
            self._pair(connection, channel, call)
        elif any(call.kind in answers for answers in amqp.ANSWERS.values()):
            self.counters["multiplexed_orphans"] += 1

    def _pair(self, connection: _Connection, channel: int, answer: _Call) -> None:
        asked = connection.waiting[channel].popleft()
        asked.is_waiting = False
        if not connection.waiting[channel]:
            del connection.waiting[channel]
        self._kept -= 1
        self._done.append(_Done(asked, answer))

    def _refuse(self, connection: _Connection, channel: int, call: _Call) -> None:
        """The server closes a channel, or the connection: what waits there is answered by it, or by nothing."""
        method = amqp.parse_method(call.data, cut=True)
        failed = method.failed if isinstance(method, amqp.AmqpMethod) else None
        channels = [channel] if call.kind == amqp.CLOSE_CHANNEL else list(connection.waiting)
        refused = [c for c in channels if c in connection.waiting]
        refused = [c for c in refused if connection.waiting[c][0].kind == failed]
        if refused:
            self._pair(connection, refused[0], call)
        else:
            self._done.append(_Done(call))
        for gone in channels:
            self._end_waiting(connection, gone, call.begun_ns, events.END_SERVER_CLOSED)

    def _end_waiting(self, connection: _Connection, channel: int, ts_ns: int, end: int) -> None:
        gone = connection.waiting.pop(channel, ())
        self._kept -= len(gone)
        for call in gone:
            call.is_waiting = False
            self._done.append(_Done(call, None, ts_ns, end))

    # ---- connections ------------------------------------------------------------------------------------------

    def _find(self, connection_id: int) -> _Connection:
        connection = self._connections.get(connection_id)
        if connection is None:
            if len(self._connections) >= self._max_connections:
                self._drop(self._connections.pop(next(iter(self._connections))))
            connection = self._connections[connection_id] = _Connection()
        return connection

    def _drop(self, connection: _Connection) -> None:
        self.counters["multiplexed_dropped"] += len(connection)
        self._kept -= len(connection)

    def _lose(self, connection: _Connection) -> None:
        """Frames were not seen: what waits may have been answered, and what goes on may have ended."""
        self.counters["multiplexed_gaps"] += 1
        lost = sum(map(len, connection.waiting.values()))
        self.counters["multiplexed_requests_lost"] += lost
        self._kept -= lost
        connection.waiting.clear()
        self._end_coming(connection)
        connection.late.clear()

    def _end_coming(self, connection: _Connection) -> None:
        for key in list(connection.coming):
            self._give_up(connection, key)

    def _close(self, connection: _Connection, ts_ns: int, end: int) -> None:
        self._end_coming(connection)
        for channel in list(connection.waiting):
            self._end_waiting(connection, channel, ts_ns, end or events.END_SERVER_CLOSED)

    def tell_late(self, now_ns: int, limit_ns: int) -> Records | None:
        """As Pairer.tell_late; and messages without their end, after a minute."""
        for connection in self._connections.values():
            for key, call in list(connection.coming.items()):
                if call.begun_ns < now_ns - UNENDED_NS:
                    self._give_up(connection, key)
            for channel, waiting in list(connection.waiting.items()):
                if waiting[0].begun_ns < now_ns - limit_ns:
                    self.counters["multiplexed_timeouts"] += len(waiting)
                    self._end_waiting(connection, channel, now_ns, events.END_TIMEOUT)
        return self._build()

    def let_go(self) -> Records | None:
        """All messages whose end is waited for, as they stand."""
        for connection in self._connections.values():
            self._end_coming(connection)
        return self._build()

    # ---- records ----------------------------------------------------------------------------------------------

    def _build(self) -> Records | None:
        """What ended becomes rows; what is waited for is kept by itself from here on."""
        done, self._done = self._done, []
        out = _build(self._block, done) if done else None
        for call in self._asked:
            if call.is_waiting:
                call.keep(self._block)
        self._block, self._asked = _NOTHING, []
        return out


def _build(block: Records, done: list[_Done]) -> Records:
    calls = _gather(block, [each.call for each in done])
    calls["ts_resp_ns"] = [each.call.ended_ns for each in done]
    out = build_messages(calls)
    for row, each in enumerate(done):
        if each.end:
            out["ts_resp_ns"][row] = out["ended_ns"][row] = each.ended_ns
            out["end"][row] = each.end
            out["flags"][row] |= np.uint32(events.FLAG_NO_RESPONSE)
    answers = [(row, each.answer) for row, each in enumerate(done) if each.answer is not None]
    if answers:
        rows = np.array([row for row, _ in answers])
        found = _gather(block, [answer for _, answer in answers])
        ended = np.array([answer.ended_ns for _, answer in answers], dtype=np.uint64)
        _add_answers(out, rows, found, ended)
    return out


def _gather(block: Records, calls: list[_Call]) -> Records:
    """Their first records, in this order, with all that was captured of each."""
    rows = [call.row for call in calls if call.record is None]
    own = [call.record for call in calls if call.record is not None]
    found = records.join([records.pick(block, rows), *own]) if own else records.pick(block, rows)
    if own and rows:
        order = np.argsort([call.record is not None for call in calls], kind="stable")
        found = records.pick(found, np.argsort(order))
    raw = as_bytes(found)
    for row, call in enumerate(calls):
        if call.is_joined:
            data = call.data[:CAPTURED]
            raw[row, _HEAD : _HEAD + len(data)] = np.frombuffer(data, dtype=np.uint8)
            found["req_cap"][row] = len(data)
    return found


def _add_answers(
    out: Records, rows: npt.NDArray[np.intp], answers: Records, ended_ns: npt.NDArray[np.uint64]
) -> None:
    """`out`: PAIRED; `ended_ns`: the answers' last bytes."""
    as_bytes(out)[rows, _RECORD : _RECORD + CAPTURED] = as_bytes(answers)[:, _HEAD:]
    asked_us = (out["ended_ns"][rows] - out["ts_req_ns"][rows]) // np.uint64(1000)
    out["asked_us"][rows] = np.minimum(asked_us, 2**32 - 1)
    out["resp_cap"][rows] = answers["req_cap"]
    out["resp_bytes"][rows] = answers["req_bytes"]
    out["ts_resp_ns"][rows] = answers["ts_req_ns"]
    out["ended_ns"][rows] = ended_ns
    lend_identity(out, rows, answers, np.arange(len(answers)))
