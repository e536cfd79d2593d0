"""HPACK (RFC 7541) for somebody who only listens: late, with losses, and wanting few of the headers.

    indexed            1xxxxxxx
    literal, indexed   01xxxxxx [name] value
    size update        001xxxxx
    literal            0000xxxx or 0001xxxx (never indexed) [name] value

Three things differ from a decoder that takes part:

*Only the headers that may leave the agent are turned into text.* Of every other, a secret's among them, not even the
Huffman code is undone: its entry in the table says "not wanted" and holds no value.

*An index counts from the newest entry*, so whoever joins late, or has lost some blocks, knows exactly the entries that were
made since; what lies behind them is unknown, never wrong. That also makes evictions harmless: an entry that is kept longer
than the encoder's is one that no index can reach. So sizes need not be exact (of what is not decoded they are a lower bound),
and SETTINGS_HEADER_TABLE_SIZE need not be followed: an encoder says which size it uses within its blocks (4.2, 6.3).

*A block that is missing or cut may have made entries*, which shifts every index: the table must be `reset`.

Calls of one kind begin with the same headers, which are one byte each once they are in the table. But every call's own headers
shift those bytes. So they are remembered by *which* entries they mean, and what they say is copied (`_read_run`).
"""

from collections.abc import Sequence
from typing import Final

from farcall_probes.wire import hpackruns, hpackshapes
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
    combine,
    read_name,
)
from farcall_probes.wire.hpackintegers import EndError, MalformedError, read_integer
from farcall_probes.wire.hpackshapes import Literal, Shape
from farcall_probes.wire.outcomes import NOT_MINE, Outcome, Truncated
from farcall_probes.wire.tracecontext import NOBODY

DEFAULT_TABLE_BYTES = 4096  # RFC 9113, 6.5.2
_TABLES_KEPT = (
    3  # of long entries so much is there before those are dropped that the encoder has dropped
)
MAX_TABLE_BYTES = 65_536  # kept of any table; what an encoder keeps beyond is unknown here
ENTRY_BYTES = 32  # RFC 7541, 4.1: of an entry beside its name and value
LONG_BYTES = 64  # a longer value is counted, because a table's worth of them would be much
MAX_MEMO_BLOCK = 256  # bytes of a block that is worth remembering
MEMO_ENTRIES = 64
MIN_RUN = 3  # fields: below it looking up costs what reading does
MAX_RUN = 64
RUN_ENTRIES = 16  # of a connection's direction; they last for hpackruns.EPOCH insertions at most
MAX_VARIATION = 16  # bytes between blocks that may be alike but for values
MAX_VAIN = 8  # shapes that nothing had, behind which one is tried now and then

_TEXTS = (str, bytes)  # the second is still coded, and no longer than its text
UNKNOWN_ENTRY: Final[Entry] = (UNKNOWN, True)
UNWANTED_ENTRY: Final[Entry] = (UNWANTED, None)
_SAID_TWICE = (NOBODY, "")


