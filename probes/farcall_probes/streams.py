"""HTTP/2 frames of many connections → exchanges: streams are told apart, and requests meet their answers.

The kernel side ships the frames that say something (events.h, enum fc_segment), numbered per connection and direction; what
was lost shows as a gap. A gap may hide header blocks, which shift every index behind them, and answers: so the direction's
table is unknown from there on, and the connection's streams are given up. An exchange is right, or it is not made.

An exchange ends where its response does: with trailers, which hold the status of a gRPC call, or with the last frame of its body,
of which the kernel side says how many bytes there were. Where that is not known (it lasts for longer than UNENDED_NS, or records
were lost), an exchange that was answered is told of as it stands, with the time of its first byte. gRPC calls wait for their
status. A server's pushes are decoded, since its table depends on them, and not reported.
"""

from collections import Counter

import numpy as np
import numpy.typing as npt

from farcall_probes import arraysets, capture, events
from farcall_probes.giveway import give_way, in_pieces
from farcall_probes.streamblocks import Read, read_block
from farcall_probes.streambodies import (
    RESET,
    add_bodies,
    add_reset,
    is_tunnel,
    name_reset,
)
from farcall_probes.streamcalls import take_calls
from farcall_probes.streamframes import (
    ASKED,
    ASKED_BODY,
    ASKED_ENDED_BODY,
    ENDED,
    ENDED_BODY,
    NOTHING,
    ODD,
    WHOLE,
    Bodies,
    Frame,
    Frames,
    Odd,
    Other,
    read_bodies,
)
from farcall_probes.streamrows import Exchanges, Stream, StreamRows
from farcall_probes.streamsessions import COUNTERS, Mark, Session, add_other_to, judge_grpc
from farcall_probes.wire import hpackfields, http2
from farcall_probes.wire.hpackfields import Fields
from farcall_probes.wire.http2blocks import Direction, Event

MAX_SESSIONS = 2048  # in each of two generations; some 10 kB each, most of it tables
MAX_IN_FLIGHT = 32_768  # streams of all connections: 0.7 kB each
UNENDED_NS = 60 * 1_000_000_000  # as of HTTP/1, see rests.py
GOAWAY = "goaway"
TIMEOUT = "timeout"
_RESET_BYTES = http2.HEADER_BYTES + 4


