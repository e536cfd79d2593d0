"""Columns as the store takes them."""

import numpy as np
import pyarrow as pa
import pytest

from farcall_exporter.batches import build_batch
from farcall_exporter.columns import Coded, overlay, texts_array
from farcall_exporter.decode import decode_batch
from support_exporter import Row, exchange, header, make_context, to_bytes, to_table, who

pytestmark = pytest.mark.unit


def connection(protocol: str) -> Row:
    call = exchange(protocol=protocol)
    keys = to_table("connections", []).schema.names
    return {**who(), "time": call["start"], "opened": None, "rivals": []} | {
        key: call[key] for key in keys if key in call
    }


def test_a_word_that_an_agents_dictionary_holds_twice_is_in_the_tables_once() -> None:
    """The engine refuses a dictionary with duplicates, and with it the whole batch."""
    table = to_table("connections", [connection("http"), connection("tcp"), connection("http")])
    twice = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 2], pa.int32()), texts_array(["http", "tcp", "http"])
    )
    table = table.set_column(table.schema.get_field_index("protocol"), table.schema.field("protocol"), twice)  # fmt: skip
    body = to_bytes(table, header("connections"))
    written = build_batch(decode_batch(body), make_context())["connections"].column("Protocol")

    assert written.to_pylist() == ["http", "tcp", "http"]
    for chunk in written.chunks:
        assert len(set(chunk.dictionary.to_pylist())) == len(chunk.dictionary)


def test_an_overlay_lies_where_it_is_present_or_where_it_is_told() -> None:
    below = Coded(texts_array(["a", "b"]), np.array([0, 1, -1]))
    above = Coded(texts_array(["b"]), np.array([-1, 0, 0]))

    assert overlay(below, above).to_strings().to_pylist() == ["a", "b", "b"]
    everywhere = overlay(below, above, np.array([False, True, False]))
    assert everywhere.to_words().to_pylist() == ["a", "b", None]
