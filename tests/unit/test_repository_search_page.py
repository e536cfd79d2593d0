"""docs/search.md promises what the search language does: every example compiles, every field stands in the table."""

import re

import pytest

from farcall.api import MAX_QUERY_LENGTH
from farcall.names import UnknownReason
from farcall_store import search, syntax
from farcall_store.search import compile_logs, compile_spans
from support_ground import ROOT

pytestmark = pytest.mark.unit

PAGE = (ROOT / "docs/search.md").read_text(encoding="utf-8")
COMPILERS = {"spans": compile_spans, "logs": compile_logs}


def examples() -> list[tuple[str, str]]:
    blocks = re.findall(r"^```(spans|logs)\n(.*?)^```", PAGE, re.M | re.S)
    return [(table, query) for table, block in blocks for query in block.splitlines()]


def words() -> list[str]:
    section = PAGE.split("## Words")[1].split("## Fields")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.M)


@pytest.mark.parametrize(("table", "query"), examples())
def test_an_example_of_the_page_compiles(table: str, query: str) -> None:
    assert COMPILERS[table](query).params


@pytest.mark.parametrize("query", words())
@pytest.mark.parametrize("table", COMPILERS)
def test_a_kind_of_word_compiles_for_both_tables(table: str, query: str) -> None:
    assert COMPILERS[table](query).params


def test_every_field_of_the_compiler_is_on_the_page() -> None:
    text = " ".join((search.__doc__ or "").split())
    of_spans, of_logs = re.findall(r"(?:Fields of spans|Of logs): (.*?)\.", text)
    for listed, heading in ((of_spans, "Of spans:"), (of_logs, "Of log lines:")):
        section = PAGE.split(heading)[1].split("\n\n")[1]
        shown = set(re.findall(r"^\| `([a-z]+)` \|", section, re.M))
        assert shown == {name.strip().partition(":")[0] for name in listed.split(",")}


def test_the_bounds_are_those_of_the_code() -> None:
    for number in (MAX_QUERY_LENGTH, syntax.MAX_TERMS, syntax.MAX_PATTERN_BYTES):
        assert f"{number:,}" in PAGE


@pytest.mark.parametrize("reason", list(UnknownReason))
def test_every_unknown_reason_can_be_searched_for(reason: str) -> None:
    assert reason in compile_spans(f"unknown:{reason}").params.values()
