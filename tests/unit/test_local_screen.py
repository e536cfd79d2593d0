"""What `farcall up` shows, and what it asks the API for: new spans once, losses by name, troubles in words."""

import errno
import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from rich.console import Console

from farcall.api import ComponentStatus, Span, SpanPage, SpanQuery, Status
from farcall.client import ApiUnreachableError
from farcall_operator.desired import Component, ReadyFile
from farcall_operator.local.feed import LOOK_BACK_S, NS_PER_S, Feed, sum_losses
from farcall_operator.local.screen import LiveScreen, Overview, PlainScreen, draw, pick_cells
from farcall_operator.local.supervisor import Phase, Supervised

pytestmark = pytest.mark.unit

SPAN = Span(
    trace_id="a" * 32,
    span_id="b" * 16,
    parent_span_id="",
    name="GET /api/data",
    kind="Client",
    start_ns="1795598000123456789",
    duration_ns="2500000",
    service="storefront",
    status="Unset",
    status_message="",
    source="ebpf",
    destination="api.example.com",
    unknown_reason="",
    is_server_span=False,
    attributes={"farcall.name.source": "http"},
    resource={},
    links=(),
    effective_trace_id="a" * 32,
    effective_span_id="b" * 16,
)
AGENT = ComponentStatus(
    kind="agent",
    name="n",
    version="1",
    seen_ns="1",
    started_ns="1",
    config_generation=1,
    alive=True,
    capabilities=(),
    counters={"kernel_dns_lost": "2", "rows_dropped": "0", "batches_sent": "9"},
    gauges={},
)
STATUS = Status(
    name="main",
    version="1",
    tier="Hobby",
    dns_ttl_s=3_600,
    dns_ttl_overridden=False,
    cluster_cidrs=(),
    config_generation=1,
    components=(AGENT, replace(AGENT, name="m")),
    warnings=("look",),
)


@dataclass(slots=True)
class FakeApi:
    pages: list[list[Span]] = field(default_factory=list)
    queries: list[SpanQuery] = field(default_factory=list)
    is_down: bool = False

    def list_spans(self, query: SpanQuery) -> SpanPage:
        if self.is_down:
            raise ApiUnreachableError("no answer from http://127.0.0.1:1")
        self.queries.append(query)
        return SpanPage(items=tuple(self.pages.pop(0) if self.pages else ()))

    def read_status(self) -> Status:
        return STATUS


def later(span: Span, *, by_ns: int, span_id: str) -> Span:
    return replace(span, start_ns=str(int(span.start_ns) + by_ns), span_id=span_id)


def test_each_span_is_news_once_and_the_oldest_comes_first() -> None:
    second = later(SPAN, by_ns=5, span_id="c" * 16)
    third = later(SPAN, by_ns=9, span_id="d" * 16)
    feed = Feed(FakeApi(pages=[[second, SPAN], [third, second, SPAN]]), now_ns=lambda: NS_PER_S)

    assert [span.span_id for span in feed.ask().spans] == ["b" * 16, "c" * 16]
    assert [span.span_id for span in feed.ask().spans] == ["d" * 16]
    assert feed.ask().spans == []


