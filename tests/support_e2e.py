"""Runs `farcall up` as a user does, in directories of its own, and looks at it from outside.

It ends what it started, by process ID, and never anything else.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from farcall.client import ApiError
from farcall.effective import EffectiveConfigError
from farcall.rundir import RunDir, RunDirError, find_rundir
from farcall.secretfiles import SecretError
from farcall_demo.expectations import Expectation, list_expectations
from farcall_demo.plan import DemoError, Plan, read_plan
from farcall_demo.scenarios import look
from farcall_demo.view import View, open_view

RUN = (
    f"e2e{secrets.token_hex(3)}"  # no process ID, which others may have in namespaces of their own
)
ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
START_WITHIN_S = 60
STOP_WITHIN_S = 30
ONCE_WITHIN_S = 180
COMPONENTS = ("redis", "store", "exporter", "console", "agent", "demo")


def farcall(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "farcall.commands", *arguments]


def run_farcall(
    *arguments: str, timeout_s: float = START_WITHIN_S
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        farcall(*arguments), capture_output=True, text=True, timeout=timeout_s, check=False
    )


@dataclass(slots=True)
class Up:
    """One running `farcall up`. `roots` are its --run-root and --state-root options."""

    process: subprocess.Popen[bytes]
    run_root: Path
    output: Path

    @property
    def run_dir(self) -> RunDir:
        return find_rundir(root=self.run_root)

    @property
    def plan(self) -> Plan:
        return read_plan(self.run_dir)

    def read_output(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def read_pid(self, component: str) -> int:
        return int(self.run_dir.pid_file(component).read_text(encoding="ascii"))

    def list_pids(self) -> dict[str, int]:
        return {name: self.read_pid(name) for name in COMPONENTS}

    def open_view(self) -> View:
        return open_view(self.run_dir)

    def wait_started(self) -> None:
        def started() -> bool:
            assert self.process.poll() is None, self.read_output()
            try:
                return all(self.run_dir.ready_file(name).exists() for name in COMPONENTS[1:])
            except RunDirError:
                return False

        wait_until(started, START_WITHIN_S, lambda: f"not all started:\n{self.read_output()}")

    def stop(self, how: int = signal.SIGINT) -> int:
        """As Ctrl-C does; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(STOP_WITHIN_S)


def name_instance(example: str) -> str:
    """Of this test run alone: the demo's namespaces and the cgroup are named after it, machine-wide."""
    return f"{example.removesuffix('.yaml')}-{RUN}"


def up_options(directory: Path) -> list[str]:
    return ["--run-root", str(directory / "run"), "--state-root", str(directory / "state")]


@contextmanager
def farcall_up(directory: Path, example: str, *options: str) -> Iterator[Up]:
    """`farcall up --demo`, ready; ended afterwards, by force if need be."""
    output = directory / "up.log"
    command = farcall(
        *("up", "--demo", "-f", str(EXAMPLES / example)),
        *("--instance", name_instance(example), *up_options(directory), *options),
    )
    with open(output, "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    up = Up(process=process, run_root=directory / "run", output=output)
    try:
        up.wait_started()
        yield up
    finally:
        try:
            up.stop()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], within_s: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def wait_held(
    up: Up, *, since_ns: int, within_s: float, only: Sequence[str] | None = None
) -> dict[str, str]:
    """Waits until the demo's expectations hold of everything since `since_ns`; what was found of each."""
    found: dict[str, str] = {}
    missing: list[str] = ["nothing was looked at"]

    def all_held() -> bool:
        assert up.process.poll() is None, f"farcall up has ended:\n{up.read_output()[-2000:]}"
        missing.clear()
        try:
            view, expectations = up.open_view(), list_expectations(up.plan)
        except (DemoError, RunDirError, SecretError, EffectiveConfigError, ApiError) as e:
            missing.append(str(e))
            return False
        view.since_ns = since_ns
        for expectation in expectations:
            if only is None or expectation.name in only:
                _look_at(expectation, view, found, missing)
        return not missing

    wait_until(all_held, within_s, lambda: describe_failure(up, missing))
    return found


def describe_failure(up: Up, missing: Sequence[str]) -> str:
    """With what the components said last: the run directory is gone when somebody reads this."""
    logs = sorted((up.run_dir.path / "logs").glob("*.log"))
    said = [f"{log.name}: {log.read_text(errors='replace')[-600:]}" for log in logs]
    return "\n".join([f"does not hold in {up.run_dir.instance}:", *missing, *said])


def _look_at(
    expectation: Expectation, view: View, found: dict[str, str], missing: list[str]
) -> None:
    finding = look(expectation, view)
    found[expectation.name] = finding.found
    if not finding.held:
        missing.append(f"{expectation.name}: {finding.found}")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
