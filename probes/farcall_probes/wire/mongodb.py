"""MongoDB's messages: which command is asked, of which database and collection, and the error of its reply.

    message = length request-id response-to opcode body          all little-endian; the length counts itself
    OP_MSG  = flags *( kind section ) [ checksum ]               kind 0: one document; kind 1: size name *document

A command is the first key of its document. Of documents only keys are ever kept, so no value can leave; the collection's name
is the one value that is read, and only where the command has it. What zstd has compressed stays unread.
https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/ and https://bsonspec.org/spec.html.
"""

from typing import NamedTuple

from farcall_probes.wire.bson import (
    DOCUMENT,
    STRING,
    find_end,
    find_zero,
    read_size,
    read_string,
    render_shape,
)
from farcall_probes.wire.cursor import Cursor, EndOfBytes
from farcall_probes.wire.inflating import inflate_snappy, inflate_zlib
from farcall_probes.wire.mongoerrors import COMMAND_LETTERS, find_error
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated, text

MAX_LENGTH = 48_000_000  # of a message (maxMessageSizeBytes)
MAX_NAME = 255  # of a collection with its database
MAX_COMMAND = 64
MAX_ELEMENTS = 256  # of a document looked at
_HEADER = 16
_REPLY, _UPDATE, _INSERT, _QUERY, _GET_MORE, _DELETE, _KILL = 1, 2001, 2002, 2004, 2005, 2006, 2007
_COMPRESSED, _MSG = 2012, 2013
# Of servers before 5.1; no reply but to the first two.
_LEGACY = {_GET_MORE: "getMore", _INSERT: "insert", _UPDATE: "update", _DELETE: "delete"}
_CHECKSUM, _MORE_TO_COME, _EXHAUST_ALLOWED = 1, 2, 1 << 16
_KNOWN_REQUIRED = (
    _CHECKSUM | _MORE_TO_COME
)  # an unknown bit among the lower 16 makes a message invalid
_SECTIONS = frozenset((b"documents", b"updates", b"deletes", b"ops", b"nsInfo"))
_WRAPPING = (
    "explain",
    "$query",
    "query",
)  # around a command: the latter two in OP_QUERY, with a read preference
_COMPRESSORS = {0: "noop", 1: "snappy", 2: "zlib", 3: "zstd"}
_QUERY_FAILED = 2

# Commands whose own value is a collection's name. Elsewhere a string may be a user's name or a password's hash.
_OF_COLLECTION = frozenset(
    "aggregate collMod collStats compact convertToCapped count create createIndexes createSearchIndexes cleanupOrphaned "
    "dataSize delete deleteIndexes distinct drop dropIndexes dropSearchIndex find findAndModify findandmodify "
    "insert killCursors listIndexes mapReduce mapreduce planCacheClear planCacheClearFilters planCacheListFilters "
    "planCacheSetFilter reIndex update updateSearchIndex validate".split()
)


class MongoRequest(NamedTuple):
    """`operation` is None when zstd has compressed the command (see `compression`), or it lies behind the cut.

    `documents` is how many a section of an insert, update or delete holds as far as captured, 0 without one.
    """

    operation: str | None
    correlation: int
    collection: str | None = None
    database: str | None = None
    compression: str | None = None  # noop, snappy, zlib, zstd, unknown
    is_answered: bool = True  # false with moreToCome: an unacknowledged write
    is_exhaust: bool = False  # one request may have any number of replies
    documents: int = 0
    command: bytes = b""  # its document, as far as captured: never shown as it is
    section: bytes = b""  # the first document of the section, when that is no insert's

    @property
    def target(self) -> str | None:
        return self.collection


class MongoResponse(NamedTuple):
    """`more_to_come`: another reply follows unasked (exhaust); its `correlation` is this one's `request_id`."""

    correlation: int  # the request's
    request_id: int
    error: str | None = None
    compression: str | None = None
    more_to_come: bool = False


class _Message(NamedTuple):
    request_id: int
    response_to: int
    opcode: int
    end: int
    body: Cursor
    compression: str | None


# Of a command's document not shown: the session's, and what stands elsewhere. Documents to insert are data, their keys too.
_UNSHOWN = frozenset(
    b"$db $clusterTime $readPreference apiVersion collection documents lsid txnNumber".split()
)
# Their arguments are about users, or the driver's own: nothing to show.
_BARE = frozenset(
    "authenticate copydb createRole createUser getnonce hello isMaster ismaster logout saslContinue saslStart updateRole "
    "updateUser".split()
)


