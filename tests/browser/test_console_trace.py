"""The trace page: waterfall, keys, panel, share, find, and why a span has its name."""

import pytest
from playwright.sync_api import Browser, Page, expect

from support_console import Process
from support_console_rows import span_id, trace_id

pytestmark = pytest.mark.browser

TRACE = f"/traces/{trace_id('checkout')}"


def open_trace(page: Page, query: str = "") -> None:
    page.goto(f"{TRACE}{query}")
    expect(page.get_by_role("treegrid")).to_be_visible()


def test_spans_of_both_kinds_stand_in_one_tree(page: Page) -> None:
    open_trace(page)
    rows = page.get_by_role("treegrid").get_by_role("row")
    outline = rows.evaluate_all(
        "rows => rows.filter(r => r.ariaLevel).map(r => [Number(r.ariaLevel), r.querySelector('.span-operation').textContent])"
    )
    assert outline == [
        [1, "POST /checkout"],
        [2, "GET"],
        [2, "reserve stock"],
        [3, "POST /reserve"],
        [4, "SELECT"],
        [2, "charge card"],
        [3, "POST /v1/charges"],
        [3, "POST /score"],
    ]
    assert page.get_by_role("treegrid").get_attribute("aria-rowcount") == "9"
    unknown = rows.filter(has_text="POST /score")
    expect(unknown).to_contain_text("Unknown External Service · called by bare IP address")
    expect(unknown).to_contain_text("error")


def test_view_logs_stands_next_to_share_trace(page: Page) -> None:
    open_trace(page)
    names = page.locator(".trace-actions > *").evaluate_all(
        "all => all.map(e => e.innerText.trim())"
    )
    assert names == ["View Logs", "Share Trace"]


def test_share_copies_a_plain_link_that_needs_a_login(
    page: Page, chromium: Browser, console: Process
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_trace(page)
    page.get_by_role("button", name="Share Trace").click()
    expect(page.locator(".trace-actions [role=status]")).to_have_text("Copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{console.url}{TRACE}"
    other = chromium.new_context()
    visitor = other.new_page()
    visitor.goto(link)
    expect(visitor.get_by_role("heading", name="Sign in with a link")).to_be_visible()
    other.close()


def test_the_keys_of_a_treegrid_work(page: Page) -> None:
    open_trace(page)
    page.locator(".span-row[tabindex='0']").focus()
    press = page.keyboard.press
    focused = page.locator(".span-row:focus .span-operation")
    press("ArrowDown")
    expect(focused).to_have_text("GET")
    press("End")
    expect(focused).to_have_text("POST /score")
    press("ArrowLeft")
    expect(focused).to_have_text("charge card")
    press("ArrowLeft")
    expect(page.locator(".span-row:focus")).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_role("row", name="POST /score")).to_have_count(0)
    press("ArrowRight")
    press("ArrowRight")
    expect(focused).to_have_text("POST /v1/charges")
    press("Home")
    press("Enter")
    expect(page.get_by_role("region", name="Span details")).to_contain_text("POST /checkout")
    press("ArrowDown")
    expect(page.get_by_role("region", name="Span details")).to_contain_text("GET")
    page.get_by_role("tab", name="Overview").focus()
    press("Escape")
    expect(page.get_by_role("region", name="Span details")).to_have_count(0)
    expect(page.locator(".span-row:focus")).to_have_count(1)


def test_a_click_opens_the_panel_and_back_closes_it(page: Page) -> None:
    open_trace(page)
    page.get_by_role("row", name="POST /reserve").click()
    panel = page.get_by_role("region", name="Span details")
    expect(panel).to_contain_text("28 ms in the server, 7 ms network and queueing")
    expect(panel).to_contain_text("Request sentin 2 ms")
    expect(panel).to_contain_text("Response beganafter 31 ms")
    assert f"span={span_id('stock')}" in page.url
    page.reload()
    expect(panel).to_contain_text("POST /reserve")
    page.go_back()
    expect(panel).to_have_count(0)


def test_tabs_follow_the_arrow_keys_and_stay_in_the_url(page: Page) -> None:
    open_trace(page, f"?span={span_id('fraud')}")
    page.get_by_role("tab", name="Overview").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Attributes 10")).to_be_focused()
    expect(page.get_by_role("tabpanel")).to_contain_text("network.peer.address")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Why this name?")).to_be_focused()
    assert "tab=name" in page.url


def test_a_name_shows_its_evidence(page: Page) -> None:
    open_trace(page, f"?span={span_id('cart')}&tab=name")
    panel = page.get_by_role("tabpanel")
    expect(panel).to_contain_text("The newest DNS answer that this client got before it connected")
    expect(panel).to_contain_text("203.0.113.10:6379")
    expect(panel).to_contain_text("the answer was 4 min 31 s old")
    expect(panel.locator("tr.used")).to_contain_text("cache.example.com")
    expect(panel).to_contain_text("old-cache.example.com led to the same address")


def test_the_name_of_a_service_says_that_the_cluster_knows_the_address(page: Page) -> None:
    open_trace(page, f"?span={span_id('stock')}&tab=name")
    panel = page.get_by_role("tabpanel")
    expect(panel).to_contain_text("exact: the cluster says whose address it is")
    expect(panel).to_contain_text("DNS answernone was used")


def test_an_unknown_name_shows_why_and_what_to_do(page: Page) -> None:
    page.goto(f"/traces/{trace_id('expired')}?span={span_id('expired')}&tab=name")
    panel = page.get_by_role("tabpanel")
    expect(panel).to_contain_text("older than the tier keeps answers")
    expect(panel).to_contain_text("spec.dns.holdWhileConnected: true")
    expect(panel).to_contain_text("1 h (Hobby tier)")
    expect(panel).to_contain_text("sessions.example.com")


def test_a_server_side_span_says_that_it_is_one(page: Page) -> None:
    page.goto(f"/traces/{trace_id('outside')}?span={span_id('outside')}&tab=attributes")
    row = page.get_by_role("row", name="metoro.is_server_span")
    expect(row).to_contain_text("true")


def test_spans_are_found_by_attribute_and_stepped_through(page: Page) -> None:
    open_trace(page)
    page.get_by_label("Find spans in this trace").fill("http.request.method=post")
    expect(page.locator(".find output")).to_have_text("4 found")
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".find output")).to_have_text("1 of 4")
    page.get_by_role("button", name="Previous").click()
    expect(page.locator(".find output")).to_have_text("4 of 4")
    expect(page.locator(".span-row.selected")).to_contain_text("POST /score")


def test_finding_opens_what_was_collapsed(page: Page) -> None:
    open_trace(page)
    page.get_by_role("button", name="Collapse all").click()
    expect(page.locator(".span-row")).to_have_count(1)
    page.get_by_label("Find spans in this trace").fill("SELECT")
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".span-row.selected")).to_contain_text("SELECT")


def test_a_short_span_can_be_zoomed_to(page: Page) -> None:
    open_trace(page, f"?span={span_id('cart')}")
    page.get_by_role("button", name="Zoom to span").click()
    bar = page.locator(".span-row.selected .bar")
    expect(bar).to_have_css("left", "0px")
    assert page.evaluate("document.querySelector('.span-row.selected .bar').style.width") == "100%"
    page.get_by_role("button", name="Whole trace").click()
    expect(page.get_by_role("button", name="Whole trace")).to_have_count(0)


def test_an_ebpf_trace_opens_by_its_own_id_too(page: Page) -> None:
    page.goto(f"/traces/{trace_id('cart-calls')}")
    expect(page.get_by_role("treegrid")).to_contain_text("cache.example.com")
