"""Redis: RESP2 and RESP3 commands, pipelines, inline commands, and the first reply's error.

    command  = "*" count CRLF 1*( "$" length CRLF bytes CRLF )        an array of bulk strings
    inline   = word *( SP word ) CRLF                                 a person at a terminal, a health check
    error    = "-" code SP message CRLF  |  "!" length CRLF code SP message CRLF

Arguments are returned as they are; masking.py decides what may be shown of them.
"""

import re
from typing import NamedTuple

from farcall_probes.wire.cursor import Cursor, EndOfBytes
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated

MAX_COMMANDS = 4096  # counted at most in one capture
MAX_ARGUMENTS = 1024 * 1024  # the server's own limit of a multibulk
MAX_BULK = 512 * 1024 * 1024  # proto-max-bulk-len
MAX_KEPT = 16  # arguments kept; a statement shows no more of them
MAX_INLINE = 64 * 1024  # PROTO_INLINE_MAX_SIZE

_COMMAND = re.compile(rb"[A-Za-z][A-Za-z0-9._|-]{0,63}")
_COUNT = re.compile(rb"\*([1-9][0-9]{0,6})")
_LENGTH = re.compile(rb"\$([0-9]{1,9})")
_CODE = re.compile(rb"([A-Z][A-Z0-9_]{0,31})(?=[ \r]|$)")
_REPLY_KINDS = b"+-:$*_,#!=(%~>|"


# As they are written: looked up in a third of the time that writing takes.
_COUNTS = tuple(b"*%d" % count for count in range(MAX_KEPT + 1))
_LENGTHS = tuple(b"$%d" % length for length in range(1024))
Form = tuple[bytes, int]  # a command's name as it stands there, and how many words it has with it


class RedisCommand(NamedTuple):
    name: str  # upper case
    arguments: int  # as the message says, the name not counted
    kept: tuple[bytes, ...]  # the first of them, as far as captured
    commands: int  # of the pipeline, as far as captured


class RedisReply(NamedTuple):
    kind: str  # the RESP type byte
    error: str | None  # the code word of an error


class _Malformed(Exception):
    """Never leaves this module."""


def parse_commands(
    data: bytes, *, cut: bool = False
) -> RedisCommand | Truncated[RedisCommand] | Outcome:
    """The first command, and how many follow it in the same bytes."""
    simple = _parse_simple(data)
    if simple is not None:
        return simple
    first: RedisCommand | None = None
    count = 0
    cursor = Cursor(data)
    try:
        first = _read_command(cursor)
        count = 1
        while not cursor.at_end and count < MAX_COMMANDS:
            _skip_command(cursor)
            count += 1
    except _Malformed:
        # Behind a whole command: garbage, or what a lossy capture left. The first one still is one.
        return first._replace(commands=count) if first is not None else NOT_MINE
    except EndOfBytes:
        return _unfinished(data, first, count, cut=cut)
    return first._replace(commands=count) if count > 1 else first


def find_form(data: bytes) -> Form | None:
    """Of one whole command whose arguments hold no CR LF: nearly every record. Its name may be none."""
    parts = _split_simple(data)
    return (parts[2], len(parts)) if parts is not None else None


def _split_simple(data: bytes) -> list[bytes] | None:
    if data[:1] != b"*":
        return None
    parts = data.split(b"\r\n", 2 * MAX_KEPT + 4)
    count = len(parts) // 2 - 1
    if not 0 < count <= MAX_KEPT or parts[0] != _COUNTS[count] or parts[-1] or len(parts) & 1:
        return None
    for at in range(1, 2 * count, 2):
        length = len(parts[at + 1])
        if parts[at] != (_LENGTHS[length] if length < 1024 else b"$%d" % length):
            return None
    return parts


def _parse_simple(data: bytes) -> RedisCommand | None:
    """At a third of the cursor's cost."""
    parts = _split_simple(data)
    if parts is None or _COMMAND.fullmatch(parts[2]) is None:
        return None
    count = len(parts) // 2 - 1
    return RedisCommand(
        parts[2].decode("ascii").upper(), count - 1, tuple(parts[4 : 2 * count + 1 : 2]), 1
    )


