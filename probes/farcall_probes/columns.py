"""Columns as Arrow lays them out in memory, of numpy arrays: validity bits, values, offsets and bytes. No pyarrow.

What reads them: farcall_probes.arrowstream. A column knows its parts for a message: a node (length, nulls) and its buffers.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from farcall_probes.coded import Coded
from farcall_probes.giveway import give_way

_FEW = 16  # words, which are nearly always the same as before
Indices = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


class Values(Protocol):
    def __len__(self) -> int: ...

    def slice(self, begin: int, end: int) -> "Values": ...

    def take(self, rows: Rows) -> "Values": ...

    def nodes(self) -> list[tuple[int, int]]:
        """(length, nulls) of the column and of its children."""
        ...

    def buffers(self) -> list[bytes]:
        """Validity (empty where nothing is null), then the values, in Arrow's order."""
        ...


class Numbers:
    """Values of one width: whole numbers, times, binaries of one length."""

    __slots__ = ("missing", "values")

    def __init__(self, values: npt.NDArray[np.generic], missing: Mask | None = None) -> None:
        self.values = values
        self.missing = missing

    def __len__(self) -> int:
        return len(self.values)

    def slice(self, begin: int, end: int) -> "Numbers":
        return Numbers(self.values[begin:end], _cut(self.missing, begin, end))

    def take(self, rows: Rows) -> "Numbers":
        return Numbers(self.values[rows], _pick(self.missing, rows))

    def nodes(self) -> list[tuple[int, int]]:
        return [(len(self.values), _count(self.missing))]

    def buffers(self) -> list[bytes]:
        return [_validity(self.missing), self.values.tobytes()]


class Texts:
    __slots__ = ("data", "missing", "offsets")

    def __init__(self, offsets: Indices, data: bytes, missing: Mask | None = None) -> None:
        self.offsets = offsets
        self.data = data
        self.missing = missing

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def slice(self, begin: int, end: int) -> "Texts":
        offsets = self.offsets[begin : end + 1]
        data = self.data[offsets[0] : offsets[-1]]
        return Texts(offsets - offsets[0], data, _cut(self.missing, begin, end))

    def take(self, rows: Rows) -> "Texts":
        offsets, source = _gather(self.offsets, rows)
        data = np.frombuffer(self.data, np.uint8)[source].tobytes()
        return Texts(offsets, data, _pick(self.missing, rows))

    def nodes(self) -> list[tuple[int, int]]:
        return [(len(self), _count(self.missing))]

    def buffers(self) -> list[bytes]:
        return [_validity(self.missing), self.offsets.tobytes(), self.data]


class Words(Numbers):
    """Indices into `names`, each of which stands there once: ClickHouse refuses a batch where one stands twice."""

    __slots__ = ("names",)

    def __init__(self, codes: Indices, names: Texts, missing: Mask | None = None) -> None:
        super().__init__(codes, missing)
        self.names = names

    def slice(self, begin: int, end: int) -> "Words":
        codes = cast("Indices", self.values[begin:end])
        return Words(codes, self.names, _cut(self.missing, begin, end))

    def take(self, rows: Rows) -> "Words":
        codes = cast("Indices", self.values[rows])
        return Words(codes, self.names, _pick(self.missing, rows))


class Lists:
    """Lists of texts, none of them null."""

    __slots__ = ("flat", "offsets")

    def __init__(self, offsets: Indices, flat: Texts) -> None:
        self.offsets = offsets
        self.flat = flat

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def slice(self, begin: int, end: int) -> "Lists":
        offsets = self.offsets[begin : end + 1]
        return Lists(offsets - offsets[0], self.flat.slice(int(offsets[0]), int(offsets[-1])))

    def take(self, rows: Rows) -> "Lists":
        offsets, source = _gather(self.offsets, rows)
        return Lists(offsets, self.flat.take(source.astype(np.int64)))

    def nodes(self) -> list[tuple[int, int]]:
        return [(len(self), 0), *self.flat.nodes()]

    def buffers(self) -> list[bytes]:
        return [b"", self.offsets.tobytes(), *self.flat.buffers()]


def _gather(offsets: Indices, rows: Rows) -> tuple[Indices, Indices]:
    """(offsets of these rows alone, for each of their items the place that it has now)."""
    begins = offsets[rows]
    lengths = offsets[rows + 1] - begins
    taken = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(lengths, out=taken[1:])
    # An item's place: its row's begin, and how far into the row it is.
    return taken, np.repeat(begins - taken[:-1], lengths) + np.arange(taken[-1], dtype=np.int32)


def _cut(missing: Mask | None, begin: int, end: int) -> Mask | None:
    return missing[begin:end] if missing is not None else None


def _pick(missing: Mask | None, rows: Rows) -> Mask | None:
    return missing[rows] if missing is not None else None


def _count(missing: Mask | None) -> int:
    return int(np.count_nonzero(missing)) if missing is not None else 0


def _validity(missing: Mask | None) -> bytes:
    """One bit per row, least significant first, set where there is a value."""
    if missing is None or not missing.any():
        return b""
    return np.packbits(~missing, bitorder="little").tobytes()


def numbers(values: npt.NDArray[np.generic], missing: Mask | None = None) -> Numbers:
    """A column of the array's own width; strided views are packed, so that no record is kept for one field of it."""
    give_way()
    return Numbers(np.ascontiguousarray(values), missing)


