"""What `farcall up` prints: sentences, and the spans as they come. On a terminal a live table, elsewhere plain lines.

Values from the wire are escaped before they reach the terminal (farcall.terminal).
"""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from farcall.api import Span
from farcall.listings import SPANS
from farcall.terminal import GAP, cut_text, escape_text, measure_width
from farcall_operator.local.supervisor import Phase, Supervised

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REMEMBERED_SPANS = 200  # a terminal shows fewer
RESERVED_LINES = 9  # header, components, warnings, the table's frame and a last line
MAX_WARNINGS = 3
# Cells per column where nothing says how wide the reader's window is.
PLAIN_WIDTHS = {
    "TIME": 12,
    "SERVICE": 14,
    "KIND": 8,
    "SPAN": 28,
    "DESTINATION": 26,
    "NAMED BY": 12,
    "DURATION": 10,
}
MARKS = {
    Phase.READY: ("●", "green"),
    Phase.STARTING: ("◐", "yellow"),
    Phase.WAITING: ("○", "dim"),
    Phase.BACKOFF: ("✗", "red"),
    Phase.STOPPING: ("◌", "dim"),
    Phase.ENDED: ("○", "dim"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What changes while it runs, apart from spans."""

    title: str
    components: Sequence[Supervised]
    warnings: Sequence[str]
    losses: dict[str, int]
    trouble: str


class Screen(Protocol):
    @property
    def is_closed(self) -> bool:
        """The reader is gone (`farcall up | head`, a closed terminal); what is said now goes nowhere."""

    def say(self, line: str) -> None:
        """One line of ours, or of the demo."""

    def show_spans(self, spans: Sequence[Span]) -> None: ...

    def show_overview(self, overview: Overview) -> None:
        """Called several times a second."""

    def close(self) -> None: ...


def open_screen(stream: TextIO) -> Screen:
    return LiveScreen(stream) if stream.isatty() else PlainScreen(stream)


def pick_cells(span: Span) -> dict[str, str]:
    """The columns that matter while watching, as `farcall spans` shows them."""
    row = dict(zip((column.title for column in SPANS.columns), SPANS.row(span), strict=True))
    cells = {title: row[title] for title in PLAIN_WIDTHS}
    cells["TIME"] = cells["TIME"][11:23]  # the date is known to whoever watches
    return {title: escape_text(value) for title, value in cells.items()}


class PlainScreen:
    """One line per event, flushed: for pipes, files and CI."""

    def __init__(self, stream: TextIO) -> None:
        self.is_closed = False
        self._stream = stream
        self._has_titles = False
        self._told: set[str] = set()

    def say(self, line: str) -> None:
        self._write(escape_text(line))

    def show_spans(self, spans: Sequence[Span]) -> None:
        if spans and not self._has_titles:
            self._has_titles = True
            self._write(render_plain_row({title: title for title in PLAIN_WIDTHS}))
        for span in spans:
            self._write(render_plain_row(pick_cells(span)))

    def show_overview(self, overview: Overview) -> None:
        """Only what was not said before."""
        for line in list_alarms(overview):
            if line not in self._told:
                self._told.add(line)
                self.say(f"farcall: {line}")

    def close(self) -> None:
        pass

    def _write(self, line: str) -> None:
        if self.is_closed:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except OSError:
            self.is_closed = True


def render_plain_row(cells: dict[str, str]) -> str:
    parts = []
    for title, width in PLAIN_WIDTHS.items():
        shown = cut_text(cells[title], width)
        parts.append(shown + " " * (width - measure_width(shown)))
    return GAP.join(parts).rstrip()


def list_alarms(overview: Overview) -> list[str]:
    """Warnings of the instance and the names of the counters that lost something; their values change, so without."""
    alarms = [f"warning: {warning}" for warning in overview.warnings]
    return alarms + [f"lost: {name} counts" for name in sorted(overview.losses)]


class LiveScreen:
    """A table that is drawn anew, with the sentences scrolling above it."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self.is_closed = False
        self._console = Console(file=stream, highlight=False)
        self._spans: deque[dict[str, str]] = deque(maxlen=REMEMBERED_SPANS)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        with self._while_open():
            self._live.start()

    def say(self, line: str) -> None:
        with self._while_open():
            self._console.print(escape_text(line), markup=False, soft_wrap=True)

    def show_spans(self, spans: Sequence[Span]) -> None:
        self._spans.extendleft(pick_cells(span) for span in spans)

    def show_overview(self, overview: Overview) -> None:
        with self._while_open():
            self._live.update(draw(self._console, overview, list(self._spans)), refresh=True)

    def close(self) -> None:
        with self._while_open():
            self._live.stop()

    @contextmanager
    def _while_open(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # EIO: the terminal was closed
            self.is_closed = True


def draw(
    console: "Console", overview: Overview, spans: Sequence[dict[str, str]]
) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(expand=True, box=None, pad_edge=False, header_style="bold")
    for title in PLAIN_WIDTHS:
        table.add_column(
            title,
            justify="right" if title == "DURATION" else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for cells in spans[: max(1, console.size.height - RESERVED_LINES)]:
        style = "yellow" if cells["DESTINATION"].startswith("Unknown") else ""
        table.add_row(*(Text(cells[title], style=style) for title in PLAIN_WIDTHS))
    head = [Text(overview.title, style="bold"), _draw_components(overview.components)]
    head += [Text(line, style="red") for line in _list_live_alarms(overview)]
    return Group(*head, Text(""), table)


def _draw_components(components: Sequence[Supervised]) -> "RenderableType":
    from rich.text import Text

    line = Text()
    for supervised in components:
        mark, style = MARKS[supervised.phase]
        line.append(f"{mark} {supervised.name}", style=style)
        line.append(f" ({supervised.restarts} restarts)  " if supervised.restarts else "  ")
    return line


def _list_live_alarms(overview: Overview) -> list[str]:
    alarms = [escape_text(warning) for warning in overview.warnings[:MAX_WARNINGS]]
    if overview.losses:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(overview.losses.items()))
        alarms.append(f"lost: {escape_text(counts)}")
    if overview.trouble:
        alarms.append(escape_text(overview.trouble))
    return alarms


def open_standard_screen() -> Screen:
    return open_screen(sys.stdout)
