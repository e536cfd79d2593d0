"""The console: what the pages weigh, and how a trace of 100,000 spans behaves in a real browser.

A real store and a real console on loopback, Debian's Chromium. "First row" is from the start of the navigation to the first
span in the document, as the page's own clock has it. Frames are the gaps between animation frames while the waterfall
is scrolled from top to bottom; a headless browser without a graphics card draws at most 60 a second.

    make bench-console          figures go to bench/results/console.json; QUICK=1 for 10,000 spans
"""

import gzip
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import httpx
from playwright.sync_api import Page, sync_playwright

import farcall_store
from farcall import secretfiles
from farcall_console.assets import STATIC_DIRECTORY, read_assets
from support_console import Process, make_config, running
from support_console_big import build_big
from support_console_rows import trace_id

RESULTS = Path(__file__).parent / "results" / "console.json"
QUICK = os.environ.get("QUICK") == "1"
SPANS = 10_000 if QUICK else 100_000
ROUNDS = 3 if QUICK else 7
FIRST_SPANS = 1_000  # what the page asks for at first
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip

WATCH_FIRST_ROW = """
new MutationObserver((_changes, observer) => {
  if (document.querySelector(".span-row") === null) return;
  window.firstRowMs = performance.now();
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
SCROLL = """
() => new Promise((resolve) => {
  const box = document.querySelector(".waterfall");
  const frames = [];
  const steps = 120;
  let step = 0;
  let before = performance.now();
  const next = (now) => {
    frames.push(now - before);
    before = now;
    if (step++ === steps) return resolve(frames.slice(1));
    box.scrollTop = (box.scrollHeight * step) / steps;
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
})
"""

Figure = dict[str, object]


def figure(
    metric: str, values: list[float], unit: str, target: float | None = None, digits: int = 1
) -> Figure:
    middle = statistics.median(values)
    return {
        "metric": metric,
        "value": round(middle, digits),
        "unit": unit,
        "target": target,
        "holds": None if target is None else middle <= target,
        "spread": round(max(values) - min(values), digits),
    }


def weigh_assets() -> list[Figure]:
    assets = read_assets()
    sizes = {
        name: len(gzip.compress((STATIC_DIRECTORY / path).read_bytes(), 9)) / 1_000
        for name, path in (("JavaScript", assets.script), ("styles", assets.style))
    }
    return [
        figure("JavaScript, gzip", [sizes["JavaScript"]], "kB", 60),
        figure("styles, gzip", [sizes["styles"]], "kB"),
    ]


def time_api(console: Process) -> list[Figure]:
    paths = {
        f"API: first {FIRST_SPANS:,} spans": f"/api/v1/traces/{trace_id('big')}?limit={FIRST_SPANS}",
        "API: list of traces": "/api/v1/traces",
        "API: status": "/api/v1/status",
    }
    with console.api() as api:
        return [figure(name, time_calls(api, path), "ms") for name, path in paths.items()]


def time_calls(api: httpx.Client, path: str) -> list[float]:
    def call() -> None:
        api.get(path).raise_for_status()

    call()
    return [time_ms(call) for _ in range(ROUNDS)]


def time_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def time_page(page: Page) -> list[Figure]:
    page.add_init_script(WATCH_FIRST_ROW)
    first, whole, frames = [], [], []
    shown = min(SPANS, 50_000)
    for _ in range(ROUNDS):
        start = time.perf_counter()
        page.goto(f"/traces/{trace_id('big')}", wait_until="commit")
        page.wait_for_selector(f'[role=treegrid][aria-rowcount="{shown + 1}"]', timeout=120_000)
        whole.append((time.perf_counter() - start) * 1e3)
        first.append(page.evaluate("window.firstRowMs"))
        frames += page.evaluate(SCROLL)
    frames.sort()
    return [
        figure(f"trace of {SPANS:,} spans, first row", first, "ms", 500),
        figure(f"trace of {SPANS:,} spans, {shown:,} of them in the tree", whole, "ms"),
        figure("scrolling, frame p50", [statistics.median(frames)], "ms", 20),
        figure("scrolling, frame p95", [frames[int(len(frames) * 0.95)]], "ms"),
    ]


def measure(console: Process) -> list[Figure]:
    figures = weigh_assets() + time_api(console)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(base_url=console.url, viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(console.login_path())
        page.wait_for_url("**/traces")
        figures += time_page(page)
        browser.close()
    return figures


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config = make_config(directory)
        with running("store", config, directory) as store:
            password = store.secret(secretfiles.STORE_WRITER_PASSWORD)
            writer = farcall_store.open_writer(config.endpoints.store, password=password)
            writer.write(build_big("big", SPANS, time.time_ns()).tables(), token="big")
            with running("console", config, directory) as console:
                report(measure(console))
    return 0


def report(figures: list[Figure]) -> None:
    machine = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "spans": SPANS,
    }
    versions = {name: version(name) for name in ("farcall", "litestar", "uvicorn", "playwright")}
    for one in figures:
        mark = "" if one["holds"] is None else "holds" if one["holds"] else "MISSED"
        print(
            f"{one['metric']:58} {one['value']:>10,} {one['unit']:4} "
            f"target {one['target'] or '-':>6} spread {one['spread']:>9} {mark}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"versions": versions, "machine": machine, "figures": figures}, indent=2) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    raise SystemExit(main())
