"""Which rows `farcall tail -q` shows. A few of the search page's forms, all of which must hold; pure.

word          any text of the row holds it, in whatever case
key:value     equal, in whatever case; `*` in the value stands for anything
key:>5        also >=, <, <=: as numbers
-term         not
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from typing import Any

from farcall.exchange import EXCHANGES

Test = Callable[[Mapping[str, Any]], bool]
_TERM = re.compile(r'(-?)(?:([a-z_]+):)?("(?:[^"]*)"|\S+)')
_NUMBER = re.compile(r"(>=|<=|>|<)(-?[0-9]+(?:\.[0-9]+)?)")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}
KEYS = frozenset(
    {"time", "side", "destination", "duration_ms", *(c.name for c in EXCHANGES)}
    - {"start", "role", "duration_ns"}
)  # as tail.describe() names them


class FilterError(ValueError):
    """The query cannot be understood; the message says which part and what is allowed."""


def parse_filter(query: str) -> Test:
    """Raises FilterError."""
    tests: list[Test] = []
    at = 0
    text = query.strip()
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None:
            raise FilterError(f"cannot read {text[at:]!r} of the query")
        at = match.end()
        while at < len(text) and text[at].isspace():
            at += 1
        sign, key, value = match[1], match[2], match[3].strip('"')
        test = _parse_term(key, value) if key else _parse_word(value)
        tests.append(_negate(test) if sign else test)
    return lambda row: all(test(row) for test in tests)


def _negate(test: Test) -> Test:
    return lambda row: not test(row)


def _parse_word(word: str) -> Test:
    wanted = word.lower()
    return lambda row: any(wanted in v.lower() for v in row.values() if isinstance(v, str))


def _parse_term(key: str, value: str) -> Test:
    if key not in KEYS:
        raise FilterError(f"no field {key!r}; fields are {', '.join(sorted(KEYS))}")
    if number := _NUMBER.fullmatch(value):
        compare, bound = _COMPARE[number[1]], float(number[2])
        return lambda row: _is_number(row.get(key)) and compare(float(row[key]), bound)
    pattern = re.compile(translate(value.replace("[", "[[]").lower()))
    return lambda row: key in row and pattern.match(str(row[key]).lower()) is not None


def _is_number(value: object) -> bool:
    if isinstance(value, int | float):
        return True
    return isinstance(value, str) and value.isascii() and value.isdigit()
