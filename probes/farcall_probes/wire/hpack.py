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

from farcall_probes.wire import hpackruns, huffman
from farcall_probes.wire.http1 import MAX_HOST, MAX_WORD
from farcall_probes.wire.outcomes import MAX_TEXT, NOT_MINE, Outcome, Truncated, text
from farcall_probes.wire.tracecontext import MAX_STATE_RAW, MAX_VALUE, NOBODY, Ids
from farcall_probes.wire.traceparents import MAX_CODED, MIN_CODED, read_traceparent

DEFAULT_TABLE_BYTES = 4096  # RFC 9113, 6.5.2
_TABLES_KEPT = (
    3  # so many tables of entries are there before those are dropped that the encoder has dropped
)
MAX_TABLE_BYTES = 65_536  # kept of any table; what an encoder keeps beyond is unknown here
ENTRY_BYTES = 32  # RFC 7541, 4.1: of an entry beside its name and value
MAX_INTEGER_BYTES = 4  # behind the prefix: 2^28 is beyond every length and index that can be meant
MAX_MEMO_BLOCK = 256  # bytes of a block that is worth remembering
MEMO_ENTRIES = 64
MIN_RUN = 3  # fields: below it looking up costs what reading does
MAX_RUN = 64
RUN_ENTRIES = 16  # of a connection's direction; they last for hpackruns.EPOCH insertions at most
TEXT_MEMO_ENTRIES = 2048

# Places in `Fields`.
METHOD = 0
PATH = 1
AUTHORITY = 2
HOST = 3
STATUS = 4
CONTENT_TYPE = 5
USER_AGENT = 6
TRACEPARENT = 7
GRPC_STATUS = 8
GRPC_MESSAGE = 9
B3 = 10  # this and what follows to UBER: other ways to name a trace, read when traceparent does not
B3_TRACE = 11
B3_SPAN = 12
UBER = 13
TRACESTATE = 14
UNWANTED = 15  # a header that never leaves
UNKNOWN = 16  # set: there were headers that nobody here knows, so what is missing may have been among them
FIELDS = 17

# Text, but for TRACEPARENT: (trace ID, span ID), or bytes that traceparents.read_all has yet to look at. None: not there.
Value = str | Ids | bytes | bool | None
Fields = list[Value]
_Entry = tuple[int, Value]  # place and value

_NAMES = {
    b":method": METHOD,
    b":path": PATH,
    b":authority": AUTHORITY,
    b"host": HOST,
    b":status": STATUS,
    b"content-type": CONTENT_TYPE,
    b"user-agent": USER_AGENT,
    b"traceparent": TRACEPARENT,
    b"grpc-status": GRPC_STATUS,
    b"grpc-message": GRPC_MESSAGE,
    b"b3": B3,
    b"x-b3-traceid": B3_TRACE,
    b"x-b3-spanid": B3_SPAN,
    b"uber-trace-id": UBER,
    b"tracestate": TRACESTATE,
}
_LIMITS = {
    METHOD: 32,
    PATH: 2 * MAX_TEXT,  # the query is behind it
    AUTHORITY: MAX_HOST,
    HOST: MAX_HOST,
    STATUS: 3,
    CONTENT_TYPE: MAX_WORD,
    USER_AGENT: MAX_WORD,
    GRPC_STATUS: 10,
    GRPC_MESSAGE: MAX_WORD,
}

# RFC 7541, appendix A: what is wanted of it. The others are names alone or not wanted.
_STATIC: list[_Entry] = [(UNWANTED, None)] * 62
_STATIC[1] = (AUTHORITY, "")
_STATIC[2:4] = [(METHOD, "GET"), (METHOD, "POST")]
_STATIC[4:6] = [(PATH, "/"), (PATH, "/index.html")]
_STATIC[8:15] = [(STATUS, s) for s in "200 204 206 304 400 404 500".split()]
_STATIC[31] = (CONTENT_TYPE, "")
_STATIC[38] = (HOST, "")
_STATIC[58] = (USER_AGENT, "")

_LITERAL_NAMES = {(name, False): place for name, place in _NAMES.items()} | {
    (huffman.encode(name), True): place for name, place in _NAMES.items()
}
_TEXTS = (str, bytes)  # the second is still coded, and no longer than its text
_UNKNOWN_ENTRY: Final[_Entry] = (UNKNOWN, True)


class _End(Exception):
    """The block ends within a field."""


class _Malformed(Exception):
    """No encoder makes such a block."""


