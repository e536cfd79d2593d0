"""Bytes from an agent → a table that can be trusted, or a BatchError that says why not. No I/O.

Arrow's reader is fed only what the guard has measured; afterwards everything that the schema promises and Arrow does not
enforce is checked: UTF-8, indices, nulls where none may be, closed lists, lengths. Later code relies on it.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from farcall.arrowschemas import read_header
from farcall.envelope import MAX_BATCH_ROWS
from farcall.exchange import MAX_TEXT_BYTES, BatchError, BatchHeader
from farcall_exporter.ipcguard import measure_stream

# 65,536 rows of all fixed columns and a full text column fit; 16 MB of lz4 can claim 255 times its size.
MAX_UNCOMPRESSED_BYTES = 256 * 1024 * 1024
MAX_TIME_NS = (
    4_102_444_800 * 10**9
)  # the year 2100: clocks that far off are broken, and the store has a limit
MAX_RIVALS = 8


# Of an agent's batch of a second, handing columns to other threads costs ten times what unpacking them does.
_READING = pa.ipc.IpcReadOptions(use_threads=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    header: BatchHeader
    table: pa.Table


def decode_batch(body: bytes) -> Decoded:
    """Raises BatchError."""
    measure_stream(body, max_rows=MAX_BATCH_ROWS, max_bytes=MAX_UNCOMPRESSED_BYTES)
    try:
        with pa.ipc.open_stream(pa.py_buffer(body), options=_READING) as reader:
            header = read_header(reader.schema)
            table = reader.read_all()
        table.validate(full=True)
    except BatchError:
        raise
    # Arrow raises its own errors, and for some broken inputs Python's.
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as e:
        raise BatchError(f"the Arrow stream cannot be read: {str(e)[:256]}") from e
    if table.num_rows > MAX_BATCH_ROWS:
        raise BatchError(f"the batch has {table.num_rows} rows; at most {MAX_BATCH_ROWS} are taken")
    table = table.unify_dictionaries().combine_chunks()
    for field in table.schema:
        _check_column(field, table.column(field.name))
    return Decoded(header=header, table=table.replace_schema_metadata(None))


def _check_column(field: pa.Field, column: pa.ChunkedArray) -> None:
    if not field.nullable and column.null_count:
        raise BatchError(f"column {field.name} holds nulls")
    if pa.types.is_dictionary(field.type):
        for chunk in column.chunks:
            if chunk.dictionary.null_count:
                raise BatchError(f"column {field.name} has a null in its dictionary")
            _check_texts(field.name, chunk.dictionary)
    elif pa.types.is_string(field.type):
        _check_texts(field.name, column)
    elif pa.types.is_list(field.type):
        _check_list(field.name, column)
    elif pa.types.is_timestamp(field.type):
        _check_range(field.name, column.cast(pa.int64()), 0, MAX_TIME_NS)
    elif field.name == "role":
        _check_range(field.name, column, 0, 1)
    elif field.name in ("duration_ns", "request_duration_ns", "first_byte_ns"):
        _check_range(field.name, column, 0, MAX_TIME_NS)


def _check_list(name: str, column: pa.ChunkedArray) -> None:
    longest = pc.max(pc.list_value_length(column)).as_py() or 0
    if longest > MAX_RIVALS:
        raise BatchError(f"column {name} holds a list of {longest}; at most {MAX_RIVALS} are taken")
    values = pc.list_flatten(column)
    if values.null_count:
        raise BatchError(f"column {name} holds nulls in a list")
    _check_texts(name, values)


def _check_texts(name: str, texts: pa.Array | pa.ChunkedArray) -> None:
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > MAX_TEXT_BYTES:
        raise BatchError(
            f"column {name} holds a text of {longest} bytes; at most {MAX_TEXT_BYTES} are taken"
        )


def _check_range(name: str, column: pa.ChunkedArray, lowest: int, highest: int) -> None:
    bounds = pc.min_max(column).as_py()
    if bounds["min"] is not None and not lowest <= bounds["min"] <= bounds["max"] <= highest:
        raise BatchError(f"column {name} holds {bounds['min']}..{bounds['max']}: out of range")
