"""What is printed fits the terminal, and nothing from the wire steers it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.terminal import Column, cut_text, escape_text, measure_width, render_table

pytestmark = pytest.mark.unit
COLUMNS = (
    Column(title="TIME"),
    Column(title="NAME", flexible=True),
    Column(title="MS", right=True),
)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain", "plain"),
        ("münchen.example", "münchen.example"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("two\nlines\r", "two\\x0alines\\x0d"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("line\u2028break", "line\\u2028break"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("c1\x9b31m", "c1\\x9b31m"),
        ("half\ud800", "half\\ud800"),
    ],
)
def test_what_would_steer_the_terminal_is_escaped(text: str, escaped: str) -> None:
    assert escape_text(text) == escaped


@given(st.text())
def test_escaped_text_has_nothing_left_to_escape(text: str) -> None:
    escaped = escape_text(text)

    assert escape_text(escaped) == escaped
    assert "\n" not in escaped and "\x1b" not in escaped


@given(st.text(), st.integers(min_value=1, max_value=40))
def test_cut_text_is_never_wider_than_asked(text: str, width: int) -> None:
    assert measure_width(cut_text(text, width)) <= width


def test_wide_characters_take_two_cells() -> None:
    assert measure_width("日本") == 4
    assert cut_text("日本語", 4) == "日…"


def test_table_is_cut_in_its_flexible_column_only() -> None:
    lines = list(render_table(COLUMNS, [("08:00", "a-very-long-name.example.com", "12")], width=24))

    assert [measure_width(line) for line in lines] == [24, 24]
    assert lines[1] == "08:00  a-very-long-…  12"


def test_table_is_whole_when_nobody_looks_at_it() -> None:
    lines = list(render_table(COLUMNS, [("08:00", "x" * 300, "1")], width=None))

    assert "x" * 300 in lines[1]


def test_hostile_cell_stays_on_its_line() -> None:
    lines = list(render_table(COLUMNS, [("08:00", "a\nb\x1b[31m", "1")], width=80))

    assert len(lines) == 2
    assert "a\\x0ab\\x1b[31m" in lines[1]
