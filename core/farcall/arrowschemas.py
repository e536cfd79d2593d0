"""The columns of farcall.exchange as Arrow schemas, and what a received one must be. Agents do without: pyarrow is 26 MB of memory."""

from collections.abc import Mapping

import pyarrow as pa

from farcall.exchange import (
    COLUMNS,
    MAX_NUMBER,
    SCHEMA_VERSION,
    BatchError,
    BatchHeader,
    BatchKind,
    ColumnType,
)

_TYPES: dict[ColumnType, pa.DataType] = {
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "int32": pa.int32(),
    "time": pa.timestamp("ns", tz="UTC"),
    "word": pa.dictionary(pa.int32(), pa.string()),
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
    "binary8": pa.binary(8),
    "binary16": pa.binary(16),
}
SCHEMAS: dict[BatchKind, pa.Schema] = {
    kind: pa.schema([pa.field(c.name, _TYPES[c.type], nullable=c.nullable) for c in columns])
    for kind, columns in COLUMNS.items()
}


def add_header(schema: pa.Schema, header: BatchHeader) -> pa.Schema:
    """`schema` with the header in its metadata."""
    return schema.with_metadata(header.metadata())


def read_header(schema: pa.Schema) -> BatchHeader:
    """The header of a received schema, its columns checked against ours. Raises BatchError."""
    metadata = schema.metadata or {}
    version = _read_number(metadata, "schema_version")
    if version != SCHEMA_VERSION:
        raise BatchError(
            f"the batch has schema version {version}; this exporter reads {SCHEMA_VERSION}: upgrade the older of the two"
        )
    header = BatchHeader(
        kind=_read_kind(metadata),
        node=_read_node(metadata),
        boot_id=_read_boot_id(metadata),
        number=_read_number(metadata, "number"),
        dns_watched_since_ns=_read_number(metadata, "dns_watched_since_ns"),
        stream=_read_stream(metadata),
        schema_version=version,
    )
    if header.number == 0:
        raise BatchError("farcall.number is 0; batches are counted from 1")
    expected = SCHEMAS[header.kind]
    if schema.remove_metadata() != expected:
        raise BatchError(
            f"the batch's columns differ from schema version {SCHEMA_VERSION}: {_first_difference(schema, expected)}"
        )
    return header


Metadata = Mapping[bytes, bytes]


def _read_text(metadata: Metadata, key: str, limit: int) -> str:
    value = metadata.get(f"farcall.{key}".encode())
    if value is None:
        raise BatchError(f"the batch has no farcall.{key} in its schema metadata")
    if len(value) > limit:
        raise BatchError(f"farcall.{key} is longer than {limit} bytes")
    try:
        return value.decode()
    except UnicodeDecodeError as e:
        raise BatchError(f"farcall.{key} is not UTF-8") from e


def _read_number(metadata: Metadata, key: str) -> int:
    value = _read_text(metadata, key, 20)
    if not value.isascii() or not value.isdigit():
        raise BatchError(f"farcall.{key} is not a number")
    if int(value) > MAX_NUMBER:
        raise BatchError(f"farcall.{key} is larger than {MAX_NUMBER}")
    return int(value)


def _read_kind(metadata: Metadata) -> BatchKind:
    kind = _read_text(metadata, "kind", 16)
    if kind not in SCHEMAS:
        raise BatchError(f"the batch is of kind {kind!r}; known are {', '.join(SCHEMAS)}")
    return kind


def _read_node(metadata: Metadata) -> str:
    node = _read_text(metadata, "node", 253)
    if not node or not node.isprintable():
        raise BatchError("farcall.node is empty or holds control characters")
    return node


def _read_boot_id(metadata: Metadata) -> str:
    boot_id = _read_text(metadata, "boot_id", 32)
    if len(boot_id) != 32 or any(c not in "0123456789abcdef" for c in boot_id):
        raise BatchError("farcall.boot_id is not 32 hex digits")
    return boot_id


def _read_stream(metadata: Metadata) -> str:
    if b"farcall.stream" not in metadata:
        return ""
    stream = _read_text(metadata, "stream", 16)
    if not stream or any(c not in "0123456789abcdef" for c in stream):
        raise BatchError("farcall.stream is not of hex digits")
    return stream


def _first_difference(given: pa.Schema, expected: pa.Schema) -> str:
    for index, field in enumerate(expected):
        if index >= len(given):
            return f"column {field.name} is missing"
        if given.field(index).remove_metadata() != field:
            return f"column {index} should be {field.name}: {field.type}"[:200]
    return f"{len(given) - len(expected)} columns too many"
