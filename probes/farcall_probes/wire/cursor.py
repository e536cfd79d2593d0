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

    def uint8(self) -> int:
        return self.take(1)[0]

    def uint16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def line(self) -> bytes:
        """Up to the next CR LF, which is consumed and not returned."""
        end = self.data.find(b"\r\n", self.offset)
        if end < 0:
            raise EndOfBytes
        taken = self.data[self.offset : end]
        self.offset = end + 2
        return taken
