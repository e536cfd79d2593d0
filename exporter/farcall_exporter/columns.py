"""Columns as codes into a short list of values: the shape in which the exporter thinks about a batch.

A batch of 10,000 exchanges holds a few hundred distinct hosts, clients and connections. What is decided once per
distinct value stays cheap in Python; what is done per row is numpy. No row is ever a dict here.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from farcall.mixing import Words, mix

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MAPPED_PREFIX = bytes(10) + b"\xff\xff"  # RFC 4291 2.5.5.2


@dataclass(frozen=True, slots=True)
class Coded:
    """`values[codes[i]]` is row i; code -1 is null."""

    values: pa.Array  # strings, each once (not required)
    codes: Codes

    @property
    def present(self) -> Mask:
        return self.codes >= 0

    def texts(self) -> list[str]:
        texts: list[str] = self.values.to_pylist()
        return texts

    def only(self, mask: Mask) -> "Coded":
        """The same where `mask`, null elsewhere."""
        return Coded(self.values, np.where(mask, self.codes, -1))

    def is_one_of(self, words: Container[str]) -> Mask:
        fits = np.array([text in words for text in self.texts()] + [False], np.bool_)
        return fits[self.codes]  # code -1 finds the False

    def renamed(self, rename: Callable[[str], str]) -> "Coded":
        """Each distinct value through `rename`."""
        return Coded(texts_array([rename(text) for text in self.texts()]), self.codes)

    def take(self, rows: Codes) -> "Coded":
        return Coded(self.values, self.codes[rows])

    def or_else(self, text: str) -> "Coded":
        """`text` where it is null."""
        values = pa.concat_arrays([self.values, texts_array([text])])
        return Coded(values, np.where(self.codes >= 0, self.codes, len(self.values)))

    def to_strings(self) -> pa.Array:
        return self.values.take(self._indices())

    def to_words(self) -> pa.DictionaryArray:
        """As a dictionary column with int32 indices, the type of the rows' words."""
        return pa.DictionaryArray.from_arrays(self._indices().cast(pa.int32()), self.values)

    def _indices(self) -> pa.Array:
        return pa.array(self.codes, mask=self.codes < 0)


def texts_array(texts: Sequence[str]) -> pa.Array:
    return pa.array(texts, pa.string())


def constant(text: str, count: int) -> Coded:
    return Coded(texts_array([text]), np.zeros(count, np.int64))


def choose(options: Sequence[str], codes: Codes | Mask) -> Coded:
    return Coded(texts_array(options), codes.astype(np.int64))


def numbers(column: npt.NDArray[np.integer], where: Mask | None = None) -> Coded:
    """Decimal texts of a column of integers; each distinct number is written once."""
    distinct, codes = np.unique(column, return_inverse=True)
    coded = Coded(pa.array(distinct).cast(pa.string()), codes.astype(np.int64))
    return coded if where is None else coded.only(where)


def code_column(table: pa.Table, name: str) -> Coded:
    """Any text or address column of a received batch, coded."""
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # an empty table has no chunk to combine
        column = pa.array([], column.type)
    if not isinstance(column, pa.DictionaryArray):
        column = pc.dictionary_encode(column)
    indices = column.indices
    codes = indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return _each_once(column.dictionary, codes)


def _each_once(values: pa.Array, codes: Codes) -> Coded:
    """A dictionary from the wire may hold a value twice; as a column's it would have the store refuse the whole batch."""
    encoded = values.dictionary_encode()
    if len(encoded.dictionary) == len(values):
        return Coded(values, codes)
    again = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Coded(encoded.dictionary, np.where(codes >= 0, again[np.maximum(codes, 0)], -1))


def code_addresses(table: pa.Table, name: str) -> Coded:
    """An address column as RFC 5952 text, IPv4 where it was mapped."""
    raw = code_column(table, name)
    return Coded(texts_array([address_text(value) for value in raw.values.to_pylist()]), raw.codes)


@lru_cache(maxsize=16_384)
def address_text(raw: bytes) -> str:
    if raw.startswith(MAPPED_PREFIX):
        return ".".join(str(byte) for byte in raw[12:])
    return str(IPv6Address(raw))


def integers(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """An integer or time column as int64; 0 for null (times are Unix ns, never 0)."""
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if column.null_count:
        column = column.fill_null(0)
    values: npt.NDArray[np.int64] = column.to_numpy().astype(np.int64, copy=False)
    return values


def group(*keys: npt.NDArray[np.integer]) -> tuple[Codes, Codes]:
    """(last row of each distinct combination, group of each row).

    The keys are mixed into one word a row: a single sort instead of one for each key. Two combinations of one batch
    (at most 65,536 rows) meet in 64 bits once in 10^10 batches.
    """
    word = np.zeros(len(keys[0]), np.uint64)
    for salt, key in enumerate(keys):
        word = mix(word ^ mix(key.astype(np.uint64) + np.uint64(salt + 1)))
    _, index, codes = np.unique(word[::-1], return_index=True, return_inverse=True)
    return (len(word) - 1 - index).astype(np.int64), codes[::-1].astype(np.int64)


def spread(texts: Sequence[str | None], groups: Codes) -> Coded:
    """A text for each group, laid over the rows; each distinct text is kept once."""
    seen: dict[str, int] = {}
    codes = np.array([-1 if t is None else seen.setdefault(t, len(seen)) for t in texts], np.int64)
    return Coded(texts_array(list(seen)), codes[groups] if len(codes) else groups)


def overlay(below: Coded, above: Coded, where: Mask | None = None) -> Coded:
    """`above` where `where`, or where it is present; the values stay each once, as a column's dictionary needs them."""
    chosen = above.present if where is None else where
    if not chosen.any():
        return below
    values = pa.concat_arrays([below.values, above.values])
    codes = np.where(chosen, above.codes + len(below.values), below.codes)
    return _each_once(values, codes)


def build_map(count: int, entries: Sequence[tuple[str, Coded]]) -> pa.MapArray:
    """A map column of `count` rows with the keys in the given order; null values leave their key out.

    All values go into one pool and one `take` lays them out row by row: the cost is that of the copied bytes.
    """
    if not entries:
        return pa.MapArray.from_arrays(
            pa.array(np.zeros(count + 1, np.int32)), texts_array([]), texts_array([])
        )
    pool = pa.concat_arrays([coded.values for _, coded in entries])
    starts = np.cumsum([0] + [len(coded.values) for _, coded in entries])[:-1]
    codes = np.stack([coded.codes for _, coded in entries], axis=1)
    present = codes >= 0
    offsets = np.zeros(count + 1, np.int32)
    np.cumsum(present.sum(axis=1), out=offsets[1:])
    cells = (codes + starts)[present]
    keys = np.broadcast_to(np.arange(len(entries), dtype=np.int32), present.shape)[present]
    return pa.MapArray.from_arrays(
        pa.array(offsets),
        texts_array([key for key, _ in entries]).take(pa.array(keys)),
        pool.take(pa.array(cells)),
    )


def hex_ids(*words: Words) -> pa.Array:
    """Lower-case hex of one or two 64-bit words a row, without a loop over the rows."""
    count = len(words[0])
    raw = np.stack(words, axis=1).astype(">u8").tobytes()  # stacking gives native order
    width = 16 * len(words)
    offsets = np.arange(count + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(
        count, pa.py_buffer(offsets.tobytes()), pa.py_buffer(raw.hex().encode("ascii"))
    )
