"""Integers of HPACK (RFC 7541, 5.1), and what ends the reading of a block."""

MAX_BYTES = 4  # behind the prefix: 2^28 is beyond every length and index that can be meant


class EndError(Exception):
    """The block ends within a field."""


class MalformedError(Exception):
    """No encoder makes such a block."""


def read_integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """Behind a prefix of all ones: (value, where it ends). Raises EndError, MalformedError."""
    value = prefix
    for count in range(MAX_BYTES):
        if at >= len(block):
            raise EndError
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, at
    raise MalformedError


def write_integer(pattern: int, prefix: int, value: int) -> bytes:
    """Of at most three bytes; nothing here ever sends: it is what others would."""
    if value < prefix:
        return bytes((pattern | value,))
    value -= prefix
    more = (value,) if value < 0x80 else (value & 0x7F | 0x80, value >> 7)
    return bytes((pattern | prefix, *more))
