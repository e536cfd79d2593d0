"""What is wanted of a header block, in places of a list; and values as text."""

from farcall_probes.wire import huffman
from farcall_probes.wire.hpackintegers import EndError, MalformedError, read_integer
from farcall_probes.wire.http1 import MAX_HOST, MAX_WORD
from farcall_probes.wire.outcomes import MAX_TEXT, text
from farcall_probes.wire.tracecontext import MAX_STATE_RAW, MAX_VALUE, NOBODY, Ids
from farcall_probes.wire.traceparents import MAX_CODED, MIN_CODED, read_traceparent

TEXT_MEMO_ENTRIES = 2048
FIELDS_MEMO_ENTRIES = 512

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
Entry = tuple[int, Value]  # place and value

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
_LITERAL_NAMES = {(name, False): place for name, place in _NAMES.items()} | {
    (huffman.encode(name), True): place for name, place in _NAMES.items()
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
STATIC_TABLE: list[Entry] = [(UNWANTED, None)] * 62
STATIC_TABLE[1] = (AUTHORITY, "")
STATIC_TABLE[2:4] = [(METHOD, "GET"), (METHOD, "POST")]
STATIC_TABLE[4:6] = [(PATH, "/"), (PATH, "/index.html")]
STATIC_TABLE[8:15] = [(STATUS, s) for s in "200 204 206 304 400 404 500".split()]
STATIC_TABLE[31] = (CONTENT_TYPE, "")
STATIC_TABLE[38] = (HOST, "")
STATIC_TABLE[58] = (USER_AGENT, "")


class Texts:
    """Values as text, remembered: the same paths and names come again and again. One for all connections."""

    __slots__ = ("_fields", "_known")

    def __init__(self) -> None:
        self._fields: dict[tuple[Value, ...], Fields] = {}
        # by place, plain ones before coded ones
        self._known: list[dict[bytes, str]] = [{} for _ in range(2 * FIELDS)]

    def share(self, said: Fields) -> Fields:
        """The same without a trace, for all blocks that say so."""
        if said[TRACEPARENT] is not None:
            said = said.copy()
            said[TRACEPARENT] = None
        key = tuple(said)
        fields = self._fields.get(key)
        if fields is None:
            if len(self._fields) >= FIELDS_MEMO_ENTRIES:
                self._fields.clear()
            fields = self._fields[key] = said
        return fields

    def read(self, place: int, raw: bytes, is_coded: bool) -> Value:
        if place == TRACEPARENT:  # no two are the same
            if is_coded and MIN_CODED <= len(raw) <= MAX_CODED:
                return raw
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
                raise MalformedError
            value = text(plain, _LIMITS[place])
            if len(known) >= TEXT_MEMO_ENTRIES:
                known.clear()
            if len(raw) <= MAX_WORD:
                known[raw] = value
        return value


def make_unknown() -> Fields:
    """What is known of a block that could not be read."""
    fields: Fields = [None] * FIELDS
    fields[UNKNOWN] = True
    return fields


def read_name(block: bytes, at: int) -> tuple[int, int]:
    """(place, where it ends) of a name that is written out; that of others is never decoded. Raises EndError, MalformedError."""
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


def combine(place: int, said: Value, value: Value) -> Value:
    """Of a header that is there again."""
    if (
        type(said) is str and type(value) is str and place == TRACESTATE
    ):  # a list, which may be spread over several headers (RFC 9110, 5.3)
        return f"{said},{value}"[: MAX_STATE_RAW + 1]
    if place == TRACEPARENT:  # of two, neither can be believed
        return NOBODY
    return "" if B3 <= place <= UBER else value
