"""Header blocks of many connections at once, as hpack.Decoder reads them one by one.

A block's fields name entries by how far back they were made, and how many each block makes is seen without a table (hpackparts.py).
So every field's entry has a number before any block is read, and what it says is looked up once, however many blocks mean it:

    static table | one decoder's old entries, its new ones | the next one's old entries, …

What an entry says is a number too, small enough that all that a block says fits into 64 bits: blocks that say the same have the same
key. What does not fit, or is seldom (a header twice, a size update, an index that is far back) is left to the decoder: that
decoder's blocks of this drain are *odd*, and its table is as it was.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes.giveway import give_way, in_pieces
from farcall_probes.windows import read_items
from farcall_probes.wire import hpackfields, hpackparts, traceparents
from farcall_probes.wire.hpack import LONG_BYTES, UNKNOWN_ENTRY, UNWANTED_ENTRY, Decoder
from farcall_probes.wire.hpackfields import (
    FIELDS,
    STATIC_TABLE,
    TRACEPARENT,
    UNKNOWN,
    UNWANTED,
    Entry,
    Fields,
    Texts,
    Value,
)
from farcall_probes.wire.hpackintegers import MalformedError
from farcall_probes.wire.hpackparts import INSERTED, LITERAL, Mask, Parts, Rows
from farcall_probes.wire.traceparents import MAX_CODED, MIN_CODED

_STATIC = len(STATIC_TABLE)
_OLD = 128  # entries of each decoder that an index may reach
_NEWEST = 0xBE  # the index of one byte; those below are of the static table
# What a byte of a run adds to where the newest entry is, or where its static one is.
_STEPS = np.array([0] * 0x81 + [*range(1, 62), *range(0, -66, -1)], dtype=np.intp)
_COUNT_BITS = 4  # of a header in a block; so many times at most
_MAX_FIELDS = (1 << _COUNT_BITS) - 1
_TWICE = np.uint64(sum(_MAX_FIELDS - 1 << _COUNT_BITS * place for place in range(UNWANTED)))
_WORTH_IT = 8  # bytes of a block that is remembered
_KEY_BITS = 56  # of what is said; above it is counted what is not known
_ONE_TRACE = np.uint64(1 << _COUNT_BITS * TRACEPARENT)
_NOTHING, _TRACE, _NOT_KNOWN = (
    0,
    1,
    2,
)  # what an entry says: no two traces are the same, and none has a number

Keys = npt.NDArray[np.uint64]


class Many(NamedTuple):
    said: list[Fields]  # each once, without its trace
    which: Rows  # of each block what it says; -1: it is left to its decoder
    traces: traceparents.Found
    trace_at: Rows  # of each block which of those; -1: none


class _Book:
    """What is said in a drain, numbered."""

    def __init__(self) -> None:
        self._numbers: dict[Entry, int] = {}
        self._values: list[list[Value]] = [[] for _ in range(FIELDS)]
        self._entries: list[tuple[int, int]] = [
            (0, 0)
        ] * 3  # of each its place, and its number there

    def number(self, entry: Entry) -> int:
        place, value = entry
        if place == UNWANTED:
            return _NOTHING
        if place == TRACEPARENT:
            return _TRACE
        if place == UNKNOWN:
            return _NOT_KNOWN
        number = self._numbers.get(entry)
        if number is None:
            number = self._numbers[entry] = len(self._entries)
            self._values[place].append(value)
            self._entries.append((place, len(self._values[place])))
        return number

    def weigh(self) -> tuple[Keys, Keys] | None:
        """What each adds to a block's key, and to its counts of headers. None where keys do not hold so much."""
        sizes = [len(values).bit_length() for values in self._values]
        if sum(sizes) > _KEY_BITS:
            return None
        self._begins = np.cumsum([0, *sizes]).tolist()
        added = [number << self._begins[place] for place, number in self._entries]
        counts = [1 << _COUNT_BITS * place for place, _ in self._entries]
        added[_NOT_KNOWN] = 1 << _KEY_BITS
        counts[: _NOT_KNOWN + 1] = 0, 2 << _COUNT_BITS * TRACEPARENT, 0
        return np.array(added, dtype=np.uint64), np.array(counts, dtype=np.uint64)

    def read(self, key: int) -> Fields:
        said: Fields = [None] * FIELDS
        for place, values in enumerate(self._values[:UNWANTED]):
            number = key >> self._begins[place] & (1 << len(values).bit_length()) - 1
            if number:
                said[place] = values[number - 1]
        if key >> _KEY_BITS:
            said[UNKNOWN] = True
        return said


