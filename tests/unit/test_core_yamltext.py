"""YAML bombs, loops and doubled keys are refused before anybody walks or prints the value."""

import pytest

from farcall.yamltext import MAX_DEPTH, MAX_NODES, YamlTextError, parse_yaml

pytestmark = pytest.mark.unit


def test_documents_come_in_order_without_the_empty_ones() -> None:
    assert parse_yaml(b"---\na: 1\n---\n---\n- x\n") == [{"a": 1}, ["x"]]


def test_honest_aliases_and_merges_work() -> None:
    text = b"base: &b {cpu: 1}\none: *b\ntwo: {<<: *b, memory: 2}\n"

    assert parse_yaml(text) == [
        {"base": {"cpu": 1}, "one": {"cpu": 1}, "two": {"cpu": 1, "memory": 2}}
    ]


def test_an_alias_bomb_is_refused() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]

    with pytest.raises(YamlTextError, match=f"more than {MAX_NODES} values"):
        parse_yaml("\n".join(levels).encode())


def test_a_value_inside_itself_is_refused() -> None:
    with pytest.raises(YamlTextError, match=r"alias to a value around itself \(line 1, column 4\)"):
        parse_yaml(b"a: &a [*a]")


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 5_000, 100_000])
def test_deep_nesting_is_refused_before_the_parser_recurses(depth: int) -> None:
    with pytest.raises(YamlTextError, match="nested deeper"):
        parse_yaml(b"[" * depth)


def test_nesting_hidden_in_aliases_is_refused() -> None:
    levels = ["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 100))]

    with pytest.raises(YamlTextError, match="nested deeper"):
        parse_yaml("\n".join(levels).encode())


@pytest.mark.parametrize("text", ["a: 1\na: 1", "x: {b: 1, 'b': 2}", "1: a\n'1': b"])
def test_a_key_given_twice_is_refused(text: str) -> None:
    with pytest.raises(YamlTextError, match="twice"):
        parse_yaml(text.encode())


@pytest.mark.parametrize(
    "text",
    ["!!int ''", "!!bool x", "!!float x", "!!timestamp x", "!!binary aa", "!!set {a}", "!!str [a]",
     "!!python/object/apply:os.getcwd []", "!mine a", "1" * 5000, '"\\U7fffffff"', "? [a]\n: b",
     ".nan", "-.inf", "1.0e+999", "<<: 1", "a: ="],
)  # fmt: skip
def test_values_that_json_does_not_have_are_refused(text: str) -> None:
    with pytest.raises(YamlTextError):
        parse_yaml(text.encode())
