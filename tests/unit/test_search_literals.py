"""Words that a regex needs: never one that a matching text lacks."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_store.literals import find_required_words, lower_ascii, split_words

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("connection refused by", ["refused"]),
        ("^connection refused$", ["connection", "refused"]),
        (r"user \d+ logged in ", ["logged", "in"]),
        (r"a\.Timeout\.b", ["timeout"]),
        (r" timeout= ", ["timeout"]),
        ("timeout", []),
        (" a|b ", []),
        (" (foo) ", []),
        (" foo? ", []),
        (" foo{2} ", []),
        (" foo{x} ", ["foo", "x"]),
        (" [ foo ] ", []),
        ("(?i) foo ", []),
        (r"\Q foo \E", []),
        (r" \x66oo ", []),
        (r" \p{L}foo ", []),
        (" été ", ["été"]),
        (" a{b (c} foo)? ", ["a", "b"]),
    ],
)
def test_words_come_only_from_certain_places(pattern: str, words: list[str]) -> None:
    assert find_required_words(pattern) == words


def test_words_are_split_as_the_index_does() -> None:
    assert split_words("GET /api/v1?x=É\u00a0b 10.0.0.1") == [
        "get",
        "api",
        "v1",
        "x",
        "É\u00a0b",
        "10",
        "0",
        "1",
    ]


_ATOMS = st.sampled_from(
    [
        " ",
        "a",
        "b",
        "foo",
        "Bar ",
        "\\.",
        "\\d",
        ".",
        "(a|b)",
        "( foo )",
        "( foo )?",
        "[ab ]",
        "[^a]",
        "x?",
        "y*",
        "z+",
        " w{2} ",
        "^",
        "$",
        "\\b",
        "\\w+",
        "é",
        "-",
        "=",
    ]
)


@given(st.lists(_ATOMS, min_size=1, max_size=8).map("".join), st.data())
def test_every_text_that_matches_has_the_words(pattern: str, data: st.DataObject) -> None:
    compiled = re.compile(pattern, re.ASCII)
    text = data.draw(st.from_regex(compiled))
    match = compiled.search(text)
    if match is None or "\n" in text:  # RE2's $ is the very end
        return

    assert set(find_required_words(pattern)) <= set(split_words(text))


def test_only_ascii_is_folded() -> None:
    assert lower_ascii("ÄBC") == "Äbc"