class Streams:
    """All HTTP/2 connections. `take` is given the records in the order in which the kernel made them."""

    def __init__(self, *, max_sessions: int = MAX_SESSIONS, max_in_flight: int = MAX_IN_FLIGHT):
        self._max_sessions, self._max_in_flight = max_sessions, max_in_flight
        self._texts = hpackfields.Texts()
        self._young: dict[int, Session] = {}
        self._old: dict[int, Session] = {}
        self._in_flight = 0
        self._fresh: list[Stream] = []  # begun in this drain: their heads lie in its records
        self._rows = StreamRows()
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))

    def __len__(self) -> int:
        """Requests in flight."""
        return self._in_flight

    def take(self, drained: capture.Frames) -> Exchanges | None:
        """What ended with these, or None."""
        frames = Frames(drained)
        try:
            give_way()
            read, left = self._take_calls(frames)
            give_way()
            self._walk(frames, left, read)
        except BaseException:
            self._keep(frames, self._fresh)
            raise
        give_way()
        ended = self._take_rows(frames)
        self._keep(frames, [stream for stream in self._fresh if stream.is_open])
        return ended

    def _take_calls(self, frames: Frames) -> tuple[Read | None, npt.NDArray[np.intp]]:
        """Those that are whole. What blocks of other frames say as far as they were read, and which frames those are."""
        conn_ids, which = arraysets.number(frames.conn_ids)
        if len(conn_ids) + len(self._young) > self._max_sessions:  # some would go meanwhile
            return None, np.arange(len(frames))
        first = arraysets.find_firsts(which, len(conn_ids))
        seen = zip(conn_ids.tolist(), frames.flags[first].tolist(), strict=True)
        sessions = [self._young.get(n) or self._find(n, flags) for n, flags in seen]
        read, is_left, unread = take_calls(frames, sessions, which, self._texts, self._rows)
        self.counters["http2_unread"] += unread
        return read, np.flatnonzero(is_left)

    def _walk(self, frames: Frames, rows: npt.NDArray[np.intp], read: Read | None) -> None:
        """Through these frames. `read`: what blocks say whose connections were found orderly; those frames are next."""
        data, others = frames.data, frames.others
        odd, sessions = frames.list_odd(), self._young
        for frame in in_pieces(frames.list_some(rows)):
            at, conn_id, seq, ts_ns, flags, kind, number, size, begin, end, last = frame
            session = sessions.get(conn_id)
            if session is None:
                session = self._find(conn_id, flags)
                sessions = self._young
            if kind == ODD:
                self._take_odd(session, frames, next(odd), frame)
                continue
            direction = session.request if kind & 1 else session.response
            fields = read.find(at, kind) if read else None
            if fields is None:
                if seq != direction.next_seq:
                    self._lose(session, direction)
                direction.next_seq = seq + 1
                if not session.identity and flags & events.FLAG_IDENTITY:
                    session.identity = frames.find_identity(at)
            if others and at in others:
                add_other_to(session, number, others[at], ts_ns)
            if kind >= ASKED_BODY:
                self._take_body(session, number, kind, ts_ns, size)
                continue
            if fields is None and not direction.is_idle:
                is_end = kind == ENDED
                self._feed(session, frames, frame, 0, is_request=kind == ASKED, is_end=is_end)
                continue
            fields = fields or self._read(direction, data[begin:end])
            if kind == ASKED:
                stream = Stream(number, at, flags, ts_ns, fields)
                self._fresh.append(stream)
                self._begin(session, number, stream)
                continue
            self._answer(session, number, fields, kind == ENDED, ts_ns, size - (last - end))
            if kind == WHOLE:
                trailers = read.find_trailers(at) if read else None
                trailers = trailers or self._read(direction, data[end + http2.HEADER_BYTES : last])
                self._answer(session, number, trailers, True, ts_ns, last - end)

    def _read(self, direction: Direction[Mark], block: bytes) -> Fields:
        fields, is_none = read_block(direction.decoder, block)
        self.counters["http2_unread"] += is_none
        return fields

    def _take_odd(self, session: Session, frames: Frames, what: Odd, frame: Frame) -> None:
        """A frame that is anything but a whole block of headers, or the connection's end."""
        at, conn_id, seq, ts_ns, flags, _, _, _, begin, end, _ = frame
        if what.segment == events.SEGMENT_CLOSED:
            bodies = read_bodies(frames.data[begin - http2.HEADER_BYTES : end])
            self._close(conn_id, ts_ns, bodies, requests=what.requests, responses=what.offset)
            return
        is_request = what.segment == events.SEGMENT_REQUEST
        direction = session.request if is_request else session.response
        if seq != direction.next_seq:
            self._lose(session, direction)
        direction.next_seq = seq + 1
        if not session.identity and flags & events.FLAG_IDENTITY:
            session.identity = frames.find_identity(at)
        self._feed(
            session,
            frames,
            frame,
            what.offset,
            is_request=is_request,
            is_end=what.is_end,
        )

    def _feed(
        self,
        session: Session,
        frames: Frames,
        frame: Frame,
        offset: int,
        *,
        is_request: bool,
        is_end: bool,
    ) -> None:
        at, _, _, ts_ns, flags, _, _, size, begin, end, last = frame
        direction = session.request if is_request else session.response
        unread = direction.unread
        data = frames.data[begin - http2.HEADER_BYTES : end]
        mark = Mark(ts_ns, flags, frames.heads[at].tobytes(), size)
        direction.size += size - (last - end)
        other = frames.others.get(at, NOTHING)
        for event in direction.feed(data, mark, offset=offset, cut=bool(flags & events.FLAG_CUT)):
            self._take_event(
                session, event, is_request, is_end and end == last, other, direction.size
            )
            direction.size = 0
        if last > end:  # trailers stand beside it
            for event in direction.feed(frames.data[end:last], mark):
                self._take_event(session, event, is_request, True, NOTHING, last - end)
        self.counters["http2_unread"] += direction.unread - unread

    def _keep(self, frames: Frames, streams: list[Stream]) -> None:
        """Heads that lie in this drain's records, of requests that outlive it."""
        if streams:
            heads = frames.heads[[stream.at for stream in streams]].tolist()
            for stream, head in zip(streams, heads, strict=True):
                stream.head, stream.at = head, 0
        self._fresh = []

    def tell_late(self, now_ns: int, limit_ns: int) -> Exchanges | None:
        """To be called now and then: requests whose answer has not begun after this time, once each."""
        before_ns = now_ns - limit_ns
        for session in [*self._old.values(), *self._young.values()]:
            late = [
                number
                for number, stream in session.streams.items()
                if stream.ts_ns < before_ns and not stream.answered_ns
            ]
            for number in late:
                session.streams[number].flags |= events.FLAG_NO_RESPONSE
            self.counters["http2_timeouts"] += len(late)
            self._end(session, late, now_ns, TIMEOUT)
            self._let_go(session, now_ns - UNENDED_NS)
        return self._take_rows(None)

    def let_go(self) -> Exchanges | None:
        """All that were answered, as they stand."""
        for session in [*self._old.values(), *self._young.values()]:
            self._let_go(session)
        return self._take_rows(None)

    def _let_go(self, session: Session, before_ns: int | None = None) -> None:
        """Those that were answered by then. Of gRPC calls the status is waited for."""
        gone = [
            number
            for number, stream in session.streams.items()
            if stream.answered_ns
            and not stream.is_grpc
            and (before_ns is None or stream.answered_ns < before_ns)
        ]
        self.counters["http2_unended"] += len(gone)
        self._in_flight -= len(gone)
        for number in gone:
            stream = session.streams.pop(number)
            self._rows.add(stream, stream.answered_ns, None, session.identity)

    def _take_rows(self, frames: Frames | None) -> Exchanges | None:
        ended = self._rows.take(frames.heads if frames is not None else None)
        self.counters["http2_contexts_invalid"] = self._rows.contexts_invalid
        return ended

    # ---- connections ------------------------------------------------------------------------------------------

    def _find(self, conn_id: int, flags: int) -> Session:
        session = self._old.pop(conn_id, None)
        if session is None:
            session = Session(self._texts, complete=not flags & events.FLAG_LATE)
        if len(self._young) >= self._max_sessions:
            self.counters["http2_connections_dropped"] += len(self._old)
            for gone in self._old.values():
                self._give_up(gone)
            self._old, self._young = self._young, {}
        self._young[conn_id] = session
        return session

    def _lose(self, session: Session, direction: Direction[Mark]) -> None:
        self.counters["http2_gaps"] += 1
        direction.forget()
        self._give_up(session)

    def _give_up(self, session: Session) -> None:
        self._let_go(session)
        self.counters["http2_streams_lost"] += len(session.streams)
        self._in_flight -= len(session.streams)
        session.streams.clear()

    def _close(
        self, conn_id: int, ts_ns: int, bodies: Bodies, *, requests: int, responses: int
    ) -> None:
        """The numbers: how many segments there were; if the last ones were lost, so may answers have been."""
        session = self._young.pop(conn_id)
        if (requests, responses) != (session.request.next_seq, session.response.next_seq):
            self.counters["http2_gaps"] += 1
            self._give_up(session)
        add_bodies(session.streams, bodies, ts_ns)
        for stream in session.streams.values():
            self._finish(session, stream, ts_ns, error=RESET if stream.answered_ns else None)
        self._in_flight -= len(session.streams)

    # ---- streams ----------------------------------------------------------------------------------------------

    def _begin(self, session: Session, number: int, stream: Stream) -> None:
        if number in session.streams:
            return  # the client's trailers
        if self._in_flight >= self._max_in_flight:
            self.counters["http2_streams_dropped"] += 1
            return
        session.streams[number] = stream
        self._in_flight += 1

    def _answer(
        self,
        session: Session,
        number: int,
        fields: Fields,
        is_end: bool,
        ts_ns: int,
        size: int,
    ) -> None:
        stream = session.streams.get(number)
        if stream is None:
            # One that was let go may have trailers, which have no status.
            self.counters["http2_orphans"] += fields[hpackfields.STATUS] is not None
            return
        if not stream.answered_ns:
            status = fields[hpackfields.STATUS]
            if type(status) is str and status[:1] == "1" and not is_end:
                return  # 100, 103: not the answer
            stream.answered_ns = ts_ns
            stream.answer = fields
            if not is_end:
                stream.answer_bytes = size
                if judge_grpc(session, stream, fields) or not is_tunnel(stream):
                    return
                size = 0
        if fields[hpackfields.GRPC_STATUS] is not None:
            session.has_grpc = stream.is_grpc = True
        elif stream.is_grpc is None:
            judge_grpc(session, stream, fields)
        stream.answer_bytes += size
        stream.trailers = fields
        del session.streams[number]
        self._in_flight -= 1
        self._rows.add(stream, ts_ns, None, session.identity)

    def _take_body(self, session: Session, number: int, kind: int, ts_ns: int, size: int) -> None:
        stream = session.streams.get(number)
        if stream is None:
            return
        if kind & 1:
            stream.ask(size, ts_ns if kind == ASKED_ENDED_BODY else 0)
            return
        stream.answer_bytes += size
        if kind == ENDED_BODY and stream.answered_ns:
            del session.streams[number]
            self._in_flight -= 1
            self._rows.add(stream, ts_ns, None, session.identity)

    def _take_event(
        self,
        session: Session,
        event: Event[Mark],
        is_request: bool,
        is_end: bool,
        other: Other,
        size: int,
    ) -> None:
        mark = event.mark
        self.counters["http2_cut"] += event.is_cut
        if event.kind == http2.RST_STREAM:
            stream = session.streams.get(event.stream)
            if stream is not None:
                own = mark.size - _RESET_BYTES
                add_reset(stream, own, other, mark.ts_ns, is_request=is_request)
            self._end(session, [event.stream], mark.ts_ns, name_reset(event.error))
        elif event.kind == http2.GOAWAY:
            if not is_request:
                refused = [number for number in session.streams if number > event.stream]
                self._end(session, refused, mark.ts_ns, GOAWAY)
        elif event.kind == http2.PUSH_PROMISE:
            self.counters["http2_pushes"] += 1
        elif is_request:
            stream = Stream(event.stream, 0, mark.flags, mark.ts_ns, event.fields)
            stream.head = mark.head
            stream.is_cut = event.is_cut
            if size > mark.size:
                stream.ask(size - mark.size, 0)
            self._begin(session, event.stream, stream)
        else:
            is_end = is_end or bool(event.flags & http2.END_STREAM)
            if other is not NOTHING:
                add_other_to(session, event.stream, other, mark.ts_ns)
            self._answer(session, event.stream, event.fields, is_end, mark.ts_ns, size)

    def _end(self, session: Session, numbers: list[int], ts_ns: int, error: str) -> None:
        """Streams that will not be answered any more."""
        for number in numbers:
            stream = session.streams.pop(number, None)
            if stream is not None:
                self._in_flight -= 1
                self._finish(session, stream, ts_ns, error=error)

    def _finish(
        self, session: Session, stream: Stream, end_ns: int, *, error: str | None = None
    ) -> None:
        if stream.is_grpc is None:
            judge_grpc(session, stream, _NO_ANSWER)
        self._rows.add(stream, end_ns, error, session.identity)


_NO_ANSWER = hpackfields.make_unknown()
