"""DNS answers (RFC 1035, 4; SVCB and HTTPS: RFC 9460): which addresses the question's name leads to.

The name that the application asked for is the name; a CNAME chain only says which records belong to it. Records of
other owners are ignored: an answer may not speak for names that were not asked (and a hostile one would).
"""

import struct
from typing import NamedTuple

from farcall_probes.wire.cursor import EndOfBytes
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated

HEADER_BYTES = 12
MAX_LABELS = 127  # RFC 1035, 3.1: 255 octets, 2 per label at least
MAX_NAME = 255
MIN_QUESTION = 5  # the root, type and class
MAX_POINTERS = 16  # compression jumps in one name; real servers need 1
MAX_RECORDS = 256  # read at most; 2,000 captured bytes hold 120 A records
MAX_CHAIN = 16  # CNAMEs; resolvers stop at 8 to 16

TYPE_A, TYPE_CNAME, TYPE_AAAA, TYPE_SVCB, TYPE_HTTPS = 1, 5, 28, 64, 65
TYPE_NAMES = {TYPE_A: "A", TYPE_AAAA: "AAAA", TYPE_SVCB: "SVCB", TYPE_HTTPS: "HTTPS"}
CLASS_IN = 1
_KEY_IPV4HINT, _KEY_IPV6HINT = 4, 6  # RFC 9460, 14.3.2
_HEADER = struct.Struct("!HHHHHH")  # ID, flags, and the counts of the four sections
_QUESTION = struct.Struct("!HH")  # type, class; a SvcParam's key and length look the same
_RECORD = struct.Struct("!HHIH")  # type, class, TTL, length
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2


class DnsAddress(NamedTuple):
    address: bytes  # 16 bytes, IPv4 mapped
    ttl_s: int


class DnsAnswer(NamedTuple):
    transaction: int
    question: str  # lower case, no final dot; odd bytes as \DDD
    question_type: int
    rcode: int
    truncated_by_server: bool  # TC: the client asks again over TCP
    addresses: tuple[DnsAddress, ...]
    canonical_name: str | None


class _Malformed(Exception):
    """Never leaves this module."""


class _Message:
    """A cursor over one message: names already read are remembered by their offset, as pointers lead there again."""

    __slots__ = ("addresses", "aliases", "data", "names", "offset")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0
        self.names: dict[int, str] = {}
        self.addresses: list[tuple[str, bytes, int]] = []
        self.aliases: dict[str, str] = {}

    def take(self, count: int) -> bytes:
        end = self.offset + count
        if end > len(self.data):
            raise EndOfBytes
        taken = self.data[self.offset : end]
        self.offset = end
        return taken


def parse_answer(data: bytes, *, cut: bool = False) -> DnsAnswer | Truncated[DnsAnswer] | Outcome:
    """One message as a client read it; over TCP without its length."""
    message = _Message(data)
    try:
        transaction, flags, questions, answers, _, _ = _HEADER.unpack(message.take(HEADER_BYTES))
        # QR must be set, OPCODE 0; more than one question exists nowhere.
        if not flags & 0x8000 or flags & 0x7800 or questions != 1:
            return NOT_MINE
        question = _read_name(message)
        question_type, question_class = _QUESTION.unpack(message.take(4))
    except EndOfBytes:
        return NEED_MORE if not cut and _is_beginning(data) else NOT_MINE
    except _Malformed:
        return NOT_MINE
    if question_class != CLASS_IN:
        return NOT_MINE
    whole = True
    try:
        _read_records(message, min(answers, MAX_RECORDS))
    except EndOfBytes:
        if not cut:
            return NEED_MORE
        whole = False
    except _Malformed:
        return NOT_MINE
    addresses, canonical = _follow(question, message)
    answer = DnsAnswer(
        transaction, question, question_type, flags & 0xF, bool(flags & 0x200), addresses, canonical
    )
    return answer if whole else Truncated(answer)


def answers_question(data: bytes, asked: bytes) -> bool:
    """Whether a message repeats what was asked: `asked` begins with the question and may hold less of it, or more than it.

    Letters may come back in another case (RFC 4343). What is shorter than the shortest question asks for nothing.
    """
    at = HEADER_BYTES
    while at < len(data) and data[at] and at - HEADER_BYTES <= MAX_NAME:
        at += data[at] + 1
    question = data[HEADER_BYTES : at + 5]  # the root's label, type and class
    size = min(len(question), len(asked))
    return size >= MIN_QUESTION and question[:size].lower() == asked[:size].lower()


