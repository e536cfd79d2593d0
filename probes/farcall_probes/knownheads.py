"""Request heads of HTTP/1 that are alike but for values that nobody reads, read all at once (stencils.py).

A stencil is of what lies behind the request line, which has its own length and is read by itself. What is read of a head
is what RequestParser reads; heads that it has to see for itself are left to it: those that are cut, or have other requests
behind them, or name their trace in another way than by a traceparent of the usual form.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from farcall_probes import stencils, windows
from farcall_probes.capture import Records
from farcall_probes.giveway import give_way
from farcall_probes.readcolumns import raw_column
from farcall_probes.stencils import NONE, Span, Stencils
from farcall_probes.windows import Bytes, Places
from farcall_probes.wire import tracecontext
from farcall_probes.wire.http1 import RequestParser, read_state
from farcall_probes.wire.http1shapes import CONTEXTS

MAX_LINE = 256  # bytes of a request line
MAX_BLOCK = 576  # of what is behind it
TRACE_BYTES = 56  # ` 00-<32>-<16>-<2>`, as nearly every traceparent is behind its colon
Words = tuple[object, ...]  # host, user agent, content type, the trace's format, tracestate
_LINE_END, _HEAD_END = b"\r\n", b"\r\n\r\n"
_END_WORD = int.from_bytes(_HEAD_END, "little")
_CR = 13
_TRACEPARENT, _TRACESTATE, _LENGTH = b"traceparent", b"tracestate", b"content-length"
# Values that are read: all heads that one stencil fits have the same.
_FIXED = frozenset((b"host", b"user-agent", b"content-type", _TRACESTATE))
_MAX_BODY_DIGITS = 15  # of a Content-Length that RequestParser follows
_NUMBERS = np.dtype(
    [
        ("trace", np.intp),  # where its value begins; NONE: there is none
        ("has_body", np.bool_),  # whatever is behind the head
        ("digits_end", np.intp),  # of a Content-Length
        ("digits", np.intp),  # how many; 0: nothing may be behind the head
    ]
)


class Known(NamedTuple):
    rows: Places
    lines: list[bytes]  # request lines
    words: list[Words]
    word: Places  # which of these
    traced: Places  # those of `rows` that have a traceparent
    traces: Bytes  # and its value


class _Found(NamedTuple):
    """Where in a block's bytes the parts of each head are."""

    lines: Places
    blocks: Places  # what is behind the request line, from its end on
    lengths: Places  # of that, the empty line included; NONE: the head is not whole, or too long
    ends: Places  # of all that was captured