class Decoder:
    """One direction of one connection. `complete`: every block from the connection's first on was seen."""

    __slots__ = (
        "_entries",
        "_epoch",
        "_inserted",
        "_last",
        "_literals",
        "_max_bytes",
        "_most",
        "_room",
        "_runs",
        "_said",
        "_shape",
        "_vain",
        "complete",
        "known",
        "texts",
    )

    def __init__(self, *, complete: bool, texts: "Texts | None" = None) -> None:
        self.complete = complete
        self._entries: list[Entry] = []  # newest last: index 62 is [-1]
        self._max_bytes = DEFAULT_TABLE_BYTES
        # When entries are dropped that no index can reach: when there are twice as many as can be, or long ones take so much more.
        self._most = 2 * DEFAULT_TABLE_BYTES // ENTRY_BYTES
        self._room = _TABLES_KEPT * DEFAULT_TABLE_BYTES
        self._inserted = 0  # entries made so far; a reset begins no new count
        self._epoch = 0
        # Blocks that leave the table as it is, until it changes. Hot paths may look here first.
        self.known: dict[bytes, Fields] = {}
        # What blocks begin with, by the entries that are meant, until one of those is gone.
        self._runs: dict[bytes, Fields] = {}
        # The last block that changed the table, and how one looks that says the same.
        self._last: tuple[bytes, Fields, list[Literal]] | None = None
        self._literals: list[Literal] = []
        self._shape: Shape | None = None
        self._said: tuple[Fields, Value] = ([], None)
        self._vain = 0  # shapes that nothing had
        self.texts = texts if texts is not None else Texts()

    def reset(self) -> None:
        """Blocks were lost: all older entries are unknown from now on."""
        self.complete = False
        self._entries.clear()
        self.known.clear()
        self._runs.clear()
        self._room = _TABLES_KEPT * self._max_bytes
        self._shape = self._last = None

    def decode(self, block: bytes, *, cut: bool = False) -> Fields | Truncated[Fields] | Outcome:
        """The wanted headers of a whole block, in their places; not to be changed, they may be remembered.

        `cut`: the block's end is missing. Truncated and NOT_MINE leave the table reset.
        """
        known = self.known.get(block)
        if known is not None and not cut:
            return known
        fields: Fields
        run = len(block) - len(block.lstrip(hpackruns.ONE_BYTE))
        try:
            if MIN_RUN <= run <= MAX_RUN:
                fields = self._read_run(block[:run])
            else:
                fields, run = [None] * FIELDS, 0
            has_changed = self._read(block, fields, run)
        except EndError:
            self.reset()
            fields[UNKNOWN] = True
            return Truncated(fields) if cut else NOT_MINE
        except MalformedError:
            self.reset()
            return NOT_MINE
        if cut:  # it was cut between two fields
            self.reset()
            fields[UNKNOWN] = True
            return Truncated(fields)
        if has_changed:
            self._shape, self._last = None, (block, fields, self._literals)
            if self.known:
                self.known.clear()
        elif len(block) <= MAX_MEMO_BLOCK:
            self.remember(block, fields)
        return fields

    def remember(self, block: bytes, fields: Fields) -> None:
        """What a block says that leaves the table as it is."""
        if len(self.known) >= MEMO_ENTRIES:
            self.known.clear()
        self.known[block] = fields

    def _read_run(self, run: bytes) -> Fields:
        """What fields of one byte each say; the caller's own."""
        epoch = self._inserted // hpackruns.EPOCH
        if epoch != self._epoch:
            self._runs.clear()  # what a remembered run means could be meant by another one
            self._epoch = epoch
        meant = run.translate(hpackruns.MEANINGS[self._inserted % hpackruns.AGES])
        known = self._runs.get(meant)
        if known is None:
            known = [None] * FIELDS
            self._read(run, known, 0)
            if len(self._runs) >= RUN_ENTRIES:
                self._runs.clear()
            self._runs[meant] = known
        return known.copy()

    def _read(self, block: bytes, fields: Fields, at: int) -> bool:
        """From there on; whether the table has changed. The hot loop: written out, commonest first."""
        has_changed = False
        made, end = 0, len(block)
        entries = self._entries
        literals = self._literals = []
        while at < end:
            start = at
            first = block[at]
            at += 1
            if first >= 0x80:  # indexed
                if first < 0xBE:
                    place, value = STATIC_TABLE[first - 0x80] if first > 0x80 else self._find(0)
                elif first - 0xBE < len(entries) and first < 0xFF:
                    place, value = entries[0xBD - first]
                else:
                    index = first - 0x80
                    if index == 0x7F:
                        index, at = read_integer(block, at, 0x7F)
                    place, value = self._find(index)
                said = fields[place]
                fields[place] = value if said is None else combine(place, said, value)
                continue
            if first >= 0x40:
                mask = 0x3F
            elif first >= 0x20:
                size = first & 0x1F
                if size == 0x1F:
                    size, at = read_integer(block, at, 0x1F)
                self._resize(size)
                has_changed = True
                continue
            else:
                mask = 0x0F
            index = first & mask
            if index == 0:
                place, at = read_name(block, at)
            else:
                if index == mask:
                    if at < end and block[at] < 0x80:
                        index += block[at]
                        at += 1
                    else:
                        index, at = read_integer(block, at, mask)
                if index < 62:
                    place = STATIC_TABLE[index][0]
                elif index - 62 < len(entries):
                    place = entries[61 - index][0]
                else:
                    place = self._find(index)[0]
            if at >= end:
                raise EndError
            name_end = at
            length = block[at]
            at += 1
            is_coded = length >= 0x80
            if is_coded:
                length -= 0x80
            if length == 0x7F:
                length, at = read_integer(block, at, 0x7F)
            begin, at = at, at + length
            if at > end:
                raise EndError
            if place < UNWANTED:
                value = self.texts.read(place, block[begin:at], is_coded)
            else:
                value = None if place == UNWANTED else True
            said = fields[place]
            fields[place] = value if said is None else combine(place, said, value)
            literals.append(Literal(start, name_end, at, place, mask == 0x3F, index, value))
            if mask == 0x3F:
                made += 1
                entries.append((place, value))
                if length > LONG_BYTES and place < UNWANTED:
                    self._count_long(length)
        self._inserted += made
        if len(entries) > self._most:
            self._drop(len(entries) - self._most // 2)
        return has_changed or made > 0

    def repeat(
        self,
        data: bytes,
        begins: Sequence[int],
        ends: Sequence[int],
        first: int,
        found: list[Fields],
        traces: list[Value],
    ) -> int:
        """Reads blocks of `data`, from the first on, as long as each says the same as the one before it but for values of literals
        (hpackshapes.py). Adds what they say, which leaves the trace out and is shared, and their traces. The block that is next."""
        shape = self._shape or self._learn(ends[first] - begins[first])
        if shape is None:
            return first
        said, trace = self._said
        starts, read, entries = data.startswith, self.texts.read, self._entries
        known, inserted = len(found), self._inserted
        for at, end in zip(begins[first:], ends[first:], strict=True):
            if not starts(shape.beginning, at):
                break
            at += len(shape.beginning)
            fields, made = said, []
            for name, before, place, is_inserted in shape.steps:
                begin = at + before
                if begin > end or not starts(name, at):
                    break
                length = data[begin - 1]
                at = begin + (length & 0x7F)
                if at > end or length & 0x7F == 0x7F:
                    break
                entry = UNWANTED_ENTRY
                if place < UNWANTED:
                    try:
                        value = read(place, data[begin:at], length >= 0x80)
                    except MalformedError:
                        break
                    entry = place, value
                    if at - begin > LONG_BYTES and is_inserted:
                        self._count_long(at - begin)
                    if place == TRACEPARENT:
                        trace = value
                    else:
                        fields = said.copy() if fields is said else fields
                        fields[place] = value
                elif place == UNKNOWN:
                    entry = UNKNOWN_ENTRY
                if is_inserted:
                    made.append(entry)
            else:
                if at == end:
                    found.append(said if fields is said else self.texts.share(fields))
                    traces.append(trace)
                    if made:
                        entries += made
                        self._inserted += len(made)
                        shape.turn()
                    continue
            break
        if len(found) > known:
            self._vain = 0
        if self._inserted > inserted:
            if len(entries) > self._most:
                self._drop(len(entries) - self._most // 2)
            self.known.clear()
        return first + len(found) - known

    def _learn(self, size: int) -> Shape | None:
        """From the last block, if one of this size may be like it."""
        if self._last is None or abs(len(self._last[0]) - size) > MAX_VARIATION:
            return None
        (last, fields, literals), self._last = self._last, None
        is_vain = self._vain >= MAX_VAIN and self._inserted % hpackruns.EPOCH >= MAX_VAIN
        wanted = [one for one in literals if one.place < UNWANTED]
        if is_vain or not literals or len({one.place for one in wanted}) < len(wanted):
            return None
        # What was said twice is not as this literal says it. Of some values that cannot be seen.
        if any(one.value is not fields[one.place] or one.value in _SAID_TWICE for one in wanted):
            return None
        self._vain += 1
        self._said = self.texts.share(fields), fields[TRACEPARENT]
        self._shape = hpackshapes.learn(last, literals)
        return self._shape

    def look(self, back: int) -> Entry | None:
        """The entry so far behind the newest one; None where there cannot be one."""
        if back < len(self._entries):
            return self._entries[-1 - back]
        return None if self.complete else UNKNOWN_ENTRY

    def extend(self, made: list[Entry], long: list[int]) -> None:
        """Entries that blocks made which were read elsewhere (hpackmany.py), and the sizes of long values among them."""
        self._entries += made
        self._inserted += len(made)
        self._shape = self._last = None
        self.known.clear()
        for size in long:
            self._count_long(size)
        if len(self._entries) > self._most:
            self._drop(len(self._entries) - self._most // 2)

    def _find(self, index: int) -> Entry:
        if index < 62:
            if index == 0:
                raise MalformedError
            return STATIC_TABLE[index]
        if index - 61 <= len(self._entries):
            return self._entries[61 - index]
        if self.complete:
            raise MalformedError  # an index that was never given: something was missed after all
        return UNKNOWN_ENTRY

    def _count_long(self, size: int) -> None:
        """Entries are few, but some may be long."""
        self._room -= size
        if self._room < 0:
            self._evict()

    def _evict(self) -> None:
        """Drops entries that the encoder has dropped for sure: of each, no more than 32 and its text are counted."""
        kept = total = long = 0
        for _, value in reversed(self._entries):
            size = len(value) if value.__class__ in _TEXTS else 0
            total += ENTRY_BYTES + size
            if total > self._max_bytes:
                break
            long += size if size > LONG_BYTES else 0
            kept += 1
        self._drop(len(self._entries) - kept)
        self._room = _TABLES_KEPT * self._max_bytes - long

    def _drop(self, count: int) -> None:
        """The oldest ones."""
        if count > 0:
            del self._entries[:count]
            self._runs.clear()

    def _resize(self, size: int) -> None:
        if size > MAX_TABLE_BYTES:
            self.complete = (
                False  # what is not kept here is unknown, and no mistake of the encoder's
            )
        self._max_bytes = min(size, MAX_TABLE_BYTES)
        self._most = 2 * self._max_bytes // ENTRY_BYTES
        self._evict()
