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

from typing import Final

from farcall_probes.wire import hpackruns, hpackshapes, huffman
from farcall_probes.wire.hpackfields import (
    AUTHORITY,
    B3,
    CONTENT_TYPE,
    FIELDS,
    HOST,
    METHOD,
    NAMES,
    PATH,
    STATUS,
    TRACEPARENT,
    TRACESTATE,
    UBER,
    UNKNOWN,
    UNWANTED,
    USER_AGENT,
    Entry,
    Fields,
    Texts,
    Value,
)
from farcall_probes.wire.hpackintegers import EndError, MalformedError, read_integer
from farcall_probes.wire.hpackshapes import Literal, Shape
from farcall_probes.wire.outcomes import NOT_MINE, Outcome, Truncated
from farcall_probes.wire.tracecontext import MAX_STATE_RAW, NOBODY

DEFAULT_TABLE_BYTES = 4096  # RFC 9113, 6.5.2
_TABLES_KEPT = (
    3  # so many tables of entries are there before those are dropped that the encoder has dropped
)
MAX_TABLE_BYTES = 65_536  # kept of any table; what an encoder keeps beyond is unknown here
ENTRY_BYTES = 32  # RFC 7541, 4.1: of an entry beside its name and value
MAX_MEMO_BLOCK = 256  # bytes of a block that is worth remembering
MEMO_ENTRIES = 64
MIN_RUN = 3  # fields: below it looking up costs what reading does
MAX_RUN = 64
RUN_ENTRIES = 16  # of a connection's direction; they last for hpackruns.EPOCH insertions at most
MAX_VARIATION = 16  # bytes between blocks that may be alike but for values
MAX_VAIN = 8  # shapes that nothing had, behind which one is tried now and then

# RFC 7541, appendix A: what is wanted of it. The others are names alone or not wanted.
_STATIC: list[Entry] = [(UNWANTED, None)] * 62
_STATIC[1] = (AUTHORITY, "")
_STATIC[2:4] = [(METHOD, "GET"), (METHOD, "POST")]
_STATIC[4:6] = [(PATH, "/"), (PATH, "/index.html")]
_STATIC[8:15] = [(STATUS, s) for s in "200 204 206 304 400 404 500".split()]
_STATIC[31] = (CONTENT_TYPE, "")
_STATIC[38] = (HOST, "")
_STATIC[58] = (USER_AGENT, "")

