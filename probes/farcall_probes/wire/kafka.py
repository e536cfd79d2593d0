"""Kafka's requests and responses: which API, which topics and group, and the first error that a response holds.

    request  = length key version correlation client-id [ tags ] body      response = length correlation [ tags ] body

Numbers are big-endian; the length does not count itself. Bodies are read along the table in kafkamessages.py, as far as they
were captured. Records, SASL's bytes and everything that has no mark there are skipped, never kept.
https://kafka.apache.org/protocol.html; flexible versions: KIP-482; topics by number (UUID) instead of name: KIP-516.
"""

from functools import lru_cache
from typing import NamedTuple

from farcall_probes.wire import kafkamessages
from farcall_probes.wire.cursor import Cursor, EndOfBytes
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated, text

# Brokers take 100 MiB unless told otherwise (socket.request.max.bytes); TLS's first bytes would be a length of 352 MiB.
MAX_LENGTH = 256 << 20
MAX_KEY = 255  # of an API that is not in the table: a broker newer than it
MAX_ELEMENTS = 512  # of all arrays of a message: a record holds no more of real ones, and a hostile peer costs no more
MAX_VERSION = 63
MAX_CLIENT_ID = 4096  # the protocol's own limit is 32767, and nobody comes near
MAX_TOPICS = 32  # kept of one message
SHOWN_TOPICS = 8
MAX_TOPIC = 249  # Topic.MAX_NAME_LENGTH
MAX_GROUP = 256
_HEADER = 12  # of a request, up to the correlation number; a response's has 8
_API_VERSIONS = 18
_PRODUCE = 0
NO_ID = bytes(16)


class KafkaRequest(NamedTuple):
    """`topics` are names, `topic_ids` the numbers of newer versions (Fetch 13, Produce 13): kafkatopics.py knows what they are called.

    `is_answered` is false for a Produce with acks=0: no response ever comes.
    """

    operation: str  # Produce, Fetch, Metadata; `Api93` for one that is newer than the table
    correlation: int
    api_key: int
    version: int
    client_id: str | None
    topics: tuple[str, ...] = ()
    topic_ids: tuple[bytes, ...] = ()
    group: str | None = None
    is_answered: bool = True

    @property
    def target(self) -> str | None:
        """`orders`, `orders, payments`; None when no topic is named, or only by numbers."""
        return join_topics(self.topics)


class KafkaResponse(NamedTuple):
    """`error`: the first that the captured part holds, by its name in the protocol. `topics`: the numbers of those it names."""

    correlation: int
    error: str | None = None
    topics: tuple[tuple[bytes, str], ...] = ()


class Field(NamedTuple):
    kind: str  # 4 (any number) s b [ ( { .
    size: int
    role: str
    fields: tuple["Field", ...]


class _Found:
    __slots__ = ("acks", "elements", "error", "groups", "ids", "pairs", "topics")

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.ids: list[bytes] = []
        self.pairs: list[tuple[bytes, str]] = []
        self.groups: list[str] = []
        self.acks = 1
        self.error = 0
        self.elements = 0


class _Malformed(Exception):
    """A length that none can have. Never leaves this module."""


class _Enough(Exception):
    """What is to be read was read. Never leaves this module."""


class Api(NamedTuple):
    name: str
    lowest: int
    highest: int
    flexible: int  # the first flexible version
    request: str
    response: str


def _read_table() -> dict[int, Api]:
    apis: dict[int, Api] = {}
    for line in kafkamessages.MESSAGES.strip().splitlines():
        head, request, response = line.split("|")
        key, name, versions, flexible = head.split()
        lowest, _, highest = versions.partition("-")
        apis[int(key)] = Api(
            name=name,
            lowest=int(lowest or 0),
            highest=int(highest or -1),
            flexible=MAX_VERSION + 1 if flexible == "-" else int(flexible),
            request=request,
            response=response,
        )
    return apis


APIS = _read_table()


@lru_cache(maxsize=1024)  # all there are: some 90 APIs in a few versions, both ways
def find_fields(key: int, version: int, *, response: bool) -> tuple[Field, ...]:
    """What to read of a body. Empty for an API or version that the table does not know."""
    api = APIS.get(key)
    if api is None or not api.lowest <= version <= api.highest:
        return ()
    words = (api.response if response else api.request).split()
    return _build_fields(words, version)


