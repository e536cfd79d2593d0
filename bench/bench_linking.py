"""The linking score: who called whom for what, through three services, against the truth that the paths hold.

Clients ask a front server of seven shapes; it asks a middle one, and that a leaf, each with a thread for each request. Then
exchanges over ports that come again at once are joined or not. All run as real processes under `farcall up`; the spans are
read through the API.

    make linking-score             figures go to bench/results/linking.json; QUICK=1 for a fifth of the calls
    python bench/bench_linking.py --shapes threads,node
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from farcall.api import Span
from farcall.client import ApiClient, find_server
from linking import joins
from linking.joins import Joins, wait_until_it_listens
from linking.judging import Score, judge
from naming.product import Product, ProductError
from support_ports import find_free_port

HERE = Path(__file__).parent / "linking"
RESULTS = Path(__file__).parent / "results" / "linking.json"
SHAPES = ("threads", "pool", "prefork", "handover", "asyncio", "node", "go")
# A thread serves one request at a time, and reads it itself.
THREADED = ("threads", "pool", "prefork")
KEPT_ALIVE = ("threads", "asyncio", "node", "go")  # the others answer one request a connection
CLIENTS = 20
RIGHT_AT_LEAST = 0.99
JOINED_AT_LEAST = 0.999
SETTLE_WITHIN_S = 120.0
SAMPLE = 50  # traces read as a whole, of tied ones and of all


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--requests", type=int, default=5 if os.environ.get("QUICK") else 25)
    many = 5_000 if os.environ.get("QUICK") else 100_000
    parser.add_argument("--exchanges", type=int, default=many, help="over reused ports")
    parser.add_argument("--keep", type=Path, help="a folder to copy what farcall logged to")
    arguments = parser.parse_args()
    shapes = [shape for shape in SHAPES if shape in arguments.shapes.split(",")]
    try:
        scores, split, reused, took_s = asyncio.run(
            take(shapes, arguments.requests, arguments.exchanges, arguments.keep)
        )
    except ProductError as e:
        print(f"the linking score cannot be taken: {e}", file=sys.stderr)
        return 2
    result = build_result(scores, split, reused, took_s)
    print_table(scores)
    print("over reused ports: " + "  ".join(f"{k} {v}" for k, v in asdict(reused).items()))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    keys = ("calls", "right", "orphan", "wrong", "joined", "doubles", "missing", "split")
    print("  ".join(f"{key} {result[key]}" for key in keys), f" in {took_s:.0f} s")
    faults = [*list_faults(scores), *reused.faults]
    if split:
        faults.append(f"{split} calls are not shown in one trace with their parent")
    off = [shape for shape in scores if shape not in THREADED]
    if off:
        print(f"off, and said to be: whom the front calls are for in {', '.join(off)}")
    for fault in faults:
        print(f"! {fault}")
    return 1 if faults else 0


async def take(
    shapes: Sequence[str], requests: int, exchanges: int, keep: Path | None
) -> tuple[dict[str, dict[str, Score]], int, Joins, float]:
    began = time.monotonic()
    run = f"linking-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="farcall-linking-") as folder, ExitStack() as stack:
        product = Product(Path(folder))
        if keep is not None:
            stack.callback(product.copy_logs, keep)
        stack.callback(product.stop)
        await product.start()
        since_ns = time.time_ns()
        for shape in shapes:
            with chain(shape, run, Path(folder)) as port:
                await asyncio.to_thread(request_all, f"/{run}/front/{shape}", port, requests, shape)
        expected = [
            (place, shape, str(number))
            for shape in shapes
            for place in ("front", "middle", "leaf")
            for number in range(CLIENTS * requests)
        ]
        spans = await asyncio.to_thread(settle, product, run, since_ns, len(expected))
        split = await asyncio.to_thread(count_split, product, spans)
        reused = await asyncio.to_thread(
            joins.measure, product, Path(folder), f"reused-{os.getpid()}", exchanges
        )
    return judge(spans, expected), split, reused, time.monotonic() - began


@contextmanager
def chain(shape: str, run: str, folder: Path) -> Iterator[int]:
    """The front server's port. What is behind it is its own, so that shapes do not wait for each other."""
    front, middle, leaf = find_free_port(), find_free_port(), find_free_port()
    python = (sys.executable, str(HERE / "server.py"))
    commands = [
        (leaf, [*python, "threads", str(leaf), "0", run]),
        (middle, [*python, "threads", str(middle), str(leaf), run]),
        (front, front_command(shape, front, middle, run, folder)),
    ]
    processes = []
    try:
        for port, command in commands:
            processes.append(subprocess.Popen(command, start_new_session=True))
            wait_until_it_listens(port)
        yield front
    finally:
        for process in reversed(processes):  # who calls ends before who is called
            subprocess.run(["kill", "-KILL", "--", f"-{process.pid}"], check=False)
            process.wait()


