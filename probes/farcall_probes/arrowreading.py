"""Arrow streams back into our own columns, by pyarrow: 26 MB, so imported only where a batch is to be divided anew.

The opposite of farcall_probes.arrowstream; for streams that this agent wrote.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from farcall.exchange import BatchKind
from farcall_probes.arrowstream import Batch
from farcall_probes.columns import Lists, Mask, Numbers, Texts, Values, Words


def read_batches(kind: BatchKind, payload: bytes) -> list[Batch]:
    with pa.ipc.open_stream(payload) as reader:
        return [convert(kind, rows) for rows in reader]


def convert(kind: BatchKind, rows: pa.RecordBatch) -> Batch:
    columns = tuple(_convert(column) for column in rows.columns)
    return Batch(kind=kind, rows=rows.num_rows, columns=columns)


def _convert(column: pa.Array) -> Values:
    kind = column.type
    if pa.types.is_dictionary(kind):
        codes = _numbers(column.indices, "int32")
        return Words(codes.values, _texts(column.dictionary), codes.missing)  # type: ignore[arg-type]
    if pa.types.is_string(kind):
        return _texts(column)
    if pa.types.is_list(kind):
        offsets = _offsets(column)
        flat = _texts(column.values).slice(int(offsets[0]), int(offsets[-1]))
        return Lists(offsets - offsets[0], flat)
    if pa.types.is_fixed_size_binary(kind):
        return _numbers(column, f"V{kind.byte_width}")
    return _numbers(column, "int64" if pa.types.is_timestamp(kind) else str(kind))


def _numbers(column: pa.Array, dtype: str) -> Numbers:
    values = np.frombuffer(column.buffers()[1] or b"", dtype)
    return Numbers(values[column.offset : column.offset + len(column)], _missing(column))


def _texts(column: pa.Array) -> Texts:
    offsets = _offsets(column)
    data = column.buffers()[2]
    whole = data.to_pybytes() if data is not None else b""
    return Texts(offsets - offsets[0], whole[offsets[0] : offsets[-1]], _missing(column))


def _offsets(column: pa.Array) -> Any:
    ends = column.buffers()[1]
    if ends is None or not ends.size:
        return np.zeros(1, np.int32)
    return np.frombuffer(ends, np.int32)[column.offset : column.offset + len(column) + 1]


def _missing(column: pa.Array) -> Mask | None:
    validity = column.buffers()[0]
    if validity is None or not column.null_count:
        return None
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
    return np.asarray(bits[column.offset : column.offset + len(column)] == 0)
