"""The console in a browser, as its user comes to it: by a login link."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"


@contextmanager
def logged_in(link: str, *, wait_ms: int) -> Iterator[Page]:
    """A page behind that link, which waits for so long for what it is told to do. Errors in the browser's console are failures."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    with sync_playwright() as playwright:
        # --no-sandbox: the tests run as root, and the pages are our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(wait_ms)
        expect.set_options(timeout=wait_ms)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(link)
        expect(page.get_by_role("heading", name="Traces", exact=True)).to_be_visible()
        yield page
        browser.close()
    assert complaints == []
