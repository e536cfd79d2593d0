"""The demo in a browser, from the printed link on: the unknown destination, the Redis one, and an OTel trace's logs.

Screenshots go to test-results/, for people to look at.
"""

import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from farcall.api import LogLine, Span
from farcall_demo.expectations import of_host
from support_browser import logged_in
from support_e2e import ROOT, Up, farcall_up, wait_held, wait_until

pytestmark = pytest.mark.e2e
HELD_WITHIN_S = 120
SHOTS = ROOT / "test-results"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with farcall_up(tmp_path_factory.mktemp("browser"), "hobby.yaml") as started:
        wait_held(started, since_ns=time.time_ns(), within_s=HELD_WITHIN_S)
        yield started


@pytest.fixture(scope="module")
def page(up: Up) -> Iterator[Page]:
    """Logged in with the link that `farcall up` printed."""
    SHOTS.mkdir(exist_ok=True)
    link = re.search(r"http://127\.0\.0\.1:\d+/login\?token=\S+", up.read_output())
    assert link is not None, up.read_output()
    with logged_in(link[0], wait_ms=WAIT_MS) as opened:
        yield opened


def console_of(up: Up) -> str:
    return up.open_view().read_config().endpoints.console


def open_first_trace(page: Page, console: str, query: str) -> None:
    """By typing the query; the newest trace that it finds."""
    page.goto(f"{console}/traces")
    field = page.get_by_role("textbox", name=re.compile("Search traces"))
    field.fill(query)
    with page.expect_response(
        lambda answer: "/api/v1/traces?" in answer.url and "q=" in answer.url
    ):
        field.press("Enter")
    page.goto(page.url)  # the URL holds the state: the list is now of nothing but the query
    page.locator("table.traces tbody a").first.click()
    expect(page.get_by_role("treegrid")).to_be_visible()


def open_first_span(page: Page) -> None:
    page.locator(".span-row").first.click()
    expect(page.get_by_role("region", name="Span details")).to_be_visible()


def wait_logged(
    up: Up, query: str, wanted: Callable[[Span], bool], logged: Callable[[Span, LogLine], bool]
) -> Span:
    """The newest wanted span whose trace has such a line: an SDK sends its lines after the spans, seconds later."""
    found: list[Span] = []

    def look() -> bool:
        view = up.open_view()
        view.since_ns = 0
        for span in filter(wanted, view.list_spans(query)):
            if any(logged(span, line) for line in view.list_logs_of(span.effective_trace_id)):
                found.append(span)
                break
        return bool(found)

    wait_until(look, HELD_WITHIN_S, lambda: f"no span of {query} has its log lines")
    return found[0]


def test_the_unknown_destination_is_shown_with_its_reason(page: Page, up: Up) -> None:
    open_first_trace(page, console_of(up), of_host(up.plan, "report"))
    expect(page.locator("h1")).to_contain_text("Unknown External Service")
    expect(page.locator("h1")).to_contain_text("called by bare IP address")
    open_first_span(page)
    page.screenshot(path=SHOTS / "demo-trace-unknown.png")

    page.get_by_role("tab", name="Why this name?").click()

    expect(page.get_by_role("tabpanel")).to_contain_text(up.plan.api)
    page.screenshot(path=SHOTS / "demo-trace-unknown-why.png")


def test_the_redis_destination_is_named(page: Page, up: Up) -> None:
    open_first_trace(page, console_of(up), of_host(up.plan, "cart"))
    expect(page.locator("h1")).to_contain_text("cache.example.com")
    open_first_span(page)
    page.screenshot(path=SHOTS / "demo-trace-redis.png")

    page.get_by_role("tab", name="Why this name?").click()

    expect(page.get_by_role("tabpanel")).to_contain_text("cache.example.com")
    expect(page.get_by_role("tabpanel")).to_contain_text(up.plan.resolver)
    page.screenshot(path=SHOTS / "demo-trace-redis-why.png")


def test_view_logs_of_a_linked_trace_shows_its_lines(page: Page, up: Up) -> None:
    """From the eBPF span's own trace: the link leads to the logs of the OTel trace by itself (M11)."""
    linked = wait_logged(
        up,
        of_host(up.plan, "checkout"),
        lambda span: span.destination.startswith("payments") and bool(span.links),
        lambda _, line: "paid" in line.body,
    )
    page.goto(f"{console_of(up)}/traces/{linked.trace_id}")
    expect(page.get_by_role("treegrid")).to_contain_text("payments.example.com")
    page.screenshot(path=SHOTS / "demo-trace-otel.png")

    page.get_by_role("link", name="View Logs").click()

    expect(page.locator(".log-body").filter(has_text="paid")).not_to_have_count(0)
    expect(page).to_have_url(re.compile(linked.effective_trace_id))
    page.screenshot(path=SHOTS / "demo-logs-otel.png")


def test_a_spans_logs_tab_shows_only_its_lines(page: Page, up: Up) -> None:
    """M10: the OTel root span logged, and its tab shows its lines."""
    root = wait_logged(
        up,
        "service:checkout",
        lambda span: span.source == "otel" and not span.parent_span_id,
        lambda span, line: line.span_id == span.span_id,
    )
    page.goto(f"{console_of(up)}/traces/{root.trace_id}?span={root.span_id}")

    page.get_by_role("tab", name=re.compile("^Logs")).click()

    expect(page.get_by_role("tabpanel").locator(".log-body").first).to_be_visible()
    page.screenshot(path=SHOTS / "demo-span-logs.png")


def test_a_login_link_works_once(page: Page, up: Up) -> None:
    link = re.search(r"http://127\.0\.0\.1:\d+/login\?token=\S+", up.read_output())
    assert link is not None
    stranger = page.context.browser
    assert stranger is not None
    with stranger.new_context() as context:
        second = context.new_page()
        second.goto(link[0])

        expect(second.get_by_role("heading", name="Traces", exact=True)).to_have_count(0)
