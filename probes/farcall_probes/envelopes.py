"""Cassandra's version 5 packs messages into outer frames: segments that are such a frame → one segment for each message in it.

The kernel side walks through plain frames itself; what comes here is packed, or the first piece of a large message. A packed frame
may hold many messages, and its record ends at what was captured. Those beyond are a loss like any other: `lost_behind`
says behind which row. A frame of which nothing could be read stays one row, `is_unread`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.records import as_bytes
from farcall_probes.wire import cassandra
from farcall_probes.wire.outcomes import Outcome

_HEAD = events.EXCHANGE.itemsize
_CAPTURED = events.LARGE_REQ + events.LARGE_RESP


class Unwrapped(NamedTuple):
    block: Records
    is_first: list[bool]  # of its segment: only there its number on the connection counts
    lost_behind: list[bool]
    is_unread: list[bool]


def unwrap_frames(block: Records) -> Unwrapped:
    """Rows in the same order. Messages of one frame have places one behind the other, as both ends see them."""
    if not block["wrapped"].any():
        size = len(block)
        return Unwrapped(block, [True] * size, [False] * size, [False] * size)
    sources: list[int] = []
    messages: list[bytes | None] = []
    first: list[bool] = []
    lost: list[bool] = []
    behind: list[int] = []
    for row, is_wrapped in enumerate(block["wrapped"].tolist()):
        found: list[bytes] | list[None] = [None]
        is_lost = False
        if is_wrapped:
            data = _captured(block, row)
            envelopes = cassandra.find_envelopes(data)
            is_lost = _has_more(data, envelopes)
            found = envelopes or [b""]
        sources += [row] * len(found)
        messages += found
        first += [True] + [False] * (len(found) - 1)
        behind += range(len(found))
        lost += [False] * (len(found) - 1) + [is_lost]
    out = block[np.array(sources, dtype=np.intp)]
    out["request_seq"] += np.array(behind, dtype=np.uint32)
    raw = as_bytes(out)
    for at, message in enumerate(messages):
        if message:
            _put(out, raw, at, message[:_CAPTURED])
    return Unwrapped(out, first, lost, [message == b"" for message in messages])


def _captured(block: Records, row: int) -> bytes:
    record: bytes = block[row].tobytes()
    return record[_HEAD : _HEAD + int(block["req_cap"][row])]


def _put(out: Records, raw: npt.NDArray[np.uint8], at: int, message: bytes) -> None:
    raw[at, _HEAD : _HEAD + len(message)] = np.frombuffer(message, dtype=np.uint8)
    out["req_cap"][at] = len(message)
    out["req_bytes"][at] = cassandra.HEADER + int.from_bytes(message[5:9], "big")


def _has_more(data: bytes, envelopes: list[bytes]) -> bool:
    """Whether the frame holds messages that were not captured."""
    frame = cassandra.parse_outer_frame(data)
    if isinstance(frame, Outcome) or not envelopes:
        return True
    if not frame.is_self_contained:
        return False
    if frame.is_compressed:
        return len(data) < frame.header_bytes + frame.payload_bytes
    whole = sum(cassandra.HEADER + int.from_bytes(e[5:9], "big") for e in envelopes)
    return whole < frame.payload_bytes
