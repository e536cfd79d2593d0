"""Some rows of a record batch, by numpy alone: Arrow's own `take` would load its library of kernels, 50 MB (columns)."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Rows = npt.NDArray[np.int64]


def gather(batch: pa.RecordBatch, rows: Rows) -> pa.RecordBatch:
    """In the order of `rows`; columns may be of fixed width, text, or dictionaries of text."""
    columns = [_gather(column, rows) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _gather(column: pa.Array, rows: Rows) -> pa.Array:
    kind, at = column.type, rows + column.offset
    if pa.types.is_dictionary(kind):
        codes = _gather_fixed(column.indices, rows + column.indices.offset, kind.index_type)
        return pa.DictionaryArray.from_buffers(kind, len(rows), codes, column.dictionary)
    if pa.types.is_string(kind):
        return _gather_texts(column, at)
    return pa.Array.from_buffers(kind, len(rows), _gather_fixed(column, at, kind))


def _gather_fixed(column: pa.Array, at: Rows, kind: pa.DataType) -> list[Any]:
    validity, data = column.buffers()
    plain = np.frombuffer(data, np.dtype((np.void, kind.bit_width // 8)))[at]
    return [_gather_bits(validity, at), pa.py_buffer(np.ascontiguousarray(plain))]


def _gather_texts(column: pa.Array, at: Rows) -> pa.Array:
    validity, ends, data = column.buffers()
    offsets = np.frombuffer(ends, np.int32)
    begins, lengths = offsets[at], offsets[at + 1] - offsets[at]
    made = np.zeros(len(at) + 1, np.int32)
    np.cumsum(lengths, out=made[1:])
    # For each byte of the result the place of its source: its row's begin, and how far into the row it is.
    source = np.repeat(begins - made[:-1], lengths) + np.arange(made[-1], dtype=np.int32)
    flat = np.frombuffer(data, np.uint8)[source] if data is not None else np.empty(0, np.uint8)
    buffers = [_gather_bits(validity, at), pa.py_buffer(made), pa.py_buffer(flat)]
    return pa.Array.from_buffers(pa.string(), len(at), buffers)


def _gather_bits(validity: pa.Buffer | None, at: Rows) -> Any:
    if validity is None:
        return None
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
    return pa.py_buffer(np.packbits(bits[at], bitorder="little"))
