"""A stand-in for `farcall <component>`, and a session around it: local mode without the rooms that it runs.

`python support_local.py up …` is `farcall up` with them. `python support_local.py COMPONENT --config FILE --ready-file FILE` behaves as farcall.component says. The
words in the environment variable STAND_IN_COMPONENT change that; main() has them.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

STAND_IN = (sys.executable, __file__)
DEADLINE_S = 60.0


def wait_until(condition: Callable[[], object], *, what: str, within_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Running; a zombie is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def up(argv: list[str]) -> int:
    """`farcall up` over stand-ins, on a machine that lacks nothing."""
    from farcall_operator.local.checks import Machine, find_program
    from farcall_operator.local.up import main as main_up

    machine = Machine(
        is_root=os.geteuid() == 0,
        find_program=find_program,
        find_room=lambda _package: Path(__file__).parent,
        kernel_types=Path("/proc/self"),
        room_files=(),
    )
    return main_up(argv, machine=machine, farcall=STAND_IN)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("component")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--once", action="store_true")
    given = parser.parse_args()
    flags = os.environ.get(f"STAND_IN_{given.component.upper()}", "").split()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if "refuse" in flags:
        sys.stderr.write(f"farcall {given.component}: it lacks what it needs\n")
        return 2
    if "crash" in flags:
        sys.stderr.write('{"event": "broken", "error": "no luck"}\n')
        return 1
    if "deaf" in flags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "child" in flags:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (given.config.parent / f"child-{given.component}").write_text(str(child.pid))
    (given.config.parent / f"cgroup-{given.component}").write_text(
        Path("/proc/self/cgroup").read_text()
    )
    given.ready_file.write_text("ready\n")
    if given.once:
        print("the table of expectations", flush=True)
        return int(os.environ.get("STAND_IN_EXIT", "0"))
    while True:
        time.sleep(0.05)


if __name__ == "__main__":
    raise SystemExit(up(sys.argv[2:]) if sys.argv[1] == "up" else main())