def parse_reply(data: bytes, *, cut: bool = False) -> RedisReply | Truncated[RedisReply] | Outcome:
    """The kind of the first reply, and the code word when it is an error."""
    if not data:
        return Truncated(RedisReply("", None)) if cut else NEED_MORE
    if data[0] not in _REPLY_KINDS:
        return NOT_MINE
    kind = chr(data[0])
    if kind not in "-!":
        return RedisReply(kind, None)
    end = data.find(b"\r\n")
    if end < 0:
        return _reply_beginning(kind, data[1:] if kind == "-" else b"", cut=cut)
    if kind == "-":
        return RedisReply(kind, _code_word(data[1:end]))
    end_of_blob = data.find(b"\r\n", end + 2)
    if end_of_blob < 0:
        return _reply_beginning(kind, data[end + 2 :], cut=cut)
    return RedisReply(kind, _code_word(data[end + 2 : end_of_blob]))


def _reply_beginning(kind: str, message: bytes, *, cut: bool) -> Truncated[RedisReply] | Outcome:
    if not cut:
        return NEED_MORE
    return Truncated(RedisReply(kind, _code_word(message) if b" " in message else "ERR"))


def _code_word(message: bytes) -> str:
    match = _CODE.match(message)
    return match[1].decode("ascii") if match else "ERR"


def _read_command(cursor: Cursor) -> RedisCommand:
    if cursor.data[cursor.offset : cursor.offset + 1] != b"*":
        return _read_inline(cursor)
    count = _number(_COUNT, cursor.line(), MAX_ARGUMENTS)
    name = _name(_read_bulk(cursor))
    kept = [_read_bulk(cursor) for _ in range(min(count - 1, MAX_KEPT))]
    for _ in range(count - 1 - len(kept)):
        _read_bulk(cursor)
    return RedisCommand(name, count - 1, tuple(kept), 1)


def _skip_command(cursor: Cursor) -> None:
    if cursor.data[cursor.offset : cursor.offset + 1] != b"*":
        _read_inline(cursor)
        return
    for _ in range(_number(_COUNT, cursor.line(), MAX_ARGUMENTS)):
        _read_bulk(cursor)


def _read_inline(cursor: Cursor) -> RedisCommand:
    if not cursor.at_end and _COMMAND.match(cursor.data, cursor.offset) is None:
        raise _Malformed
    words = cursor.line().split()
    if not words:
        raise _Malformed
    return RedisCommand(_name(words[0]), len(words) - 1, tuple(words[1 : MAX_KEPT + 1]), 1)


def _read_bulk(cursor: Cursor) -> bytes:
    begin = cursor.offset
    if cursor.data[begin : begin + 1] not in (b"$", b""):
        raise _Malformed
    length = _number(_LENGTH, cursor.line(), MAX_BULK)
    value = cursor.take(length)
    if cursor.take(2) != b"\r\n":
        raise _Malformed
    return value


def _number(pattern: re.Pattern[bytes], line: bytes, limit: int) -> int:
    match = pattern.fullmatch(line)
    if match is None or int(match[1]) > limit:
        raise _Malformed
    return int(match[1])


def _name(raw: bytes) -> str:
    if _COMMAND.fullmatch(raw) is None:
        raise _Malformed
    return raw.decode("ascii").upper()


def _unfinished(
    data: bytes, first: RedisCommand | None, count: int, *, cut: bool
) -> RedisCommand | Truncated[RedisCommand] | Outcome:
    """The bytes end inside a command: the first, or a later one of the pipeline."""
    if not cut:
        return NEED_MORE if first is not None or _is_beginning(data) else NOT_MINE
    if first is not None:
        return Truncated(first._replace(commands=count + 1))  # the one that is cut was begun
    partial = _partial(data)
    return Truncated(partial) if partial is not None else NOT_MINE


def _is_beginning(data: bytes) -> bool:
    if data[:1] not in (b"*", b""):
        return len(data) <= MAX_INLINE and _COMMAND.match(data) is not None
    head = data.split(b"\r\n", 1)[0]
    return head in (b"", b"*", b"*\r") or _COUNT.fullmatch(head.removesuffix(b"\r")) is not None


def _partial(data: bytes) -> RedisCommand | None:
    """Name, number of arguments and whole arguments of a command that is cut; None when not even its name is there."""
    cursor = Cursor(data)
    kept: list[bytes] = []
    try:
        count = _number(_COUNT, cursor.line(), MAX_ARGUMENTS)
        name = _name(_read_bulk(cursor))
    except (EndOfBytes, _Malformed):
        return None
    try:
        while len(kept) < min(count - 1, MAX_KEPT):
            kept.append(_read_bulk(cursor))
    except (EndOfBytes, _Malformed):
        pass
    return RedisCommand(name, count - 1, tuple(kept), 1)