class KnownHeads:
    def __init__(self, parser: RequestParser) -> None:
        self._parser = parser
        self._stencils = Stencils(MAX_BLOCK)
        self._words: list[Words] = [()] * stencils.SLOTS
        self._numbers = np.zeros(stencils.SLOTS, dtype=_NUMBERS)
        self._lessons = 0

    def find(self, block: Records, given: Mapping[int, bytes]) -> tuple[Known, Places]:
        """What is known of these, but for rows that are given otherwise, and the rows of which nothing is."""
        at = _find_parts(block, given)
        give_way()
        keys = _make_keys(block, at)
        slots = self._stencils.find(block, at.blocks, at.lengths, keys)
        give_way()
        rows = np.flatnonzero(slots != NONE)
        behind = (at.ends - at.blocks - at.lengths)[rows]
        if behind.any():
            rows = rows[self._are_bodies(block, at.blocks[rows], behind, slots[rows])]
        give_way()
        known = self._read(block, rows, slots[rows], at)
        give_way()
        is_left = np.ones(len(block), dtype=np.bool_)
        is_left[rows] = False
        left = np.flatnonzero(is_left)
        self._learn(block, left[keys[left] != NONE], at, keys)
        return known, left

    def _are_bodies(
        self, block: Records, blocks: Places, behind: Places, slots: Places
    ) -> stencils.Mask:
        """Whether what is behind a head is no other request."""
        numbers = self._numbers[slots]
        said = stencils.read_numbers(block, blocks + numbers["digits_end"], numbers["digits"])
        is_said = (numbers["digits"] > 0) & (said >= behind)
        is_body: stencils.Mask = (behind == 0) | numbers["has_body"] | is_said
        return is_body

    def _read(self, block: Records, rows: Places, slots: Places, at: _Found) -> Known:
        blocks, lines = at.blocks[rows], at.lines[rows]
        give_way()
        used = np.flatnonzero(np.bincount(slots))
        word = np.searchsorted(used, slots)
        traces = self._numbers["trace"][slots]
        traced = np.flatnonzero(traces != NONE)
        give_way()
        return Known(
            rows=rows,
            lines=windows.read_items(block, lines, blocks - lines),
            words=[self._words[slot] for slot in used.tolist()],
            word=word,
            traced=traced,
            traces=windows.read_windows(block, (blocks + traces)[traced], TRACE_BYTES),
        )

    # ---- what is learnt ----

    def _learn(self, block: Records, left: Places, at: _Found, keys: Places) -> None:
        """From a few of those that were not known, others each time: most often from what there is most of."""
        learnt: set[int] = set()
        for _ in range(min(stencils.LESSONS, len(left))):
            self._lessons += 1
            row = int(left[(self._lessons * stencils.STRIDE) % len(left)])
            key, size = int(keys[row]), int(at.lengths[row])
            if key not in learnt:
                learnt.add(key)
                head = windows.read_windows(block, at.blocks[row : row + 1], size).tobytes()
                self._add(key, head)

    def _add(self, key: int, head: bytes) -> None:
        """Of a head that is to be read alone nothing is learnt."""
        if head.find(_HEAD_END) + len(_HEAD_END) != len(head) or not head.startswith(_LINE_END):
            return
        values: dict[bytes, Span] = {}
        free: list[Span] = []
        for name, value in stencils.split_lines(head[:-2]):
            if name in values and name in CONTEXTS:
                return
            values.setdefault(name, value)
            if name not in _FIXED:
                free.append(value)
        trace, state = values.get(_TRACEPARENT), None
        if trace is None:
            if not CONTEXTS.isdisjoint(values):
                return
        elif trace[1] - trace[0] != TRACE_BYTES:
            return
        elif _TRACESTATE in values:
            state, is_invalid = read_state(head[slice(*values[_TRACESTATE])])
            if is_invalid:
                return
        digits = _find_digits(head, values.get(_LENGTH))
        if digits is not None:
            free.append(digits)
        slot = self._stencils.put(key, head, free)
        self._words[slot] = (*self._parser.read_words(head[:-2]), tracecontext.W3C, state)
        self._numbers[slot] = (
            NONE if trace is None else trace[0],
            b"transfer-encoding" in values,
            0 if digits is None else digits[1],
            0 if digits is None else digits[1] - digits[0],
        )


def _find_digits(head: bytes, value: Span | None) -> Span | None:
    if value is None:
        return None
    said = head[slice(*value)]
    digits = said.strip(b" \t")
    if not digits.isdigit() or len(digits) > _MAX_BODY_DIGITS:
        return None
    begin = value[0] + said.find(digits)
    return begin, begin + len(digits)


def _find_parts(block: Records, given: Mapping[int, bytes]) -> _Found:
    raw = raw_column(block, "req")
    caps = np.minimum(block["req_cap"], raw.shape[1]).astype(np.intp)
    caps[list(given)] = 0
    give_way()
    lines = stencils.find_begins(block, "req")
    # The first CR: what a line's end begins with, or no stencil fits.
    line_bytes = (raw[:, :MAX_LINE] == _CR).argmax(axis=1)
    give_way()
    blocks, ends = lines + line_bytes, lines + caps
    lengths = caps - line_bytes
    give_way()
    tails = windows.read_windows(block, ends - len(_HEAD_END), len(_HEAD_END))
    others = np.flatnonzero(tails.view(np.uint32)[:, 0] != _END_WORD)
    if len(others):  # bytes behind the head, or not all of it
        heads = windows.read_items(block, lines[others], caps[others])
        found = np.array([head.find(_HEAD_END) for head in heads], dtype=np.intp)
        its_bytes = found + len(_HEAD_END) - line_bytes[others]
        lengths[others] = np.where(found < 0, NONE, its_bytes)
    is_whole = (line_bytes > 0) & (lengths >= len(_HEAD_END)) & (lengths <= MAX_BLOCK)
    return _Found(lines, blocks, np.where(is_whole, lengths, NONE), ends)


def _make_keys(block: Records, at: _Found) -> Places:
    """By the length and how the first header begins, which is nearly always Host."""
    begins = windows.read_windows(block, at.blocks + len(_LINE_END), stencils.KEY_BYTES)
    has_begin = at.lengths >= len(_LINE_END) + stencils.KEY_BYTES
    return np.where(has_begin, stencils.make_keys(begins, at.lengths), NONE)
