"""Calls of HTTP/2 that one drain has whole, which nearly all are: found with numpy, and nothing is remembered of them one by one.

A connection is orderly in a drain if nothing of it is missing, and each frame is a whole block of headers or a body that was
counted. Its blocks are read one after the other, as their tables ask for; what remains is who answered whom. All else, and
what an orderly connection has left over, is walked through frame by frame (streams.py).
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.arraysets import distinct, is_among
from farcall_probes.streamframes import ANSWERED, ASKED, ASKED_BODY, ENDED, ODD, Frames
from farcall_probes.streamrows import Ended, StreamRows, set_identity
from farcall_probes.streamsessions import GRPC, Session, find_type
from farcall_probes.wire import hpack
from farcall_probes.wire.hpack import Fields, Value

Rows = npt.NDArray[np.intp]
_METHOD, _STATUS = itemgetter(hpack.METHOD), itemgetter(hpack.STATUS)
_TYPE = itemgetter(hpack.CONTENT_TYPE)


class Connections(NamedTuple):
    """Those of a drain's frames."""

    sessions: list[Session]
    which: Rows  # of each frame, the place of its session
    orderly: npt.NDArray[np.bool_]  # of each session


class Calls(NamedTuple):
    """Places of frames, call by call."""

    asked: Rows
    answered: Rows  # where the answer began
    ended: Rows


def take_calls(
    frames: Frames, sessions: list[Session], which: Rows, rows: StreamRows
) -> tuple[list[Fields | None], npt.NDArray[np.bool_], int]:
    """Adds those of a drain that are whole to `rows`. Of each frame what its block says, None where it was not read; whether it is
    left over; and how many blocks were none. `which`: the place of each frame's session."""
    connections = find_orderly(frames, sessions, which)
    learn_identities(frames, connections)
    read, unread = read_blocks(frames, connections)
    calls = pick_plain(find_calls(frames, connections), read)
    is_left = np.ones(len(frames), dtype=np.bool_)
    if len(calls.asked):
        rows.add_calls(build_ended(frames, connections, calls, read))
        for places in calls:
            is_left[places] = False
    return read, is_left, unread


def find_orderly(frames: Frames, sessions: list[Session], which: Rows) -> Connections:
    """Those connections, whose numbers go on behind this drain from here on."""
    lanes = which * 2 + (frames.kinds & 1)  # an odd kind is of requests
    order = np.argsort(lanes, kind="stable")
    begins = np.searchsorted(lanes[order], np.arange(2 * len(sessions) + 1))
    places = np.empty(len(lanes), np.intp)
    places[order] = np.arange(len(lanes)) - begins[lanes[order]]
    expected = [(s.response.next_seq, s.request.next_seq) for s in sessions]
    firsts = np.array(expected, dtype=np.int64).ravel()
    is_other = (frames.numbers != firsts[lanes] + places) | (frames.kinds == ODD)
    idle = [s.request.is_idle and s.response.is_idle for s in sessions]
    orderly = np.array(idle, dtype=np.bool_)
    orderly[which[is_other]] = False
    counts = np.diff(begins).reshape(-1, 2).tolist()
    for at, (answers, requests) in enumerate(counts):
        if orderly[at]:
            sessions[at].response.next_seq += answers
            sessions[at].request.next_seq += requests
    return Connections(sessions, which, orderly)


def learn_identities(frames: Frames, connections: Connections) -> None:
    sessions, which, orderly = connections
    unknown = [not session.identity for session in sessions]
    if not any(unknown):
        return
    told = np.flatnonzero(frames.flags & events.FLAG_IDENTITY)
    seen, first = np.unique(which[told], return_index=True)
    for at, row in zip(seen.tolist(), told[first].tolist(), strict=True):
        if unknown[at] and orderly[at]:
            sessions[at].identity = frames.find_identity(row)


def read_blocks(frames: Frames, connections: Connections) -> tuple[list[Fields | None], int]:
    """By a frame's place, what the blocks of orderly connections say, nothing for a body, None for other connections; and how many
    of the blocks are none."""
    sessions, which, orderly = connections
    is_orderly = orderly[which]
    read: list[Fields | None] = [[] if one else None for one in is_orderly.tolist()]
    rows = np.flatnonzero(is_orderly & (frames.kinds < ASKED_BODY))
    lanes = which[rows] * 2 + (frames.kinds[rows] & 1)
    decoders = [d.decoder for s in sessions for d in (s.response, s.request)]
    columns = rows, frames.begins[rows], frames.ends[rows], lanes
    data, unread = frames.data, 0
    for at, begin, end, lane in zip(*(column.tolist() for column in columns), strict=True):
        decoder, block = decoders[lane], data[begin:end]
        fields = decoder.known.get(block)
        if not fields:
            fields, is_none = read_block(decoder, block)
            unread += is_none
        read[at] = fields
    return read, unread


