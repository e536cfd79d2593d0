"""BSON: values skipped by their type, and the shape of a document, which is its keys alone.

    document = size *( type key NUL value ) NUL          little-endian; the size counts itself

https://bsonspec.org/spec.html
"""

from collections.abc import Iterator

from farcall_probes.wire.cursor import Cursor, EndOfBytes
from farcall_probes.wire.outcomes import text

MAX_STRING = 48_000_000  # a message's limit
MAX_KEYS = 48  # of one shape
MAX_DEPTH = 6
MAX_KEY = 64
MAX_SHOWN = 8  # elements of an array
_DOCUMENT, _ARRAY = 3, 4


def read_string(document: Cursor) -> bytes:
    size = document.int32_little()
    if not 1 <= size <= MAX_STRING:
        raise EndOfBytes
    return document.take(size)[:-1]


# Bytes of a value by its type; what is not here has a size of its own.
_SIZES = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 0xFF: 0, 0x7F: 0}


def skip_value(document: Cursor, kind: int) -> None:
    size = _SIZES.get(kind)
    if size is not None:
        document.skip(size)
    elif kind in (2, 13, 14):  # string, code, symbol
        document.skip(document.int32_little())
    elif kind in (3, 4, 15):  # document, array, code with scope: the size counts itself
        document.skip(document.int32_little() - 4)
    elif kind == 5:  # binary
        document.skip(document.int32_little() + 1)
    elif kind == 11:  # regular expression
        document.until_zero()
        document.until_zero()
    elif kind == 12:  # DBPointer
        document.skip(document.int32_little() + 12)
    else:
        raise EndOfBytes  # no type of BSON: nothing behind it can be read


def render_shape(document: bytes, *, without: frozenset[bytes] = frozenset()) -> str:
    """`{filter: {n: {$gt: ?}}, limit: ?}`. `…` for what is left out, lies too deep or behind the cut.

    `without`: keys of the outermost document that are not shown.
    """
    return "".join(_render(Cursor(document, 4), without, [MAX_KEYS], MAX_DEPTH))


def _render(
    document: Cursor, without: frozenset[bytes], left: list[int], depth: int
) -> Iterator[str]:
    yield "{"
    mark = ""
    try:
        while kind := document.uint8():
            key = document.until_zero()
            if key in without:
                skip_value(document, kind)
                continue
            left[0] -= 1
            if left[0] < 0:
                yield f"{mark}…"
                break
            yield f"{mark}{text(key, MAX_KEY)}: "
            mark = ", "
            yield from _render_value(document, kind, left, depth)
    except EndOfBytes:
        yield f"{mark}…"
    yield "}"


def _render_value(document: Cursor, kind: int, left: list[int], depth: int) -> Iterator[str]:
    if kind not in (_DOCUMENT, _ARRAY):
        yield "?"
        skip_value(document, kind)
        return
    start = document.offset
    end = start + document.int32_little()
    inner = Cursor(document.data[:end], start + 4)
    if depth == 0:
        yield "…"
    elif kind == _DOCUMENT:
        yield from _render(inner, frozenset(), left, depth - 1)
    else:
        yield "["
        yield from _render_array(inner, left, depth - 1)
        yield "]"
    document.offset = start
    document.skip(end - start)


def _render_array(array: Cursor, left: list[int], depth: int) -> Iterator[str]:
    """`{$match: …}, {$group: …}` of a pipeline, `?` of plain values however many. Equal neighbours are shown once."""
    shown = ""
    try:
        for _ in range(MAX_SHOWN):
            kind = array.uint8()
            if not kind:
                return
            array.until_zero()
            shape = "".join(_render_value(array, kind, left, depth))
            if shape != shown:
                yield f", {shape}" if shown else shape
            shown = shape
            if kind not in (_DOCUMENT, _ARRAY):
                return
        yield ", …"
    except EndOfBytes:
        yield ", …" if shown else "…"
