"""The filters that the pages write are read by the store's grammar as what was chosen, whatever the value holds."""

import json
import subprocess
from pathlib import Path

import pytest

from farcall_store.syntax import Anything, Field, Not, Phrase, Regex, Word, parse_query

pytestmark = pytest.mark.unit

WEB = Path(__file__).parents[2] / "console" / "web"
VALUES = ("POST", "a b", 'say "hi"', "back\\slash", "OR", "-x", "a*", "1..5", "a:b", "/re/", "(", ")", "x>5", "é\u202e", "\\", '\\"', "//host", "*", "1.2.3.4", "line\nbreak", "'", "5", "a-b_c@d")  # fmt: skip
PATTERNS = ("^/api/v\\d+", "a/b", "\\/", "x y", "[(]", "\\\\", 'q"q')
SCRIPT = """
import { renderFilter } from "./src/lib/filters.ts";
const { values, patterns } = JSON.parse(process.argv[2]);
const filter = { where: "attribute", key: "http.route", match: "is", value: "", not: false };
console.log(JSON.stringify({
  is: values.map((value) => renderFilter({ ...filter, value })),
  not: values.map((value) => renderFilter({ ...filter, value, not: true })),
  message: values.map((value) => renderFilter({ ...filter, where: "message", match: "contains", value })),
  regex: patterns.map((value) => renderFilter({ ...filter, match: "regex", value })),
  exists: [renderFilter({ ...filter, match: "exists" })],
}));
"""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    bundle = tmp_path_factory.mktemp("filters") / "render.mjs"
    build = ["node_modules/.bin/esbuild", "--bundle", "--platform=node", "--format=esm", f"--outfile={bundle}", "--log-level=error"]  # fmt: skip
    subprocess.run(build, cwd=WEB, input=SCRIPT, text=True, check=True, timeout=60)
    given = json.dumps({"values": VALUES, "patterns": PATTERNS})
    run = subprocess.run(
        ["node", str(bundle), given], capture_output=True, text=True, check=True, timeout=60
    )
    texts: dict[str, list[str]] = json.loads(run.stdout)
    return texts


def test_an_attribute_is_exactly_its_value(rendered: dict[str, list[str]]) -> None:
    for value, text in zip(VALUES, rendered["is"], strict=True):
        node = parse_query(text)
        assert isinstance(node, Field) and (node.key, node.operator) == ("http.route", ":"), text
        assert isinstance(node.value, Word | Phrase) and node.value.text == value, text
        assert not (isinstance(node.value, Word) and "*" in value)


def test_excluding_is_the_same_turned_round(rendered: dict[str, list[str]]) -> None:
    for value, text in zip(VALUES, rendered["not"], strict=True):
        node = parse_query(text)
        assert isinstance(node, Not) and isinstance(node.part, Field), text
        assert isinstance(node.part.value, Word | Phrase) and node.part.value.text == value


def test_words_of_a_message_are_no_syntax(rendered: dict[str, list[str]]) -> None:
    for value, text in zip(VALUES, rendered["message"], strict=True):
        node = parse_query(text)
        assert isinstance(node, Word | Phrase) and node.text == value.strip(), text


def test_a_pattern_is_itself(rendered: dict[str, list[str]]) -> None:
    for pattern, text in zip(PATTERNS, rendered["regex"], strict=True):
        node = parse_query(text)
        assert isinstance(node, Field) and isinstance(node.value, Regex), text
        assert node.value.pattern == pattern.replace("\\/", "/"), text


def test_being_there_is_a_star(rendered: dict[str, list[str]]) -> None:
    node = parse_query(rendered["exists"][0])
    assert isinstance(node, Field) and isinstance(node.value, Anything)
