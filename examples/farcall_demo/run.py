"""`farcall demo --config FILE --run-dir DIR [--once]`: makes the network, starts the workload, and looks at what is seen.

Without --once it goes on until it is stopped. With it the whole story is told: exit code 0 only if every expectation
held. Whatever ends it, it leaves no process, namespace or file behind; what a killed run left is removed at the start.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from farcall.commands import EXIT_FAULT, EXIT_OK
from farcall.component import Launch, on_stop, parse_launch, refuse
from farcall.rundir import RunDir
from farcall.terminal import Column, escape_text, render_table
from farcall_demo.network import build_network, check_tools, remove_network
from farcall_demo.plan import PLAN_FILE, Claim, DemoError, Plan, name_instance, write_plan
from farcall_demo.processes import Processes
from farcall_demo.scenarios import Result, Story
from farcall_demo.view import open_view
from farcall_demo.workload import (
    REPORT_EVERY_S,
    list_clients,
    list_servers,
    report_app,
)

LOOK_AFTER_EVERY_S = 0.5
SERVERS_HEAD_START_S = 0.3  # not needed for correctness: the first call is then no refused one
DEFAULT_WIDTH = 120  # cells, where nobody says how wide the terminal is
TABLE = (
    Column(title=""),
    Column(title="AFTER", right=True),
    Column(title="ROWS"),
    Column(title="EXPECTATION"),
    Column(title="FOUND", flexible=True),
)


class Stopped(Exception):
    """SIGTERM or SIGINT has arrived; raised at safe points only."""


class Stop:
    """Set by a signal. The handler raises nothing itself: an exception may be lost in whatever it interrupts."""

    def __init__(self) -> None:
        self._wanted = False

    def request(self) -> None:
        self._wanted = True

    def check(self) -> None:
        """Raises Stopped."""
        if self._wanted:
            raise Stopped


def main(argv: Sequence[str]) -> int:
    launch = parse_launch("demo", "The demo workload and its expectations.", argv, add_options)
    run_dir = RunDir(launch.extra.run_dir)
    stop = Stop()
    on_stop(stop.request)
    try:
        check_tools()
        claim = Claim(name_instance(run_dir))
    except DemoError as e:
        refuse("demo", str(e))
    try:
        return run_demo(launch, run_dir, claim.plan, stop)
    except DemoError as e:
        sys.stderr.write(f"farcall demo: {e}\n")
        return EXIT_FAULT
    except Stopped:
        # 0 would say that every expectation held.
        return EXIT_FAULT if launch.extra.once else EXIT_OK


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run-dir", type=Path, required=True, help="of the running instance")
    parser.add_argument("--once", action="store_true", help="check every expectation, then end")


def run_demo(launch: Launch, run_dir: RunDir, plan: Plan, stop: Stop) -> int:
    processes = Processes(prefix=plan.prefix, logs=run_dir.path / "logs")
    try:
        remove_network(plan.instance)  # what a killed run left
        build_network(plan)
        write_plan(plan, run_dir)
        workload = Workload(
            processes, plan, stop, otlp_http=launch.watcher.current.endpoints.exporter_otlp_http
        )
        story = Story(open_view(run_dir), plan, workload.tick)
        workload.start()
        launch.mark_ready()
        if launch.extra.once:
            story.run()
            return report_results(story.results, held=story.held)
        while True:
            workload.tick()
            time.sleep(LOOK_AFTER_EVERY_S)
    finally:
        processes.stop()
        remove_network(plan.instance)
        (run_dir.path / PLAN_FILE).unlink(missing_ok=True)


class Workload:
    """The programs that run all the time, and the job that comes again and again."""

    def __init__(self, processes: Processes, plan: Plan, stop: Stop, *, otlp_http: str) -> None:
        self._processes = processes
        self._plan = plan
        self._otlp_http = otlp_http
        self._stop = stop
        self._next_report = 0.0

    def start(self) -> None:
        for app in list_servers(self._plan):
            self._processes.start(app)
        time.sleep(SERVERS_HEAD_START_S)
        for app in list_clients(self._plan, otlp_http=self._otlp_http):
            self._processes.start(app)

    def tick(self) -> None:
        """Called twice a second. Raises Stopped."""
        self._stop.check()
        for name in self._processes.restart_ended():
            sys.stderr.write(f"farcall demo: {name} had ended and was started again\n")
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + REPORT_EVERY_S
            self._processes.start_once(report_app(self._plan))


def report_results(results: Sequence[Result], *, held: bool) -> int:
    """A table that fits a terminal; below it, in full, what was wanted where something else was found."""
    for line in render_table(TABLE, [build_row(result) for result in results], width=read_width()):
        sys.stdout.write(f"{line}\n")
    failed = [result for result in results if not result.finding.held]
    for result in failed:
        sys.stdout.write(f"\n{result.expectation.name}\n  asked: {result.expectation.query}\n")
        sys.stdout.write(f"  must:  {result.expectation.must}\n")
        sys.stdout.write(f"  found: {escape_text(result.finding.found)}\n")
    verdict = f"{len(failed)} of {len(results)} did not hold"
    sys.stdout.write(f"\n{'every expectation held' if held else verdict}\n")
    sys.stdout.flush()
    return EXIT_OK if held else EXIT_FAULT


def build_row(result: Result) -> tuple[str, ...]:
    return (
        "✓" if result.finding.held else "✗",
        f"{result.after_s:.0f} s",
        result.expectation.rows,
        result.expectation.name,
        result.finding.found,
    )


def read_width() -> int:
    """`farcall up` reads the output from a file and shows it on a terminal, so there is always one to fit."""
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
