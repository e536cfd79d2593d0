"""How long an HTTP/1 response is, and whether its record holds all of it: the kernel side sees the first call of one.

RFC 9112, 6.3: its end is told by Content-Length, by the last chunk, or by the connection's close, unless the status or the
method leaves no body. Where no head's end was captured, the bytes of the first read or write stay what is said.
"""

import re
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes import events, records, stencils, windows
from farcall_probes.capture import Records
from farcall_probes.giveway import give_way
from farcall_probes.readcolumns import captured
from farcall_probes.stencils import MIN_ROWS, NONE, Mask, Stencils
from farcall_probes.windows import Bytes, Places

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CODING = re.compile(rb"\r\ntransfer-encoding:([^\r\n]*)", re.IGNORECASE)
_LINE_END = b"\r\n"
_HEAD_END = 2 * _LINE_END
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_BODILESS = (204, 304)
# RFC 9110, 9.3.2 and 9.3.6: a tunnel's bytes are no body.
_BODILESS_METHODS = np.array([b"HEAD ", b"CONNE"])
_FIELDS = events.LARGE.fields
_REQUEST_AT = _FIELDS["req"][1] if _FIELDS else 0
_RESPONSE_AT = _FIELDS["resp"][1] if _FIELDS else 0
# All that may be of a response: it ends where `resp` does, and begins `resp_more` bytes before that.
_WHOLE_BYTES = events.RESP_MORE + events.LARGE_RESP
_WHOLE_AT = _RESPONSE_AT - events.RESP_MORE
_WHOLE = np.dtype(
    {
        "names": ["whole"],
        "formats": [f"V{_WHOLE_BYTES}"],
        "offsets": [_WHOLE_AT],
        "itemsize": events.LARGE.itemsize,
    }
)
_MEMO_ENTRIES = 2048  # heads of one second are alike but for their lengths
# A socket may take so long a write in parts (bpf/rest.h): that it was written is not that it has left.
LARGE_WRITE = 16_384
_FIXED = frozenset((b"content-length", b"transfer-encoding"))  # values that are read
Sizes = npt.NDArray[np.uint64]


class End(IntEnum):
    """What a response still waits for."""

    HERE = 0  # nothing: its record holds all of it, as far as anybody can tell
    LENGTH = 1  # so many bytes as its head says
    CHUNKS = 2  # the last chunk
    CLOSE = 3  # the connection's close
    ANSWER = 4  # the end of a database's answer
    QUIET = 5  # the same of a cache's, of which nothing tells for sure that it is one
    PIPELINE = 6  # nothing, but more of its requests are to be read, or written


class Measured(NamedTuple):
    sizes: Sizes  # bytes of each response, its head included; never fewer than were seen
    ends: npt.NDArray[np.uint8]  # End


_NUMBERS = np.dtype(
    [("framing", np.uint64), ("digits_end", np.intp), ("digits", np.intp)]
)  # of a slot's head: what it says but for the number of these digits

# What a head says is one number, so that those of a drain are an array: End, and above it the whole response's length.
_END_BITS, _END_MASK = 2, np.uint8(3)
_UNKNOWN = int(End.HERE)


def measure_responses(
    block: Records,
    statuses: npt.NDArray[np.int32],
    known: "KnownResponses | None" = None,  # what many heads are read sooner with
) -> Measured:
    """Of these large records."""
    sizes: Sizes = block["resp_bytes"].astype(np.uint64)
    ends = np.zeros(len(block), dtype=np.uint8)
    give_way()
    has_body = (statuses >= 200) & ~np.isin(statuses, _BODILESS)
    if has_body.any():
        has_body &= ~np.isin(_read_methods(block), _BODILESS_METHODS)
    give_way()
    rows = np.flatnonzero(has_body)
    if len(rows):
        some = block if len(rows) == len(block) else block[rows]
        _measure(some, known, rows, sizes, ends)
        give_way()
        is_long = (block["resp_bytes"] > LARGE_WRITE) & (block["role"] == events.ROLE_SERVER)
        ends[has_body & is_long & (ends == End.HERE)] = End.LENGTH
    ends[block["ended"] == events.ENDED_LATER] = End.PIPELINE
    return Measured(sizes, ends)


def _read_methods(block: Records) -> npt.NDArray[np.bytes_]:
    """The first bytes of each request."""
    width = _BODILESS_METHODS.dtype
    return np.ndarray(len(block), width, block, _REQUEST_AT, (block.dtype.itemsize,))


def _measure(
    some: Records,
    known: "KnownResponses | None",
    rows: Places,
    sizes: Sizes,
    ends: npt.NDArray[np.uint8],
) -> None:
    give_way()
    framings = _read_framings(some, known)
    give_way()
    lengths, end = framings >> np.uint64(_END_BITS), framings.astype(np.uint8) & _END_MASK
    seen = some["resp_bytes"]
    end[(end == End.LENGTH) & (seen >= lengths)] = End.HERE
    chunked = np.flatnonzero(end == End.CHUNKS)
    if len(chunked):
        end[chunked[_has_last_chunk(records.pick(some, chunked))]] = End.HERE
    sizes[rows] = np.maximum(seen, lengths)
    ends[rows] = end


