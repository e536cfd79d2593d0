"""A real store with a shop in it, a real console, and Debian's Chromium. Every page that misbehaves fails its test."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

import farcall_store
from farcall import secretfiles
from farcall.api import ComponentStatus
from support_console import Process, make_config, running
from support_console_big import build_big
from support_console_shop import build_shop

WAIT_MS = 60_000  # a page beside two other suites
expect.set_options(timeout=WAIT_MS)

BIG_SPANS = 3_000  # more than the trace page asks for at first
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",  # tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A refused query is an answer of the page, but Chromium notes every 4xx.
EXPECTED_NOISE = "Failed to load resource"
WATCH_POLICY = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    directory = tmp_path_factory.mktemp("console")
    config = make_config(directory)
    with running("store", config, directory) as store:
        password = store.secret(secretfiles.STORE_WRITER_PASSWORD)
        writer = farcall_store.open_writer(config.endpoints.store, password=password)
        now_ns = time.time_ns()
        writer.write(build_shop(now_ns).tables(), token="shop")
        writer.write(build_big("big", BIG_SPANS, now_ns - 3_000_000_000_000).tables(), token="big")
        writer.write_status(make_agent(now_ns))
        with running("console", config, directory) as process:
            yield process


def make_agent(now_ns: int) -> ComponentStatus:
    """It will not speak again, so it is said to have spoken in a moment from now: alive for as long as tests run."""
    return ComponentStatus(
        kind="agent",
        name="node-1",
        version="0.1.0",
        seen_ns=str(now_ns + 900 * 1_000_000_000),
        started_ns=str(now_ns - 60 * 1_000_000_000),
        config_generation=1,
        alive=True,
        capabilities=(
            {"name": "syscalls/write", "on": "true", "why": "", "cost": ""},
            {
                "name": "tls/openssl",
                "on": "false",
                "why": "the kernel forbids uprobes",
                "cost": "HTTPS is seen as bytes; SNI still names it",
            },
        ),
        counters={"exchanges": "18234", "dns_answers": "211", "exchanges_lost": "3"},
        gauges={"rss_bytes": 61_341_696.0, "cpu_seconds": 2.5, "queue_batches": 0.0},
    )


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def stranger(chromium: Browser, console: Process) -> Iterator[Page]:
    """A page that is not signed in."""
    with_context = chromium.new_context(
        base_url=console.url, viewport={"width": 1440, "height": 900}, color_scheme="light"
    )
    yield from watched_page(with_context)


@pytest.fixture
def page(stranger: Page, console: Process) -> Page:
    """Signed in with a one-time link, as a person would be."""
    stranger.goto(console.login_path())
    stranger.wait_for_url("**/traces")
    return stranger


def watched_page(context: BrowserContext) -> Iterator[Page]:
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(EXPECTED_NOISE):
            faults.append(message.text)

    context.set_default_timeout(WAIT_MS)
    context.add_init_script(WATCH_POLICY)
    page = context.new_page()
    page.on("console", note)
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def screenshots() -> Path:
    """Where a test leaves pictures for people: test-results/, which git ignores."""
    path = Path(__file__).parents[2] / "test-results"
    path.mkdir(exist_ok=True)
    return path
