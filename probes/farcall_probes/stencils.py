"""Heads of HTTP/1 of one drain compared, all at once, with heads that came before: which are the same but for values that nobody reads.

A stencil is a head in which such values are free. It fits what has the same bytes everywhere else and no LF in a free value: then
each header begins where it does in that head, so what was read of that one is what would be read of the other. Where a
number is read, its digits are free too, and looked at by whoever asks. Bounded; no I/O. A row is one head's.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes.capture import Records
from farcall_probes.giveway import give_way
from farcall_probes.windows import Bytes, Places, read_windows

Mask = npt.NDArray[np.bool_]
Span = tuple[int, int]

MIN_ROWS = 24  # fewer are read sooner one by one
SLOTS = 224  # 0.3 MB of requests, 0.2 of responses
KEY_BYTES = 32
_KEY_BITS = 10
_PER_KEY = 6
_AT_ONCE = 512  # rows; their bytes stay in the processor's cache
STRIDE = 7919  # a prime: what is learnt from next is somewhere else
LESSONS = 4  # stencils that one drain adds: heads that are never alike must not cost more than they do otherwise
MAX_DIGITS = 18  # as many fit into 63 bits
NONE = -1
_LINE_END = b"\r\n"
_LF = 10
# Odd 64-bit constants: their products keep all bits of what is counted.
_SPREAD = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93],
    dtype=np.uint64,
)


class Line(NamedTuple):
    name: bytes  # in lower case
    value: Span  # where it lies in the head


def split_lines(head: bytes) -> Iterator[Line]:
    """Header lines that have a colon. `head` ends with a line's end; what stands before the first one is no header."""
    begin = head.find(_LINE_END) + 2
    while (end := head.find(_LINE_END, begin)) >= 0:
        mark = head.find(b":", begin, end)
        if mark >= 0:
            yield Line(head[begin:mark].lower(), (mark + 1, end))
        begin = end + 2


class Stencils:
    """Each in a slot, and under a key that whatever it fits has."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # Rows of slots. A byte fits that is at most `spread` above the one expected, modulo 256: the same one, any but LF, or any at all.
        self._expected = np.empty((SLOTS, max_bytes), dtype=np.uint8)
        self._spread = np.empty((SLOTS, max_bytes), dtype=np.uint8)
        self._lengths = np.zeros(SLOTS, dtype=np.intp)
        self._keys = np.full(SLOTS, NONE, dtype=np.intp)
        self._slots = np.full((1 << _KEY_BITS, _PER_KEY), NONE, dtype=np.intp)
        # How often each did; what was long ago counts less.
        self._fitted = np.zeros(SLOTS, dtype=np.intp)

    def find(self, block: Records, starts: Places, lengths: Places, keys: Places) -> Places:
        """The slot of what fits the bytes of `block` from each of these places on, and no more than so many; NONE where none does,
        and where the key is NONE."""
        found = np.full(len(starts), NONE, dtype=np.intp)
        within = np.flatnonzero((keys != NONE) & (starts <= block.nbytes - self._max_bytes))
        for begin in range(0, len(within), _AT_ONCE):
            give_way()
            left = within[begin : begin + _AT_ONCE]
            for rank in range(_PER_KEY):
                if not len(left):
                    break
                slots = self._slots[keys[left], rank]
                is_tried = (slots != NONE) & (lengths[left] >= self._lengths[slots])
                if not is_tried.any():
                    continue
                left_out, left, slots = left[~is_tried], left[is_tried], slots[is_tried]
                fits = self._fits(block, starts[left], slots)
                found[left[fits]] = slots[fits]
                left = np.concatenate([left[~fits], left_out])
        self._fitted -= self._fitted >> 3
        self._fitted += np.bincount(found[found != NONE], minlength=SLOTS)
        return found

    def _fits(self, block: Records, starts: Places, slots: Places) -> Mask:
        width = int(self._lengths[slots].max())
        heads = read_windows(block, starts, width)
        heads -= read_windows(self._expected, slots * self._max_bytes, width)
        is_near = heads <= read_windows(self._spread, slots * self._max_bytes, width)
        fits: Mask = np.logical_and.reduce(is_near, axis=1)
        return fits

    def put(self, key: int, head: bytes, free: Sequence[Span]) -> int:
        """Its slot, which may have been another's; no longer than was said."""
        of_key = self._slots[key]
        rank = int(np.argmin(np.where(of_key == NONE, NONE, self._fitted[of_key])))
        if of_key[rank] == NONE:
            slot = int(np.argmin(np.where(self._keys == NONE, NONE, self._fitted)))
            former = self._keys[slot]
            if former != NONE:
                self._slots[former][self._slots[former] == slot] = NONE
            of_key[rank] = slot
            self._keys[slot] = key
        slot = int(of_key[rank])
        self._expected[slot, : len(head)] = np.frombuffer(head, dtype=np.uint8)
        self._spread[slot, : len(head)] = 0
        self._spread[slot, len(head) :] = 255
        for begin, end in free:
            self._expected[slot, begin:end] = _LF + 1
            self._spread[slot, begin:end] = 254
        self._lengths[slot] = len(head)
        self._fitted[slot] = 0
        return slot


def make_keys(begins: Bytes, lengths: Places | None = None) -> Places:
    """Of KEY_BYTES of each, and a length."""
    words = begins.view("<u8")
    sums = words[:, 0] * _SPREAD[0]
    for at in range(1, len(_SPREAD)):
        sums += words[:, at] * _SPREAD[at]
    if lengths is not None:
        sums += lengths.astype(np.uint64) * _SPREAD[0]
    keys: Places = (sums * _SPREAD[1] >> np.uint64(64 - _KEY_BITS)).astype(np.intp)
    return keys


def find_begins(block: Records, field: str) -> Places:
    """Where that field of each record is in the bytes of all."""
    offset = block.dtype.fields[field][1] if block.dtype.fields else 0
    return np.arange(len(block)) * block.dtype.itemsize + offset


def read_numbers(block: Records, ends: Places, digits: Places) -> npt.NDArray[np.int64]:
    """Decimal numbers that end at these places and have so many digits; -1 where one is none."""
    values = read_windows(block, ends - MAX_DIGITS, MAX_DIGITS) - np.uint8(ord("0"))
    values[np.arange(MAX_DIGITS) < MAX_DIGITS - digits[:, None]] = 0
    give_way()
    found = values.astype(np.int64) @ _POWERS
    give_way()
    return np.where((values <= 9).all(axis=1), found, -1)


_POWERS = 10 ** np.arange(MAX_DIGITS, dtype=np.int64)[::-1]


def as_column(rows: Bytes) -> npt.NDArray[np.void]:
    """Each row as one value."""
    column: npt.NDArray[np.void] = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}")[:, 0]
    return column