_LITERAL_NAMES = {(name, False): place for name, place in NAMES.items()} | {
    (huffman.encode(name), True): place for name, place in NAMES.items()
}
_TEXTS = (str, bytes)  # the second is still coded, and no longer than its text
_UNKNOWN_ENTRY: Final[Entry] = (UNKNOWN, True)
_UNWANTED_ENTRY: Final[Entry] = (UNWANTED, None)
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
            if len(self.known) >= MEMO_ENTRIES:
                self.known.clear()
            self.known[block] = fields
        return fields

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
                    place, value = _STATIC[first - 0x80] if first > 0x80 else self._find(0)
                elif first - 0xBE < len(entries) and first < 0xFF:
                    place, value = entries[0xBD - first]
                else:
                    index = first - 0x80
                    if index == 0x7F:
                        index, at = read_integer(block, at, 0x7F)
                    place, value = self._find(index)
                said = fields[place]
                fields[place] = value if said is None else _combine(place, said, value)
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
                place, at = _read_name(block, at)
            else:
                if index == mask:
                    if at < end and block[at] < 0x80:
                        index += block[at]
                        at += 1
                    else:
                        index, at = read_integer(block, at, mask)
                if index < 62:
                    place = _STATIC[index][0]
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
            fields[place] = value if said is None else _combine(place, said, value)
            literals.append(Literal(start, name_end, at, place, mask == 0x3F, index, value))
            if mask == 0x3F:
                made += 1
                entries.append((place, value))
                self._room -= ENTRY_BYTES + length if place < UNWANTED else ENTRY_BYTES
                if self._room < 0:
                    self._evict()
        self._inserted += made
        return has_changed or made > 0

    def repeat(self, block: bytes) -> tuple[Fields, Value] | None:
        """What a block says and its trace, where it says the same as the last one but for values of literals (hpackshapes.py);
        None, and nothing is done, where it does not look so. The fields leave the trace out, and are shared."""
        shape = self._shape or self._learn(block)
        if shape is None or not block.startswith(shape.beginning):
            return None
        at, end = len(shape.beginning), len(block)
        said, trace = self._said
        fields, made, size = said, [], 0
        for name, before, place, is_inserted in shape.steps:
            begin = at + before
            if begin > end or not block.startswith(name, at):
                return None
            length = block[begin - 1]
            at = begin + (length & 0x7F)
            if at > end or length & 0x7F == 0x7F:
                return None
            if place >= UNWANTED:
                entry = _UNWANTED_ENTRY if place == UNWANTED else _UNKNOWN_ENTRY
            else:
                try:
                    value = self.texts.read(place, block[begin:at], length >= 0x80)
                except MalformedError:
                    return None
                entry = place, value
                size += at - begin
                if place == TRACEPARENT:
                    trace = value
                else:
                    fields = said.copy() if fields is said else fields
                    fields[place] = value
            if is_inserted:
                made.append(entry)
        if at != end:
            return None
        if made:
            self._entries += made
            self._inserted += len(made)
            self._room -= ENTRY_BYTES * len(made) + size
            if self._room < 0:
                self._evict()
            if self.known:
                self.known.clear()
            if shape.left:
                shape.left -= 1
                shape.beginning = shape.beginning.translate(shape.growth)
            else:
                shape.turn()
        self._vain = 0
        return self.texts.share(fields) if fields is not said else said, trace

    def _learn(self, block: bytes) -> Shape | None:
        """From the last block, if this one may be like it."""
        if self._last is None or abs(len(self._last[0]) - len(block)) > MAX_VARIATION:
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

    def _find(self, index: int) -> Entry:
        if index < 62:
            if index == 0:
                raise MalformedError
            return _STATIC[index]
        if index - 61 <= len(self._entries):
            return self._entries[61 - index]
        if self.complete:
            raise MalformedError  # an index that was never given: something was missed after all
        return _UNKNOWN_ENTRY

    def _evict(self) -> None:
        """Drops entries that the encoder has dropped for sure: of each, no more than 32 and its text are counted."""
        kept = total = 0
        for _, value in reversed(self._entries):
            total += ENTRY_BYTES + (len(value) if value.__class__ in _TEXTS else 0)
            if total > self._max_bytes:
                break
            kept += 1
        if kept < len(self._entries):
            del self._entries[: len(self._entries) - kept]
            self._runs.clear()
        self._room = _TABLES_KEPT * self._max_bytes - min(total, self._max_bytes)

    def _resize(self, size: int) -> None:
        if size > MAX_TABLE_BYTES:
            self.complete = (
                False  # what is not kept here is unknown, and no mistake of the encoder's
            )
        self._max_bytes = min(size, MAX_TABLE_BYTES)
        self._evict()


def _combine(place: int, said: Value, value: Value) -> Value:
    """Of a header that is there again."""
    if (
        type(said) is str and type(value) is str and place == TRACESTATE
    ):  # a list, which may be spread over several headers (RFC 9110, 5.3)
        return f"{said},{value}"[: MAX_STATE_RAW + 1]
    if place == TRACEPARENT:  # of two, neither can be believed
        return NOBODY
    return "" if B3 <= place <= UBER else value


def _read_name(block: bytes, at: int) -> tuple[int, int]:
    """(place, where it ends) of a literal name; that of others is never decoded."""
    if at >= len(block):
        raise EndError
    length = block[at]
    at += 1
    is_coded = length >= 0x80
    length &= 0x7F
    if length == 0x7F:
        length, at = read_integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise EndError
    return _LITERAL_NAMES.get((block[at:end], is_coded), UNWANTED), end
