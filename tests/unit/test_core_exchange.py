"""A batch's header survives the trip, and every batch that is not ours is refused with what is wrong."""

from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.arrowschemas import SCHEMAS, add_header, read_header
from farcall.exchange import (
    BatchError,
    BatchHeader,
    BatchKind,
    ExchangeFlag,
)
from farcall.rows import TABLES, TableName

pytestmark = pytest.mark.unit

EVENTS_H = Path(__file__).resolve().parents[2] / "probes/farcall_probes/bpf/events.h"
GOOD = BatchHeader(
    kind="exchanges", node="node-1", boot_id="0" * 31 + "f", number=1, dns_watched_since_ns=0
)


def metadata_of(**changes: bytes | None) -> dict[bytes, bytes]:
    metadata = dict(add_header(SCHEMAS["exchanges"], GOOD).metadata)
    for key, value in changes.items():
        metadata.pop(f"farcall.{key}".encode(), None)
        if value is not None:
            metadata[f"farcall.{key}".encode()] = value
    return metadata


def test_each_kind_and_table_has_a_schema_of_distinct_columns() -> None:
    assert tuple(SCHEMAS) == get_args(BatchKind)
    assert tuple(TABLES) == get_args(TableName)
    for schema in (*SCHEMAS.values(), *TABLES.values()):
        assert len(set(schema.names)) == len(schema.names)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_header_survives_the_stream(kind: BatchKind) -> None:
    header = BatchHeader(
        kind=kind, node="knoten-ä", boot_id="a" * 32, number=2**63 - 1, dns_watched_since_ns=17
    )
    schema = add_header(SCHEMAS[kind], header)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(schema.empty_table())

    assert read_header(pa.ipc.open_stream(sink.getvalue()).schema) == header


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": None}, "no farcall.kind"),
        ({"kind": b"spans"}, "of kind 'spans'; known are exchanges, dns, connections"),
        ({"kind": b"x" * 17}, "longer than 16 bytes"),
        ({"kind": b"dns"}, "columns differ"),
        ({"schema_version": b"2"}, "schema version 2; this exporter reads 1: upgrade"),
        ({"schema_version": b"one"}, "not a number"),
        ({"boot_id": b"0" * 31}, "not 32 hex digits"),
        ({"boot_id": b"F" * 32}, "not 32 hex digits"),
        ({"boot_id": b"0" * 33}, "longer than 32"),
        ({"node": b"\xff"}, "not UTF-8"),
        ({"node": b""}, "is empty"),
        ({"node": b"a\nb"}, "control characters"),
        ({"node": b"n" * 254}, "longer than 253"),
        ({"number": b"-1"}, "not a number"),
        ({"number": b"0"}, "number is 0"),
        ({"number": "１".encode()}, "not a number"),
        ({"number": b"9223372036854775808"}, "larger than"),
        ({"dns_watched_since_ns": b"99999999999999999999"}, "larger than"),
        ({"dns_watched_since_ns": b""}, "not a number"),
    ],
)  # fmt: skip
def test_a_wrong_header_is_refused_with_its_field(
    changes: dict[str, bytes | None], message: str
) -> None:
    with pytest.raises(BatchError, match=message):
        read_header(SCHEMAS["exchanges"].with_metadata(metadata_of(**changes)))


def test_a_schema_without_metadata_is_refused() -> None:
    with pytest.raises(BatchError, match=r"no farcall\.schema_version"):
        read_header(SCHEMAS["exchanges"])


def test_columns_that_differ_are_named() -> None:
    ours = SCHEMAS["exchanges"]
    wrong = {
        "column role is missing": pa.schema(list(ours)[:4]),
        "column 0 should be start": ours.set(0, pa.field("start", pa.int64(), nullable=False)),
        "column 1 should be duration_ns": ours.set(1, pa.field("duration_ns", pa.uint64())),
        "1 columns too many": ours.append(pa.field("extra", pa.string())),
    }
    for message, schema in wrong.items():
        with pytest.raises(BatchError, match=message):
            read_header(schema.with_metadata(metadata_of()))


KEYS = sorted(metadata_of())


@given(st.dictionaries(st.sampled_from(KEYS) | st.binary(max_size=8), st.binary(max_size=40)))
def test_any_metadata_is_a_header_or_a_batch_error(metadata: dict[bytes, bytes]) -> None:
    for base in ({}, metadata_of()):
        try:
            read_header(SCHEMAS["exchanges"].with_metadata({**base, **metadata}))
        except BatchError as e:
            assert len(str(e)) < 400


def test_the_flags_are_the_kernel_sides() -> None:
    text = EVENTS_H.read_text(encoding="utf-8")
    for flag in ExchangeFlag:
        if flag < ExchangeFlag.DNS_LOST:  # the two above are the agent's own
            assert f"FC_FLAG_{flag.name} = 1 << {flag.value.bit_length() - 1}," in text
    assert text.count("FC_FLAG_") >= len(ExchangeFlag) - 2
