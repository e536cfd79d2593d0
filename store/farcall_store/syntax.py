"""The search language's grammar: text in, a tree out. No SQL, no table, no I/O.

    query  = and { "OR" and }              words next to each other are AND-ed; OR binds weaker
    and    = unary { ["AND"] unary }
    unary  = ( "-" | "NOT" ) unary | atom
    atom   = "(" query ")" | "phrase" | /regex/ | key:value | key>5 | word
    value  = * | /regex/ | "phrase" | 1..5 | word, where * in a word stands for anything

A word ends at white space, a bracket or a quote. `/` opens a regex only when a closing `/` (not `\\/`) ends the word,
so paths such as /api/orders are words. `position` in errors is a 0-based offset into the text as it was given.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from farcall.api import MAX_QUERY_LENGTH
from farcall.storeport import QuerySyntaxError

MAX_DEPTH = 32  # brackets and minus signs inside each other
MAX_TERMS = 128
MAX_PATTERN_BYTES = 1_024

Operator = Literal[":", ">", ">=", "<", "<="]


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    text: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    text: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex:
    pattern: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Anything:
    """`key:*`: the key is there."""

    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """`key:low..high`, both included."""

    low: str
    high: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    key: str
    operator: Operator
    value: Word | Phrase | Regex | Anything | Range
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    part: "Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class And:
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Or:
    parts: tuple["Node", ...]


Node = Word | Phrase | Regex | Field | Not | And | Or


def parse_query(text: str) -> Node | None:
    """The tree, None for an empty query. Raises QuerySyntaxError."""
    if len(text) > MAX_QUERY_LENGTH:
        raise QuerySyntaxError(
            f"the query is longer than {MAX_QUERY_LENGTH} characters", position=MAX_QUERY_LENGTH
        )
    for position, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise QuerySyntaxError("this character cannot be searched for", position=position)
    return _Parser(text).parse()


def walk(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Not):
        yield from walk(node.part)
    elif isinstance(node, And | Or):
        for part in node.parts:
            yield from walk(part)


_SPACE = re.compile(r"\s+")
_KEY = re.compile(r"([^\W\d][\w.\-/]*|[A-Za-z_@][\w.\-/]*)(:|>=|<=|>|<)")
_BARE = re.compile(r'[^\s()"]+')
_REGEX = re.compile(r"/((?:[^/\\\n]|\\.)+)/(?=[\s)]|$)")
_RANGE = re.compile(r"([^\s.][^\s]*?)\.\.([^\s.][^\s]*)")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._terms = 0

    def parse(self) -> Node | None:
        if not self._text.strip():
            return None
        node = self._read_or()
        self._skip_space()
        if self._at < len(self._text):
            self._fail("this ) closes nothing; quote it to search for it")
        return node

    def _fail(self, message: str, position: int | None = None) -> None:
        raise QuerySyntaxError(message, position=self._at if position is None else position)

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        if match:
            self._at = match.end()

    def _peek_keyword(self, word: str) -> bool:
        """Whether `word` stands here on its own."""
        end = self._at + len(word)
        if self._text[self._at : end] != word:
            return False
        return end == len(self._text) or self._text[end] in " \t\r\n()"

    def _is_at_end(self) -> bool:
        self._skip_space()
        return self._at >= len(self._text) or self._text[self._at] == ")"

    def _read_or(self) -> Node:
        parts = [self._read_and()]
        while not self._is_at_end() and self._peek_keyword("OR"):
            self._at += 2
            parts.append(self._read_and())
        return parts[0] if len(parts) == 1 else Or(parts=tuple(parts))

    def _read_and(self) -> Node:
        parts: list[Node] = []
        while not self._is_at_end() and not self._peek_keyword("OR"):
            if self._peek_keyword("AND") and parts:
                self._at += 3
                if self._is_at_end() or self._peek_keyword("OR"):
                    self._fail("AND needs something on its right")
                continue
            parts.append(self._read_unary())
        if not parts:
            self._fail("something to search for is missing here")
        return parts[0] if len(parts) == 1 else And(parts=tuple(parts))

    def _read_unary(self) -> Node:
        self._skip_space()
        length = 1 if self._text[self._at] == "-" else 3 if self._peek_keyword("NOT") else 0
        if length == 0:
            return self._read_atom()
        at = self._at
        self._at += length
        if length == 3:
            self._skip_space()
        if self._at >= len(self._text) or self._text[self._at] in " \t\r\n)":
            self._fail("this excludes nothing: write -word or NOT word, or quote it", at)
        self._go_deeper()
        node = Not(part=self._read_unary())
        self._depth -= 1
        return node

    def _go_deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"more than {MAX_DEPTH} brackets or minus signs inside each other")

    def _read_atom(self) -> Node:
        self._terms += 1
        if self._terms > MAX_TERMS:
            self._fail(f"more than {MAX_TERMS} terms")
        if self._text[self._at] == "(":
            return self._read_group()
        position = self._at
        match = _KEY.match(self._text, self._at)
        if match and not self._text.startswith("//", match.end()):  # a URL is a word
            self._at = match.end()
            return self._read_field(match.group(1), match.group(2), position)
        value = self._read_value()
        assert not isinstance(value, Range | Anything)
        return value

    def _read_group(self) -> Node:
        opened = self._at
        self._at += 1
        self._go_deeper()
        node = self._read_or()
        self._depth -= 1
        if self._at >= len(self._text):
            self._fail("this ( is never closed", opened)
        self._at += 1
        return node

    def _read_field(self, key: str, operator: str, position: int) -> Field:
        if self._at >= len(self._text) or self._text[self._at] in " \t\r\n)":
            self._fail(f"a value is missing after {key}{operator}")
        if self._text[self._at] == "(":
            self._fail(f"one value at a time: write {key}:a OR {key}:b")
        value = self._read_field_value()
        if operator != ":" and not isinstance(value, Word):
            self._fail(f"{operator} needs a number, as in {key}{operator}5", value.position)
        return Field(key=key, operator=operator, value=value, position=position)  # type: ignore[arg-type]

    def _read_field_value(self) -> Word | Phrase | Regex | Anything | Range:
        value = self._read_value()
        if isinstance(value, Word):
            if value.text == "*":
                return Anything(position=value.position)
            match = _RANGE.fullmatch(value.text)
            if match:
                return Range(low=match.group(1), high=match.group(2), position=value.position)
        return value

    def _read_value(self) -> Word | Phrase | Regex:
        if self._text[self._at] == '"':
            return self._read_phrase()
        position = self._at
        match = _REGEX.match(self._text, self._at)
        if match:
            self._at = match.end()
            return _check_regex(match.group(1), position)
        bare = _BARE.match(self._text, self._at)
        if bare is None:
            self._fail("this bracket stands where a value is expected; quote it to search for it")
            raise AssertionError
        self._at = bare.end()
        return Word(text=bare.group(), position=position)

    def _read_phrase(self) -> Phrase:
        """Between quotes only \\" and \\\\ are special."""
        position = self._at
        match = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(self._text, self._at)
        if match is None:
            self._fail("this quote is never closed", position)
            raise AssertionError
        self._at = match.end()
        text = re.sub(r'\\(["\\])', r"\1", match.group(1))
        if not text:
            self._fail("there is nothing between these quotes", position)
        return Phrase(text=text, position=position)


def _check_regex(written: str, position: int) -> Regex:
    pattern = written.replace("\\/", "/")
    if len(pattern.encode()) > MAX_PATTERN_BYTES:
        raise QuerySyntaxError(f"a regex has at most {MAX_PATTERN_BYTES} bytes", position=position)
    return Regex(pattern=pattern, position=position)
