"""The four outcomes of every parser here, and the one way in which wire bytes become text.

1. the event: the bytes held a whole message (or all of it that we read);
2. NEED_MORE: they are a proper beginning, and more may come;
3. NOT_MINE: they are no message of this protocol, or a malformed one;
4. Truncated: the capture was cut before the message ended; `partial` is what was there. What is missing is unknown, not absent.

A parser is told by `cut` whether the capture stopped short: then 2 becomes 4. Parsers raise nothing, whatever the bytes.
Events are NamedTuples, not frozen dataclasses: they are made once per record, and a tuple costs a fifth.
"""

from enum import Enum
from typing import Final, Generic, Literal, NamedTuple, TypeVar

T = TypeVar("T")

MAX_TEXT = 2048  # characters and bytes; farcall.exchange.MAX_TEXT_BYTES (a test compares)


class Outcome(Enum):
    NEED_MORE = "need more"
    NOT_MINE = "not mine"


NEED_MORE: Final[Literal[Outcome.NEED_MORE]] = Outcome.NEED_MORE
NOT_MINE: Final[Literal[Outcome.NOT_MINE]] = Outcome.NOT_MINE


class Truncated(NamedTuple, Generic[T]):
    partial: T


def text(raw: bytes, limit: int = MAX_TEXT) -> str:
    """Bounded, printable text of wire bytes: what does not print is escaped, so no terminal or page obeys it."""
    try:
        plain = raw.decode("ascii")
        if len(plain) <= limit and plain.isprintable():
            return plain  # nearly always
    except UnicodeDecodeError:
        pass
    decoded = raw[:limit].decode("utf-8", "backslashreplace")
    printable = "".join(c if c.isprintable() else _escape(c) for c in decoded)
    return printable.encode()[:limit].decode("utf-8", "ignore")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
