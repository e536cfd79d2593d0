"""Arrow arrays straight from buffers.

`pyarrow.array()` and every compute function (`dictionary_encode`, `take`, `cast`) load Arrow's library of kernels at the
first call: 50 MB of this process for good, more than all the rest of it. `from_buffers` does not, and numpy makes the
buffers just as fast. A test watches that the library stays out.
"""

from collections.abc import Sequence
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from farcall import exchange

Indices = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
_TYPES = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
}


def numbers(values: npt.NDArray[np.generic], missing: Mask | None = None) -> pa.Array:
    """A column of the array's own width; strided views are packed."""
    packed = np.ascontiguousarray(values)
    buffers = [_validity(missing), pa.py_buffer(packed)]
    return pa.Array.from_buffers(_TYPES[packed.dtype.name], len(packed), buffers)


def times(unix_ns: npt.NDArray[np.int64], missing: Mask | None = None) -> pa.Array:
    packed = np.ascontiguousarray(unix_ns)
    return pa.Array.from_buffers(
        exchange.TIME, len(packed), [_validity(missing), pa.py_buffer(packed)]
    )


def optional_numbers(values: Sequence[int | None], dtype: type[np.generic]) -> pa.Array:
    if values.count(None) == len(values):
        return numbers(np.zeros(len(values), dtype=dtype), np.ones(len(values), dtype=np.bool_))
    missing = np.array([v is None for v in values], dtype=np.bool_)
    return numbers(np.array([v or 0 for v in values], dtype=dtype), missing)


def texts(values: Sequence[str | None]) -> pa.Array:
    """A string column."""
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
    buffers = [_validity(missing), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def fixed(values: Sequence[bytes | None], width: int) -> pa.Array:
    """A column of binaries of one width."""
    present, missing = _without_nulls(values, bytes(width))
    data = pa.py_buffer(b"".join(present))
    return pa.Array.from_buffers(pa.binary(width), len(values), [_validity(missing), data])


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


def addresses(values: npt.NDArray[np.void]) -> pa.Array:
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(exchange.ADDRESS, len(values), [None, data])


def words(values: Sequence[str | None], owners: Indices | None = None) -> pa.Array:
    """A dictionary column. With owners: words by owner, and one index per row."""
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


def words_of_codes(codes: Indices, names: Sequence[str], missing: Mask | None = None) -> pa.Array:
    buffers = [_validity(missing), pa.py_buffer(np.ascontiguousarray(codes))]
    kind = pa.dictionary(pa.int32(), pa.string())
    return pa.DictionaryArray.from_buffers(kind, len(codes), buffers, texts(names))


def lists_of_texts(values: Sequence[Sequence[str]]) -> pa.Array:
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(v) for v in values], out=offsets[1:])
    flat = texts([word for value in values for word in value])
    buffers = [None, pa.py_buffer(offsets)]
    return pa.Array.from_buffers(pa.list_(pa.string()), len(values), buffers, children=[flat])


def _validity(missing: Mask | None) -> pa.Buffer | None:
    """One bit per row, least significant first, set where there is a value."""
    if missing is None or not missing.any():
        return None
    return pa.py_buffer(np.packbits(~missing, bitorder="little"))