def _is_beginning(data: bytes) -> bool:
    return len(data) < 3 or bool(data[2] & 0x80 and not data[2] & 0x78)


def _read_records(message: _Message, count: int) -> None:
    for _ in range(count):
        owner = _read_name(message)
        kind, record_class, ttl, size = _RECORD.unpack(message.take(10))
        begin = message.offset
        if record_class != CLASS_IN:
            message.take(size)
        elif kind == TYPE_A and size == 4:
            message.addresses.append((owner, _MAPPED + message.take(4), ttl))
        elif kind == TYPE_AAAA and size == 16:
            message.addresses.append((owner, message.take(16), ttl))
        elif kind == TYPE_CNAME:
            message.aliases.setdefault(owner, _read_name(message))
        elif kind == TYPE_HTTPS or kind == TYPE_SVCB:
            _read_hints(message, begin + size, owner, ttl)
        else:
            message.take(size)
        if message.offset != begin + size:
            raise _Malformed


def _read_hints(message: _Message, end: int, owner: str, ttl: int) -> None:
    """SvcPriority, TargetName, then parameters: key, length, value. Alias mode (priority 0) has none."""
    message.take(2)
    _read_name(message)
    while message.offset < end:
        key, size = _QUESTION.unpack(message.take(4))
        if message.offset + size > end:
            raise _Malformed
        value = message.take(size)
        width = {_KEY_IPV4HINT: 4, _KEY_IPV6HINT: 16}.get(key)
        if width is None:
            continue
        prefix = _MAPPED if width == 4 else b""
        for at in range(0, size - width + 1, width):
            message.addresses.append((owner, prefix + value[at : at + width], ttl))


def _follow(question: str, message: _Message) -> tuple[tuple[DnsAddress, ...], str | None]:
    """Addresses of the question's name and of every alias that it leads to."""
    chain = [question]
    while message.aliases and len(chain) <= MAX_CHAIN:
        target = message.aliases.get(chain[-1])
        if target is None or target in chain:
            break
        chain.append(target)
    mine = tuple(
        [DnsAddress(address, ttl) for owner, address, ttl in message.addresses if owner in chain]
    )
    return mine, chain[-1] if len(chain) > 1 else None


def _read_name(message: _Message) -> str:
    """Labels and compression pointers; a pointer must point backwards, so a loop cannot last."""
    data, begin = message.data, message.offset
    if data[begin : begin + 2] == b"\xc0\x0c" and HEADER_BYTES in message.names:
        message.offset = begin + 2  # nearly every owner is the question's name
        return message.names[HEADER_BYTES]
    offset = begin
    after: int | None = None  # where the message goes on, once a pointer was followed
    labels: list[str] = []
    size = jumps = 0
    while True:
        if offset >= len(data):
            raise EndOfBytes
        length = data[offset]
        if length >= 0xC0:
            if offset + 1 >= len(data):
                raise EndOfBytes
            target = (length & 0x3F) << 8 | data[offset + 1]
            after = offset + 2 if after is None else after
            jumps += 1
            if target >= offset or jumps > MAX_POINTERS:
                raise _Malformed
            offset = target
            continue
        if length > 63:  # RFC 1035, 4.1.4: 01 and 10 are reserved
            raise _Malformed
        offset += 1
        if not length:
            break
        size += length + 1
        if offset + length > len(data):
            raise EndOfBytes
        if size > MAX_NAME or len(labels) >= MAX_LABELS:
            raise _Malformed
        labels.append(_label(data[offset : offset + length]))
        offset += length
    message.offset = offset if after is None else after
    name = message.names[begin] = ".".join(labels)
    return name


_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


def _label(raw: bytes) -> str:
    """Lower case (RFC 4343); bytes that a host name has not as \\DDD (RFC 1035, 5.1)."""
    lowered = raw.lower()
    if lowered.isalnum() or _PLAIN.issuperset(lowered):
        return lowered.decode("ascii")
    return "".join(chr(b) if b in _PLAIN else f"\\{b:03d}" for b in lowered)