def read_many(
    decoders: Sequence[Decoder], data: bytes, lanes: Rows, begins: Rows, ends: Rows, texts: Texts
) -> Many | None:
    """`lanes`: of each block the place of its decoder, ascending; a decoder's blocks stand in order. Decoders that are not odd have
    read theirs then; None: none has."""
    parts = hpackparts.find_parts(np.frombuffer(data, np.uint8), begins, ends)
    give_way()
    drain = _Drain(decoders, lanes, data, parts, texts)
    give_way()
    drain.look_up()
    give_way()
    drain.read_literals(drain.find_kinds())
    give_way()
    keys = drain.build_keys()
    if keys is None:
        return None
    give_way()
    drain.teach()
    give_way()
    said, which = drain.tell(keys)
    drain.remember(begins, ends, said, which)
    return Many(said, which, *drain.list_traces())


class _Drain:
    """The blocks of one drain while they are read."""

    def __init__(
        self, decoders: Sequence[Decoder], lanes: Rows, data: bytes, parts: Parts, texts: Texts
    ) -> None:
        self._decoders, self._lanes, self._data, self._texts = decoders, lanes, data, texts
        self._bytes = np.frombuffer(data, np.uint8)
        self._runs, self._fields = parts.runs, parts.fields
        fields = parts.fields
        self._book = _Book()
        self._owners = lanes[fields.blocks]
        is_literal = fields.firsts < LITERAL
        is_inserted = is_literal & (fields.firsts >= INSERTED)
        made = np.concatenate(([0], np.cumsum(is_inserted)))  # before each field, and at the end
        places = np.arange(len(decoders) + 1)
        # Where a block's fields begin; how many entries are made before each decoder's blocks; where its new ones begin.
        self._bounds = np.searchsorted(fields.blocks, np.arange(len(lanes) + 1))
        self._made = made[self._bounds[np.searchsorted(lanes, places)]]
        self._begins = _STATIC + _OLD * (places[:-1] + 1) + self._made[:-1]
        # The entries that fields mean. A run makes none, so that all of it counts from the same newest one.
        newest = _STATIC + _OLD * (lanes + 1) + made[self._bounds[:-1]] - 1
        self._run_entries = _STEPS[self._runs]
        self._run_entries += np.where(self._runs >= _NEWEST, newest, 0)
        newest = _STATIC + _OLD * (self._owners + 1) + made[:-1] - 1
        backs = fields.indices - _STATIC
        self._entries = np.where(backs < 0, fields.indices, newest - np.minimum(backs, _OLD - 1))
        self._literals = np.flatnonzero(is_literal)
        self._inserted = np.flatnonzero(is_inserted[self._literals])
        # What each entry says, as the book numbers it, and its place in Fields.
        count = _STATIC + _OLD * len(decoders) + int(made[-1])
        self._said = np.full(count, _NOTHING, dtype=np.intp)
        self._places = np.full(count, UNWANTED, dtype=np.intp)
        self._is_odd = np.zeros(len(decoders), dtype=np.bool_)
        self._is_odd[lanes[parts.is_odd]] = True
        self._is_odd[self._owners[backs >= _OLD]] = True

    def look_up(self) -> None:
        """Entries that were there before this drain, those that are meant."""
        is_meant = np.zeros(len(self._said), dtype=np.bool_)
        is_meant[self._run_entries] = True
        is_meant[self._entries] = True
        is_meant[0] = False
        meant = np.flatnonzero(is_meant)
        owners = np.searchsorted(self._begins - _OLD, meant, side="right") - 1
        backs = np.where(owners < 0, 0, self._begins[owners] - 1 - meant)
        is_old = backs >= 0
        meant = meant[is_old]
        places, said = [], []
        rows = meant.tolist(), owners[is_old].tolist(), backs[is_old].tolist()
        for at, owner, back in zip(*rows, strict=True):
            entry = STATIC_TABLE[at] if owner < 0 else self._decoders[owner].look(back)
            if entry is None:
                self._is_odd[owner] = True
                entry = UNKNOWN_ENTRY
            places.append(entry[0])
            said.append(self._book.number(entry))
        self._places[meant], self._said[meant] = places, said

    def find_kinds(self) -> Rows:
        """Of each literal its place in Fields."""
        rows, fields = self._literals, self._fields
        entries, owners, indices = self._entries[rows], self._owners[rows], fields.indices[rows]
        kinds = self._places[entries]
        named = np.flatnonzero((indices == 0) & ~self._is_odd[owners])
        for at, begin in zip(named.tolist(), fields.names[rows[named]].tolist(), strict=True):
            kinds[at] = hpackfields.read_name(self._data, begin)[0]
        # Some have the name of an entry that another literal of this drain makes, which may have it of yet another one.
        numbers = entries - self._begins[owners]
        is_new = (indices >= _STATIC) & (numbers >= 0)
        named_by = np.arange(len(rows))
        named_by[is_new] = self._inserted[(numbers + self._made[owners])[is_new]]
        while True:
            further = named_by[named_by]
            if (further == named_by).all():
                return kinds[named_by]
            named_by = further

    def read_literals(self, kinds: Rows) -> None:
        """`kinds`: places in Fields. Of each the entry that it would be."""
        rows, fields = self._literals, self._fields
        begins, ends, is_coded = fields.begins[rows], fields.ends[rows], fields.is_coded[rows]
        self._literals_said = np.full(len(rows), _NOTHING, dtype=np.intp)
        self._of_literals = np.empty(len(rows), np.object_)  # Entry
        self._of_literals.fill(UNWANTED_ENTRY)
        is_wanted = (kinds != UNWANTED) & ~self._is_odd[self._owners[rows]]
        is_trace = is_wanted & (kinds == TRACEPARENT)
        self._traces = np.flatnonzero(is_trace)
        self._literals_said[self._traces] = _TRACE
        values, self._found = self._read_traces(
            begins[is_trace], ends[is_trace], is_coded[is_trace]
        )
        traced = zip(repeat(TRACEPARENT), values)
        self._of_literals[self._traces] = np.fromiter(traced, np.object_, len(values))
        give_way()
        others = np.flatnonzero(is_wanted & ~is_trace)
        columns = kinds[others], begins[others], ends[others], is_coded[others]
        self._read_others(others, *(column.tolist() for column in columns))
        self._is_long = (ends - begins > LONG_BYTES) & (kinds < UNWANTED)
        owners = self._owners[rows[self._inserted]]
        entries = _STATIC + _OLD * (owners + 1) + np.arange(len(owners))
        self._said[entries] = self._literals_said[self._inserted]

    def _read_others(
        self, rows: Rows, kinds: list[int], begins: list[int], ends: list[int], coded: list[bool]
    ) -> None:
        """Literals that tables forget come time and again, many in a drain, and few that differ."""
        if not len(rows):
            return
        data = self._data
        raws = [data[begin:end] for begin, end in zip(begins, ends, strict=True)]
        give_way()
        literals = list(zip(kinds, raws, coded, strict=True))
        known: dict[tuple[int, bytes, bool], tuple[Entry, int]] = {}
        malformed = set()
        for literal in dict.fromkeys(literals):
            entry = UNKNOWN_ENTRY
            if literal[0] < UNWANTED:
                try:
                    entry = literal[0], self._texts.read(*literal)
                except MalformedError:
                    malformed.add(literal)
            known[literal] = entry, self._book.number(entry)
        entries, said = zip(*map(known.__getitem__, literals), strict=True)
        self._of_literals[rows] = np.fromiter(entries, np.object_, len(entries))
        self._literals_said[rows] = said
        if malformed:
            is_wrong = [literal in malformed for literal in literals]
            self._is_odd[self._owners[self._literals[rows[is_wrong]]]] = True

    def _read_traces(
        self, begins: Rows, ends: Rows, is_coded: Mask
    ) -> tuple[Sequence[Value], traceparents.Found]:
        """Of these literals what tables get, and what it names."""
        sizes = ends - begins
        is_plain = is_coded & (sizes >= MIN_CODED) & (sizes <= MAX_CODED)
        if len(sizes) and is_plain.all():  # nearly always
            found = traceparents.read_places(self._bytes, begins, ends)
            return read_items(self._bytes, begins, sizes), found
        columns = begins.tolist(), ends.tolist(), is_coded.tolist()
        values: list[Value] = []
        for begin, end, coded in in_pieces(zip(*columns, strict=True)):
            values.append(self._texts.read(TRACEPARENT, self._data[begin:end], coded))
        return values, traceparents.read_all(values)

    def build_keys(self) -> Keys | None:
        """What all fields of each block say. None where keys do not hold so much."""
        weights = self._book.weigh()
        if weights is None:
            return None
        keys, counts = (self._add_up(weight) for weight in weights)
        # An entry that holds a trace counts twice, as it is not read here; but it is read where it is made.
        blocks = self._fields.blocks[self._literals[self._traces]]
        counts -= np.bincount(blocks, minlength=len(counts)).astype(np.uint64) * _ONE_TRACE
        is_odd = counts & _TWICE != 0
        sizes = np.diff(self._bounds) + len(self._runs)
        if sizes.max(initial=0) > _MAX_FIELDS:  # their counts may have run over
            is_counted = np.ones(len(weights[0]), dtype=np.uint64)
            is_counted[[_NOTHING, _NOT_KNOWN]] = 0
            is_odd |= self._add_up(is_counted) > _MAX_FIELDS
        self._is_odd[self._lanes[is_odd]] = True
        return keys

    def _add_up(self, weights: Keys) -> Keys:
        of_entries = weights[self._said]
        of_fields = of_entries[self._entries]
        of_fields[self._literals] = weights[self._literals_said]
        sums = np.concatenate(([np.uint64(0)], np.cumsum(of_fields)))
        of_runs: Keys = of_entries[self._run_entries].sum(axis=0)
        return of_runs + sums[self._bounds[1:]] - sums[self._bounds[:-1]]

    def teach(self) -> None:
        """Decoders get the entries that their blocks made."""
        made = self._of_literals[self._inserted].tolist()
        ends, is_long = self._made.tolist(), self._is_long[self._inserted]
        has_made = (self._made[1:] > self._made[:-1]) & ~self._is_odd
        for lane in np.flatnonzero(has_made).tolist():
            some = slice(ends[lane], ends[lane + 1])
            rows = self._literals[self._inserted[some][is_long[some]]]
            sizes = self._fields.ends[rows] - self._fields.begins[rows]
            self._decoders[lane].extend(made[some], sizes.tolist())

    def tell(self, keys: Keys) -> tuple[list[Fields], Rows]:
        """What is said, and of each block which of it."""
        which = np.full(len(keys), -1, dtype=np.intp)
        is_read = ~self._is_odd[self._lanes]
        distinct, which[is_read] = np.unique(keys[is_read], return_inverse=True)
        return [self._texts.share(self._book.read(key)) for key in distinct.tolist()], which

    def remember(self, begins: Rows, ends: Rows, said: list[Fields], which: Rows) -> None:
        """Blocks of nothing but indices, where none of their decoder's has changed its table: they come again."""
        is_same = (np.diff(self._bounds) == 0) & (which >= 0) & (ends - begins <= _WORTH_IT)
        is_same &= (self._made[1:] == self._made[:-1])[self._lanes]
        rows = np.flatnonzero(is_same)
        columns = self._lanes[rows], begins[rows], ends[rows], which[rows]
        for lane, begin, end, at in zip(*(column.tolist() for column in columns), strict=True):
            self._decoders[lane].remember(self._data[begin:end], said[at])

    def list_traces(self) -> tuple[traceparents.Found, Rows]:
        """And of each block which it has; -1: none."""
        places = np.full(len(self._lanes), -1, dtype=np.intp)
        blocks = self._fields.blocks[self._literals[self._traces]]
        places[blocks] = np.arange(len(blocks))
        return self._found, places
