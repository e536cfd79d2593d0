"""Segments of HTTP/2 as the ring of exchanges gives them out, and back again."""

import numpy as np

from farcall_probes import events
from farcall_probes.capture import Frames, Records
from farcall_probes.records import begin


def make_frames(block: Records) -> Frames:
    """Of events.LARGE."""
    is_long = block["req_cap"] > events.SHORT_REQ
    return Frames(begin(block).tobytes() + block[is_long].tobytes(), len(block))


def split(block: Records) -> tuple[Records, Frames]:
    """(exchanges, segments of HTTP/2), of events.LARGE."""
    is_frame = (block["segment"] != events.SEGMENT_NONE) & (block["proto"] == events.PROTO_HTTP2)
    return block[~is_frame] if is_frame.any() else block, make_frames(block[is_frame])


def widen(frames: Frames) -> np.ndarray:
    """As events.LARGE, in order; behind what was captured there are zeroes."""
    block = np.zeros(len(frames), events.LARGE)
    begin(block)[:] = np.frombuffer(frames.data, begin(block).dtype, len(frames))
    whole = np.frombuffer(frames.data, events.LARGE, offset=len(frames) * events.SHORT.itemsize)
    block[block["req_cap"] > events.SHORT_REQ] = whole
    return block
