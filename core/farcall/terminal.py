"""Text for a terminal: tables that fit it, and values from the wire that cannot steer it.

Pure. Escaped are control characters (also those that move the cursor), bidirectional overrides, invisible and
unassigned characters: what is printed is what was sent, and nothing else.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP = "  "
MIN_WIDTH = 6  # a column is not made narrower than this: below it nothing can be read
# Cc control, Cf format (bidi, zero width), Cs surrogate, Co private, Cn unassigned, Zl and Zp line breaks.
_UNPRINTABLE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`flexible` columns are cut when the table is too wide; the others never."""

    title: str
    flexible: bool = False
    right: bool = False


def escape_text(text: str) -> str:
    """`text` with everything that would steer the terminal as `\\xNN`, `\\uNNNN` or `\\UNNNNNNNN`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def measure_width(text: str) -> int:
    """Cells that `text` takes: East Asian wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_cells(c) for c in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut_text(text: str, width: int) -> str:
    """`text` in at most `width` cells, with an ellipsis where something was cut."""
    if measure_width(text) <= width:
        return text
    kept, cells = [], 0
    for character in text:
        cells += _cells(character)
        if cells > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"


def render_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None
) -> Iterator[str]:
    """Lines of the table, its title first; no wider than `width` cells where flexible columns allow it."""
    cells = [[escape_text(value) for value in row] for row in rows]
    widths = [
        max([measure_width(column.title), *(measure_width(row[i]) for row in cells)])
        for i, column in enumerate(columns)
    ]
    if width is not None:
        _shrink(columns, widths, width)
    yield _render_row(columns, widths, [column.title for column in columns])
    for row in cells:
        yield _render_row(columns, widths, row)


def _shrink(columns: Sequence[Column], widths: list[int], width: int) -> None:
    """Takes from the widest flexible column until the table fits."""
    flexible = [i for i, column in enumerate(columns) if column.flexible]
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    while excess > 0 and flexible:
        widest = max(flexible, key=lambda i: widths[i])
        if widths[widest] <= MIN_WIDTH:
            return
        widths[widest] -= 1
        excess -= 1


def _render_row(columns: Sequence[Column], widths: Sequence[int], row: Sequence[str]) -> str:
    parts = []
    for column, width, value in zip(columns, widths, row, strict=True):
        shown = cut_text(value, width)
        padding = " " * (width - measure_width(shown))
        parts.append(padding + shown if column.right else shown + padding)
    return GAP.join(parts).rstrip()
