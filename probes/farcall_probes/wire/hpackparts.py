"""Where the fields of header blocks lie (RFC 7541, 6), of many blocks at once: each step is taken by all of them side by side.

Nothing is looked up here, and no table is needed: a block's own bytes say where its fields are. Most blocks begin with a run of
fields of one byte each; those behind it are followed one after the other.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes.windows import read_windows

LITERAL = 0x80  # below it a field's first byte is no index
INSERTED = 0x40
MAX_RUN = 16  # of fields of one byte that a block begins with; those behind are followed one by one
MAX_STEPS = 32  # fields behind the run
READ_BEYOND = 16  # bytes behind a block that are looked at, and mean nothing: where there are fewer, it is not followed

_SIZE_UPDATE = 0x20, 0x40
_MAX_MORE = 0x7F  # of an integer in two bytes: behind the prefix; a third byte would follow
_FIRST, _LAST = 0x81, 0xFE  # indices of one byte

Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


class Fields(NamedTuple):
    """Field by field, those of one block behind each other, and the blocks in order."""

    blocks: Rows
    firsts: Bytes  # bytes
    indices: Rows  # of the entry, or of a literal's name; 0: the name is written out
    names: Rows  # where a name that is written out begins, with its length
    begins: Rows  # of a literal's value
    ends: Rows
    is_coded: Mask  # whether that is in Huffman's code


class Parts(NamedTuple):
    runs: Bytes  # each column a block's first fields, of one byte each; 0 behind them
    fields: Fields  # those behind them
    is_odd: Mask  # of each block: what it holds was not followed


def find_parts(data: Bytes, begins: Rows, ends: Rows) -> Parts:
    """Of these blocks in `data`."""
    is_odd = ends > len(data) - READ_BEYOND
    if is_odd.any():
        begins, ends = np.where(is_odd, 0, begins), np.where(is_odd, 0, ends)
    runs, at = _find_runs(data, begins, ends)
    rows = np.flatnonzero(at < ends)
    at = at[rows]
    found = []
    for _ in range(MAX_STEPS):
        if not len(rows):
            break
        some, behind, is_wrong = _follow(data, rows, at)
        is_wrong |= behind > ends[rows]
        is_odd[rows[is_wrong]] = True
        found.append(some)
        goes_on = ~is_wrong & (behind < ends[rows])
        rows, at = rows[goes_on], behind[goes_on]
    is_odd[rows] = True
    return Parts(runs, _arrange(found), is_odd)


def _find_runs(data: Bytes, begins: Rows, ends: Rows) -> tuple[Bytes, Rows]:
    """Each one's run, and where it ends."""
    runs = read_windows(data, begins, MAX_RUN)
    places = np.arange(MAX_RUN)
    is_run = np.zeros((len(begins), MAX_RUN + 1), dtype=np.bool_)
    is_run[:, :-1] = (runs - np.uint8(_FIRST) <= _LAST - _FIRST) & (
        places < (ends - begins)[:, None]
    )
    lengths = is_run.argmin(axis=1)
    longest = int(lengths.max(initial=0))
    runs = np.ascontiguousarray(runs[:, :longest].T)  # numpy adds columns up faster than rows
    runs *= places[:longest, None] < lengths
    return runs, begins + lengths


def _follow(data: Bytes, rows: Rows, at: Rows) -> tuple[Fields, Rows, Mask]:
    """One field of each of these blocks, where it ends, and which of them are none that is known here."""
    firsts = data[at]
    is_literal = firsts < LITERAL
    prefixes = np.where(is_literal, np.where(firsts < INSERTED, 0x0F, 0x3F), 0x7F)
    indices = (firsts & prefixes).astype(np.intp)
    is_wrong = (firsts >= _SIZE_UPDATE[0]) & (firsts < _SIZE_UPDATE[1]) | (firsts == 0x80)
    behind = at + 1
    is_long = indices == prefixes
    if is_long.any():
        more = data[behind]
        is_wrong |= is_long & (more > _MAX_MORE)
        indices = np.where(is_long, indices + more, indices)
        behind = behind + is_long
    names = behind
    is_named = is_literal & (indices == 0)
    if is_named.any():
        sizes = data[behind] & 0x7F
        is_wrong |= is_named & (sizes == 0x7F)
        behind = np.where(is_named, np.minimum(behind + 1 + sizes, len(data) - 1), behind)
    is_coded = data[behind] > 0x7F
    lengths = (data[behind] & 0x7F).astype(np.intp)
    is_long = is_literal & (lengths == 0x7F)
    values = behind + 1
    if is_long.any():
        lengths, values, is_longer = _read_long(data, values, lengths, is_long)
        is_wrong |= is_longer
    behind = np.where(is_literal, values + lengths, behind)
    return Fields(rows, firsts, indices, names, values, behind, is_coded), behind, is_wrong


def _read_long(data: Bytes, at: Rows, lengths: Rows, is_long: Mask) -> tuple[Rows, Rows, Mask]:
    """Lengths that go on behind their byte: these, where they end, and which take more than two bytes more."""
    last = len(data) - 1
    first, second = data[np.minimum(at, last)], data[np.minimum(at + 1, last)]
    is_longer = is_long & (first > _MAX_MORE)
    lengths = np.where(is_long, lengths + (first & _MAX_MORE), lengths)
    lengths = np.where(is_longer, lengths + (second.astype(np.intp) << 7), lengths)
    return lengths, at + is_long + is_longer, is_longer & (second > _MAX_MORE)


def _arrange(found: list[Fields]) -> Fields:
    """By their blocks; of one block they are found in order."""
    if not found:
        nothing = np.zeros(0, dtype=np.intp)
        firsts, is_coded = nothing.astype(np.uint8), nothing.astype(np.bool_)
        return Fields(nothing, firsts, nothing, nothing, nothing, nothing, is_coded)
    if len(found) == 1:
        return found[0]
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Fields(*(column[order] for column in columns))
