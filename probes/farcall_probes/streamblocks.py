"""What the header blocks of one drain say, of connections of which nothing is missing: those of a busy drain side by side
(wire/hpackmany.py), those of a small one, and all that is unusual, by their decoders.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes.arraysets import order
from farcall_probes.giveway import give_way
from farcall_probes.streamframes import ASKED, ASKED_BODY, WHOLE, Frames
from farcall_probes.streamsaid import Said, number
from farcall_probes.streamsessions import Session
from farcall_probes.wire import hpack, hpackfields, hpackmany, http2
from farcall_probes.wire.hpackfields import Fields, Value
from farcall_probes.wire.traceparents import NOTHING, Found, join, read_all

MANY = 1280  # blocks; below it, each alone costs less
_WORD = 8  # bytes of a short block
_KEPT = np.array([(1 << 8 * size) - 1 for size in range(_WORD + 1)], dtype=np.uint64)
_NO_FIELDS: Fields = [None] * hpackfields.FIELDS

Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


class Read(NamedTuple):
    """What blocks say, by a frame's place. Of requests but for their traces."""

    first: Said
    last: Said  # trailers, where they stand beside an answer; else the same
    traces: Found  # of requests, and one that is none
    trace_at: Rows  # which of those each frame has
    is_read: Mask  # bodies are: they say nothing

    def find(self, at: int, kind: int) -> Fields | None:
        """Of a frame of that kind, None where it was not read."""
        if not self.is_read[at]:
            return None
        if kind >= ASKED_BODY:
            return []
        fields = self.first.fields[self.first.which[at]]
        trace = self.traces.tell(self.trace_at[at]) if kind == ASKED else None
        if trace is not None:
            fields = fields.copy()
            fields[hpackfields.TRACEPARENT] = trace
        return fields

    def find_trailers(self, at: int) -> Fields | None:
        return self.last.fields[self.last.which[at]] if self.is_read[at] else None


class Blocks(NamedTuple):
    """Header blocks, lane by lane: a connection's answers, then its requests."""

    frames: Rows  # their places
    lanes: Rows  # twice their session's place, one more of requests
    begins: Rows
    ends: Rows
    are_trailers: Mask  # those that stand beside an answer

    def pick(self, rows: Rows) -> "Blocks":
        frames, lanes, begins, ends, are_trailers = self
        return Blocks(frames[rows], lanes[rows], begins[rows], ends[rows], are_trailers[rows])


def read_blocks(
    frames: Frames,
    sessions: list[Session],
    which: Rows,
    is_read: Mask,
    texts: hpackfields.Texts,
) -> tuple[Read, int]:
    """What the blocks of these frames say, and how many of them are none. `which`: the place of each frame's session."""
    blocks = _list_blocks(frames, which, is_read)
    decoders = [way.decoder for one in sessions for way in (one.response, one.request)]
    count, data = len(blocks.frames), frames.data
    give_way()
    if count < MANY:
        fields, traces, unread = _read_alone(blocks, decoders, data, texts)
        said = number(fields)
        alone = _Said(said.fields, said.which, [read_all(traces)], np.arange(count))
        return _place(blocks, alone, is_read), unread
    found = _Said([], np.full(count, -1, np.intp), [], np.full(count, -1, np.intp))
    found.which[:] = _find_known(blocks, decoders, data, found.said)
    left = np.flatnonzero(found.which < 0)
    if len(left):
        give_way()
        _, lanes, begins, ends, _ = blocks.pick(left)
        many = hpackmany.read_many(decoders, data, lanes, begins, ends, texts)
        if many is not None:
            found.add(left, *many)
    left, unread = np.flatnonzero(found.which < 0), 0
    if len(left):
        fields, traces, unread = _read_alone(blocks.pick(left), decoders, data, texts)
        said = number(fields)
        found.add(left, said.fields, said.which, read_all(traces), np.arange(len(left)))
    return _place(blocks, found, is_read), unread


class _Said(NamedTuple):
    """Block by block."""

    said: list[Fields]
    which: Rows  # -1: not read yet
    traces: list[Found]
    trace_at: Rows  # -1: none

    def add(
        self, rows: Rows, said: list[Fields], which: Rows, traces: Found, trace_at: Rows
    ) -> None:
        """What these blocks say, where it is known."""
        before = sum(len(found.is_named) for found in self.traces)
        self.which[rows] = np.where(which < 0, -1, which + len(self.said))
        self.trace_at[rows] = np.where(trace_at < 0, -1, trace_at + before)
        self.said.extend(said)
        self.traces.append(traces)


