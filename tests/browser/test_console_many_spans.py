"""A trace of thousands of spans: the first at once, the rest soon, and only what is looked at in the document."""

import pytest
from playwright.sync_api import Page, expect

from support_console_rows import trace_id

pytestmark = pytest.mark.browser

SPANS = 3_000


@pytest.fixture
def big(page: Page) -> Page:
    page.goto(f"/traces/{trace_id('big')}")
    expect(page.get_by_role("treegrid")).to_have_attribute("aria-rowcount", str(SPANS + 1))
    return page


def test_all_spans_arrive_and_few_are_in_the_document(big: Page) -> None:
    expect(big.locator(".trace-facts")).to_contain_text("3,000 spans")
    expect(big.locator(".notice")).to_have_count(0)
    assert big.locator(".span-row").count() < 80


def test_the_end_is_one_key_away_and_keeps_the_focus(big: Page) -> None:
    big.locator(".span-row[tabindex='0']").focus()
    big.keyboard.press("End")
    expect(big.locator(".span-row:focus")).to_have_attribute("aria-rowindex", str(SPANS + 1))
    big.locator(".waterfall").evaluate("box => { box.scrollTop = 0; }")
    expect(big.locator(".span-row").first).to_have_attribute("aria-rowindex", "2")
    expect(big.locator(".span-row:focus")).to_have_attribute("aria-rowindex", str(SPANS + 1))


def test_a_span_that_is_far_away_is_found_and_shown(big: Page) -> None:
    big.get_by_label("Find spans in this trace").fill("url.path=/api/2987")
    expect(big.locator(".find output")).to_have_text("1 found")
    big.get_by_role("button", name="Next").click()
    expect(big.locator(".span-row.selected")).to_be_in_viewport()
    expect(big.locator(".span-row.selected")).to_contain_text("GET /api/2987")


def test_the_first_spans_are_shown_before_the_rest_has_come(page: Page) -> None:
    held = []
    page.route("**/api/v1/traces/*?limit=50000", lambda route: held.append(route))
    page.goto(f"/traces/{trace_id('big')}")
    expect(page.locator(".notice")).to_contain_text("the first 1,000 by start are shown")
    expect(page.locator(".span-row").first).to_be_visible()
    assert "last=all" in str(page.get_by_role("link", name="View Logs").get_attribute("href"))
    held[0].continue_()
    expect(page.locator(".notice")).to_have_count(0)


def test_a_rest_that_cannot_be_read_leaves_what_is_there(page: Page) -> None:
    page.route("**/api/v1/traces/*?limit=50000", lambda route: route.abort())
    page.goto(f"/traces/{trace_id('big')}")
    expect(page.locator(".notice")).to_contain_text("The others could not be read")
    expect(page.locator(".span-row").first).to_be_visible()
