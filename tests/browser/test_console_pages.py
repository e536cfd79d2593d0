"""Every page: what it shows, that assistive technology can use it, and that it holds in small windows."""

from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from support_console_rows import span_id, trace_id

pytestmark = pytest.mark.browser

TRACE = f"/traces/{trace_id('checkout')}"
SPAN = f"{TRACE}?span={span_id('fraud')}"
PAGES = {
    "traces": "/traces",
    "traces-empty": "/traces?q=nothing_is_called_this",
    "trace": TRACE,
    "trace-overview": SPAN,
    "trace-attributes": f"{SPAN}&tab=attributes",
    "trace-logs": f"{TRACE}?span={span_id('charge')}&tab=logs",
    "trace-name": f"{TRACE}?span={span_id('cart')}&tab=name",
    "trace-unknown-name": f"{SPAN}&tab=name",
    "trace-hostile": f"/traces/{trace_id('hostile')}?span={span_id('hostile')}",
    "trace-missing": f"/traces/{'0' * 32}",
    "logs": "/logs",
    "logs-of-trace": f"/logs?trace={trace_id('checkout')}&last=3600",
    "logs-unlinked": f"/logs?trace={trace_id('bare')}&last=3600",
    "logs-bad-query": "/logs?q=(error",
    "status": "/status",
    "not-found": "/nowhere",
}


def settle(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    expect(page.locator(".waiting")).to_have_count(0)


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_in_light_and_dark(page: Page, name: str, screenshots: Path) -> None:
    page.goto(PAGES[name])
    settle(page)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=screenshots / f"{name}-{scheme}.png", full_page=True)
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize(
    "name", ["traces", "trace-overview", "trace-logs", "logs", "status", "trace-hostile"]
)
def test_the_window_never_scrolls_sideways(page: Page, name: str) -> None:
    page.goto(PAGES[name])
    settle(page)
    for width in (1280, 700, 400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width


def test_the_list_shows_the_newest_first_with_names_and_reasons(page: Page) -> None:
    rows = page.locator(".traces tbody tr")
    expect(rows.first).to_contain_text("POST /checkout")
    starts = page.locator(".traces tbody time").evaluate_all("all => all.map(t => t.dateTime)")
    assert starts == sorted(starts, reverse=True) and len(starts) > 20
    expired = rows.filter(has_text="sessions")
    expect(expired).to_contain_text("Unknown External Service · its DNS answer has expired")
    expect(rows.filter(has_text="report")).to_contain_text("called by bare IP address")
    expect(rows.first).to_contain_text("1 unknown destination")


def test_traces_are_searched_and_the_url_says_so(page: Page) -> None:
    page.get_by_label("Search traces by their spans").fill("is:unknown")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**/traces?q=is%3Aunknown")
    expect(page.locator(".traces tbody tr")).to_have_count(3)
    page.reload()
    expect(page.locator(".traces tbody tr")).to_have_count(3)
    page.go_back()
    expect(page.locator(".traces tbody tr").nth(20)).to_be_visible()


def test_a_row_is_a_link_that_opens_in_a_tab(page: Page) -> None:
    link = page.get_by_role("link", name="POST /checkout")
    assert link.get_attribute("href") == TRACE
    link.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("checkout")
    page.go_back()
    expect(page.locator(".traces tbody tr").first).to_be_visible()


def test_an_empty_list_says_why_and_what_to_do(page: Page) -> None:
    page.goto("/traces?q=nothing_is_called_this")
    expect(page.locator(".empty")).to_contain_text("No trace in the last 1 h matches this search")
    page.locator(".empty").get_by_role("button", name="Clear the search").click()
    expect(page.locator(".traces tbody tr").first).to_be_visible()


def test_status_shows_what_is_off_and_what_was_lost(page: Page) -> None:
    page.goto("/status")
    agent = page.get_by_role("region", name="agent node-1")
    expect(agent).to_contain_text("alive")
    expect(agent.get_by_role("row", name="tls/openssl")).to_contain_text(
        "the kernel forbids uprobes"
    )
    expect(agent.locator(".loss")).to_contain_text("exchanges lost")
    expect(page.locator(".notice-warn")).to_contain_text("has lost something")


def test_the_keyboard_reaches_the_content_first(page: Page) -> None:
    page.goto("/logs")
    settle(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
