"""PostgreSQL's messages, protocol 3: what one round trip asks, and the first error of its answer.

    message = type length content       length: big-endian, counts itself, not the type

A simple query is one message; the extended protocol sends Parse, Bind, Describe, Execute, Sync together. Statements are
returned as they are; masking.py decides what may be shown of them.
https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from typing import NamedTuple

from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated

MAX_MESSAGES = 1024  # looked at in one capture
MAX_LENGTH = 1 << 30  # the server's own limit of a message (PQ_LARGE_MESSAGE_LIMIT)
_HEADER = 5
_FRONT = b"QPBDECSHFdcf"  # what a client sends once it has logged in
_QUERY, _PARSE, _BIND, _EXECUTE = b"QPBE"
_ERROR = ord("E")
_BACK = b"RSKTtDCEN1234nIsZAGHWVvc"


class PostgresRequest(NamedTuple):
    """`executed` is the name of the prepared statement that the first Bind is for, `b""` the unnamed one, None without a Bind."""

    statement: bytes | None  # of the first Query or Parse, as far as captured
    parsed: tuple[tuple[bytes, bytes], ...]  # (name, statement) of each Parse
    executed: bytes | None
    executions: int  # queries and executes, as far as captured; 0 for what only prepares


def parse_request(
    data: bytes, *, cut: bool = False
) -> PostgresRequest | Truncated[PostgresRequest] | Outcome:
    """All messages in `data`. Malformed only when the first one is: behind it may lie what a lossy capture left."""
    if data and data[0] not in _FRONT:
        return NOT_MINE
    statement: bytes | None = None
    executed: bytes | None = None
    parsed: list[tuple[bytes, bytes]] = []
    executions = at = 0
    for _ in range(MAX_MESSAGES):
        if at + _HEADER > len(data):
            break
        kind, length = data[at], int.from_bytes(data[at + 1 : at + _HEADER], "big")
        if kind not in _FRONT or not 4 <= length <= MAX_LENGTH:
            if at == 0:
                return NOT_MINE
            return PostgresRequest(statement, tuple(parsed), executed, executions)
        end = at + 1 + length
        content = data[at + _HEADER : end]
        if kind == _QUERY:
            executions += 1
            statement = content.split(b"\0", 1)[0] if statement is None else statement
        elif kind == _PARSE:
            name, mark, rest = content.partition(b"\0")
            if mark:
                parsed.append((name, rest.split(b"\0", 1)[0]))
                statement = parsed[0][1] if statement is None else statement
        elif kind == _BIND and executed is None:
            executed = _second_word(content)
        elif kind == _EXECUTE:
            executions += 1
        at = end
    request = PostgresRequest(statement, tuple(parsed), executed, executions)
    if at == len(data) and at:
        return request
    return Truncated(request) if cut else NEED_MORE


def _second_word(content: bytes) -> bytes | None:
    """Of two that end in NUL: portal, statement. None when the capture ended before it did."""
    words = content.split(b"\0", 2)
    return words[1] if len(words) == 3 else None


def find_error(data: bytes) -> str | None:
    """The SQLSTATE of the first ErrorResponse in the captured part of an answer, or None. Any bytes are fine."""
    at = 0
    for _ in range(MAX_MESSAGES):
        if at + _HEADER > len(data) or data[at] not in _BACK:
            return None
        length = int.from_bytes(data[at + 1 : at + _HEADER], "big")
        if not 4 <= length <= MAX_LENGTH:
            return None
        if data[at] == _ERROR:
            return _sqlstate(data[at + _HEADER : at + 1 + length])
        at += 1 + length
    return None


def _sqlstate(fields: bytes) -> str | None:
    """Field C of `type text NUL …`: five letters or digits. An error whose code lies behind the cut has code XX000's class."""
    for field in fields.split(b"\0"):
        code = field[1:]
        if field[:1] == b"C" and len(code) == 5 and code.isalnum() and code.isascii():
            return code.decode("ascii")
    return "error"
