"""The beginnings of compressed messages, zlib, LZ4 blocks and Snappy: as much as the captured bytes hold, up to a limit.

Drivers compress by themselves when both ends can, so without this a whole fleet's statements would be unknown. Bytes that are cut or
wrong give what stands before the fault; nothing is raised, and no claimed size is believed.
https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md, https://github.com/google/snappy/blob/main/format_description.txt
"""

import zlib

MAX_INFLATED = 2048  # bytes that are wanted; statements and commands begin their messages


def inflate_zlib(packed: bytes, limit: int = MAX_INFLATED) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, limit)
    except zlib.error:
        return b""


def inflate_lz4(packed: bytes, limit: int = MAX_INFLATED) -> bytes:
    """A block without a frame: sequences of literals and a copy of what came before."""
    out = bytearray()
    at, end = 0, len(packed)
    while at < end and len(out) < limit:
        token = packed[at]
        at += 1
        literals, at = _read_length(packed, at, token >> 4)
        out += packed[at : at + literals]
        at += literals
        if at + 2 > end:
            break
        distance = int.from_bytes(packed[at : at + 2], "little")
        size, at = _read_length(packed, at + 2, token & 15)
        if not _copy(out, distance, size + 4, limit):
            break
    return bytes(out[:limit])


def _read_length(packed: bytes, at: int, length: int) -> tuple[int, int]:
    """15 goes on in bytes of 255, until one is less."""
    if length == 15:
        while at < len(packed):
            length += packed[at]
            at += 1
            if packed[at - 1] != 255:
                break
    return length, at


def inflate_snappy(packed: bytes, limit: int = MAX_INFLATED) -> bytes:
    """The size it had as a varint, then literals and copies."""
    at = 0
    while at < len(packed) and packed[at] & 0x80:
        at += 1
    at += 1
    out = bytearray()
    while at < len(packed) and len(out) < limit:
        tag = packed[at]
        kind, size = tag & 3, (tag >> 2) + 1
        at += 1
        if kind == 0:
            if size > 60:  # 60 to 63: the size less one is in 1 to 4 bytes
                wide = size - 60
                size = int.from_bytes(packed[at : at + wide], "little") + 1
                at += wide
            out += packed[at : at + size]
            at += size
            continue
        wide = (0, 1, 2, 4)[kind]
        if at + wide > len(packed):
            break
        distance = int.from_bytes(packed[at : at + wide], "little")
        if kind == 1:
            distance, size = distance | (tag >> 5) << 8, (tag >> 2 & 7) + 4
        at += wide
        if not _copy(out, distance, size, limit):
            break
    return bytes(out[:limit])


def _copy(out: bytearray, distance: int, size: int, limit: int) -> bool:
    """Appends `size` bytes from `distance` before the end; they may overlap, and then repeat."""
    if not 0 < distance <= len(out):
        return False
    size = min(size, limit)
    piece = bytes(out[-distance:][:size])
    out += (piece * (size // len(piece) + 1))[:size]
    return True
