"""What is no batch of ours is refused with a reason, costs little, and harms nothing."""

import random
import struct

import pyarrow as pa
import pytest

from farcall.arrowschemas import SCHEMAS, add_header
from farcall.envelope import MAX_BATCH_ROWS
from farcall.exchange import MAX_TEXT_BYTES, BatchError
from farcall_exporter.batches import build_batch
from farcall_exporter.decode import decode_batch
from farcall_exporter.ipcguard import measure_stream
from support_exporter import (
    FakeWriter,
    Row,
    batch,
    exchange,
    header,
    identified,
    make_context,
    to_bytes,
    to_table,
    who,
)

pytestmark = pytest.mark.unit

ROWS = [identified(seq=i, host=f"a{i}.example.com", query="q=?") for i in range(20)]


def refusal(body: bytes) -> str:
    with pytest.raises(BatchError) as caught:
        decode_batch(body)
    return str(caught.value)


def test_a_good_batch_passes_compressed_or_not() -> None:
    for compression in ("lz4", "zstd", None):
        body = to_bytes(to_table("exchanges", ROWS), header(), compression=compression)
        assert decode_batch(body).table.num_rows == len(ROWS)


def test_an_empty_batch_is_a_batch() -> None:
    decoded = decode_batch(batch([]))
    assert build_batch(decoded, make_context()) == {}


def test_a_dictionary_that_holds_a_word_twice_is_stored_with_each_once() -> None:
    """ClickHouse refuses a dictionary with doubles, and all rows with it."""
    table = to_table("exchanges", ROWS)
    twice = pa.DictionaryArray.from_arrays(
        pa.array([i % 2 for i in range(len(ROWS))], pa.int32()), pa.array(["http", "http"])
    )
    table = table.set_column(
        table.schema.get_field_index("protocol"), table.schema.field("protocol"), twice
    )
    tables = build_batch(decode_batch(to_bytes(table, header())), make_context())

    for column in tables["spans"].columns:
        if pa.types.is_dictionary(column.type):
            words = column.combine_chunks().dictionary.to_pylist()
            assert len(words) == len(set(words))


@pytest.mark.parametrize("body", [b"", b"\0" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096])
def test_garbage_is_refused(body: bytes) -> None:
    assert "Arrow" in refusal(body)


def test_a_stream_cut_anywhere_is_refused() -> None:
    body = batch(ROWS)
    for length in [*range(0, len(body), 97), *range(len(body) - 24, len(body))]:
        assert refusal(body[:length])


def test_bytes_behind_the_end_are_refused() -> None:
    assert "follow the end" in refusal(batch(ROWS) + b"x")


def test_random_damage_is_refused_or_harmless() -> None:
    """Damage that leaves a valid batch must also leave rows that the store's schema takes."""
    rng = random.Random(20_260_101)
    bodies = [to_bytes(to_table("exchanges", ROWS), header(), compression=c) for c in ("lz4", None)]
    for _ in range(250):
        body = bytearray(rng.choice(bodies))
        for _ in range(rng.choice((1, 2, 8))):
            body[rng.randrange(len(body))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        try:
            decoded = decode_batch(bytes(body))
        except BatchError:
            continue
        FakeWriter().write(build_batch(decoded, make_context()), token="x")


def test_a_compressed_buffer_that_claims_terabytes_is_refused_before_arrow_sees_it() -> None:
    body = bytearray(batch(ROWS))
    plain_length = struct.pack("<q", len(ROWS) * 8)  # the first time column's
    at = body.index(plain_length + b"\x04\x22\x4d\x18")  # an LZ4 frame follows
    body[at : at + 8] = struct.pack("<q", 1 << 42)

    assert "larger than" in refusal(bytes(body))


def test_a_bomb_of_zeros_is_refused() -> None:
    """280 texts of 1 MB of nothing each, from a few kB."""
    texts = pa.array(["\0" * (1 << 20)] * 280, pa.string())
    schema = add_header(pa.schema([pa.field("host", pa.string())]), header())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as stream:
        stream.write_table(pa.table([texts], schema=schema))

    assert "larger than" in refusal(sink.getvalue().to_pybytes())


def test_more_rows_than_allowed_are_refused_in_one_batch_or_in_many() -> None:
    one = to_table("exchanges", ROWS[:1])
    table = pa.concat_tables([one] * (MAX_BATCH_ROWS + 1))
    assert "rows" in refusal(to_bytes(table.combine_chunks(), header()))
    chunk = pa.concat_tables([one] * 40_000).combine_chunks()
    assert "rows" in refusal(to_bytes(pa.concat_tables([chunk, chunk]), header()))


def test_a_record_batch_that_claims_more_rows_than_it_holds_is_refused() -> None:
    body = bytearray(batch(ROWS))
    with pytest.raises(BatchError):
        for at in range(len(body) - 8):
            if body[at : at + 8] == struct.pack("<q", len(ROWS)):
                body[at : at + 8] = struct.pack("<q", 1 << 40)
        measure_stream(bytes(body), max_rows=MAX_BATCH_ROWS, max_bytes=1 << 28)


def test_a_wrong_schema_is_refused_and_named() -> None:
    table = to_table("exchanges", ROWS)
    assert "column 0 should be start" in refusal(to_bytes(table.remove_column(0), header()))
    extra = table.append_column("more", pa.array([1] * len(ROWS)))
    assert "1 columns too many" in refusal(to_bytes(extra, header()))
    assert "differ" in refusal(to_bytes(to_table("dns", []), header("exchanges")))


def test_a_stream_without_our_metadata_is_refused() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMAS["exchanges"]) as stream:
        stream.write_table(to_table("exchanges", ROWS))
    assert "schema_version" in refusal(sink.getvalue().to_pybytes())