def front_command(shape: str, port: int, following: int, run: str, folder: Path) -> list[str]:
    words = [str(port), str(following), run]
    if shape == "node":
        return ["node", str(HERE / "server.js"), *words]
    if shape == "go":
        built = folder / "go-server"
        subprocess.run(["go", "build", "-o", built, HERE / "server.go"], check=True)
        return [str(built), *words]
    return [sys.executable, str(HERE / "server.py"), shape, *words]


def request_all(path: str, port: int, requests: int, shape: str) -> None:
    """CLIENTS at once, each number asked for once."""
    failed: list[Exception] = []

    def run(first: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            for number in range(first, first + requests):
                connection.request("GET", f"{path}/{number}")
                connection.getresponse().read()
                if shape not in KEPT_ALIVE:
                    connection.close()
        except Exception as e:
            failed.append(e)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(n * requests,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise ProductError(f"{shape}: {failed[0]!r}")


def settle(product: Product, run: str, since_ns: int, wanted: int) -> list[Span]:
    """All spans of this run, once their number stays the same: agents send every second, sights wait for seconds."""
    deadline = time.monotonic() + SETTLE_WITHIN_S
    before = -1
    while True:
        time.sleep(5)
        spans = product.list_spans(f"url.path:/{run}/*", since_ns=since_ns)
        named = [span for span in spans if "/background/" not in span.attributes["url.path"]]
        if (len(named) >= wanted and len(named) == before) or time.monotonic() > deadline:
            return spans
        before = len(named)


def count_split(product: Product, spans: Sequence[Span]) -> int:
    """Of a sample of calls with a parent, those that the parent's trace does not show."""
    client = ApiClient(find_server(product.run_dir))
    by_id = {span.span_id: span for span in spans}
    children = [span for span in spans if span.parent_span_id in by_id]
    tied = [s for s in children if s.trace_id != by_id[s.parent_span_id].trace_id]
    sample = [*tied[:SAMPLE], *children[:: max(len(children) // SAMPLE, 1)]]
    shown = {
        child.span_id: {s.span_id for s in client.read_trace(by_id[child.parent_span_id].trace_id).spans}
        for child in sample
    }  # fmt: skip
    return sum(span_id not in seen for span_id, seen in shown.items())


def total(scores: dict[str, dict[str, Score]]) -> Score:
    whole = Score()
    for places in scores.values():
        for score in places.values():
            whole.add(score)
    return whole


def build_result(
    scores: dict[str, dict[str, Score]], split: int, reused: Joins, took_s: float
) -> dict[str, object]:
    shapes = {s: {p: asdict(score) for p, score in places.items()} for s, places in scores.items()}
    return {
        **asdict(total(scores)),
        "split": split,
        "reused_ports": asdict(reused),
        "shapes": shapes,
        "took_s": round(took_s, 1),
        "quick": bool(os.environ.get("QUICK")),
    }


def print_table(scores: dict[str, dict[str, Score]]) -> None:
    columns = list(asdict(Score()))
    print(f"{'front':10}{'call to':12}" + "".join(f"{column:>11}" for column in columns))
    for shape, places in scores.items():
        for place in ("front", "middle", "leaf", "background"):
            if place in places:
                values = asdict(places[place]).values()
                print(f"{shape:10}{place:12}" + "".join(f"{value:>11,}" for value in values))


def list_faults(scores: dict[str, dict[str, Score]]) -> list[str]:
    """In sentences; empty when every floor holds."""
    whole = total(scores)
    faults = []
    if whole.wrong:
        faults.append(f"{whole.wrong} calls have a wrong parent")
    if whole.doubles:
        faults.append(f"{whole.doubles} calls are shown twice")
    if whole.joined < JOINED_AT_LEAST * (whole.calls - whole.missing):
        faults.append(f"only {whole.joined} of {whole.calls} calls are joined")
    for shape, places in scores.items():
        if "leaf" not in places:  # background calls of a middle server alone
            continue
        # The front's own calls, where a thread serves one request at a time; the middle server always does.
        threaded = [places["leaf"], *([places["middle"]] if shape in THREADED else [])]
        calls = sum(score.calls - score.missing for score in threaded)
        right = sum(score.right for score in threaded)
        if right < RIGHT_AT_LEAST * calls:
            faults.append(f"{shape}: only {right} of {calls} calls of threads have their parent")
    return faults


if __name__ == "__main__":
    raise SystemExit(main())