def _build_fields(words: list[str], version: int) -> tuple[Field, ...]:
    """Up to the closing bracket, which is taken. Neighbours that are only skipped become one."""
    fields: list[Field] = []
    while words:
        word = words.pop(0)
        if word in ("]", ")", "}"):
            break
        name, _, versions = word.partition("@")
        name, _, role = name.partition(":")
        inner = _build_fields(words, version) if name in ("[", "(", "{") else ()
        if versions and not _is_in(version, versions):
            continue
        size = int(name) if name.isdigit() else 0
        if size and not role and fields and fields[-1].kind == "4" and not fields[-1].role:
            fields[-1] = fields[-1]._replace(size=fields[-1].size + size)
        else:
            fields.append(Field("4" if size else name, size, role, inner))
    return tuple(fields)


def _is_in(version: int, versions: str) -> bool:
    first, mark, last = versions.rstrip("+").partition("-")
    if versions.endswith("+"):
        return version >= int(first)
    return int(first) <= version <= int(last if mark else first)


def parse_request(
    data: bytes, *, cut: bool = False
) -> KafkaRequest | Truncated[KafkaRequest] | Outcome:
    """The request that `data` begins with; what follows it is left. Nothing of one that is cut within its header is known."""
    if len(data) < _HEADER:
        return NOT_MINE if cut or not _may_begin(data) else NEED_MORE
    length = int.from_bytes(data[:4], "big")
    key = int.from_bytes(data[4:6], "big")
    version = int.from_bytes(data[6:8], "big")
    api = APIS.get(key)
    if not 10 <= length <= MAX_LENGTH or key > MAX_KEY or version > MAX_VERSION:
        return NOT_MINE
    end = 4 + length
    cursor = Cursor(data[:end], _HEADER)
    found = _Found()
    client_id: str | None = None
    try:
        client_id = _read_client_id(cursor, end)
        fields = find_fields(key, version, response=False)
        if api is not None and fields:
            if version >= api.flexible:
                _skip_tags(cursor)
            _walk(cursor, fields, version >= api.flexible, found)
    except EndOfBytes:
        if len(data) >= end:
            return NOT_MINE  # whole, and it reaches beyond its own end
    except _Malformed:
        return NOT_MINE
    except _Enough:
        pass
    request = KafkaRequest(
        operation=api.name if api is not None else f"Api{key}",
        correlation=int.from_bytes(data[8:12], "big", signed=True),
        api_key=key,
        version=version,
        client_id=client_id,
        topics=tuple(dict.fromkeys(found.topics)),
        topic_ids=tuple(dict.fromkeys(found.ids)),
        group=found.groups[0] if found.groups else None,
        is_answered=key != _PRODUCE or found.acks != 0,
    )
    if len(data) >= end:
        return request
    return Truncated(request) if cut else NEED_MORE


def _may_begin(data: bytes) -> bool:
    """Keys and versions are small: their first bytes are all that so few bytes can be judged by."""
    return data[:1] <= b"\x10" and data[4:5] in (b"", b"\0") and data[6:7] in (b"", b"\0")


def _read_client_id(cursor: Cursor, end: int) -> str | None:
    """In 2 bytes and not null in flexible versions either, so that ApiVersions can be read by any broker."""
    size = cursor.int16()
    if size == -1:
        return None
    if not 0 <= size <= min(MAX_CLIENT_ID, end - cursor.offset):
        raise _Malformed
    return text(cursor.take(size), 256)


def find_correlation(data: bytes) -> int | None:
    """The number of the request that these bytes of a response answer."""
    return int.from_bytes(data[4:8], "big", signed=True) if len(data) >= 8 else None


