"""MySQL's and MariaDB's commands: what is asked, what a prepared statement is called, and the error of an answer.

    packet = length(3, little-endian) sequence(1) payload        a command's payload begins with its number

https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html; MariaDB's is the same where we read.
"""

from typing import NamedTuple

from farcall_probes.wire.cursor import Cursor, EndOfBytes
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated

_HEADER = 4
_USE, _QUERY, _PREPARE, _EXECUTE = 0x02, 0x03, 0x16, 0x17
_WITH_TEXT = (_USE, _QUERY, _PREPARE)
_OK, _ERROR = 0x00, 0xFF
# Bytes of a query attribute's value by its type (field_types.h); the others begin with their length.
_FIXED = {1: 1, 2: 2, 13: 2, 3: 4, 9: 4, 4: 4, 8: 8, 5: 8, 6: 0}
_MAX_ATTRIBUTES = 0xFA  # above it a count has several bytes


class MysqlRequest(NamedTuple):
    """`text`: of a query, of what is prepared, or the database of USE. `statement`: number of the prepared one that is run."""

    command: str  # QUERY, PREPARE, EXECUTE, USE
    text: bytes | None
    statement: int | None


_NAMES = {_USE: "USE", _QUERY: "QUERY", _PREPARE: "PREPARE", _EXECUTE: "EXECUTE"}


def parse_request(
    data: bytes, *, cut: bool = False
) -> MysqlRequest | Truncated[MysqlRequest] | Outcome:
    """The command in `data`; one at a time is all that the protocol allows."""
    if len(data) <= _HEADER:
        return NOT_MINE if cut or (len(data) == _HEADER and data[3]) else NEED_MORE
    command = data[_HEADER]
    if data[3] != 0 or command not in _NAMES:
        return NOT_MINE
    length = int.from_bytes(data[:3], "little")
    payload = data[_HEADER + 1 : _HEADER + length]
    text = statement = None
    if command in _WITH_TEXT:
        text = payload[_skip_attributes(payload) :] if command == _QUERY else payload
    elif len(payload) >= 4:
        statement = int.from_bytes(payload[:4], "little")
    request = MysqlRequest(_NAMES[command], text, statement)
    if len(data) >= _HEADER + length:
        return request
    return Truncated(request) if cut else NEED_MORE


def _skip_attributes(payload: bytes) -> int:
    """Where the statement begins. Since MySQL 8.0.23 a query may have attributes before it: how many, in one set (always 1, a
    byte that no statement holds), NULL bits, 1, their types and names, their values. Values are data: where they cannot be
    told from the statement, nothing is shown.
    https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query.html
    """
    if payload[1:2] != b"\x01" or payload[0] > _MAX_ATTRIBUTES:
        return 0
    count = payload[0]
    if not count:
        return 2
    nulls = payload[2 : 2 + (count + 7) // 8]
    cursor = Cursor(payload, 2 + len(nulls))
    try:
        if cursor.uint8() != 1:
            return len(payload)
        types = []
        for _ in range(count):
            types.append(cursor.take(2)[0])
            cursor.skip(_read_length(cursor))
        for number, kind in enumerate(types):
            if not nulls[number // 8] >> number % 8 & 1:
                size = _FIXED.get(kind)
                cursor.skip(_read_length(cursor) if size is None else size)
    except (EndOfBytes, IndexError):
        return len(payload)
    return cursor.offset


def _read_length(cursor: Cursor) -> int:
    """A length-encoded integer: one byte, or a mark and two, three or eight."""
    first = cursor.uint8()
    more = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    return first if more is None else int.from_bytes(cursor.take(more), "little")


def find_error(data: bytes) -> str | None:
    """The server's error number in the first packet of an answer, or None. Any bytes are fine."""
    if len(data) < _HEADER + 3 or data[_HEADER] != _ERROR:
        return None
    return str(int.from_bytes(data[_HEADER + 1 : _HEADER + 3], "little"))


def find_prepared(data: bytes) -> int | None:
    """The number that the answer to PREPARE gives the statement."""
    if len(data) < _HEADER + 5 or data[_HEADER] != _OK:
        return None
    return int.from_bytes(data[_HEADER + 1 : _HEADER + 5], "little")