def render_text(request: MongoRequest) -> str | None:
    """`find orders {filter: {customer: ?}}`: keys, never a value. None without a command."""
    name = request.operation
    if name is None:
        return None
    words = [name, request.collection] if request.collection else [name]
    if name not in _BARE:
        if request.command:
            shape = render_shape(request.command, without=_UNSHOWN | {name.encode()})
            words += [shape] if shape != "{}" else []
        if request.section:
            words.append(f"[{render_shape(request.section)}]")
    return " ".join(words)


def parse_request(
    data: bytes, *, cut: bool = False
) -> MongoRequest | Truncated[MongoRequest] | Outcome:
    """The request that `data` begins with; what follows it is left."""
    message = _read_header(data, cut=cut)
    if isinstance(message, Outcome):
        return message
    request = _read_request(message)
    if request is None:
        return NOT_MINE
    if len(data) >= message.end:
        return request
    return Truncated(request) if cut else NEED_MORE


def find_correlation(data: bytes) -> int | None:
    """The number of the request that these bytes of a reply answer."""
    return int.from_bytes(data[8:12], "little", signed=True) if len(data) >= 12 else None


def parse_response(
    data: bytes, request: MongoRequest | None = None, *, cut: bool = False
) -> MongoResponse | Truncated[MongoResponse] | Outcome:
    """A reply; `request` is what it must answer, None for any."""
    message = _read_header(data, cut=cut)
    if isinstance(message, Outcome):
        return message
    if request is not None and message.response_to != request.correlation:
        return NOT_MINE
    response = _read_response(message)
    if response is None:
        return NOT_MINE
    if len(data) >= message.end:
        return response
    return Truncated(response) if cut else NEED_MORE


def _read_header(data: bytes, *, cut: bool) -> _Message | Outcome:
    if len(data) < _HEADER:
        begins = data[3:4] in (b"", b"\0", b"\1", b"\2") and not data[14:].strip(b"\0")
        return NEED_MORE if begins and not cut else NOT_MINE
    length = int.from_bytes(data[:4], "little")
    opcode = int.from_bytes(data[12:16], "little")
    known = opcode in (_MSG, _QUERY, _REPLY, _COMPRESSED, _KILL) or opcode in _LEGACY
    if not known or not _HEADER < length <= MAX_LENGTH:
        return NOT_MINE
    body = Cursor(data[:length], _HEADER)
    compression: str | None = None
    if opcode == _COMPRESSED:
        try:
            opcode = body.int32_little()
            body.skip(4)  # the size it had: a claim, and the limit of ours is lower
            compression = _COMPRESSORS.get(body.uint8(), "unknown")
        except EndOfBytes:
            compression = "unknown"
        packed = body.data[body.offset :]
        if compression == "zlib":
            body = Cursor(inflate_zlib(packed))
        elif compression == "snappy":
            body = Cursor(inflate_snappy(packed))
        elif compression != "noop":
            body = Cursor(b"")
    return _Message(
        request_id=int.from_bytes(data[4:8], "little", signed=True),
        response_to=int.from_bytes(data[8:12], "little", signed=True),
        opcode=opcode,
        end=length,
        body=body,
        compression=compression,
    )


class _Found:
    """What becomes a request, collected: copies of a tuple for each field would cost more than reading it."""

    __slots__ = (
        "collection",
        "command",
        "database",
        "documents",
        "is_answered",
        "is_exhaust",
        "operation",
        "section",
    )

    def __init__(self) -> None:
        self.operation: str | None = None
        self.collection: str | None = None
        self.database: str | None = None
        self.is_answered = True
        self.is_exhaust = False
        self.documents = 0
        self.command = b""
        self.section = b""

    def build(self, message: _Message) -> MongoRequest:
        return MongoRequest(
            self.operation,
            message.request_id,
            self.collection,
            self.database,
            message.compression,
            self.is_answered,
            self.is_exhaust,
            self.documents,
            self.command,
            self.section,
        )


def _read_request(message: _Message) -> MongoRequest | None:
    """What the body says, as far as it goes; None when it is no request's."""
    found, body, opcode = _Found(), message.body, message.opcode
    is_request = True
    try:
        if opcode == _MSG:
            is_request = _read_msg(body, found)
        elif opcode == _QUERY:
            _read_query(body, found)
        elif opcode in _LEGACY:
            _read_legacy(opcode, body, found)
        elif opcode == _KILL:
            found.operation, found.is_answered = "killCursors", False
        else:
            return None
    except EndOfBytes:
        pass
    return found.build(message) if is_request else None


