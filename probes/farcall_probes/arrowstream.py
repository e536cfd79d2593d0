"""Rows as one Arrow IPC stream: schema, dictionaries, one record batch, the end mark. What is written is what pyarrow reads.

pyarrow writes the same, for 26 MB of this process; this is the small part of the format that a fixed set of columns needs:
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc and the tables of
Message.fbs and Schema.fbs, whose slots stand in the comments. Metadata is laid out once per shape and filled in place.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import lz4.frame
import numpy as np

from farcall.exchange import COLUMNS, BatchKind, Column
from farcall_probes.columns import Rows, Texts, Values, Words
from farcall_probes.flatbuffer import OFFSET, Builder
from farcall_probes.giveway import give_way

_CONTINUATION = b"\xff\xff\xff\xff"
_END = _CONTINUATION + bytes(4)
_VERSION = ("h", 4)  # MetadataVersion.V5
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3  # union MessageHeader
_INT, _UTF8, _TIMESTAMP, _LIST, _FIXED = 2, 5, 10, 12, 15  # union Type
_NANOSECOND = 3
_WORTH_BYTES = 64  # a shorter buffer gains nothing from compression, and costs 3 µs
_KNOWN_BYTES = 2048  # of a dictionary's words; there may be as many words as rows
_NOT_COMPRESSED = struct.pack("<q", -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of one kind, column by column in the order of farcall.exchange."""

    kind: BatchKind
    rows: int
    columns: tuple[Values, ...]

    def column(self, name: str) -> Values:
        """Raises KeyError."""
        return self.columns[_places(self.kind)[name]]

    def take(self, rows: Rows) -> "Batch":
        """These rows, in this order."""
        columns = tuple(c.take(rows) for c in self.columns)
        return Batch(kind=self.kind, rows=len(rows), columns=columns)

    def replace(self, name: str, values: Values) -> "Batch":
        columns = list(self.columns)
        columns[_places(self.kind)[name]] = values
        return Batch(kind=self.kind, rows=self.rows, columns=tuple(columns))

    def slice(self, begin: int, count: int) -> "Batch":
        end = min(self.rows, begin + count)
        columns = tuple(c.slice(begin, end) for c in self.columns)
        return Batch(kind=self.kind, rows=end - begin, columns=columns)


@lru_cache(maxsize=8)
def _places(kind: BatchKind) -> dict[str, int]:
    return {column.name: place for place, column in enumerate(COLUMNS[kind])}


def make_batch(kind: BatchKind, rows: int, made: Mapping[str, Values]) -> Batch:
    """Raises KeyError where a column is missing, ValueError where one is of another length."""
    columns = tuple(made[column.name] for column in COLUMNS[kind])
    if any(len(column) != rows for column in columns):
        raise ValueError(f"the columns of {kind} are not all of {rows} rows")
    return Batch(kind=kind, rows=rows, columns=columns)


def render_stream(
    batch: Batch, metadata: Mapping[bytes, bytes] | None = None, *, compressed: bool = True
) -> bytes:
    parts = [_schema_message(batch.kind, metadata or {})]
    words = [column for column in batch.columns if isinstance(column, Words)]
    for number, column in enumerate(words):
        parts += _dictionary_message(column.names, compressed, number)
    parts += _data_message(batch.columns, batch.rows, compressed, None)
    parts.append(_END)
    return b"".join(parts)


# ---- messages of data -----------------------------------------------------------------------------------------------


def _data_message(
    columns: Sequence[Values], rows: int, compressed: bool, dictionary: int | None
) -> list[bytes]:
    nodes = [node for column in columns for node in column.nodes()]
    spans: list[tuple[int, int]] = []
    body: list[bytes] = []
    at = 0
    for column in columns:
        give_way()
        for buffer in column.buffers():
            data = _compress(buffer) if compressed else buffer
            spans.append((at, len(data)))
            padding = -len(data) % 8
            body += (data, bytes(padding))
            at += len(data) + padding
    layout = _lay_out(len(nodes), len(spans), compressed, dictionary is not None)
    head = bytearray(layout.template)
    struct.pack_into("<q", head, layout.body_length, at)
    struct.pack_into("<q", head, layout.rows, rows)
    if dictionary is not None:
        struct.pack_into("<q", head, layout.dictionary, dictionary)
    _fill(head, layout.nodes, nodes)
    _fill(head, layout.buffers, spans)
    return [_frame(bytes(head)), *body]


def _dictionary_message(names: Texts, compressed: bool, number: int) -> list[bytes]:
    """Those of few words are made once: there is one for each column of words, and they are nearly always the same."""
    if len(names.data) > _KNOWN_BYTES:
        return _data_message([names], len(names), compressed, number)
    return [_known_dictionary(names.offsets.tobytes(), names.data, compressed, number)]


@lru_cache(maxsize=64)
def _known_dictionary(offsets: bytes, data: bytes, compressed: bool, number: int) -> bytes:
    names = Texts(np.frombuffer(offsets, dtype=np.int32), data)
    return b"".join(_data_message([names], len(names), compressed, number))


def _compress(buffer: bytes) -> bytes:
    """Its length and an LZ4 frame of it, or -1 and itself (BodyCompressionMethod.BUFFER); an empty one stays empty."""
    if not buffer:
        return b""
    if len(buffer) >= _WORTH_BYTES:
        frame: bytes = lz4.frame.compress(buffer, store_size=False)
        if len(frame) < len(buffer):
            return struct.pack("<q", len(buffer)) + frame
    return _NOT_COMPRESSED + buffer