def test_nothing_of_before_the_start_is_asked_for() -> None:
    api = FakeApi()
    times = iter([100 * NS_PER_S, 101 * NS_PER_S, 200 * NS_PER_S])
    feed = Feed(api, now_ns=lambda: next(times))
    feed.ask()
    feed.ask()
    windows = [query.window for query in api.queries]

    assert [w.from_ns // NS_PER_S for w in windows if w] == [100, 200 - LOOK_BACK_S]


def test_status_is_asked_for_at_once_and_then_seldom() -> None:
    feed = Feed(FakeApi(), now_ns=lambda: 0)
    warnings = [feed.ask().warnings for _ in range(6)]

    assert warnings == [("look",), None, None, None, None, ("look",)]


def test_losses_are_summed_over_components_and_zeros_left_out() -> None:
    assert sum_losses(STATUS) == {"kernel_dns_lost": 4}


def test_a_trouble_is_told_and_over_with_the_next_answer() -> None:
    api = FakeApi(is_down=True)
    feed = Feed(api, now_ns=lambda: 0)

    assert feed.ask().trouble == "no answer from http://127.0.0.1:1"
    api.is_down = False
    assert feed.ask().trouble == ""


def test_the_thread_hands_over_what_it_found() -> None:
    feed = Feed(FakeApi(pages=[[SPAN]]), now_ns=lambda: 0)
    feed.start()
    found: list[Span] = []
    while not found:
        found += [span for news in feed.take() for span in news.spans]
    feed.stop()

    assert found == [SPAN]


def make_overview(**changes: object) -> Overview:
    component = Component(name="agent", argv=(), readiness=ReadyFile(path=""))
    values: dict[str, object] = {
        "title": "farcall main",
        "components": (Supervised(component=component, phase=Phase.READY, restarts=2),),
        "warnings": (),
        "losses": {},
        "trouble": "",
    }
    return Overview(**{**values, **changes})  # type: ignore[arg-type]


def test_a_plain_screen_prints_one_line_per_span_under_one_title() -> None:
    stream = io.StringIO()
    screen = PlainScreen(stream)
    screen.show_spans([])
    screen.show_spans([SPAN])
    screen.show_spans(
        [replace(SPAN, destination="Unknown External Service", unknown_reason="expired")]
    )
    title, first, second = stream.getvalue().splitlines()

    assert title.split() == [
        "TIME",
        "SERVICE",
        "KIND",
        "SPAN",
        "DESTINATION",
        "NAMED",
        "BY",
        "DURATION",
    ]
    assert first.split() == [
        "09:13:20.123", "storefront", "client", "GET", "/api/data", "api.example.com", "http", "2.50", "ms",
    ]  # fmt: skip
    assert "Unknown External Service    expired" in second


def test_a_plain_screen_says_each_alarm_once() -> None:
    stream = io.StringIO()
    screen = PlainScreen(stream)
    for count in (1, 2):
        screen.show_overview(make_overview(warnings=("look",), losses={"dns_lost": count}))

    assert stream.getvalue().splitlines() == [
        "farcall: warning: look",
        "farcall: lost: dns_lost counts",
    ]


def test_wire_text_cannot_steer_the_terminal() -> None:
    hostile = replace(SPAN, name="GET \x1b]0;x\x07", service="a\nb", destination="[red]x\u202e")
    stream = io.StringIO()
    PlainScreen(stream).show_spans([hostile])
    console = Console(file=io.StringIO(), width=200, height=40, force_terminal=False)
    console.print(draw(console, make_overview(), [pick_cells(hostile)]))
    assert isinstance(console.file, io.StringIO)

    for shown in (stream.getvalue(), console.file.getvalue()):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "GET \\x1b]0;x\\x07" in shown
        assert "[red]x\\u202e" in shown


def test_the_live_table_shows_components_alarms_and_spans() -> None:
    console = Console(file=io.StringIO(), width=160, height=30, force_terminal=False)
    overview = make_overview(warnings=("look",), losses={"dns_lost": 3}, trouble="no answer")
    console.print(draw(console, overview, [pick_cells(SPAN)]))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()

    for words in (
        "farcall main",
        "● agent (2 restarts)",
        "look",
        "dns_lost 3",
        "no answer",
        "api.example.com",
    ):
        assert words in shown


class ClosedStream(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(
            errno.EIO, "Input/output error"
        )  # of a terminal that was closed; a pipe says EPIPE

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[PlainScreen, LiveScreen])
def closed(request: pytest.FixtureRequest) -> Iterator[PlainScreen | LiveScreen]:
    screen = request.param(ClosedStream())
    yield screen
    screen.close()


def test_a_reader_that_went_away_is_noticed_and_harms_nothing(
    closed: PlainScreen | LiveScreen,
) -> None:
    closed.say("a line")
    closed.show_spans([SPAN])
    closed.show_overview(make_overview(warnings=("look",)))

    assert closed.is_closed
