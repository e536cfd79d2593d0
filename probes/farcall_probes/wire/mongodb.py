"""MongoDB's messages: which command is asked, of which database and collection, and the error of its reply.

    message = length request-id response-to opcode body          all little-endian; the length counts itself
    OP_MSG  = flags *( kind section ) [ checksum ]               kind 0: one document; kind 1: size name *document

A command is the first key of its document. Of documents only keys are ever kept, so no value can leave; the collection's name
is the one value that is read, and only where the command has it. What zstd has compressed stays unread.
https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/ and https://bsonspec.org/spec.html.
"""

from typing import NamedTuple

from farcall_probes.wire.bson import read_string, render_shape, skip_value
from farcall_probes.wire.cursor import Cursor, EndOfBytes
from farcall_probes.wire.inflating import inflate_snappy, inflate_zlib
from farcall_probes.wire.mongoerrors import COMMAND_LETTERS, find_error
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated, text

MAX_LENGTH = 48_000_000  # of a message (maxMessageSizeBytes)
MAX_NAME = 255  # of a collection with its database
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
    request = _read_request(
        message, MongoRequest(None, message.request_id, compression=message.compression)
    )
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
    response = _read_response(
        message,
        MongoResponse(message.response_to, message.request_id, compression=message.compression),
    )
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


def _read_request(message: _Message, request: MongoRequest) -> MongoRequest | None:
    """What the body says, as far as it goes; None when it is no request's."""
    body, opcode = message.body, message.opcode
    try:
        if opcode == _MSG:
            flags = int.from_bytes(body.take(4), "little")
            if flags & 0xFFFF & ~_KNOWN_REQUIRED:
                return None
            request = request._replace(
                is_answered=not flags & _MORE_TO_COME, is_exhaust=bool(flags & _EXHAUST_ALLOWED)
            )
            return _read_sections(body, request, checksum=flags & _CHECKSUM)
        if opcode == _QUERY:
            return _read_query(body, request)
        if opcode in _LEGACY:
            return _read_legacy(opcode, body, request)
        if opcode == _KILL:
            return request._replace(operation="killCursors", is_answered=False)
    except EndOfBytes:
        return request
    return None


def _read_sections(body: Cursor, request: MongoRequest, *, checksum: int) -> MongoRequest | None:
    end = len(body.data) - (4 if checksum else 0)
    try:
        while body.offset < end:
            kind = body.uint8()
            start = body.offset
            size = body.int32_little()
            if size < 5:
                return None
            if kind == 0:
                document = body.data[start : start + size]
                request = _read_command(Cursor(document, 4), request)
                request = request._replace(command=document)
            elif kind == 1:
                name = body.until_zero()
                if name not in (b"documents", b"updates", b"deletes", b"ops", b"nsInfo"):
                    return None
                if name != b"nsInfo":
                    request = request._replace(documents=_count(body, start + size))
                if name in (b"updates", b"deletes"):
                    request = request._replace(section=_first(body, start + size))
            else:
                return None
            body.offset = start + size
    except EndOfBytes:
        pass
    return request


def _count(body: Cursor, end: int) -> int:
    """Documents of a section that begin before its end and the capture's."""
    count, at, end = 0, body.offset, min(end, len(body.data))
    while at < end:
        size = int.from_bytes(body.data[at : at + 4], "little")
        if size < 5:
            break
        count += 1
        at += size
    return count


def _first(body: Cursor, end: int) -> bytes:
    size = int.from_bytes(body.data[body.offset : body.offset + 4], "little")
    return body.data[body.offset : min(body.offset + size, end)]


def _read_query(body: Cursor, request: MongoRequest) -> MongoRequest | None:
    """The handshake of every driver, and all commands of old ones: a query of `<database>.$cmd`."""
    body.skip(4)
    space = body.until_zero()
    body.skip(8)
    database, _, collection = space.partition(b".")
    request = request._replace(database=text(database, MAX_NAME))
    if collection != b"$cmd":
        return request._replace(operation="find", collection=text(collection, MAX_NAME))
    start = body.offset
    size = body.int32_little()
    return _read_command(Cursor(body.data[: start + size], body.offset), request)


def _read_legacy(opcode: int, body: Cursor, request: MongoRequest) -> MongoRequest:
    request = request._replace(operation=_LEGACY[opcode], is_answered=opcode == _GET_MORE)
    body.skip(4)
    database, _, collection = body.until_zero().partition(b".")
    return request._replace(
        database=text(database, MAX_NAME), collection=text(collection, MAX_NAME)
    )


def _read_command(document: Cursor, request: MongoRequest) -> MongoRequest:
    """The first key, whose collection it is, and `$db`. What lies behind the cut stays None."""
    name = ""
    try:
        for index in range(MAX_ELEMENTS):
            kind = document.uint8()
            if kind == 0:
                break
            key = document.until_zero()
            if index == 0:
                if not key or len(key) > 64 or not COMMAND_LETTERS.issuperset(key.lstrip(b"$")):
                    return request
                name = key.decode("ascii")
                if (
                    name in ("$query", "query") and kind == 3
                ):  # a wrapped one: OP_QUERY with read preference
                    return _read_command(_enter(document), request)
                request = request._replace(operation=name)
                if name == "explain" and kind == 3:
                    explained = _read_command(_enter(document), request)
                    request = explained._replace(operation="explain")
            if kind == 2 and index == 0 and name in _OF_COLLECTION:
                request = request._replace(collection=text(read_string(document), MAX_NAME))
            elif kind == 2 and key == b"collection" and name == "getMore":
                request = request._replace(collection=text(read_string(document), MAX_NAME))
            elif kind == 2 and key == b"$db":
                request = request._replace(database=text(read_string(document), MAX_NAME))
            else:
                skip_value(document, kind)
    except EndOfBytes:
        pass
    return request


def _enter(document: Cursor) -> Cursor:
    """The document that is the next value; reading it leaves the outer one where it is."""
    size = int.from_bytes(document.data[document.offset : document.offset + 4], "little")
    return Cursor(document.data[: document.offset + size], document.offset + 4)


def _read_response(message: _Message, response: MongoResponse) -> MongoResponse | None:
    body = message.body
    try:
        if message.opcode == _MSG:
            flags = int.from_bytes(body.take(4), "little")
            if flags & 0xFFFF & ~_KNOWN_REQUIRED:
                return None
            response = response._replace(more_to_come=bool(flags & _MORE_TO_COME))
            if body.uint8() != 0:
                return None
        elif message.opcode == _REPLY:
            flags = body.int32_little()
            body.skip(16)
            if flags & _QUERY_FAILED:
                response = response._replace(error="error")
        else:
            return None
        start = body.offset
        size = body.int32_little()
        document = Cursor(body.data[: start + size], body.offset)
    except EndOfBytes:
        return response
    error = find_error(document)
    return response._replace(error=error or response.error)
