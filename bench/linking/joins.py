"""Exchanges over reused ports: how many of them are one span, joined with the sight of the server that really answered.

Several servers with a name each, so that a span joined with another connection's sight mostly names another server than its
path does; and a server cannot take longer than its client waited.
"""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from farcall.api import Span
from farcall.client import ApiClient, find_server
from naming.product import Product, ProductError
from support_ports import find_free_port

HERE = Path(__file__).parent
SERVERS = 8
RATE = 1_000.0  # exchanges a second: the score is about joins, not about what a machine can do
JOINED = ("exact", "overlap")
LONELY_S = 8.0  # a server's sight waits for its client's for five
SILENT_S = 60.0  # a busy machine takes minutes for all, but not for the next one
LOST = ("_lost", "_dropped", "_overwritten")


@dataclass(frozen=True, slots=True, kw_only=True)
class Joins:
    exchanges: int
    missing: int  # exchanges without a span
    joined: int  # one span that both sights are in
    doubles: int  # spans too many
    false: int  # joined with another server's sight, or with one longer than the client's
    counted: dict[str, int]  # what farcall itself says that it lost meanwhile, of all it traced

    @property
    def faults(self) -> list[str]:
        seen = self.exchanges - self.missing
        faults = [f"{self.false} spans are joined falsely"] if self.false else []
        faults += [f"{self.doubles} exchanges over reused ports are shown twice"] * bool(
            self.doubles
        )
        if self.joined < 0.999 * seen:
            faults.append(f"only {self.joined} of {seen} exchanges over reused ports are joined")
        return faults


def judge(spans: Sequence[Span], exchanges: int, counted: dict[str, int] | None = None) -> Joins:
    """Pure. A path is `/<run>/join/<place of the server>/<number>`, a server's name `join-<place>`."""
    found: dict[int, list[Span]] = {}
    for span in spans:
        found.setdefault(int(span.attributes["url.path"].rpartition("/")[2]), []).append(span)
    joined = [s for s in spans if s.attributes.get("farcall.join") in JOINED]
    return Joins(
        exchanges=exchanges,
        missing=exchanges - len(found),
        joined=len({s.attributes["url.path"] for s in joined}),
        doubles=len(spans) - len(found),
        false=sum(is_false(span) for span in joined),
        counted=counted or {},
    )


def is_false(span: Span) -> bool:
    place = span.attributes["url.path"].split("/")[3]
    named = span.attributes.get("farcall.server.service.name")
    took_ns = int(span.attributes.get("farcall.server.duration_ns", "0"))
    return named != f"join-{place}" or took_ns > int(span.duration_ns)


def measure(product: Product, folder: Path, run: str, exchanges: int) -> Joins:
    """Raises ProductError when the exchanges cannot be made."""
    program = folder / "joins"
    subprocess.run(["go", "build", "-o", program, HERE / "joins.go"], check=True)
    since_ns, lost_before = time.time_ns(), read_losses(product)
    with servers(program) as ports:
        command = [program, "ask", run, exchanges, RATE, *ports]
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False
        )
    failed = done.stdout.partition(" ")[0]
    if failed != "0":
        raise ProductError(f"{failed or 'all'} connections failed: {done.stderr[-300:]}")
    spans = settle(product, run, since_ns, exchanges)
    lost = {k: n - lost_before.get(k, 0) for k, n in read_losses(product).items()}
    return judge(spans, exchanges, {k: n for k, n in sorted(lost.items()) if n})


def read_losses(product: Product) -> dict[str, int]:
    """Every counter of something that is gone, by component."""
    status = ApiClient(find_server(product.run_dir)).read_status()
    return {
        f"{component.kind} {name}": int(value)
        for component in status.components
        if component.alive
        for name, value in component.counters.items()
        if name.endswith(LOST)
    }


@contextmanager
def servers(program: Path) -> Iterator[list[int]]:
    ports = [find_free_port() for _ in range(SERVERS)]
    processes = []
    try:
        for place, port in enumerate(ports):
            environment = {"OTEL_SERVICE_NAME": f"join-{place}", "GOMAXPROCS": "1"}
            processes.append(subprocess.Popen([program, "serve", str(port)], env=environment))
        for port in ports:
            wait_until_it_listens(port)
        yield ports
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise ProductError(f"the server on port {port} did not start") from None
            time.sleep(0.05)


def settle(product: Product, run: str, since_ns: int, wanted: int) -> list[Span]:
    """Once every exchange has a span and no more of them get joined; or nothing new has come for a while."""
    before, progress_at, wait_s = (-1, -1), time.monotonic(), LONELY_S
    while True:
        time.sleep(wait_s)
        begin = time.monotonic()
        spans = product.list_spans(f"url.path:/{run}/join/*", since_ns=since_ns)
        wait_s = max(LONELY_S, 3 * (time.monotonic() - begin))  # reading takes the store's time too
        seen = len(spans), sum(span.attributes.get("farcall.join") in JOINED for span in spans)
        if seen != before:
            progress_at = time.monotonic()
        elif len(spans) >= wanted or time.monotonic() - progress_at > SILENT_S:
            return spans
        before = seen
