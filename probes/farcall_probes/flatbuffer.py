"""Writes the metadata of Arrow's messages: flatbuffers (https://flatbuffers.dev/internals/), only as much as Arrow needs.

Front to back: a table first, then what it points at, since offsets point forward. Positions count from the buffer's first
byte, which the caller places at a multiple of 8.
"""

import struct
from collections.abc import Mapping, Sequence

_SIZES = {form: struct.calcsize(f"<{form}") for form in "bBhHiIqQ"}
OFFSET = ("I", 0)  # a field that `point` fills


class Builder:
    def __init__(self) -> None:
        self.data = bytearray(4)  # the root table's offset

    def table(self, fields: Mapping[int, tuple[str, int]]) -> dict[int, int]:
        """Appends a table of slot → (struct's letter, value); where each slot's value stands. The table itself: slot -1."""
        self._pad(2)
        slots = max(fields, default=-1) + 1
        vtable = len(self.data)
        self.data += bytes(4 + 2 * slots)
        # 8-byte values come first, behind the 4 bytes of the table's own offset.
        start = 4 if any(_SIZES[form] == 8 for form, _ in fields.values()) else 0
        self._pad(8, start)
        table = len(self.data)
        self.data += struct.pack("<i", table - vtable)
        places = {-1: table}
        for slot, (form, value) in sorted(fields.items(), key=lambda f: -_SIZES[f[1][0]]):
            places[slot] = len(self.data)
            struct.pack_into("<H", self.data, vtable + 4 + 2 * slot, len(self.data) - table)
            self.data += struct.pack(f"<{form}", value)
        struct.pack_into("<HH", self.data, vtable, 4 + 2 * slots, len(self.data) - table)
        return places

    def point(self, at: int, target: int) -> None:
        struct.pack_into("<I", self.data, at, target - at)

    def text(self, value: bytes) -> int:
        self._pad(4)
        place = len(self.data)
        self.data += struct.pack("<I", len(value)) + value + b"\0"
        return place

    def offsets(self, count: int) -> Sequence[int]:
        """Appends a vector of so many offsets; its own place, then that of each."""
        self._pad(4)
        place = len(self.data)
        self.data += struct.pack("<I", count) + bytes(4 * count)
        return range(place, place + 4 * count + 1, 4)

    def structs(self, count: int, width: int) -> int:
        """Appends a vector of zeroed structs of 8-byte members; its place. The first struct is 4 bytes behind it."""
        self._pad(8, 4)
        place = len(self.data)
        self.data += struct.pack("<I", count) + bytes(count * width)
        return place

    def finish(self) -> bytes:
        """Padded to a multiple of 8."""
        self._pad(8)
        return bytes(self.data)

    def _pad(self, alignment: int, residue: int = 0) -> None:
        self.data += bytes((residue - len(self.data)) % alignment)
