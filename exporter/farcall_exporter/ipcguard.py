"""Looks at an Arrow IPC stream before Arrow does: how large would it become?

Arrow allocates what a compressed buffer claims as its uncompressed length, before it decompresses. 16 MB from the wire
could so ask for terabytes. This module walks the stream's framing, adds up the claims, and refuses what lies or grows
too large. It reads no columns, allocates nothing, and knows only the parts of the format that it needs:
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
and, for the metadata, flatbuffers: a table starts with a signed offset to its vtable, which holds the fields' offsets.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from farcall.exchange import BatchError

CONTINUATION = 0xFFFFFFFF
MAX_METADATA_BYTES = 1 << 20
MAX_MESSAGES = (
    512  # a schema, a dictionary for each word column of each record batch, and the batches
)
MAX_BUFFERS = 4_096
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3  # Message.header's union types (Message.fbs)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSize:
    rows: int
    uncompressed_bytes: int
    record_batches: int


def measure_stream(body: bytes, *, max_rows: int, max_bytes: int) -> StreamSize:
    """What the stream says it becomes. Raises BatchError when it is more than allowed, or contradicts itself."""
    rows = total = batches = 0
    try:
        for kind, table, block in _messages(body):
            if kind == _SCHEMA:
                continue
            records = table.table(1) if kind == _DICTIONARY else table
            if records is None:
                raise BatchError("a dictionary message holds no data")
            length = records.int64(0)
            if length < 0 or length > max_rows:
                raise BatchError(f"a message claims {length} rows; at most {max_rows} are taken")
            total += _claimed_bytes(records, block)
            if kind == _RECORDS:
                rows += length
                batches += 1
            if rows > max_rows:
                raise BatchError(f"the batch has more than {max_rows} rows")
            if total > max_bytes:
                raise BatchError(f"the batch would become larger than {max_bytes} bytes")
    except (struct.error, IndexError) as e:
        raise BatchError("the Arrow stream is cut short or its framing is broken") from e
    return StreamSize(rows=rows, uncompressed_bytes=total, record_batches=batches)


class _Table:
    """A flatbuffer table. Every read is bounds-checked by struct: a lying offset is a struct.error."""

    __slots__ = ("_data", "_position", "_vtable", "_vtable_size")

    def __init__(self, data: memoryview, position: int) -> None:
        self._data = data
        self._position = position
        (back,) = self._read("<i", position)
        self._vtable = position - back
        (self._vtable_size,) = self._read("<H", self._vtable)

    def _read(self, form: str, position: int) -> tuple[int, ...]:
        if position < 0:  # struct would count from the end
            raise IndexError(position)
        return struct.unpack_from(form, self._data, position)

    def field(self, slot: int) -> int | None:
        """Where the field's value is, None when it is left out."""
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_size:
            return None
        (offset,) = self._read("<H", self._vtable + entry)
        return self._position + offset if offset else None

    def uint8(self, slot: int) -> int:
        at = self.field(slot)
        return 0 if at is None else self._read("<B", at)[0]

    def int64(self, slot: int) -> int:
        at = self.field(slot)
        return 0 if at is None else self._read("<q", at)[0]

    def table(self, slot: int) -> "_Table | None":
        at = self.field(slot)
        return None if at is None else _Table(self._data, at + self._read("<I", at)[0])

    def structs(self, slot: int, form: str, limit: int) -> Iterator[tuple[int, ...]]:
        at = self.field(slot)
        if at is None:
            return
        at += self._read("<I", at)[0]
        (count,) = self._read("<I", at)
        if count > limit:
            raise BatchError(f"a message has {count} buffers; at most {limit} are taken")
        for index in range(count):
            yield self._read(form, at + 4 + index * struct.calcsize(form))


def _messages(body: bytes) -> Iterator[tuple[int, _Table, memoryview]]:
    """(kind, header, data) of each message up to the end-of-stream mark, which must be there."""
    view = memoryview(body)
    position = 0
    for _ in range(MAX_MESSAGES):
        mark, length = struct.unpack_from("<II", view, position)
        if mark != CONTINUATION:
            raise BatchError("the body is not an Arrow IPC stream")
        position += 8
        if length == 0:
            if position != len(view):
                raise BatchError("bytes follow the end of the Arrow stream")
            return
        if length > MAX_METADATA_BYTES or position + length > len(view):
            raise BatchError("the Arrow stream is cut short, or a message's metadata is too long")
        metadata = view[position : position + length]
        message = _Table(metadata, struct.unpack_from("<I", metadata)[0])
        position += length
        size = message.int64(3)
        if size < 0 or position + size > len(view):
            raise BatchError(
                "the Arrow stream is cut short: a message claims more data than follows"
            )
        header = message.table(2)
        kind = message.uint8(1)
        if header is None or kind not in (_SCHEMA, _DICTIONARY, _RECORDS):
            raise BatchError("the Arrow stream holds a message of an unknown kind")
        yield kind, header, view[position : position + size]
        position += size
    raise BatchError(f"the Arrow stream has more than {MAX_MESSAGES} messages")


def _claimed_bytes(records: _Table, block: memoryview) -> int:
    """RecordBatch: buffers are field 2, compression is field 3. A compressed buffer starts with its full length."""
    is_compressed = records.field(3) is not None
    total = 0
    for offset, length in records.structs(2, "<qq", MAX_BUFFERS):
        if offset < 0 or length < 0 or offset + length > len(block):
            raise BatchError("a buffer of the Arrow stream lies outside its message")
        if not is_compressed or length == 0:
            total += length
            continue
        (claimed,) = struct.unpack_from("<q", block[offset : offset + length])
        if claimed < -1:
            raise BatchError("a buffer of the Arrow stream claims a negative length")
        total += length if claimed == -1 else claimed  # -1: this buffer is not compressed
    return total