def parse_response(
    data: bytes, request: KafkaRequest, *, cut: bool = False
) -> KafkaResponse | Truncated[KafkaResponse] | Outcome:
    """The response to `request`, which alone says how it is to be read."""
    if len(data) < 8:
        return NOT_MINE if cut or data[:1] > b"\x10" else NEED_MORE
    length = int.from_bytes(data[:4], "big")
    correlation = find_correlation(data)
    if not 4 <= length <= MAX_LENGTH or correlation != request.correlation:
        return NOT_MINE
    end = 4 + length
    cursor = Cursor(data[:end], 8)
    found = _Found()
    api = APIS.get(request.api_key)
    try:
        fields = find_fields(request.api_key, request.version, response=True)
        if api is not None and fields:
            flexible = request.version >= api.flexible
            # A client that asks for versions does not know yet how to read a flexible header (KIP-511).
            if flexible and request.api_key != _API_VERSIONS:
                _skip_tags(cursor)
            _walk(cursor, fields, flexible, found)
    except EndOfBytes:
        if len(data) >= end:
            return NOT_MINE  # whole, and it reaches beyond its own end
    except _Malformed:
        return NOT_MINE
    except _Enough:
        pass
    error = _name_error(found.error) if found.error else None
    response = KafkaResponse(request.correlation, error, tuple(found.pairs))
    if len(data) >= end:
        return response
    return Truncated(response) if cut else NEED_MORE


def _name_error(code: int) -> str:
    if 0 < code <= len(kafkamessages.ERRORS):
        return kafkamessages.ERRORS[code - 1]
    return kafkamessages.UNKNOWN_ERROR if code == -1 else f"ERROR_{code}"


def _walk(cursor: Cursor, fields: tuple[Field, ...], flexible: bool, found: _Found) -> None:
    """Reads one structure. What it finds is kept at once: the next field may lie behind the cut."""
    topic: str | None = None
    number: bytes | None = None
    for kind, size, role, inner in fields:
        if kind == "4":
            if not role:
                cursor.skip(size)
            elif role == "id":
                number = _keep_id(found, cursor.take(size), topic)
            else:
                _keep_number(found, role, int.from_bytes(cursor.take(size), "big", signed=True))
        elif kind == "s":
            value = _read_string(cursor, flexible)
            if value is None or not role:
                continue
            if role == "topic":
                topic = _keep_topic(found, text(value, MAX_TOPIC), number)
            else:
                found.groups.append(text(value, MAX_GROUP))
        elif kind == "b":
            size = cursor.varint() - 1 if flexible else cursor.int32()
            cursor.skip(max(size, 0))
        elif kind == "{":
            _walk(cursor, inner, flexible, found)
            if flexible:
                _skip_tags(cursor)
        elif kind == ".":
            raise _Enough
        else:
            _walk_array(cursor, kind, inner, flexible, found)


def _walk_array(
    cursor: Cursor, kind: str, inner: tuple[Field, ...], flexible: bool, found: _Found
) -> None:
    count = cursor.varint() - 1 if flexible else cursor.int32()
    if count < -1:
        raise _Malformed
    for _ in range(count):
        found.elements += 1
        if found.elements > MAX_ELEMENTS:
            raise _Enough
        before = cursor.offset
        _walk(cursor, inner, flexible, found)
        if flexible and kind == "[":
            _skip_tags(cursor)
        if cursor.offset == before:
            raise _Malformed


def _keep_number(found: _Found, role: str, value: int) -> None:
    if role == "acks":
        found.acks = value
    elif value and not found.error:
        found.error = value


def _keep_id(found: _Found, number: bytes, topic: str | None) -> bytes | None:
    if number == NO_ID:
        return None
    if len(found.ids) < MAX_TOPICS:
        found.ids.append(number)
        if topic:
            found.pairs.append((number, topic))
    return number


def _keep_topic(found: _Found, topic: str, number: bytes | None) -> str:
    if topic and len(found.topics) < MAX_TOPICS:
        found.topics.append(topic)
        if number:
            found.pairs.append((number, topic))
    return topic


def _read_string(cursor: Cursor, flexible: bool) -> bytes | None:
    size = cursor.varint() - 1 if flexible else cursor.int16()
    if size < -1:
        raise _Malformed
    return cursor.take(size) if size >= 0 else None


def _skip_tags(cursor: Cursor) -> None:
    for _ in range(cursor.varint()):
        cursor.varint()
        cursor.skip(cursor.varint())


def join_topics(names: tuple[str, ...]) -> str | None:
    if len(names) == 1:
        return names[0]
    shown = ", ".join(names[:SHOWN_TOPICS])
    return (shown + ", …" if len(names) > SHOWN_TOPICS else shown) or None
