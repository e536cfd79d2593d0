"""Byte ranges of TCP streams by their connection, found by the bytes that they have in common.

A connection that is kept open has as many ranges as were asked in a minute, and each sight looks among them: so a range is
filed under every kilobyte that it touches. One that touches many is filed apart, and looked at every time.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

SHIFT = 10  # a kilobyte: some requests
PIECES = 1 << (32 - SHIFT)  # of the sequence space, which begins anew after 4 GiB
MAX_PIECES = 64  # longer requests are few
T = TypeVar("T")
Key = int | str


class _Stream(Generic[T]):
    __slots__ = ("all", "narrow", "wide")

    def __init__(self) -> None:
        self.all: dict[Key, tuple[int, int, T]] = {}
        self.narrow: dict[int, dict[Key, T]] = {}
        self.wide: dict[Key, T] = {}


class Ranges(Generic[T]):
    def __init__(self) -> None:
        self._streams: dict[int, _Stream[T]] = {}

    def identities(self) -> list[int]:
        return list(self._streams)

    def add(self, identity: int, key: Key, first: int, size: int, value: T) -> None:
        """`key` is of one range of the connection; it replaces the one that had it."""
        self.remove(identity, key)
        stream = self._streams.setdefault(identity, _Stream())
        stream.all[key] = first, size, value
        pieces = _pieces(first, size)
        if pieces is None:
            stream.wide[key] = value
        else:
            for piece in pieces:
                stream.narrow.setdefault(piece, {})[key] = value

    def remove(self, identity: int, key: Key) -> None:
        stream = self._streams.get(identity)
        found = stream.all.pop(key, None) if stream is not None else None
        if stream is None or found is None:
            return
        stream.wide.pop(key, None)
        for piece in _pieces(found[0], found[1]) or ():
            filed = stream.narrow[piece]
            del filed[key]
            if not filed:
                del stream.narrow[piece]
        if not stream.all:
            del self._streams[identity]

    def near(self, identity: int, first: int, size: int) -> Iterable[T]:
        """Every range that has a byte of this one, and some beside; one of no bytes counts as one."""
        stream = self._streams.get(identity)
        if stream is None:
            return ()
        pieces = _pieces(first, size)
        if pieces is None:
            return [value for _, _, value in stream.all.values()]
        found = dict(stream.wide)
        for piece in pieces:
            found.update(stream.narrow.get(piece, {}))
        return found.values()


def _pieces(first: int, size: int) -> list[int] | None:
    """Numbers of the kilobytes that the range touches; None for too many."""
    begin = (first % (PIECES << SHIFT)) >> SHIFT
    count = (((first & ((1 << SHIFT) - 1)) + max(size, 1) - 1) >> SHIFT) + 1
    if count == 1:
        return [begin]
    return [(begin + n) % PIECES for n in range(count)] if count <= MAX_PIECES else None