def optional_numbers(values: Sequence[int | None], dtype: type[np.generic]) -> Numbers:
    if values.count(None) == len(values):
        return Numbers(np.zeros(len(values), dtype=dtype), np.ones(len(values), dtype=np.bool_))
    missing = np.array([v is None for v in values], dtype=np.bool_)
    return Numbers(np.array([v or 0 for v in values], dtype=dtype), missing)


def texts(values: Sequence[str | None]) -> Texts:
    """A string column."""
    give_way()
    if isinstance(values, Coded):
        return _coded_texts(values.drop_unused())
    if values.count(None) == len(values):
        nothing = np.zeros(len(values) + 1, dtype=np.int32)
        return Texts(nothing, b"", np.ones(len(values), dtype=np.bool_))
    present, missing = _without_nulls(values, "")
    joined = "".join(present)
    if joined.isascii():
        lengths = np.fromiter(map(len, present), dtype=np.int32, count=len(present))
        data = joined.encode("ascii")
    else:
        encoded = [v.encode("utf-8", "replace") for v in present]
        lengths = np.fromiter(map(len, encoded), dtype=np.int32, count=len(encoded))
        data = b"".join(encoded)
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return Texts(offsets, data, missing)


def _coded_texts(values: Coded) -> Texts:
    names, missing = _without_nulls(values.names, "")
    if len(names) == 1:
        return _repeated_text(names[0], len(values), missing)
    which = values.which.tolist()
    data = "".join(map(names.__getitem__, which))
    if data.isascii():
        lengths = np.fromiter(map(len, names), np.int32, len(names))
        made = data.encode("ascii")
    else:
        encoded = [name.encode("utf-8", "replace") for name in names]
        lengths = np.fromiter(map(len, encoded), np.int32, len(names))
        made = b"".join(map(encoded.__getitem__, which))
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum(lengths[values.which], out=offsets[1:])
    return Texts(offsets, made, missing[values.which] if missing is not None else None)


def _repeated_text(name: str, rows: int, missing: Mask | None) -> Texts:
    data = name.encode("utf-8", "replace")
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(len(data))
    return Texts(offsets, data * rows, np.repeat(missing, rows) if missing is not None else None)


def join_fixed(some: Sequence[Numbers | Sequence[bytes | None]], width: int) -> Numbers:
    """A column of binaries of one width, of which some are made already."""
    made = [each if isinstance(each, Numbers) else fixed(each, width) for each in some]
    if len(made) == 1:
        return made[0]
    missing = None
    if any(each.missing is not None for each in made):
        missing = np.concatenate(
            [np.zeros(len(m), np.bool_) if m.missing is None else m.missing for m in made]
        )
    return Numbers(np.concatenate([each.values for each in made]), missing)


def fixed(values: Sequence[bytes | None], width: int) -> Numbers:
    """A column of binaries of one width."""
    if values.count(None) == len(values):
        nothing = np.zeros(len(values), dtype=f"V{width}")
        return Numbers(nothing, np.ones(len(values), dtype=np.bool_))
    present, missing = _without_nulls(values, bytes(width))
    return Numbers(np.frombuffer(b"".join(present), dtype=f"V{width}"), missing)


T = TypeVar("T")


def _without_nulls(values: Sequence[T | None], nothing: T) -> tuple[Sequence[T], Mask | None]:
    """Nulls replaced, and where they were. Columns that are all null or have none are common: counting tells them cheaply."""
    nulls = values.count(None)
    if not nulls:
        return cast("Sequence[T]", values), None
    if nulls == len(values):
        return [nothing] * len(values), np.ones(len(values), dtype=np.bool_)
    missing = np.array([v is None for v in values], dtype=np.bool_)
    return [nothing if v is None else v for v in values], missing


def words(values: Sequence[str | None], owners: Indices | None = None) -> Words:
    """A dictionary column. With owners: words by owner, and one index per row."""
    give_way()
    if isinstance(values, Coded):
        used = values.drop_unused()
        values, owners = used.names, used.which.astype(np.int32)
    if owners is None and values.count(None) == len(values):
        nothing = np.zeros(len(values), dtype=np.int32)
        return words_of_codes(nothing, [], np.ones(len(values), dtype=np.bool_))
    index = {word: code for code, word in enumerate(dict.fromkeys(values))}
    codes = np.fromiter(map(index.__getitem__, values), dtype=np.int32, count=len(values))
    if owners is not None:
        codes = codes[owners]
    missing = None
    if None in index:
        none = index.pop(None)
        missing = codes == none
        codes = codes - (
            codes > none
        )  # null has no place in the dictionary: those behind it move up
    return words_of_codes(codes.astype(np.int32, copy=False), list(index), missing)  # type: ignore[arg-type]


def words_of_codes(codes: Indices, names: Sequence[str], missing: Mask | None = None) -> Words:
    few = len(names) <= _FEW
    return Words(np.ascontiguousarray(codes), _few_texts(*names) if few else texts(names), missing)


@lru_cache(maxsize=128)
def _few_texts(*names: str) -> Texts:
    return texts(names)


def lists_of_texts(values: Sequence[Sequence[str]]) -> Lists:
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(v) for v in values], out=offsets[1:])
    return Lists(offsets, texts([word for value in values for word in value]))
