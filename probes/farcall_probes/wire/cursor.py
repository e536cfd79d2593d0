"""A byte cursor with one bounds check: every read past the end is `EndOfBytes`, and nothing else can go wrong.

EndOfBytes never leaves wire/: a parser turns it into NEED_MORE or Truncated.
"""


class EndOfBytes(Exception):
    """The bytes end before what was asked for."""


class Cursor:
    __slots__ = ("data", "offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self.data = data
        self.offset = offset

    @property
    def at_end(self) -> bool:
        return self.offset >= len(self.data)

    def take(self, count: int) -> bytes:
        end = self.offset + count
        if end > len(self.data) or count < 0:
            raise EndOfBytes
        taken = self.data[self.offset : end]
        self.offset = end
        return taken

    def skip(self, count: int) -> None:
        end = self.offset + count
        if end > len(self.data) or count < 0:
            raise EndOfBytes
        self.offset = end

    def uint8(self) -> int:
        return self.take(1)[0]

    def uint16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def int16(self) -> int:
        return int.from_bytes(self.take(2), "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def int32_little(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)

    def varint(self) -> int:
        """Seven bits a byte, the lowest first, 32 at most: more is no number, and ends the bytes."""
        value = shift = 0
        while shift < 35:
            byte = self.uint8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise EndOfBytes

    def until_zero(self) -> bytes:
        """Up to the next NUL, which is consumed and not returned."""
        end = self.data.find(b"\0", self.offset)
        if end < 0:
            raise EndOfBytes
        taken = self.data[self.offset : end]
        self.offset = end + 1
        return taken

    def line(self) -> bytes:
        """Up to the next CR LF, which is consumed and not returned."""
        end = self.data.find(b"\r\n", self.offset)
        if end < 0:
            raise EndOfBytes
        taken = self.data[self.offset : end]
        self.offset = end + 2
        return taken
