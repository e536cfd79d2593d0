"""Inserts over the store's HTTP interface with the real client: formats, compression, tokens, refusals."""

import gzip
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from farcall_store.writer import DAY_NS, StoreWriter
from support_store import (
    SECOND,
    StoreProcess,
    build_table,
    connect,
    log_line,
    running_store,
    span,
    span_id,
    trace_id,
)

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    with running_store(tmp_path_factory.mktemp("store")) as process:
        yield process


@pytest.fixture(scope="module")
def reader(store: StoreProcess) -> Any:
    return connect(store, "reader")


def test_inserts_in_every_format_and_compression(store: StoreProcess, reader: Any) -> None:
    now = time.time_ns()
    writer = connect(store, "writer")
    for compression in ("lz4", "zstd", "gzip"):
        rows = {"Timestamp": f"{now // 10**9}", "Body": f"by {compression}"}
        packed = _compress(json.dumps(rows).encode(), compression)
        writer.raw_insert(
            "otel_logs", ["Timestamp", "Body"], packed, fmt="JSONEachRow", compression=compression
        )
    writer.insert_arrow("otel_logs", build_table("logs", [log_line(now, "by arrow")]))
    writer.insert(
        "otel_logs",
        [[datetime.now(UTC), "by native", {"k": "v"}]],
        column_names=["Timestamp", "Body", "LogAttributes"],
        column_type_names=["DateTime64(9)", "String", "Map(LowCardinality(String), String)"],
    )

    found = reader.query(
        "SELECT Body FROM otel_logs WHERE startsWith(Body, 'by ') ORDER BY Body"
    ).result_rows

    assert found == [("by arrow",), ("by gzip",), ("by lz4",), ("by native",), ("by zstd",)]


def _compress(rows: bytes, how: str) -> bytes:
    if how == "gzip":
        return gzip.compress(rows)
    codec = pa.Codec("lz4" if how == "lz4" else "zstd")  # "lz4" is the frame format
    packed: bytes = codec.compress(rows, asbytes=True)
    return packed


def test_a_statement_inside_a_compressed_body_is_refused(store: StoreProcess) -> None:
    writer = connect(store, "writer", compress="lz4")

    with pytest.raises(DatabaseError) as caught:
        writer.insert("otel_logs", [["x"]], column_names=["Body"], column_type_names=["String"])

    assert caught.value.code == 48


def test_the_same_token_twice_is_rows_once(store: StoreProcess, reader: Any) -> None:
    writer = connect(store, "writer")
    rows = b"".join(
        json.dumps({"Timestamp": str(int(time.time())), "Body": f"token {n}"}).encode() + b"\n"
        for n in range(2)
    )
    head = (
        b"INSERT INTO otel_logs (`Timestamp`, `Body`) SETTINGS insert_deduplication_token='t:1' "
        b"FORMAT JSONEachRow\n"
    )
    for _ in range(3):
        writer.raw_insert("", insert_block=head + rows)

    found = reader.query(
        "SELECT count() FROM otel_logs WHERE startsWith(Body, 'token ')"
    ).result_rows
    assert found == [(2,)]


def test_rows_that_do_not_fit_are_refused_and_leave_nothing(
    store: StoreProcess, reader: Any
) -> None:
    writer = connect(store, "writer")
    good = json.dumps({"Timestamp": str(int(time.time())), "Body": "half"}).encode()
    for block in (good + b'\n{"Body": ', b"rubbish"):
        with pytest.raises(DatabaseError):
            writer.raw_insert("otel_logs", ["Timestamp", "Body"], block, fmt="JSONEachRow")

    assert reader.query("SELECT count() FROM otel_logs WHERE Body = 'half'").result_rows == [(0,)]


def test_spans_round_trip_exactly(store: StoreProcess, reader: Any) -> None:
    at = 1_795_000_000_123_456_789
    row = span(
        at, "f" * 32, "e" * 16,
        SpanAttributes={"k": "v", "é": "\x01\n'\""},
        **{
            "Events.Timestamp": [at + 1], "Events.Name": ["e"], "Events.Attributes": [[("a", "b")]],
            "Links.TraceId": ["1" * 32], "Links.SpanId": ["2" * 16],
        },
    )  # fmt: skip
    connect(store, "writer").insert_arrow("otel_traces", build_table("spans", [row]))

    found = reader.query(
        "SELECT toUnixTimestamp64Nano(Timestamp), SpanAttributes, `Events.Attributes`, `Links.TraceId`, Duration "
        f"FROM otel_traces WHERE TraceId = '{'f' * 32}'"
    ).result_rows

    assert found == [(at, row["SpanAttributes"], [{"a": "b"}], ["1" * 32], 1_000_000)]


def test_rows_are_recognised_for_each_day_whatever_the_token_was(
    store: StoreProcess, reader: Any
) -> None:
    """As they are after an exporter was killed around midnight: the one day's insert had happened, the other's had not."""
    midnight = time.time_ns() // DAY_NS * DAY_NS
    before = [span(midnight - SECOND, trace_id(901), span_id(901))]
    after = [span(midnight + at * SECOND, trace_id(902), span_id(902 + at)) for at in range(3)]
    writer = StoreWriter(store.url, password=store.password("writer"))
    whole = build_table("spans", [*before, *after])
    assert writer.drop_stored({"spans": whole})["spans"].num_rows == 4
    writer.write({"spans": build_table("spans", after)}, token="of a group")
    left = writer.drop_stored({"spans": whole})
    writer.write(left, token="of the batch")
    writer.close()

    assert left["spans"].column("TraceId").to_pylist() == [trace_id(901)]
    asked = "SELECT TraceId, count() FROM otel_traces WHERE TraceId IN ({}) GROUP BY 1 ORDER BY 1"
    traces = f"'{trace_id(901)}', '{trace_id(902)}'"
    found = reader.query(asked.format(traces)).result_rows
    assert found == [(trace_id(901), 1), (trace_id(902), 3)]
