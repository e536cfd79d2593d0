"""Columns and streams made without pyarrow hold, for pyarrow, what it would have made of the same values."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcall.arrowschemas import SCHEMAS
from farcall.exchange import COLUMNS, BatchKind, Column, ColumnType
from farcall_exporter.ipcguard import measure_stream
from farcall_probes import columns
from farcall_probes.arrowstream import Batch, make_batch, render_stream
from farcall_probes.columns import Values
from support_agent import read_batch

pytestmark = pytest.mark.unit

TEXT = st.text(max_size=8) | st.text(alphabet="ab", min_size=60, max_size=200)  # some is compressed
_WIDTHS = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}


def values_of(kind: ColumnType) -> st.SearchStrategy[Any]:
    if kind in ("word", "text"):
        return TEXT
    if kind == "texts":
        return st.lists(TEXT, max_size=3)
    if kind.startswith("binary"):
        size = int(kind.removeprefix("binary"))
        return st.binary(min_size=size, max_size=size)
    if kind == "int32":
        return st.integers(-(2**31), 2**31 - 1)
    if kind == "time":
        return st.integers(0, 2**62)
    return st.integers(0, 2 ** _WIDTHS[kind] - 1)


def make_column(column: Column, values: Sequence[Any]) -> Values:
    if column.type == "text":
        return columns.texts(values)
    if column.type == "word":
        return columns.words(values)
    if column.type == "texts":
        return columns.lists_of_texts(values)
    if column.type.startswith("binary"):
        return columns.fixed(values, int(column.type.removeprefix("binary")))
    dtype = np.int64 if column.type == "time" else np.dtype(column.type).type
    return columns.optional_numbers(values, dtype)


@st.composite
def rows_of(draw: st.DrawFn) -> tuple[BatchKind, int, dict[str, list[Any]]]:
    kind: BatchKind = draw(st.sampled_from(sorted(COLUMNS)))
    count = draw(st.integers(0, 12))
    rows: dict[str, list[Any]] = {}
    for column in COLUMNS[kind]:
        value = values_of(column.type)
        if column.nullable and column.type != "texts":
            value = st.none() | value
        rows[column.name] = draw(st.lists(value, min_size=count, max_size=count))
    return kind, count, rows


def build(kind: BatchKind, count: int, rows: dict[str, list[Any]]) -> Batch:
    return make_batch(kind, count, {c.name: make_column(c, rows[c.name]) for c in COLUMNS[kind]})


def expect(kind: BatchKind, rows: dict[str, list[Any]]) -> pa.RecordBatch:
    """What pyarrow makes of them, words as texts: their order in a dictionary is nobody's business."""
    schema = SCHEMAS[kind]
    arrays = [pa.array(rows[f.name], plain_type(f.type)) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)


def plain_type(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_dictionary(kind) else kind


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    arrays = [c.cast(plain_type(c.type)) for c in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


@settings(max_examples=60, deadline=None)
@given(rows_of(), st.booleans())
def test_a_stream_is_what_pyarrow_would_have_made(
    made: tuple[BatchKind, int, dict[str, list[Any]]], compressed: bool
) -> None:
    kind, count, rows = made
    stream = render_stream(
        build(kind, count, rows), {b"a": b"1", b"": b"\xff"}, compressed=compressed
    )
    with pa.ipc.open_stream(stream) as reader:
        assert reader.schema == SCHEMAS[kind]
        assert dict(reader.schema.metadata) == {b"a": b"1", b"": b"\xff"}
        table = reader.read_all()
    table.validate(full=True)

    (batch,) = table.to_batches() or [expect(kind, rows)]
    assert plain(batch).equals(expect(kind, rows))
    size = measure_stream(stream, max_rows=count, max_bytes=1 << 20)
    assert (size.rows, size.record_batches) == (count, 1)


@settings(max_examples=60, deadline=None)
@given(rows_of(), st.data())
def test_a_slice_holds_the_rows_between_its_ends(
    made: tuple[BatchKind, int, dict[str, list[Any]]], data: st.DataObject
) -> None:
    kind, count, rows = made
    begin = data.draw(st.integers(0, count))
    length = data.draw(st.integers(0, count + 2))
    part = build(kind, count, rows).slice(begin, length)
    cut = {name: values[begin : begin + length] for name, values in rows.items()}

    assert part.rows == len(cut["client_key"])
    assert plain(read_batch(part)).equals(expect(kind, cut))


@given(st.lists(st.one_of(st.none(), st.sampled_from("abc")), min_size=1, max_size=6), st.data())
def test_words_by_owner(values: list[str | None], data: st.DataObject) -> None:
    owners = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=30))
    made = columns.words(values, np.array(owners, dtype=np.int32))
    names = [bytes(made.names.data[a:b]).decode() for a, b in zip(made.names.offsets, made.names.offsets[1:], strict=False)]  # fmt: skip
    missing = made.missing if made.missing is not None else [False] * len(owners)
    read = [None if m else names[int(c)] for c, m in zip(made.values, missing, strict=True)]  # type: ignore[call-overload]

    assert read == [values[at] for at in owners]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int32])
def test_numbers_of_a_strided_column_are_packed(dtype: Any) -> None:
    block = np.zeros(5, dtype=[("pad", "V3"), ("value", dtype)])
    block["value"] = range(5)
    made = columns.numbers(block["value"])

    assert made.values.tolist() == list(range(5)) and made.values.flags["C_CONTIGUOUS"]


def test_columns_of_different_lengths_make_no_batch() -> None:
    rows: dict[str, list[Any]] = {c.name: [] for c in COLUMNS["dns"]}
    with pytest.raises(ValueError, match="are not all of 0 rows"):
        build("dns", 0, {**rows, "question": ["a"]})


def test_the_agent_loads_nothing_that_costs_more_memory_than_it_is_worth() -> None:
    """pyarrow alone is 26 MB. A process of its own: the tests here load it."""
    code = "import sys, farcall_probes.agent, farcall_probes.starting\nprint(sorted(HEAVY & sys.modules.keys()))"
    heavy = {"asyncio", "pyarrow", "pydantic", "redis", "structlog"}
    heavy |= {"concurrent", "importlib.metadata", "logging", "numpy.ma", "shutil", "tempfile"}
    done = subprocess.run(
        [sys.executable, "-c", code.replace("HEAVY", repr(heavy))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