def _fill(head: bytearray, at: int, pairs: Sequence[tuple[int, int]]) -> None:
    head[at : at + 16 * len(pairs)] = np.array(pairs, dtype="<i8").tobytes()


def _frame(head: bytes) -> bytes:
    return _CONTINUATION + struct.pack("<I", len(head)) + head


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """A message's metadata with zeroes in it, and where what differs goes."""

    template: bytes
    body_length: int
    rows: int
    dictionary: int
    nodes: int
    buffers: int


@lru_cache(maxsize=64)
def _lay_out(nodes: int, buffers: int, compressed: bool, is_dictionary: bool) -> _Layout:
    builder = Builder()
    kind = _DICTIONARY if is_dictionary else _RECORDS
    # Message: version, header_type, header, bodyLength
    message = builder.table({0: _VERSION, 1: ("B", kind), 2: OFFSET, 3: ("q", 0)})
    builder.point(0, message[-1])
    outer = message[2]
    dictionary = 0
    if is_dictionary:
        batch = builder.table({0: ("q", 0), 1: OFFSET})  # DictionaryBatch: id, data
        builder.point(outer, batch[-1])
        dictionary, outer = batch[0], batch[1]
    fields = {0: ("q", 0), 1: OFFSET, 2: OFFSET}  # RecordBatch: length, nodes, buffers, compression
    records = builder.table({**fields, 3: OFFSET} if compressed else fields)
    builder.point(outer, records[-1])
    node_vector = builder.structs(nodes, 16)  # FieldNode: length, null_count
    builder.point(records[1], node_vector)
    buffer_vector = builder.structs(buffers, 16)  # Buffer: offset, length
    builder.point(records[2], buffer_vector)
    if compressed:
        # BodyCompression: codec LZ4_FRAME, method BUFFER
        builder.point(records[3], builder.table({0: ("b", 0), 1: ("b", 0)})[-1])
    return _Layout(
        template=builder.finish(),
        body_length=message[3],
        rows=records[0],
        dictionary=dictionary,
        nodes=node_vector + 4,
        buffers=buffer_vector + 4,
    )


# ---- the schema -----------------------------------------------------------------------------------------------------


def _schema_message(kind: BatchKind, metadata: Mapping[bytes, bytes]) -> bytes:
    fields, metadata_at = _lay_out_schema(kind)
    builder = Builder()
    builder.data = bytearray(fields)
    vector, *entries = builder.offsets(len(metadata))
    builder.point(metadata_at, vector)
    for entry, (key, value) in zip(entries, metadata.items(), strict=True):
        pair = builder.table({0: OFFSET, 1: OFFSET})  # KeyValue: key, value
        builder.point(entry, pair[-1])
        builder.point(pair[0], builder.text(key))
        builder.point(pair[1], builder.text(value))
    return _frame(builder.finish())


@lru_cache(maxsize=8)
def _lay_out_schema(kind: BatchKind) -> tuple[bytes, int]:
    """All but the metadata, and where the offset to that goes."""
    builder = Builder()
    message = builder.table({0: _VERSION, 1: ("B", _SCHEMA), 2: OFFSET, 3: ("q", 0)})
    builder.point(0, message[-1])
    schema = builder.table({0: ("h", 0), 1: OFFSET, 2: OFFSET})  # endianness, fields, metadata
    builder.point(message[2], schema[-1])
    vector, *places = builder.offsets(len(COLUMNS[kind]))
    builder.point(schema[1], vector)
    dictionaries = 0
    for place, column in zip(places, COLUMNS[kind], strict=True):
        _add_field(builder, place, column, dictionaries)
        dictionaries += column.type == "word"
    return bytes(builder.data), schema[2]


def _add_field(builder: Builder, place: int, column: Column, dictionary: int) -> None:
    children = ("item",) if column.type == "texts" else ()
    word = column.type in ("word", "text")
    kind = _UTF8 if word else {"texts": _LIST, "time": _TIMESTAMP}.get(column.type)
    if kind is None:
        kind = _FIXED if column.type.startswith("binary") else _INT
    # Field: name, nullable, type_type, type, dictionary, children
    slots = {0: OFFSET, 1: ("B", int(column.nullable)), 2: ("B", kind), 3: OFFSET, 5: OFFSET}
    field = builder.table({**slots, 4: OFFSET} if column.type == "word" else slots)
    builder.point(place, field[-1])
    builder.point(field[0], builder.text(column.name.encode()))
    builder.point(field[3], _add_type(builder, column.type))
    if column.type == "word":
        # DictionaryEncoding: id, indexType
        encoding = builder.table({0: ("q", dictionary), 1: OFFSET})
        builder.point(field[4], encoding[-1])
        builder.point(encoding[1], _add_type(builder, "int32"))
    vector, *below = builder.offsets(len(children))
    builder.point(field[5], vector)
    for at, name in zip(below, children, strict=True):
        _add_field(builder, at, Column(name, "text"), 0)


def _add_type(builder: Builder, kind: str) -> int:
    if kind == "time":
        timestamp = builder.table({0: ("h", _NANOSECOND), 1: OFFSET})  # unit, timezone
        builder.point(timestamp[1], builder.text(b"UTC"))
        return timestamp[-1]
    if kind.startswith("binary"):
        return builder.table({0: ("i", int(kind.removeprefix("binary")))})[-1]  # byteWidth
    if kind in ("word", "text", "texts"):
        return builder.table({})[-1]
    bits = int(kind.lstrip("uint"))
    return builder.table({0: ("i", bits), 1: ("B", int(kind[0] == "i"))})[-1]  # bitWidth, is_signed
