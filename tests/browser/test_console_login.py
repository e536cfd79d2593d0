"""Signing in and out as a person does it."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from support_console import Process
from support_console_rows import trace_id

pytestmark = pytest.mark.browser


def test_a_stranger_is_told_how_to_get_a_link(stranger: Page) -> None:
    stranger.goto(f"/traces/{trace_id('checkout')}")
    expect(stranger.get_by_role("heading", name="Sign in with a link")).to_be_visible()
    expect(stranger.locator("pre")).to_have_text("farcall login")
    results = Axe().run(stranger)
    assert results.violations_count == 0, results.generate_report()


def test_a_link_signs_in_once(stranger: Page, console: Process) -> None:
    link = console.login_path()
    stranger.goto(link)
    stranger.wait_for_url("**/traces")
    expect(stranger.locator(".traces")).to_be_visible()
    assert stranger.evaluate("document.cookie") == ""  # not for scripts
    stranger.goto(link)
    expect(stranger.get_by_role("alert")).to_contain_text("used before")


def test_signing_out_ends_the_session(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in with a link")).to_be_visible()
    page.goto("/traces")
    expect(page.get_by_role("heading", name="Sign in with a link")).to_be_visible()


def test_a_session_that_ended_says_so_in_the_page(page: Page) -> None:
    page.context.clear_cookies()
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended")


def test_a_link_from_another_site_arrives_signed_in(page: Page, console: Process) -> None:
    """The cookie is Strict and stays at home; the page that loads once more brings it."""
    target = f"{console.url}/traces/{trace_id('checkout')}"
    page.route(
        "http://chat.example/",
        lambda route: route.fulfill(body=f"<a href='{target}'>look</a>", content_type="text/html"),
    )
    page.goto("http://chat.example/")
    page.get_by_role("link", name="look").click()
    expect(page.get_by_role("treegrid")).to_be_visible()