def _find_known(
    blocks: Blocks, decoders: Sequence[hpack.Decoder], data: bytes, said: list[Fields]
) -> Rows:
    """Short blocks of lanes that say again what they said before, nothing else: answers do. Of each its place in `said`, to which
    what they say is added; -1 of others."""
    frames, lanes, begins, ends, are_trailers = blocks
    which = np.full(len(frames), -1, np.intp)
    sizes = ends - begins
    is_known = np.ones(len(decoders), np.bool_)
    is_known[lanes[(sizes < 0) | (sizes > _WORD) | (begins > len(data) - _WORD)]] = False
    words = np.ndarray(len(data) - _WORD + 1, "<u8", data, strides=(1,))
    numbers: dict[int, int] = {}  # by the identity of what is said: connections share it
    for part in (~are_trailers, are_trailers):  # each by itself is mostly one thing many times
        rows = np.flatnonzero(part & is_known[lanes])
        if not len(rows):
            continue
        owners, lengths = lanes[rows], sizes[rows]
        texts = words[begins[rows]] & _KEPT[lengths]
        is_new = np.ones(len(rows), np.bool_)
        is_new[1:] = (texts[1:] != texts[:-1]) | (owners[1:] != owners[:-1])
        is_new[1:] |= lengths[1:] != lengths[:-1]
        first = np.flatnonzero(is_new)
        columns = owners[first], begins[rows[first]], ends[rows[first]]
        places: list[int] = []
        for lane, begin, end in zip(*(column.tolist() for column in columns), strict=True):
            fields = decoders[lane].known.get(data[begin:end])
            if fields is None or fields[hpackfields.TRACEPARENT] is not None:
                is_known[lane] = False
                fields = _NO_FIELDS
            place = numbers.setdefault(id(fields), len(said))
            if place == len(said):
                said.append(fields)
            places.append(place)
        which[rows] = np.array(places)[np.cumsum(is_new) - 1]
    which[~is_known[lanes]] = -1
    return which


def _place(blocks: Blocks, found: _Said, is_read: Mask) -> Read:
    """By a frame's place; what other frames have there means nothing."""
    said, which, traces, trace_at = found
    firsts, is_first = np.zeros(len(is_read), np.intp), ~blocks.are_trailers
    rows = blocks.frames[is_first]
    firsts[rows] = which[is_first]
    lasts = firsts.copy()
    lasts[blocks.frames[blocks.are_trailers]] = which[blocks.are_trailers]
    places = np.full(len(is_read), -1, np.intp)
    places[rows] = trace_at[is_first]
    joined = join([*traces, NOTHING])
    return Read(Said(said, firsts), Said(said, lasts), joined, places, is_read)


def _list_blocks(frames: Frames, which: Rows, is_read: Mask) -> Blocks:
    kinds = frames.kinds
    rows = np.flatnonzero(is_read & (kinds < ASKED_BODY))
    lanes = (which * 2 + (kinds & 1))[rows]  # an odd kind is of requests
    by_lane = order(lanes)
    rows, lanes = rows[by_lane], lanes[by_lane]
    counts = 1 + (kinds[rows] == WHOLE)
    rows, lanes = np.repeat(rows, counts), np.repeat(lanes, counts)
    are_trailers = np.zeros(len(rows), dtype=np.bool_)
    np.equal(rows[1:], rows[:-1], out=are_trailers[1:])
    begins, ends = frames.begins[rows], frames.ends[rows]
    begins = np.where(are_trailers, ends + http2.HEADER_BYTES, begins)
    ends = np.where(are_trailers, frames.lasts[rows], ends)
    return Blocks(rows, lanes, begins, ends, are_trailers)


def _read_alone(
    blocks: Blocks, decoders: Sequence[hpack.Decoder], data: bytes, texts: hpackfields.Texts
) -> tuple[list[Fields], list[Value], int]:
    """Of each block what it says, and its trace where it is of a request; and how many are none."""
    said: list[Fields] = []
    traces: list[Value] = []
    unread = at = 0
    lanes, begins, ends = blocks.lanes.tolist(), blocks.begins.tolist(), blocks.ends.tolist()
    while at < len(lanes):
        lane = lanes[at]
        decoder = decoders[lane]
        if lane & 1:
            last = bisect_right(lanes, lane, at)
            some = begins[at:last], ends[at:last]
            unread += _read_requests(decoder, data, *some, texts, said, traces)
            at = last
            continue
        block = data[begins[at] : ends[at]]
        known = decoder.known.get(block)
        if known is None:
            known, is_none = read_block(decoder, block)
            unread += is_none
        said.append(known)
        traces.append(None)
        at += 1
    return said, traces, unread


def _read_requests(
    decoder: hpack.Decoder,
    data: bytes,
    begins: list[int],
    ends: list[int],
    texts: hpackfields.Texts,
    said: list[Fields],
    traces: list[Value],
) -> int:
    unread = at = 0
    while at < len(begins):
        at = decoder.repeat(data, begins, ends, at, said, traces)
        if at == len(begins):
            break
        fields, is_none = read_block(decoder, data[begins[at] : ends[at]])
        unread += is_none
        said.append(texts.share(fields))
        traces.append(fields[hpackfields.TRACEPARENT])
        at += 1
    return unread


def read_block(decoder: hpack.Decoder, block: bytes) -> tuple[Fields, bool]:
    """What a whole block says, and whether it is none."""
    fields = decoder.decode(block)
    return (fields, False) if type(fields) is list else (hpackfields.make_unknown(), True)
