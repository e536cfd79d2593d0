"""Messages of real clients and servers from tests/corpus/wire, and what holds for every parser of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Truncated

FOLDER = Path(__file__).resolve().parent / "corpus/wire"
JUNK = b"\x00\x00\x00\x2a\xff\xfe and more"


class Pair(NamedTuple):
    request: bytes
    response: bytes | None  # None: never answered


def read_corpus(name: str) -> list[Pair]:
    lines = (FOLDER / f"{name}.ndjson").read_text(encoding="ascii").splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        Pair(
            request=bytes.fromhex(row["request"]),
            response=bytes.fromhex(row["response"]) if row["response"] else None,
        )
        for row in rows
    ]


def check_each_length(
    data: bytes,
    parse: Callable[..., Any],
    *,
    header: int,
    agrees: Callable[[Any, Any], bool],
) -> None:
    """`data` is one whole message. Grown byte by byte, cut at each length, with bytes behind it. `agrees`: what was known of a cut
    message is what the whole one says, or less."""
    whole = parse(data)
    assert not isinstance(whole, Truncated) and whole is not NEED_MORE and whole is not NOT_MINE
    assert parse(data + JUNK) == whole
    assert parse(data + JUNK, cut=True) == whole
    for end in range(len(data)):
        assert parse(data[:end]) is NEED_MORE, end
        outcome = parse(data[:end], cut=True)
        if end < header:
            assert outcome is NOT_MINE, end
        else:
            assert isinstance(outcome, Truncated), end
            assert agrees(outcome.partial, whole), (end, outcome.partial, whole)


def says_less(partial: Any, whole: Any) -> bool:
    """Field by field equal, or empty where the whole one has something; lists and bytes may end sooner."""
    return all(_is_less(value, other) for value, other in zip(partial, whole, strict=True))


def _is_less(value: Any, other: Any) -> bool:
    if isinstance(value, bytes | tuple) and isinstance(other, bytes | tuple):
        return value == other[: len(value)]
    return value == other or value is None
