"""MySQL's and MariaDB's commands: what is asked, what a prepared statement is called, and the error of an answer.

    packet = length(3, little-endian) sequence(1) payload        a command's payload begins with its number

https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html; MariaDB's is the same where we read.
"""

from typing import NamedTuple

from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated

_HEADER = 4
_USE, _QUERY, _PREPARE, _EXECUTE = 0x02, 0x03, 0x16, 0x17
_WITH_TEXT = (_USE, _QUERY, _PREPARE)
_OK, _ERROR = 0x00, 0xFF
# Since MySQL 8.0.23 a query may begin with its attributes: a count, and one set of them. Without any these two bytes.
_NO_ATTRIBUTES = b"\x00\x01"


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
        text = payload[2:] if command == _QUERY and payload[:2] == _NO_ATTRIBUTES else payload
    elif len(payload) >= 4:
        statement = int.from_bytes(payload[:4], "little")
    request = MysqlRequest(_NAMES[command], text, statement)
    if len(data) >= _HEADER + length:
        return request
    return Truncated(request) if cut else NEED_MORE


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
