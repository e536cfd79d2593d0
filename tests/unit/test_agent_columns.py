"""Arrow arrays from buffers hold what pyarrow itself would have made of the same values, and load no compute library."""

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import columns

pytestmark = pytest.mark.unit

TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=8)), max_size=40)


@given(TEXTS)
def test_texts(values: list[str | None]) -> None:
    made = columns.texts(values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.string()))


@given(TEXTS)
def test_words(values: list[str | None]) -> None:
    made = columns.words(values)
    made.validate(full=True)
    assert made.type == pa.dictionary(pa.int32(), pa.string())
    assert made.to_pylist() == values


@given(st.lists(st.one_of(st.none(), st.sampled_from("abc")), min_size=1, max_size=6), st.data())
def test_words_by_owner(values: list[str | None], data: st.DataObject) -> None:
    owners = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=30))
    made = columns.words(values, np.array(owners, dtype=np.int32))
    made.validate(full=True)
    assert made.to_pylist() == [values[at] for at in owners]


@given(st.lists(st.one_of(st.none(), st.binary(min_size=8, max_size=8)), max_size=40))
def test_fixed_binaries(values: list[bytes | None]) -> None:
    assert columns.fixed(values, 8).equals(pa.array(values, pa.binary(8)))


@given(st.lists(st.one_of(st.none(), st.integers(0, 2**32 - 1)), max_size=40))
def test_optional_numbers(values: list[int | None]) -> None:
    assert columns.optional_numbers(values, np.uint32).equals(pa.array(values, pa.uint32()))


@given(st.lists(st.lists(st.text(max_size=4), max_size=4), max_size=10))
def test_lists_of_texts(values: list[list[str]]) -> None:
    made = columns.lists_of_texts(values)
    made.validate(full=True)
    assert made.to_pylist() == values


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int32])
def test_numbers_of_a_strided_column(dtype: Any) -> None:
    block = np.zeros(5, dtype=[("pad", "V3"), ("value", dtype)])
    block["value"] = range(5)
    assert columns.numbers(block["value"]).to_pylist() == list(range(5))


def test_arrows_compute_library_is_never_loaded() -> None:
    """It is 50 MB of the agent's memory. A process of its own: the tests here load it."""
    code = """
import sys, tempfile
from pathlib import Path
sys.path.insert(0, "tests")
from support_agent_room import GET, PING, Room
from farcall.exchange import BatchHeader
from farcall_probes.batches import render_batch
from support_agent import a_answer, make_dns, make_drained, make_http, make_redis
room = Room(Path(tempfile.mkdtemp()))
dns = [make_dns(a_answer("a.example", "203.0.113.10"))]
drained = make_drained(dns=dns, small=[make_redis(PING)], large=[make_http(GET)])
room.tracer.take(drained, now_ns=0)
for kind, batch in room.tracer.take_batches():
    header = BatchHeader(kind=kind, node="n", boot_id="0" * 32, number=1, dns_watched_since_ns=1)
    render_batch(batch, header)
print("pyarrow.compute" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
