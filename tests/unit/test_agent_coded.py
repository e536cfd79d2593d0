"""Columns that have each text once read, and leave, as those that have one for each row."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes import coded, columns
from farcall_probes.coded import Coded

pytestmark = pytest.mark.unit

names = st.lists(
    st.none() | st.sampled_from(["", "GET", "/a", "ö", "\udce4"]), min_size=1, max_size=6
)


@st.composite
def made(draw: st.DrawFn) -> Coded:
    given_names = draw(names)
    which = draw(st.lists(st.integers(0, len(given_names) - 1), max_size=20))
    return Coded(given_names, np.array(which, dtype=np.intp))


def read(words: columns.Words) -> list[str | None]:
    offsets, data = words.names.offsets.tolist(), words.names.data
    texts = [data[a:b].decode() for a, b in pairwise(offsets)]
    missing = words.missing if words.missing is not None else [False] * len(words)
    codes = words.values.tolist()
    return [None if gone else texts[code] for code, gone in zip(codes, missing, strict=True)]


@given(made())
def test_a_coded_column_leaves_as_its_rows_do(column: Coded) -> None:
    rows = list(column)
    assert len(column) == len(rows) and [column[at] for at in range(len(rows))] == rows

    words, expected = columns.words(column), columns.words(rows)
    assert read(words) == read(expected)
    assert len(words.names) == len({row for row in rows if row is not None})
    texts, plain = columns.texts(column), columns.texts(rows)
    assert texts.data == plain.data and texts.offsets.tolist() == plain.offsets.tolist()
    assert [b"".join(texts.buffers()), texts.nodes()] == [b"".join(plain.buffers()), plain.nodes()]


@given(st.lists(made() | st.lists(st.none() | st.just("x"), max_size=5), min_size=1, max_size=4))
def test_columns_are_joined_row_by_row(some: list[coded.Texts]) -> None:
    assert list(coded.join(some)) == [row for column in some for row in column]


def test_what_no_row_has_does_not_leave() -> None:
    column = Coded(["of somebody else", "mine"], np.array([1, 1]))

    assert columns.words(column).names.data == b"mine"
