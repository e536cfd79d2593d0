"""Logs from the trace: the button, the tab, the right trace ID by itself, and all of the search (M9 to M12)."""

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from support_console_rows import span_id, trace_id

pytestmark = pytest.mark.browser

TRACE = f"/traces/{trace_id('checkout')}"


def open_logs(page: Page, trace: str = "checkout") -> None:
    page.goto(f"/traces/{trace_id(trace)}")
    page.get_by_role("link", name="View Logs").click()
    page.wait_for_url("**/logs?**")


def bodies(page: Page) -> list[str]:
    expect(page.locator(".logview")).to_have_attribute("aria-busy", "false")
    texts: list[str] = page.locator(".log-body").all_inner_texts()
    return texts


def search(page: Page, query: str) -> None:
    page.get_by_label("Search the log lines").fill(query)
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".logview")).to_have_attribute("aria-busy", "false")


def test_view_logs_opens_every_line_of_the_request_flow_in_order(page: Page) -> None:
    open_logs(page)
    expect(page.locator(".log")).to_have_count(7)
    lines = bodies(page)
    assert lines[0].startswith("checkout started") and lines[-1].startswith("payment accepted")
    query = parse_qs(urlsplit(page.url).query)
    assert query["trace"] == [trace_id("checkout")] and "span" not in query
    assert int(query["from"][0]) < int(query["to"][0])


def test_lines_outside_the_traces_time_are_counted_and_one_click_away(page: Page) -> None:
    open_logs(page)
    page.get_by_role("button", name="1 more outside this range").click()
    expect(page.locator(".log")).to_have_count(8)
    expect(page.locator(".log").last).to_contain_text("confirmation sent")
    page.go_back()
    expect(page.locator(".log")).to_have_count(7)


def test_the_logs_tab_shows_only_that_spans_lines(page: Page) -> None:
    page.goto(TRACE)
    page.get_by_role("row", name="reserve stock").click()
    page.get_by_role("tab", name="Logs 2").click()
    expect(page.locator(".panel .log")).to_have_count(2)
    for line in page.locator(".panel .log-row").all():
        line.click()
    spans = page.locator(".log-ids code").evaluate_all("all => all.map(code => code.title)")
    assert set(spans) == {trace_id("checkout"), span_id("reserve")}


def test_an_ebpf_span_shows_the_lines_of_the_opentelemetry_span_that_sent_it(page: Page) -> None:
    page.goto(f"{TRACE}?span={span_id('pay')}&tab=logs")
    expect(page.get_by_role("tab", name="Logs 3")).to_be_visible()
    expect(page.locator(".panel .log").first).to_contain_text("charging 42.50 EUR")


def test_an_ebpf_trace_filters_by_the_opentelemetry_trace_id_by_itself(page: Page) -> None:
    open_logs(page, "pay-calls")
    assert trace_id("checkout") in parse_qs(urlsplit(page.url).query)["trace"]
    expect(page.locator(".log").first).to_be_visible()
    assert any("payment accepted" in line for line in bodies(page))


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("stock", 2),
        ('"order 1042"', 1),
        ("/fraud score|payment accepted/", 2),
        ("sku:A-1009", 2),
        ("error.details:/refused/", 1),
        ("-sku:*", 5),
        ("level>=warn", 2),
        ("stock level>=warn", 1),
        ("nothing_like_this", 0),
    ],
)
def test_everything_the_logs_view_can_ask_works_inside_the_trace(
    page: Page, query: str, count: int
) -> None:
    open_logs(page)
    search(page, query)
    expect(page.locator(".log")).to_have_count(count)


def test_the_spans_tab_has_the_same_search(page: Page) -> None:
    page.goto(f"{TRACE}?span={span_id('charge')}&tab=logs")
    expect(page.locator(".panel .log")).to_have_count(3)
    search(page, "/pay(ment)?/")
    expect(page.locator(".panel .log")).to_have_count(1)
    assert "log.q=" in page.url
    page.reload()
    expect(page.locator(".panel .log")).to_have_count(1)
    page.go_back()
    expect(page.locator(".panel .log")).to_have_count(3)
    expect(page.get_by_role("tab", name="Logs 3")).to_be_visible()


def test_a_filter_is_built_without_knowing_the_language(page: Page) -> None:
    open_logs(page)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("Where").select_option("attribute")
    page.get_by_label("Attribute", exact=True).fill("left")
    page.get_by_label("Value").fill("2")
    expect(page.locator(".filter-preview")).to_have_text("adds left:2")
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".log")).to_have_count(1)
    expect(page.get_by_label("Search the log lines")).to_have_value("left:2")


def test_an_attribute_of_a_line_becomes_a_filter(page: Page) -> None:
    open_logs(page)
    page.locator(".log-row", has_text="stock is low").click()
    page.get_by_role("button", name="Only lines with this sku").click()
    expect(page.locator(".log")).to_have_count(2)


def test_the_time_range_can_be_typed(page: Page) -> None:
    open_logs(page)
    page.get_by_label("Time range").select_option("custom")
    later = page.get_by_label("From", exact=True).input_value()
    page.get_by_label("To", exact=True).fill(later[:-3] + "999")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".empty")).to_contain_text("No line in this time range")
    page.get_by_role("button", name="Show everything kept").click()
    expect(page.locator(".log")).to_have_count(8)


def test_a_range_is_dragged_on_the_histogram(page: Page) -> None:
    open_logs(page)
    box = page.locator(".histogram-bars").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 20)
    page.mouse.up()
    expect(page.locator(".empty")).to_contain_text("8 lines lie outside it")


def test_a_query_that_cannot_be_read_is_marked_at_the_place(page: Page) -> None:
    page.goto("/logs?q=error (left")
    problem = page.locator(".query-problem")
    expect(problem).to_contain_text("never closed")
    expect(problem.locator("mark")).to_have_text("(")
    expect(page.get_by_label("Search the log lines")).to_have_attribute("aria-invalid", "true")


def test_a_regex_that_re2_refuses_is_said_at_the_input(page: Page) -> None:
    page.goto("/logs?q=/(?=x)y/")
    expect(page.locator(".query-problem")).to_contain_text("RE2")


def test_a_trace_that_no_line_can_name_says_so(page: Page) -> None:
    open_logs(page, "bare")
    empty = page.locator(".empty")
    expect(empty).to_contain_text("not linked to an OpenTelemetry trace")
    expect(empty).to_contain_text("traceparent")


def test_a_line_leads_to_its_span(page: Page) -> None:
    page.goto("/logs?q=charging")
    page.locator(".log-row").click()
    page.get_by_role("link", name="Open trace").click()
    expect(page.get_by_role("region", name="Span details")).to_contain_text("charge card")
