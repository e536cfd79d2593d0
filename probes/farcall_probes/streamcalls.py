"""Calls of HTTP/2 that one drain has whole, which nearly all are: found with numpy, and nothing is remembered of them one by one.

A connection is orderly in a drain if nothing of it is missing, and each frame is a whole block of headers or a body that was
counted. What its blocks say is read first (streamblocks.py); what remains is who answered whom. All else, and what an orderly
connection has left over, is walked through frame by frame (streams.py).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.arraysets import distinct, is_among, order
from farcall_probes.giveway import give_way
from farcall_probes.streamblocks import Read, read_blocks
from farcall_probes.streamframes import ANSWERED, ASKED, ENDED, ODD, WHOLE, Frames
from farcall_probes.streamrows import Ended, StreamRows, set_identity
from farcall_probes.streamsaid import judge
from farcall_probes.streamsessions import GRPC, Session, find_type
from farcall_probes.wire import hpackfields
from farcall_probes.wire.hpackfields import Fields

Rows = npt.NDArray[np.intp]


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
    frames: Frames,
    sessions: list[Session],
    which: Rows,
    texts: hpackfields.Texts,
    rows: StreamRows,
) -> tuple[Read, npt.NDArray[np.bool_], int]:
    """Adds those of a drain that are whole to `rows`. Of each frame what its block says, and whether it is left over; and how many
    blocks were none. `which`: the place of each frame's session."""
    connections = find_orderly(frames, sessions, which)
    learn_identities(frames, connections)
    give_way()
    read, unread = read_blocks(frames, sessions, which, connections.orderly[which], texts)
    give_way()
    calls, is_grpc = pick_plain(find_calls(frames, connections), read)
    is_left = np.ones(len(frames), dtype=np.bool_)
    give_way()
    if len(calls.asked):
        rows.add_calls(build_ended(frames, connections, calls, is_grpc, read))
        for places in calls:
            is_left[places] = False
    return read, is_left, unread


def find_orderly(frames: Frames, sessions: list[Session], which: Rows) -> Connections:
    """Those connections, whose numbers go on behind this drain from here on."""
    lanes = which * 2 + (frames.kinds & 1)  # an odd kind is of requests
    by_lane = order(lanes)  # there are twice as many as sessions are remembered, at most
    begins = np.zeros(2 * len(sessions) + 1, np.intp)
    np.cumsum(np.bincount(lanes, minlength=2 * len(sessions)), out=begins[1:])
    places = np.empty(len(lanes), np.intp)
    places[by_lane] = np.arange(len(lanes)) - begins[lanes[by_lane]]
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


def find_calls(frames: Frames, connections: Connections) -> Calls:
    """Request, answer and end, or request and end, or answer with its end, with nothing else of the stream in this drain."""
    sessions, which, orderly = connections
    keys = which.astype(np.uint64) << np.uint64(32) | frames.streams
    rows = np.flatnonzero(orderly[which])
    if not len(rows):
        return Calls(rows, rows, rows)
    # By connection first: those of one come nearly in order, which is what makes the second sort a short one.
    rows = rows[order(which[rows])]
    rows = rows[np.argsort(keys[rows], kind="stable")]
    keys, kinds = keys[rows], frames.kinds[rows]
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    counts = np.diff(first, append=len(keys))
    last = first + counts - 1
    second = np.minimum(first + 1, last)
    ends = kinds[last]
    is_call = (kinds[first] == ASKED) & ((ends == ENDED) | (ends == WHOLE))
    is_call &= (counts == 2) | (counts == 3) & (kinds[second] == ANSWERED) & (ends == ENDED)
    if frames.others:
        is_call &= ~np.logical_or.reduceat(np.isin(rows, list(frames.others)), first)
    begun = [at << 32 | number for at, session in enumerate(sessions) for number in session.streams]
    if begun:  # what asks again there are trailers
        is_call &= ~is_among(keys[first], np.array(begun, dtype=np.uint64))
    return Calls(rows[first[is_call]], rows[second[is_call]], rows[last[is_call]])


def pick_plain(calls: Calls, read: Read) -> tuple[Calls, npt.NDArray[np.bool_]]:
    """Without those that an answer's first block makes another matter of: an interim one, a tunnel, or of which it is not known
    whether they are gRPC's. And which of them are."""
    if not len(calls.asked):
        return calls, np.zeros(0, np.bool_)
    answers, trailers = read.first.pick(calls.answered), read.last.pick(calls.ended)
    plain, is_grpc = judge(_judge, read.first.pick(calls.asked), answers, trailers)
    if plain.all():
        return calls, is_grpc
    return Calls(*(places[plain] for places in calls)), is_grpc[plain]


def _judge(asked: Fields, answer: Fields, trailers: Fields) -> tuple[bool, bool]:
    """Whether a call is plain, and whether it is gRPC's."""
    kind, status = find_type(asked, answer), answer[hpackfields.STATUS]
    is_final = type(status) is str and status[:1] != "1"
    is_plain = is_final and type(kind) is str and asked[hpackfields.METHOD] != "CONNECT"
    says_grpc = type(kind) is str and kind.startswith(GRPC)
    return is_plain, says_grpc or trailers[hpackfields.GRPC_STATUS] is not None


def build_ended(
    frames: Frames,
    connections: Connections,
    calls: Calls,
    is_grpc: npt.NDArray[np.bool_],
    read: Read,
) -> Ended:
    """Their columns. A connection that has gRPC's calls is marked."""
    sessions, which, _ = connections
    asked = read.first.pick(calls.asked).drop_unused()
    owners = which[calls.asked]
    for at in distinct(owners[is_grpc]).tolist():
        sessions[at].has_grpc = True
    block = frames.heads[calls.asked].view(events.EXCHANGE)
    flags = frames.flags[calls.asked] & ~np.uint32(events.FLAG_CUT)
    for row in np.flatnonzero(flags & events.FLAG_IDENTITY == 0).tolist():
        if identity := sessions[owners[row]].identity:
            set_identity(block, row, identity)
            flags[row] |= events.FLAG_IDENTITY
    # Headers that a late joiner cannot know are said by LATE; any others that are unknown are cut.
    unknown = np.array([fields[hpackfields.UNKNOWN] is not None for fields in asked.fields])[
        asked.which
    ]
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
        asked=asked,
        traces=read.traces.take(read.trace_at[calls.asked]),
        answers=read.first.pick(calls.answered),
        trailers=read.last.pick(calls.ended),
        errors=[None] * len(owners),
    )