class Decoder:
    """One direction of one connection. `complete`: every block from the connection's first on was seen."""

    __slots__ = (
        "_entries",
        "_inserted",
        "_max_bytes",
        "_room",
        "_runs",
        "_texts",
        "complete",
        "known",
    )

    def __init__(self, *, complete: bool, texts: "Texts | None" = None) -> None:
        self.complete = complete
        self._entries: list[_Entry] = []  # newest last: index 62 is [-1]
        self._max_bytes = DEFAULT_TABLE_BYTES
        self._room = _TABLES_KEPT * DEFAULT_TABLE_BYTES
        self._inserted = 0  # entries made so far; a reset begins no new count
        # Blocks that leave the table as it is, until it changes. Hot paths may look here first.
        self.known: dict[bytes, Fields] = {}
        # What blocks begin with, by the entries that are meant, until one of those is gone.
        self._runs: dict[bytes, Fields] = {}
        self._texts = texts if texts is not None else Texts()

    def reset(self) -> None:
        """Blocks were lost: all older entries are unknown from now on."""
        self.complete = False
        self._entries.clear()
        self.known.clear()
        self._runs.clear()
        self._room = _TABLES_KEPT * self._max_bytes

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
        except _End:
            self.reset()
            fields[UNKNOWN] = True
            return Truncated(fields) if cut else NOT_MINE
        except _Malformed:
            self.reset()
            return NOT_MINE
        if cut:  # it was cut between two fields
            self.reset()
            fields[UNKNOWN] = True
            return Truncated(fields)
        if has_changed:
            if self.known:
                self.known.clear()
        elif len(block) <= MAX_MEMO_BLOCK:
            if len(self.known) >= MEMO_ENTRIES:
                self.known.clear()
            self.known[block] = fields
        return fields

    def _read_run(self, run: bytes) -> Fields:
        """What fields of one byte each say; the caller's own."""
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
        while at < end:
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
                        index, at = _read_integer(block, at, 0x7F)
                    place, value = self._find(index)
                said = fields[place]
                fields[place] = value if said is None else _combine(place, said, value)
                continue
            if first >= 0x40:
                mask = 0x3F
            elif first >= 0x20:
                size = first & 0x1F
                if size == 0x1F:
                    size, at = _read_integer(block, at, 0x1F)
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
                        index, at = _read_integer(block, at, mask)
                if index < 62:
                    place = _STATIC[index][0]
                elif index - 62 < len(entries):
                    place = entries[61 - index][0]
                else:
                    place = self._find(index)[0]
            if at >= end:
                raise _End
            length = block[at]
            at += 1
            is_coded = length >= 0x80
            if is_coded:
                length -= 0x80
            if length == 0x7F:
                length, at = _read_integer(block, at, 0x7F)
            begin, at = at, at + length
            if at > end:
                raise _End
            if place < UNWANTED:
                if place == TRACEPARENT and is_coded and MIN_CODED <= length <= MAX_CODED:
                    value = block[begin:at]
                else:
                    value = self._texts.read(place, block[begin:at], is_coded)
            else:
                value = None if place == UNWANTED else True
            said = fields[place]
            fields[place] = value if said is None else _combine(place, said, value)
            if mask == 0x3F:
                made += 1
                entries.append((place, value))
                self._room -= ENTRY_BYTES + length if place < UNWANTED else ENTRY_BYTES
                if self._room < 0:
                    self._evict()
        if made:
            has_changed = True
            before, self._inserted = self._inserted, self._inserted + made
            if before // hpackruns.EPOCH != self._inserted // hpackruns.EPOCH:
                self._runs.clear()  # what a remembered run means could be meant by another one
        return has_changed

    def _find(self, index: int) -> _Entry:
        if index < 62:
            if index == 0:
                raise _Malformed
            return _STATIC[index]
        if index - 61 <= len(self._entries):
            return self._entries[61 - index]
        if self.complete:
            raise _Malformed  # an index that was never given: something was missed after all
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


class Texts:
    """Values as text, remembered: the same paths and names come again and again. One for all connections."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # by place, plain ones before coded ones
        self._known: list[dict[bytes, str]] = [{} for _ in range(2 * FIELDS)]

    def read(self, place: int, raw: bytes, is_coded: bool) -> Value:
        if place == TRACEPARENT:  # no two are the same
            plain = huffman.decode(raw) if is_coded else raw
            return read_traceparent(plain) if plain is not None else NOBODY
        if place >= B3:  # nor of these
            plain = huffman.decode(raw) if is_coded else raw
            limit = MAX_VALUE if place <= UBER else MAX_STATE_RAW + 1
            return text(plain, limit) if plain is not None else ""
        known = self._known[place + FIELDS if is_coded else place]
        value = known.get(raw)
        if value is None:
            plain = huffman.decode(raw) if is_coded else raw
            if plain is None:
                raise _Malformed
            value = text(plain, _LIMITS[place])
            if len(known) >= TEXT_MEMO_ENTRIES:
                known.clear()
            if len(raw) <= MAX_WORD:
                known[raw] = value
        return value


def _read_integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """RFC 7541, 5.1, behind a prefix of all ones: (value, where it ends)."""
    value = prefix
    for count in range(MAX_INTEGER_BYTES):
        if at >= len(block):
            raise _End
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, at
    raise _Malformed


def _read_name(block: bytes, at: int) -> tuple[int, int]:
    """(place, where it ends) of a literal name; that of others is never decoded."""
    if at >= len(block):
        raise _End
    length = block[at]
    at += 1
    is_coded = length >= 0x80
    length &= 0x7F
    if length == 0x7F:
        length, at = _read_integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise _End
    return _LITERAL_NAMES.get((block[at:end], is_coded), UNWANTED), end


def make_unknown() -> Fields:
    """What is known of a block that could not be read."""
    fields: Fields = [None] * FIELDS
    fields[UNKNOWN] = True
    return fields
