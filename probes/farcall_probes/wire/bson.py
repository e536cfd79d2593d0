"""BSON: its elements one by one, values skipped by their type, and the shape of a document, which is its keys alone.

    document = size *( type key NUL value ) NUL          little-endian; the size counts itself

Offsets in bytes instead of a cursor: a command has tens of elements, and a call for each field would cost three times as much.
https://bsonspec.org/spec.html
"""

from farcall_probes.wire.cursor import EndOfBytes
from farcall_probes.wire.outcomes import text

MAX_SIZE = 48_000_000  # of a value: a message's limit
MAX_KEYS = 48  # of one shape
MAX_DEPTH = 6
MAX_KEY = 64
MAX_SHOWN = 8  # elements of an array
STRING, DOCUMENT, ARRAY, INT32 = 2, 3, 4, 16

# Bytes of a value by its type. Others begin with a size, which does not count these many bytes of the value.
_FIXED = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 0xFF: 0, 0x7F: 0}
_BESIDE_SIZE = {2: 4, 3: 0, 4: 0, 5: 5, 12: 16, 13: 4, 14: 4, 15: 0}
_REGEX = 11


def read_size(data: bytes, at: int) -> int:
    """Raises EndOfBytes when it is not there, or is none."""
    if at + 4 > len(data):
        raise EndOfBytes
    size = int.from_bytes(data[at : at + 4], "little")
    if size > MAX_SIZE:
        raise EndOfBytes
    return size


def find_end(data: bytes, at: int, kind: int) -> int:
    """Where the value of that type that begins at `at` ends, which may be behind the data. Raises EndOfBytes if nobody knows."""
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return at + fixed
    beside = _BESIDE_SIZE.get(kind)
    if beside is not None:
        return at + max(read_size(data, at) + beside, 4)
    if kind != _REGEX:
        raise EndOfBytes  # no type of BSON: nothing behind it can be read
    return find_zero(data, find_zero(data, at) + 1) + 1


def find_zero(data: bytes, at: int) -> int:
    """The NUL that ends a key. Raises EndOfBytes."""
    end = data.find(0, at)
    if end < 0:
        raise EndOfBytes
    return end


def read_string(data: bytes, at: int) -> bytes:
    """A whole one. Raises EndOfBytes."""
    size = read_size(data, at)
    if not size or at + 4 + size > len(data):
        raise EndOfBytes
    return data[at + 4 : at + 3 + size]


def render_shape(document: bytes, *, without: frozenset[bytes] = frozenset()) -> str:
    """`{filter: {n: {$gt: ?}}, limit: ?}`. `…` for what is left out, lies too deep or behind the cut.

    `without`: keys of the outermost document that are not shown.
    """
    shape = _Shape(document)
    shape.add_document(4, MAX_DEPTH, without)
    return "".join(shape.out)


class _Shape:
    __slots__ = ("_data", "_left", "out")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MAX_KEYS
        self.out: list[str] = []

    def add_document(self, at: int, depth: int, without: frozenset[bytes] = frozenset()) -> None:
        """The one whose elements begin at `at`."""
        data, out = self._data, self.out
        out.append("{")
        mark = ""
        try:
            while kind := data[at]:
                end = find_zero(data, at + 1)
                key = data[at + 1 : end]
                at = find_end(data, end + 1, kind)
                if key in without:
                    continue
                self._left -= 1
                if self._left < 0:
                    out.append(f"{mark}…")
                    break
                out.append(f"{mark}{text(key, MAX_KEY)}: ")
                mark = ", "
                self._add_value(end + 1, kind, depth)
        except (EndOfBytes, IndexError):
            out.append(f"{mark}…")
        out.append("}")

    def _add_value(self, at: int, kind: int, depth: int) -> None:
        if kind not in (DOCUMENT, ARRAY):
            self.out.append("?")
        elif depth == 0:
            self.out.append("…")
        elif kind == DOCUMENT:
            self.add_document(at + 4, depth - 1)
        else:
            self._add_array(at + 4, depth - 1)

    def _add_array(self, at: int, depth: int) -> None:
        """`[{$match: …}, {$group: …}]` of a pipeline, `[?]` of plain values however many. Equal neighbours are shown once."""
        data, out = self._data, self.out
        out.append("[")
        before: list[str] = []
        try:
            for _ in range(MAX_SHOWN):
                kind = data[at]
                if not kind:
                    break
                begin = find_zero(data, at + 1) + 1
                at = find_end(data, begin, kind)
                start = len(out)
                self._add_value(begin, kind, depth)
                shape = out[start:]
                if shape == before:
                    del out[start:]
                elif before:
                    out.insert(start, ", ")
                before = shape
                if kind not in (DOCUMENT, ARRAY):
                    break
            else:
                out.append(", …")
        except (EndOfBytes, IndexError):
            out.append(", …" if before else "…")
        out.append("]")
