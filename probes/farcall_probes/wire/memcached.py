"""memcached: text, meta and binary commands, several at once, and the error of the first answer.

    text   = word *( SP word ) CRLF [ bytes CRLF ]      the storing ones carry bytes, their length is a word
    binary = 24-byte header (magic, opcode, key length, extras length, …, body length), extras, key, value

https://github.com/memcached/memcached/blob/master/doc/protocol.txt and the binary protocol's page beside it.
"""

import re
from typing import NamedTuple

from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated

MAX_COMMANDS = 4096
MAX_BYTES = 1 << 30  # of a value; the server's -I goes to 1 GiB
_STORING = frozenset(("set", "add", "replace", "append", "prepend", "cas"))
_OTHERS = frozenset(
    "get gets gat gats incr decr delete touch mg ms md ma me mn stats version flush_all verbosity quit".split()
)
_LINE = re.compile(rb"([a-z_]{2,9})(?: ([^\r\n]*))?\r\n")
_ASK, _BINARY_HEADER = 0x80, 24
_OPCODES = (
    "get set add replace delete increment decrement quit flush getq noop version getk getkq append prepend stat "
    "setq addq replaceq deleteq incrementq decrementq quitq flushq appendq prependq"
).split()
_ERRORS = re.compile(rb"(CLIENT_ERROR|SERVER_ERROR|ERROR)\b")


class MemcachedRequest(NamedTuple):
    name: str  # lower case, as documented
    arguments: int  # keys and what stands behind them; no value
    commands: int


def parse_request(
    data: bytes, *, cut: bool = False
) -> MemcachedRequest | Truncated[MemcachedRequest] | Outcome:
    """The first command, and how many there are in the same bytes."""
    first: MemcachedRequest | None = None
    count = at = 0
    read = _read_binary if data[:1] == bytes((_ASK,)) else _read_text
    while at < len(data) and count < MAX_COMMANDS:
        found = read(data, at)
        if found is None:
            break
        name, arguments, end = found
        first = first or MemcachedRequest(name, arguments, 1)
        count += 1
        at = end
    if first is None:
        return _unfinished(data, cut=cut)
    request = first._replace(commands=count)
    if at == len(data):
        return request
    return Truncated(request) if cut else NEED_MORE


def _read_text(data: bytes, at: int) -> tuple[str, int, int] | None:
    """(name, arguments, end); the end may lie behind the data. None when the line is none, or not whole."""
    line = _LINE.match(data, at)
    if line is None:
        return None
    name, words = line[1].decode("ascii"), (line[2] or b"").split()
    if name in _STORING and len(words) >= 4:
        return name, 1, line.end() + _length(words[3]) + 2
    if name == "ms" and len(words) >= 2:
        return name, 1, line.end() + _length(words[1]) + 2
    return (name, len(words), line.end()) if name in _OTHERS else None


def _length(word: bytes) -> int:
    return min(int(word), MAX_BYTES) if word.isdigit() and len(word) < 12 else 0


def _read_binary(data: bytes, at: int) -> tuple[str, int, int] | None:
    if len(data) < at + _BINARY_HEADER or data[at] != _ASK or data[at + 1] >= len(_OPCODES):
        return None
    keys = 1 if data[at + 2] or data[at + 3] else 0
    body = int.from_bytes(data[at + 8 : at + 12], "big")
    return _OPCODES[data[at + 1]], keys, at + _BINARY_HEADER + min(body, MAX_BYTES)


def _unfinished(data: bytes, *, cut: bool) -> Truncated[MemcachedRequest] | Outcome:
    if data[:1] == bytes((_ASK,)):
        return NEED_MORE if len(data) < _BINARY_HEADER and not cut else NOT_MINE
    word = re.match(rb"([a-z_]{2,9})[ \r]", data)
    name = word[1].decode("ascii") if word else ""
    if name not in _STORING and name not in _OTHERS:
        return NOT_MINE
    if b"\r\n" in data:
        return NOT_MINE  # a whole line, and it was none
    return Truncated(MemcachedRequest(name, len(data.split()) - 1, 1)) if cut else NEED_MORE


def find_error(data: bytes) -> str | None:
    """ERROR, CLIENT_ERROR, SERVER_ERROR, or the binary protocol's status but for `not found`, which is an answer."""
    if data[:1] == b"\x81":
        status = int.from_bytes(data[6:8], "big") if len(data) >= 8 else 0
        return str(status) if status > 1 else None
    match = _ERRORS.match(data)
    return match[1].decode("ascii") if match else None


def mask_request(request: MemcachedRequest) -> str:
    """`get ? ?`: keys may hold what nobody should see, so none is shown."""
    return " ".join([request.name, *["?"] * min(request.arguments, 16)])