def test_text_that_is_not_utf8_is_refused() -> None:
    table = to_table("exchanges", ROWS)
    for name in ("host", "service"):
        index = table.schema.get_field_index(name)
        field = table.schema.field(index)
        bad = pa.array([b"\xff\xfe"] * len(ROWS), pa.binary()).view(pa.string())
        column = bad if name == "host" else bad.dictionary_encode()
        assert "UTF8" in refusal(to_bytes(table.set_column(index, field, column), header())).upper()


def test_nulls_where_none_may_be_are_refused() -> None:
    table = to_table("exchanges", ROWS)
    for name in ("start", "service", "peer_address"):
        index = table.schema.get_field_index(name)
        field = table.schema.field(index)
        nulls = pa.nulls(len(ROWS), field.type)
        body = to_bytes(table.set_column(index, field, nulls), header())
        assert refusal(body) == f"column {name} holds nulls"


def test_a_null_hidden_in_a_dictionary_is_refused() -> None:
    table = to_table("exchanges", ROWS)
    index = table.schema.get_field_index("service")
    hidden = pa.DictionaryArray.from_arrays(
        pa.array([0] * len(ROWS), pa.int32()), pa.array([None], pa.string())
    )
    body = to_bytes(table.set_column(index, table.schema.field(index), hidden), header())
    assert "null in its dictionary" in refusal(body)


def test_an_index_beyond_its_dictionary_is_refused() -> None:
    table = to_table("exchanges", ROWS)
    index = table.schema.get_field_index("service")
    wild = pa.DictionaryArray.from_arrays(
        pa.array([7_000_000] * len(ROWS), pa.int32()), pa.array(["cart"]), safe=False
    )
    body = to_bytes(table.set_column(index, table.schema.field(index), wild), header())
    assert "cannot be read" in refusal(body)


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"role": 2}, "role"),
        ({"start": -1}, "start"),
        ({"start": 2**62}, "start"),
        ({"duration_ns": 2**63}, "duration_ns"),
        ({"request_duration_ns": 2**63}, "request_duration_ns"),
        ({"first_byte_ns": 2**63}, "first_byte_ns"),
        ({"connection_opened": -5}, "connection_opened"),
        ({"host": "a" * (MAX_TEXT_BYTES + 1)}, "host"),
        ({"executable": "a" * (MAX_TEXT_BYTES + 1)}, "executable"),
    ],
)
def test_a_value_out_of_range_is_refused(change: Row, column: str) -> None:
    assert f"column {column} holds" in refusal(batch([exchange(), exchange(**change)]))


def test_too_many_rivals_are_refused() -> None:
    row = who(
        time=1,
        opened=None,
        connection_id=1,
        role=0,
        protocol="redis",
        flags=0,
        netns=1,
        local_address="10.244.0.5",
        local_port=1,
        peer_address="203.0.113.1",
        peer_port=2,
        bound_name=None,
        bound_answered=None,
        rivals=["a"] * 9,
    )
    assert "rivals" in refusal(batch([row], "connections"))
    assert decode_batch(batch([{**row, "rivals": ["a"] * 8}], "connections")).table.num_rows == 1
    assert "nulls in a list" in refusal(batch([{**row, "rivals": [None]}], "connections"))