def read_block(decoder: hpack.Decoder, block: bytes) -> tuple[Fields, bool]:
    """What a whole block says, and whether it is none."""
    fields = decoder.decode(block)
    return (fields, False) if type(fields) is list else (hpack.make_unknown(), True)


def find_calls(frames: Frames, connections: Connections) -> Calls:
    """Request, answer and end, or request and end, with nothing else of the stream in this drain."""
    sessions, which, orderly = connections
    keys = which.astype(np.uint64) << np.uint64(32) | frames.streams
    rows = np.flatnonzero(orderly[which])
    if not len(rows):
        return Calls(rows, rows, rows)
    rows = rows[np.argsort(keys[rows], kind="stable")]
    keys, kinds = keys[rows], frames.kinds[rows]
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    counts = np.diff(first, append=len(keys))
    last = first + counts - 1
    second = np.minimum(first + 1, last)
    is_call = (kinds[first] == ASKED) & (kinds[last] == ENDED)
    is_call &= (counts == 2) | (counts == 3) & (kinds[second] == ANSWERED)
    if frames.others:
        is_call &= ~np.logical_or.reduceat(np.isin(rows, list(frames.others)), first)
    begun = [at << 32 | number for at, session in enumerate(sessions) for number in session.streams]
    if begun:  # what asks again there are trailers
        is_call &= ~is_among(keys[first], np.array(begun, dtype=np.uint64))
    return Calls(rows[first[is_call]], rows[second[is_call]], rows[last[is_call]])


def pick_plain(calls: Calls, read: Sequence[Fields | None]) -> Calls:
    """Without those that an answer's first block makes another matter of: an interim one, a tunnel, or of which it is not known
    whether they are gRPC's."""
    asked, answers = pick(read, calls.asked), pick(read, calls.answered)
    columns = map(_METHOD, asked), map(_TYPE, asked), map(_TYPE, answers), map(_STATUS, answers)
    said = list(zip(*columns, strict=True))
    others = {one for one in set(said) if not _is_plain(*one)}
    if not others:
        return calls
    plain = np.array([one not in others for one in said])
    return Calls(*(places[plain] for places in calls))


def _is_plain(method: Value, asked_type: Value, answered_type: Value, status: Value) -> bool:
    kind = answered_type if asked_type is None else asked_type
    is_final = type(status) is str and status[:1] != "1"
    return is_final and type(kind) is str and method != "CONNECT"


def build_ended(
    frames: Frames, connections: Connections, calls: Calls, read: Sequence[Fields | None]
) -> Ended:
    """Their columns. A connection that has gRPC's calls is marked."""
    sessions, which, _ = connections
    asked, answers, trailers = (pick(read, places) for places in calls)
    is_grpc = [_is_grpc(*said) for said in zip(asked, answers, trailers, strict=True)]
    owners = which[calls.asked]
    for at in distinct(owners[np.array(is_grpc)]).tolist():
        sessions[at].has_grpc = True
    block = frames.heads[calls.asked].view(events.EXCHANGE)
    flags = frames.flags[calls.asked] & ~np.uint32(events.FLAG_CUT)
    for row in np.flatnonzero(flags & events.FLAG_IDENTITY == 0).tolist():
        if identity := sessions[owners[row]].identity:
            set_identity(block, row, identity)
            flags[row] |= events.FLAG_IDENTITY
    # Headers that a late joiner cannot know are said by LATE; any others that are unknown are cut.
    unknown = np.array([fields[hpack.UNKNOWN] is not None for fields in asked])
    flags[unknown & (flags & events.FLAG_LATE == 0)] |= np.uint32(events.FLAG_CUT)
    begun = np.where(calls.answered == calls.ended, 0, frames.sizes[calls.answered])
    return Ended(
        block=block,
        numbers=frames.streams[calls.asked],
        flags=flags,
        answered_ns=frames.times_ns[calls.answered],
        ended_ns=frames.times_ns[calls.ended],
        answer_bytes=(frames.sizes[calls.ended] + begun).astype(np.uint64),
        is_grpc=is_grpc,
        fields=asked,
        answers=answers,
        trailers=trailers,
        errors=[None] * len(asked),
    )


def _is_grpc(asked: Fields, answer: Fields, trailers: Fields) -> bool:
    kind = find_type(asked, answer)
    return trailers[hpack.GRPC_STATUS] is not None or (type(kind) is str and kind.startswith(GRPC))


def pick(read: Sequence[Fields | None], places: Rows) -> list[Fields]:
    return [read[at] or [] for at in places.tolist()]
