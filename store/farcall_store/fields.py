"""Values of the search language: numbers with units, levels, closed lists. Text in, numbers or SQL-safe words out."""

import math
import re
from collections.abc import Mapping

from farcall.storeport import QuerySyntaxError
from farcall_store.syntax import Word

_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)([A-Za-zµ]*)")
UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
MAX_NS = (1 << 63) - 1

# First number of each level's four (OpenTelemetry logs data model, SeverityNumber).
LEVELS = {
    "trace": 1,
    "debug": 5,
    "info": 9,
    "information": 9,
    "warn": 13,
    "warning": 13,
    "error": 17,
    "err": 17,
    "fatal": 21,
    "critical": 21,
}
LEVEL_SPAN = 4

KINDS = {
    name.lower(): name
    for name in ("Client", "Server", "Internal", "Producer", "Consumer", "Unspecified")
}
STATUSES = {name.lower(): name for name in ("Unset", "Ok", "Error")}
SOURCES = {"ebpf": "ebpf", "otel": "otel"}


def _split_number(text: str, position: int) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    value = float(match.group(1)) if match else math.inf
    if match is None or not math.isfinite(value):
        raise QuerySyntaxError(f"{text[:40]!r} is not a number", position=position)
    return value, match.group(2)


def parse_duration_ns(text: str, position: int) -> int:
    value, unit = _split_number(text, position)
    if unit not in UNITS_NS:
        raise QuerySyntaxError(
            f"a duration needs a unit ({', '.join(UNITS_NS)}), as in 100ms", position=position
        )
    if value < 0:
        raise QuerySyntaxError("a duration is not negative", position=position)
    return min(MAX_NS, round(value * UNITS_NS[unit]))


def parse_attribute_number(key: str, text: str, position: int) -> float:
    """A plain number, or a duration when the key's name says its unit (`_ns`, `_ms`, `_s`)."""
    value, unit = _split_number(text, position)
    if not unit:
        return value
    own = key.rsplit("_", 1)[-1]
    if unit in UNITS_NS and own in ("ns", "us", "ms", "s"):
        return value * UNITS_NS[unit] / UNITS_NS[own]
    raise QuerySyntaxError(f"{key} is compared with a plain number", position=position)


def parse_level(word: Word) -> tuple[int, int]:
    """The level's first and last severity number."""
    name = word.text.lower()
    if name in LEVELS:
        return LEVELS[name], LEVELS[name] + LEVEL_SPAN - 1
    if name.isascii() and name.isdigit() and len(name) < 3 and 0 <= int(name) <= 24:
        return int(name), int(name)
    raise QuerySyntaxError(
        "a level is trace, debug, info, warn, error or fatal, or a number up to 24",
        position=word.position,
    )


def parse_choice(word: Word, choices: Mapping[str, str]) -> str:
    try:
        return choices[word.text.lower()]
    except KeyError:
        raise QuerySyntaxError(
            f"this is one of {', '.join(choices)} (it is {word.text[:40]!r})",
            position=word.position,
        ) from None


def parse_hex(word: Word, digits: int, what: str) -> str:
    text = word.text.lower()
    if re.fullmatch(rf"[0-9a-f]{{{digits}}}", text) is None:
        raise QuerySyntaxError(f"{what} has {digits} hexadecimal digits", position=word.position)
    return text


def render_like(glob: str) -> str:
    """`*` stands for anything, the rest for itself."""
    escaped = re.sub(r"([\\%_])", r"\\\1", glob)
    return escaped.replace("*", "%")
