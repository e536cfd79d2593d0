"""From the end of an exchange to the answer of a search that finds its span: the whole way, through farcall as `farcall up` starts it.

A client asks a web server over loopback so many times a second; the agent reads their system calls, the exporter names and
joins, the store commits, and the API is asked over and over for the marked ones among them. A span counts as visible when
the answer that holds it has been read, so the time of the search is in the figure, and what passes between two searches.
The exchange's end is the kernel's, from the span itself; all clocks are this machine's.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from farcall.api import SpanQuery, Window
from farcall.client import ApiClient, ApiError, find_server
from linking.joins import wait_until_it_listens
from naming.product import Product
from support_ports import find_free_port

LOAD = Path(__file__).parent / "visibleload.py"
RATE = 1_000  # requests a second
ASK_EVERY_S = 0.05
SEEN_WITHIN_S = 30.0  # after the last request
SETTLE_S = 3.0
LIMIT = 1_000


class VisibleError(Exception):
    """Spans did not come; the message says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visibility:
    """Of each round."""

    median_s: list[float]
    p99_s: list[float]


def measure(*, rounds: int, seconds: float, rate: int = RATE) -> Visibility:
    """Raises ProductError, VisibleError."""
    with tempfile.TemporaryDirectory(prefix="farcall-visible-") as folder:
        product = Product(Path(folder))
        port = find_free_port()
        server = subprocess.Popen([sys.executable, LOAD, "serve", str(port)])
        try:
            asyncio.run(product.start())
            wait_until_it_listens(port)
            time.sleep(SETTLE_S)
            measured = [
                _measure_round(product, port, rate, seconds, number) for number in range(rounds)
            ]
        finally:
            product.stop()
            server.kill()
            server.wait()
    return Visibility(
        median_s=[statistics.median(times) for times in measured],
        p99_s=[_quantile(times, 0.99) for times in measured],
    )


def _measure_round(
    product: Product, port: int, rate: int, seconds: float, number: int
) -> list[float]:
    """Seconds until each marked request became visible, in order."""
    client = ApiClient(find_server(product.run_dir))
    run = f"r{number}x{os.getpid()}"
    environment = {**os.environ, "OTEL_SERVICE_NAME": f"visible-{run}"}
    since_ns = time.time_ns()
    calling = subprocess.Popen(
        [sys.executable, LOAD, "call", str(port), str(rate), str(seconds), run],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    seen: dict[str, float] = {}
    marked: int | None = None
    deadline: float | None = None
    while marked is None or len(seen) < marked:
        if marked is None and calling.poll() is not None:
            marked = int(calling.communicate()[0])
            deadline = time.monotonic() + SEEN_WITHIN_S
        if deadline is not None and time.monotonic() > deadline:
            raise VisibleError(f"{len(seen)} of {marked} marked requests became visible")
        window = Window(from_ns=since_ns, to_ns=time.time_ns() + 10**9)
        # Whole words of the path, as a person would search for them; the server's end is not asked for.
        query = SpanQuery(q=f"service:visible-{run} marked", window=window, limit=LIMIT)
        try:
            page = client.list_spans(query)
        except ApiError as e:
            raise VisibleError(f"the API does not answer: {e}") from e
        now = time.time()
        for span in page.items:
            end_s = (int(span.start_ns) + int(span.duration_ns)) / 1e9
            seen.setdefault(span.span_id, now - end_s)
        time.sleep(ASK_EVERY_S)
    return sorted(seen.values())


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
