"""Text from the wire stays text: markup, template syntax, direction marks and controls in every place a stranger fills."""

import pytest
from playwright.sync_api import Page, expect

from support_console_hostile import HOSTILE
from support_console_rows import span_id, trace_id

pytestmark = pytest.mark.browser

SPAN = f"/traces/{trace_id('hostile')}?span={span_id('hostile')}"
PLACES = {
    "name, service and host in the list": "/traces?q=203.0.113.66&last=all",
    "status message": SPAN,
    "keys and values": f"{SPAN}&tab=attributes",
    "body in the tab": f"{SPAN}&tab=logs",
    "question, client and rivals": f"{SPAN}&tab=name",
    "body on the logs page": f"/logs?trace={trace_id('hostile')}&last=all",
    "the query itself": "/logs?q=%3Cimg+src%3Dx+onerror%3Dwindow.pwned%3D1%3E",
    "the query's fault": "/logs?q=(%3Cscript%3Ewindow.pwned%3D1%3C/script%3E",
    "the words to find": f"{SPAN}&find=%3Cscript%3Ewindow.pwned%3D1%3C/script%3E",
}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_runs_and_nothing_becomes_markup(page: Page, place: str) -> None:
    page.goto(PLACES[place])
    page.wait_for_load_state("networkidle")
    for row in page.locator(".log-row").all():
        row.click()
    assert page.evaluate("window.pwned") is None
    assert page.locator("main script, main img, main svg[onload], main [onerror]").count() == 0
    text = page.locator("main").inner_text()
    for mark in "\u202e\u2066\u200b\u0007\x1b":
        assert mark not in text, repr(mark)


def test_hostile_text_is_shown_as_it_is(page: Page) -> None:
    page.goto(PLACES["keys and values"])
    values = page.locator(".attributes .value")
    expect(values.filter(has_text=HOSTILE[0]).first).to_be_visible()
    expect(
        values.filter(has_text="⟨202E⟩gnp.exe⟨2066⟩⟨200B⟩⟨0007⟩⟨001B⟩[31m").first
    ).to_be_visible()


def test_no_hostile_value_becomes_a_link(page: Page) -> None:
    page.goto(PLACES["keys and values"])
    expect(page.locator(".attributes").first).to_be_visible()
    links = page.locator("main a").evaluate_all("all => all.map(a => a.protocol)")
    assert set(links) <= {"http:", "https:"}


def test_titles_of_hostile_traces_are_text(page: Page) -> None:
    page.goto(SPAN)
    expect(page.get_by_role("treegrid")).to_be_visible()
    assert page.evaluate("document.querySelectorAll('title').length") == 1