def _read_msg(body: Cursor, found: _Found) -> bool:
    flags = int.from_bytes(body.take(4), "little")
    if flags & 0xFFFF & ~_KNOWN_REQUIRED:
        return False
    found.is_answered = not flags & _MORE_TO_COME
    found.is_exhaust = bool(flags & _EXHAUST_ALLOWED)
    data, at = body.data, body.offset
    end = len(data) - (4 if flags & _CHECKSUM else 0)
    while at < end:
        start = at + 1
        size = read_size(data, start)
        if size < 5:
            return False
        if data[at] == 0:
            found.command = data[start : start + size]
            _read_command(found.command, 4, found)
        elif data[at] != 1 or not _read_section(data[start : start + size], found):
            return False
        at = start + size
    return True


def _read_section(section: bytes, found: _Found) -> bool:
    """Its size, its name, and documents."""
    end = find_zero(section, 4)
    name = section[4:end]
    if name not in _SECTIONS:
        return False
    if name != b"nsInfo":
        found.documents = _count(section, end + 1)
    if name in (b"updates", b"deletes"):
        size = int.from_bytes(section[end + 1 : end + 5], "little")
        found.section = section[end + 1 : end + 1 + size]
    return True


def _count(section: bytes, at: int) -> int:
    """Documents that begin before the section's end and the capture's."""
    count = 0
    while at < len(section):
        size = int.from_bytes(section[at : at + 4], "little")
        if size < 5:
            break
        count += 1
        at += size
    return count


def _read_query(body: Cursor, found: _Found) -> None:
    """The handshake of every driver, and all commands of old ones: a query of `<database>.$cmd`."""
    body.skip(4)
    space = body.until_zero()
    body.skip(8)
    database, _, collection = space.partition(b".")
    found.database = text(database, MAX_NAME)
    if collection != b"$cmd":
        found.operation, found.collection = "find", text(collection, MAX_NAME)
        return
    size = read_size(body.data, body.offset)
    _read_command(body.data[body.offset : body.offset + size], 4, found)


def _read_legacy(opcode: int, body: Cursor, found: _Found) -> None:
    found.operation, found.is_answered = _LEGACY[opcode], opcode == _GET_MORE
    body.skip(4)
    database, _, collection = body.until_zero().partition(b".")
    found.database, found.collection = text(database, MAX_NAME), text(collection, MAX_NAME)


def _read_command(document: bytes, at: int, found: _Found, depth: int = 0) -> None:
    """The first key, whose collection it is, and `$db`. What lies behind the cut stays None."""
    try:
        end = find_zero(document, at + 1)
        kind, key, value = document[at], document[at + 1 : end], end + 1
        if not 0 < len(key) <= MAX_COMMAND or not COMMAND_LETTERS.issuperset(key.lstrip(b"$")):
            return
        name = key.decode("ascii")
        if kind == DOCUMENT and depth < 2 and name in _WRAPPING:
            _read_command(document, value + 4, found, depth + 1)
            if name == "explain":
                found.operation = name
        elif kind == STRING and name in _OF_COLLECTION:
            found.collection = text(read_string(document, value), MAX_NAME)
        if name not in _WRAPPING or found.operation is None:
            found.operation = name
        at = find_end(document, value, kind)
        for _ in range(MAX_ELEMENTS):
            kind = document[at]
            if not kind:
                break
            end = find_zero(document, at + 1)
            if kind == STRING:
                key = document[at + 1 : end]
                if key == b"$db":
                    found.database = text(read_string(document, end + 1), MAX_NAME)
                elif key == b"collection" and name == "getMore":
                    found.collection = text(read_string(document, end + 1), MAX_NAME)
            at = find_end(document, end + 1, kind)
    except (EndOfBytes, IndexError):
        pass


def _read_response(message: _Message) -> MongoResponse | None:
    body, error, more = message.body, None, False
    try:
        if message.opcode == _MSG:
            flags = int.from_bytes(body.take(4), "little")
            if flags & 0xFFFF & ~_KNOWN_REQUIRED or body.data[body.offset :][:1] not in (
                b"",
                b"\0",
            ):
                return None
            more = bool(flags & _MORE_TO_COME)
            body.skip(1)
        elif message.opcode == _REPLY:
            failed = body.int32_little() & _QUERY_FAILED
            error = "error" if failed else None
            body.skip(16)
        else:
            return None
        size = read_size(body.data, body.offset)
        error = find_error(body.data[body.offset : body.offset + size]) or error
    except EndOfBytes:
        pass
    return MongoResponse(message.response_to, message.request_id, error, message.compression, more)
