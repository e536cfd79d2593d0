"""The console of the cluster in a browser, by the way that `farcall open` makes. Screenshots go to test-results/kind."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from farcall.names import UNKNOWN_EXTERNAL_SERVICE
from support_browser import logged_in
from support_cluster import KUBECONFIG, ROOT, Cluster, wait_until
from support_cluster_shop import CONFIG, ZONE, Shop
from support_cluster_spans import pod_of, wait_spans

pytestmark = pytest.mark.kind

SHOTS = ROOT / "test-results/kind"
WAIT_MS = 60_000
LINK = re.compile(r"(http://127\.0\.0\.1:\d+)/login\?token=\S+")


@pytest.fixture(scope="module")
def link(cluster: Cluster, shop: Shop) -> Iterator[str]:
    """As the README says: `farcall open`, which reads the admin secret and makes a way by kubectl."""
    cluster.wait_current(CONFIG)
    command = [sys.executable, "-m", "farcall.commands", "open", CONFIG]
    path = f"{cluster.kubectl_path.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(KUBECONFIG)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        try:
            assert LINK.match(said), said
            yield said.strip()
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def page(link: str) -> Iterator[Page]:
    """Logged in by that link."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=WAIT_MS)
    with logged_in(link, wait_ms=WAIT_MS) as opened:
        yield opened


@pytest.fixture
def console(link: str) -> str:
    found = LINK.match(link)
    assert found is not None
    return found[1]


def test_the_list_of_traces_names_where_each_leads(
    page: Page, console: str, cluster: Cluster
) -> None:
    wait_spans(cluster, "payer")
    page.goto(f"{console}/traces")
    table = page.locator("table.traces")

    for name in (
        f"pay.{ZONE}",
        "by-name",
        "carts",
        "payer",
    ):  # services are called as their workloads
        expect(table).to_contain_text(name)
    expect(table).to_contain_text(f"carts.{ZONE}")
    expect(table).to_contain_text(UNKNOWN_EXTERNAL_SERVICE)
    page.screenshot(path=SHOTS / "traces.png")


def test_a_trace_shows_the_call_and_why_its_far_end_has_that_name(
    page: Page, console: str, cluster: Cluster, shop: Shop
) -> None:
    span = wait_spans(cluster, "carts", "db.system.name:redis")[0]
    page.goto(f"{console}/traces/{span.trace_id}?span={span.span_id}")
    expect(page.locator("h1")).to_contain_text(f"carts.{ZONE}")
    page.screenshot(path=SHOTS / "trace.png")

    page.get_by_role("tab", name="Why this name?").click()

    expect(page.get_by_role("tabpanel")).to_contain_text(f"carts.{ZONE}")
    page.screenshot(path=SHOTS / "trace-why.png")


def test_a_call_inside_shows_service_and_pod(page: Page, console: str, cluster: Cluster) -> None:
    spans = wait_spans(cluster, "by-name", "farcall.join:exact")
    page.goto(f"{console}/traces/{spans[-1].trace_id}?span={spans[-1].span_id}")
    expect(page.locator("h1")).to_contain_text("by-name")
    expect(page.locator("h1")).to_contain_text("api")

    page.get_by_role("tab", name=re.compile("^Attributes")).click()

    expect(page.get_by_role("tabpanel")).to_contain_text(pod_of(spans[-1]))
    page.screenshot(path=SHOTS / "trace-inside.png")


def test_the_logs_of_a_linked_trace_are_one_click_away(
    page: Page, console: str, cluster: Cluster
) -> None:
    def look() -> str:
        found = cluster.list_spans("url.path:/charge/*")
        linked = [s for s in found if s.source == "ebpf" and s.links and pod_of(s).startswith("checkout-")]  # fmt: skip
        assert linked, f"{len(found)} spans"
        return linked[-1].trace_id

    trace_id = wait_until(look, "a call of checkout is linked")
    page.goto(f"{console}/traces/{trace_id}")
    expect(page.get_by_role("treegrid")).to_contain_text("charge card")
    page.screenshot(path=SHOTS / "trace-otel.png")

    page.get_by_role("link", name="View Logs").click()

    expect(page.locator(".log-body").filter(has_text="paid")).not_to_have_count(0)
    page.screenshot(path=SHOTS / "logs.png")


def test_the_status_page_shows_an_agent_per_node(page: Page, console: str, shop: Shop) -> None:
    page.goto(f"{console}/status")

    for node in shop.nodes:
        expect(page.get_by_role("main")).to_contain_text(node)
    page.screenshot(path=SHOTS / "status.png", full_page=True)


def test_a_link_is_good_for_one_login(page: Page, link: str) -> None:
    assert page.context.browser is not None
    with page.context.browser.new_context() as context:
        second = context.new_page()
        second.goto(link)

        expect(second.get_by_role("alert")).to_contain_text("used before")
        second.screenshot(path=SHOTS / "login-used.png")
