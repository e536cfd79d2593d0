"""How a header block looks that says the same as the one before it, but for the values of its literals.

A client sends the same headers with every call, and with them a value or two that no other call has: a trace, a timeout. Those
are literals, which mostly go into the table too, so that every index counts from another entry in the next block. What that
one looks like can be told when nothing else changes:

- an index of the static table is the same, and one of the dynamic table has grown by the entries that were made;
- the name of a literal that was made an entry is that entry's, as many entries back as one block makes; or the same, where it
  is of the static table, or is written out and no entry was made.

Encoders may say the same in another way: then the next block does not look so, and is read as any other (hpack.py).
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from farcall_probes.wire.hpackintegers import write_integer
from farcall_probes.wire.hpackruns import ONE_BYTE

STATIC = 62  # indices below are of the static table
_NEWEST, _OLDEST = (
    0xBE,
    0xFE,
)  # indices of one byte that are of the dynamic table; 0xFF begins a longer one


class Literal(NamedTuple):
    """One that was read."""

    begin: int  # in its block
    name_end: int
    end: int
    place: int  # of hpack.Fields
    is_inserted: bool
    named: int  # the index of its name; 0: that is written out
    value: object


class Step(NamedTuple):
    """A literal of the next block: its name, a byte that says how long its value is, and that."""

    name: bytes
    before: int  # bytes before the value
    place: int
    is_inserted: bool


class Shape:
    """What the next block looks like: `beginning`, and then `steps`."""

    __slots__ = ("_growth", "_left", "_made", "beginning", "steps")

    def __init__(self, beginning: bytes, steps: tuple[Step, ...]) -> None:
        self.steps = steps
        self._made = sum([step.is_inserted for step in steps])
        self._growth = _find_growth(self._made)
        self.beginning = beginning
        self._left = self._measure()
        if self._made:
            self.turn()

    def _measure(self) -> int:
        """Blocks whose beginnings are as long as this one, and longer by no index."""
        oldest = max(self.beginning, default=0)
        return (_OLDEST - oldest) // self._made if self._made and oldest <= _OLDEST else 0

    def turn(self) -> None:
        """One block further, which has made its entries."""
        if self._left:
            self._left -= 1
            self.beginning = self.beginning.translate(self._growth)
            return
        indices = [
            index + self._made if index >= STATIC else index
            for index in _read_indices(self.beginning) or ()
        ]
        self.beginning = b"".join([write_integer(0x80, 0x7F, index) for index in indices])
        self._left = self._measure()


def learn(block: bytes, literals: Sequence[Literal]) -> Shape | None:
    """None where the block has anything but indices and then these literals."""
    begin = literals[0].begin
    beginning = block[:begin]
    if beginning.lstrip(ONE_BYTE) and _read_indices(beginning) is None:
        return None
    made = sum(literal.is_inserted for literal in literals)
    steps = []
    for literal in literals:
        if literal.begin != begin:
            return None
        begin = literal.end
        name = block[literal.begin : literal.name_end]
        if literal.is_inserted and not 0 < literal.named < STATIC:
            name = write_integer(0x40, 0x3F, STATIC - 1 + made)
        elif made and literal.named >= STATIC:
            return None
        steps.append(Step(name, len(name) + 1, literal.place, literal.is_inserted))
    return Shape(beginning, tuple(steps)) if begin == len(block) else None


def _read_indices(raw: bytes) -> list[int] | None:
    indices = []
    at = 0
    while at < len(raw):
        index = raw[at] - 0x80
        at += 1
        if index <= 0:
            return None
        if index == 0x7F:
            if at == len(raw) or raw[at] >= 0x80:
                return None
            index += raw[at]
            at += 1
        indices.append(index)
    return indices


@cache
def _find_growth(made: int) -> bytes:
    """For bytes.translate: indices of one byte behind so many entries more, those that stay of one byte."""
    return bytes(b + made if _NEWEST <= b <= _OLDEST - made else b for b in range(256))