def _has_last_chunk(block: Records) -> Mask:
    """Of these, which are chunked, and whose head's end was captured."""
    begins, ends = _find_responses(block)
    at = ends[:, None] + np.arange(-len(_LAST_CHUNK), 0)
    last = np.take_along_axis(_all_bytes(block), at, axis=1)
    is_last: Mask = (last == np.frombuffer(_LAST_CHUNK, dtype=np.uint8)).all(axis=1)
    least = np.maximum(block["resp_bytes"], np.uint64(len(_LAST_CHUNK)))
    is_last &= (ends - begins).astype(np.uint64) >= least
    is_last |= block["ended"] == events.ENDED_CHUNKS
    return is_last


def _all_bytes(block: Records) -> Bytes:
    """Of each response, as far as a record can hold it."""
    return records.as_bytes(block)[:, _WHOLE_AT : _WHOLE_AT + _WHOLE_BYTES]


def _find_responses(block: Records) -> tuple[Places, Places]:
    """Where each begins and ends in those."""
    more = np.minimum(block["resp_more"], events.RESP_MORE).astype(np.intp)
    caps = np.minimum(block["resp_cap"], events.LARGE_RESP).astype(np.intp)
    return events.RESP_MORE - more, events.RESP_MORE + caps


def read_responses(block: Records) -> list[bytes]:
    """Their captured bytes."""
    more = block["resp_more"]
    if not more.any():
        return captured(block, "resp", "resp_cap")
    data = block.view(_WHOLE)["whole"].tobytes()
    resp = np.arange(len(block)) * _WHOLE_BYTES + events.RESP_MORE
    begins = resp - np.minimum(more, events.RESP_MORE)
    ends = resp + np.minimum(block["resp_cap"], events.LARGE_RESP)
    return [data[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


# ---- what heads say -------------------------------------------------------------------------------------------------


def _read_framings(block: Records, known: "KnownResponses | None") -> Sizes:
    framings = np.zeros(len(block), dtype=np.uint64)
    left = np.arange(len(block))
    if known is not None and len(block) >= MIN_ROWS:
        left = known.read(block, framings)
    if len(left):
        found = read_responses(block if len(left) == len(block) else records.pick(block, left))
        # Up to the line end before the empty line; without one it is a byte, of which nothing is read.
        heads = [data[: data.find(_HEAD_END) + len(_LINE_END)] for data in found]
        framings[left] = np.fromiter(map(_read_framing, heads), np.uint64, len(heads))
    return framings


class KnownResponses:
    """Heads that are alike but for their lengths and what nobody reads."""

    def __init__(self) -> None:
        self._stencils = Stencils(_WHOLE_BYTES)
        self._numbers = np.zeros(stencils.SLOTS, dtype=_NUMBERS)
        self._lessons = 0

    def read(self, block: Records, framings: Sizes) -> Places:
        """Of these records; the rows of the others."""
        begins, ends = _find_responses(block)
        starts = stencils.find_begins(block, "resp") - events.RESP_MORE + begins
        lengths = ends - begins
        give_way()
        keys = _make_keys(block, starts, lengths)
        slots = self._stencils.find(block, starts, lengths, keys)
        give_way()
        rows = np.flatnonzero(slots != NONE)
        numbers = self._numbers[slots[rows]]
        said = stencils.read_numbers(block, starts[rows] + numbers["digits_end"], numbers["digits"])
        framings[rows] = numbers["framing"] + (said.astype(np.uint64) << np.uint64(_END_BITS))
        give_way()
        is_left = slots == NONE
        is_left[rows] = said < 0
        left = np.flatnonzero(is_left)
        self._learn(block, left, starts, lengths, keys)
        return left

    def _learn(
        self, block: Records, left: Places, starts: Places, lengths: Places, keys: Places
    ) -> None:
        learnt: set[int] = set()
        for _ in range(min(stencils.LESSONS, len(left))):
            self._lessons += 1
            row = int(left[self._lessons * stencils.STRIDE % len(left)])
            key = int(keys[row])
            if key != NONE and key not in learnt:
                learnt.add(key)
                data = windows.read_windows(block, starts[row : row + 1], int(lengths[row]))
                self._add(key, data.tobytes())

    def _add(self, key: int, data: bytes) -> None:
        end = data.find(_HEAD_END)
        if end < 0:
            return
        head = data[: end + 2]
        free = [value for name, value in stencils.split_lines(head) if name not in _FIXED]
        free.append((0, data.find(_LINE_END)))
        framing, digits = _read_framing(head), (0, 0)
        if framing & int(_END_MASK) == End.LENGTH:
            length = _LENGTH.search(head)
            assert length is not None
            digits = length.span(1)
            framing -= int(length[1]) << _END_BITS
            free.append(digits)
        slot = self._stencils.put(key, data[: end + 4], free)
        self._numbers[slot] = framing, digits[1], digits[1] - digits[0]


def _make_keys(block: Records, starts: Places, lengths: Places) -> Places:
    """By the status line and what stands behind it."""
    keys = stencils.make_keys(windows.read_windows(block, starts, stencils.KEY_BYTES))
    return np.where(lengths >= stencils.KEY_BYTES, keys, NONE)


@lru_cache(maxsize=_MEMO_ENTRIES)
def _read_framing(head: bytes) -> int:
    """`head`: up to the line end before the empty line."""
    if not head.endswith(_LINE_END):
        return _UNKNOWN
    coding = _CODING.search(head)
    if coding is not None:
        return End.CHUNKS if b"chunked" in coding[1].lower() else End.CLOSE
    length = _LENGTH.search(head)
    if length is None:
        return End.CLOSE
    return End.LENGTH | len(head) + len(_LINE_END) + int(length[1]) << _END_BITS
