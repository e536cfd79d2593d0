"""The search language: what is understood, what is refused and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall.storeport import QuerySyntaxError
from farcall_store.search import compile_logs, compile_spans, find_regexes
from farcall_store.syntax import And, Field, Not, Or, Phrase, Range, Regex, Word, parse_query

pytestmark = pytest.mark.unit


def test_words_are_anded_and_or_binds_weaker() -> None:
    node = parse_query("a b OR c")

    assert node == Or(
        parts=(
            And(parts=(Word(text="a", position=0), Word(text="b", position=2))),
            Word(text="c", position=7),
        )
    )


def test_brackets_bind_stronger() -> None:
    node = parse_query("a (b OR c)")

    assert isinstance(node, And)
    assert isinstance(node.parts[1], Or)


@pytest.mark.parametrize("text", ["-a", "NOT a", "-(a)"])
def test_a_minus_or_not_excludes(text: str) -> None:
    node = parse_query(text)

    assert isinstance(node, Not)
    assert isinstance(node.part, Word)


def test_a_minus_inside_a_word_is_a_part_of_it() -> None:
    assert parse_query("user-42") == Word(text="user-42", position=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"a \\" b"', Phrase(text='a " b', position=0)),
        ("/a\\/b c/", Regex(pattern="a/b c", position=0)),
        ("/api/orders", Word(text="/api/orders", position=0)),
        ("/health", Word(text="/health", position=0)),
        ("http://x/y", Word(text="http://x/y", position=0)),
        ("10:30", Word(text="10:30", position=0)),
        ("ORDER", Word(text="ORDER", position=0)),
    ],
)
def test_an_atom_is_read_as(text: str, expected: object) -> None:
    assert parse_query(text) == expected


@pytest.mark.parametrize(
    ("text", "key", "operator", "value"),
    [
        ("a.b:c", "a.b", ":", Word(text="c", position=4)),
        ("duration>=1.5ms", "duration", ">=", Word(text="1.5ms", position=10)),
        ("n:1..5", "n", ":", Range(low="1", high="5", position=2)),
        ("url.path:/a", "url.path", ":", Word(text="/a", position=9)),
        ("url.path:/a.*/", "url.path", ":", Regex(pattern="a.*", position=9)),
        ('k:"v w"', "k", ":", Phrase(text="v w", position=2)),
        ("k:a:b", "k", ":", Word(text="a:b", position=2)),
    ],
)
def test_a_field_is_read_as(text: str, key: str, operator: str, value: object) -> None:
    node = parse_query(text)

    assert isinstance(node, Field)
    assert (node.key, node.operator, node.value) == (key, operator, value)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("(a", 0),
        ("a )", 2),
        ("()", 1),
        ("a OR", 4),
        ("OR a", 0),
        ("a AND", 5),
        ('x "y', 2),
        ('""', 0),
        ("-", 0),
        ("a - b", 2),
        ("k:", 2),
        ("k:(a b)", 2),
        ("k>/x/", 2),
        ("a\0", 1),
        ("ab\ud800", 2),
        ("(" * 40 + "a" + ")" * 40, None),
        ("-" * 40 + "a", None),
        ("a " * 200, None),
        ("a" * 5000, None),
        ("/" + "a" * 1100 + "/", 0),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, position: int | None) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_query(text)

    assert position is None or caught.value.position == position
    assert 0 <= caught.value.position <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "duration>100",
        "duration:/x/",
        "duration>-1ms",
        "trace:xyz",
        "span:*",
        "kind:nothing",
        "status:500",
        "is:what",
        "service>5",
        "http.response.status_code>abc",
        "n>1e999",
        "n:1..x",
        "a>5ms",
    ],
)
def test_a_value_that_does_not_fit_its_field_is_refused(text: str) -> None:
    with pytest.raises(QuerySyntaxError):
        compile_spans(text)


@pytest.mark.parametrize(
    "text", ["level>=loud", "level:99", "is:server", "body>5", "trace:1", "level:/x/"]
)
def test_a_value_that_does_not_fit_a_log_field_is_refused(text: str) -> None:
    with pytest.raises(QuerySyntaxError):
        compile_logs(text)


def test_user_text_is_bound_and_never_stands_in_the_condition() -> None:
    marker = "zq9'); DROP TABLE x; --"
    quoted = marker.replace('"', "")
    for text in (
        f'"{quoted}"',
        f'key:"{quoted}"',
        f'-service:"{quoted}"',
        "zq9key:zq9value",
        "/zq9.*/",
        "zq9*",
    ):
        for compiled in (compile_spans(text), compile_logs(text)):
            assert "zq9" not in compiled.sql
            assert any("zq9" in str(value) for value in compiled.params.values())


def test_regexes_are_found_in_order() -> None:
    found = find_regexes("/a/ OR (k:/b/ -/c/)")

    assert [(regex.pattern, regex.position) for regex in found] == [("a", 0), ("b", 10), ("c", 15)]


@given(st.text(max_size=120))
def test_any_text_compiles_or_is_refused_with_its_place(text: str) -> None:
    for compile_query in (compile_spans, compile_logs):
        try:
            compile_query(text)
        except QuerySyntaxError as e:
            assert 0 <= e.position <= len(text)


_PIECES = st.sampled_from(
    [
        "a",
        "-",
        "(",
        ")",
        '"',
        "OR",
        "AND",
        "NOT",
        " ",
        ":",
        ">",
        "<=",
        "*",
        "/",
        "\\",
        "..",
        "1",
        "5ms",
        "level",
        "trace",
        "é",
        "duration",
        "is",
        "k.v",
    ]
)


@given(st.lists(_PIECES, max_size=25).map("".join))
def test_pieces_of_the_language_in_any_order_compile_or_are_refused(text: str) -> None:
    for compile_query in (compile_spans, compile_logs):
        try:
            compile_query(text)
        except QuerySyntaxError as e:
            assert 0 <= e.position <= len(text)
