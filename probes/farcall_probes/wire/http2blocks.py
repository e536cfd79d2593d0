"""Frames of one direction of one HTTP/2 connection → header blocks read, and streams that are ended otherwise.

A frame may come in several pieces (the kernel side ships what each system call brings), a block in several frames. What is
incomplete waits here, bounded; `forget` is for losses. No I/O, no clock: `mark` is the caller's, and comes back with the event.
"""

from typing import Generic, NamedTuple, TypeVar

from farcall_probes.wire import hpack, hpackfields, http2
from farcall_probes.wire.hpackfields import Fields
from farcall_probes.wire.http2 import Frame
from farcall_probes.wire.outcomes import Outcome, Truncated

MAX_BLOCK_BYTES = 65_536  # of a block with its continuations; servers refuse more than 8 to 64 KiB

M = TypeVar("M")


class Event(NamedTuple, Generic[M]):
    kind: int  # http2.HEADERS, PUSH_PROMISE, RST_STREAM or GOAWAY
    stream: int  # of GOAWAY: the last one that is still answered
    flags: int
    fields: Fields  # of HEADERS and PUSH_PROMISE
    error: str  # of RST_STREAM and GOAWAY
    is_cut: bool
    mark: M  # of the first piece of the first frame


class _Opened(NamedTuple, Generic[M]):
    frame: Frame
    fragments: list[bytes]
    mark: M


class Direction(Generic[M]):
    """`next_seq` and `size` are the caller's, as are hot paths past `feed`: they may use `decoder` while `is_idle`."""

    __slots__ = ("_opened", "_part", "decoder", "is_idle", "next_seq", "size", "unread")

    def __init__(self, decoder: hpack.Decoder) -> None:
        self.decoder = decoder
        self.next_seq = 0
        self.size = 0  # bytes of what waits
        self.unread = 0  # frames and blocks that are none; only grows
        self.is_idle = True  # nothing waits here; an attribute, because it is asked once a frame
        self._part: tuple[bytes, M] | None = None
        self._opened: _Opened[M] | None = None

    def forget(self) -> None:
        """Something was lost."""
        self.decoder.reset()
        self._part = self._opened = None
        self.is_idle = True

    def feed(self, data: bytes, mark: M, *, offset: int = 0, cut: bool = False) -> list[Event[M]]:
        """Bytes of a frame from `offset` of it on, its header counted; `cut`: no more of it will come."""
        events = self._feed(data, mark, offset, cut)
        self.is_idle = self._part is None and self._opened is None
        return events

    def _feed(self, data: bytes, mark: M, offset: int, cut: bool) -> list[Event[M]]:
        events: list[Event[M]] = []
        if offset == 0:
            if self._part is not None:  # the last one was never finished
                self._take_frame(self._part[0], self._part[1], True, events)
            self._part = (data, mark)
        elif self._part is not None and len(self._part[0]) == offset:
            self._part = (self._part[0] + data, self._part[1])
        else:
            self._fail()
            return events
        whole, first = self._part
        if cut or _is_whole(whole) or len(whole) > MAX_BLOCK_BYTES:
            self._part = None
            self._take_frame(whole, first, cut or not _is_whole(whole), events)
        return events

    def _fail(self) -> None:
        self.unread += 1
        self.forget()

    def _take_frame(self, data: bytes, mark: M, cut: bool, events: list[Event[M]]) -> None:
        frame = http2.parse_frame(data, cut=cut)
        is_cut = isinstance(frame, Truncated)
        if isinstance(frame, Truncated):
            frame = frame.partial
        if isinstance(frame, Outcome):
            self._fail()
            return
        if self._opened is not None and frame.kind != http2.CONTINUATION:
            self._fail()  # RFC 9113, 4.3: a block is one run of frames
        if frame.kind in (http2.HEADERS, http2.PUSH_PROMISE):
            self._take_block(frame, mark, is_cut, events)
        elif frame.kind == http2.CONTINUATION:
            self._continue_block(frame, is_cut, events)
        elif frame.kind in (http2.RST_STREAM, http2.GOAWAY):
            self._take_end(frame, mark, events)

    def _take_block(self, frame: Frame, mark: M, is_cut: bool, events: list[Event[M]]) -> None:
        fragment = http2.find_fragment(frame, cut=is_cut)
        if fragment is None:
            self._fail()
            return
        opened = _Opened(frame, [fragment], mark)
        if is_cut or frame.flags & http2.END_HEADERS:
            self._finish(opened, is_cut, events)
        else:
            self._opened = opened

    def _continue_block(self, frame: Frame, is_cut: bool, events: list[Event[M]]) -> None:
        opened = self._opened
        if opened is None or opened.frame.stream != frame.stream:
            self._fail()
            return
        opened.fragments.append(frame.payload)
        is_cut = is_cut or sum(map(len, opened.fragments)) > MAX_BLOCK_BYTES
        if is_cut or frame.flags & http2.END_HEADERS:
            self._opened = None
            self._finish(opened, is_cut, events)

    def _finish(self, opened: _Opened[M], is_cut: bool, events: list[Event[M]]) -> None:
        block = b"".join(opened.fragments)
        fields = self.decoder.decode(block, cut=is_cut)
        if isinstance(fields, Truncated):
            fields = fields.partial
        if isinstance(fields, Outcome):
            self.unread += 1
            fields = hpackfields.make_unknown()
        frame = opened.frame
        events.append(Event(frame.kind, frame.stream, frame.flags, fields, "", is_cut, opened.mark))

    def _take_end(self, frame: Frame, mark: M, events: list[Event[M]]) -> None:
        error = http2.find_error(frame)
        if error is None:
            self._fail()
            return
        stream = frame.stream
        if frame.kind == http2.GOAWAY:
            stream = int.from_bytes(frame.payload[:4], "big") & 0x7FFFFFFF
        events.append(Event(frame.kind, stream, frame.flags, [], error, False, mark))


def _is_whole(data: bytes) -> bool:
    if len(data) < http2.HEADER_BYTES:
        return False
    return len(data) >= http2.HEADER_BYTES + int.from_bytes(data[:3], "big")
