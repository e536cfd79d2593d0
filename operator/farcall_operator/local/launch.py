"""Becomes a component: a file of its own that runs between fork and exec, in a fresh interpreter.

`python -I -S launch.py PARENT CGROUP PROGRAM ARGUMENT…`. Not a preexec_fn: that would run Python in a fork of a
process with threads. Nothing but the standard library may be imported here; it is started once per component.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
NO_CGROUP = "-"
CANNOT_RUN = 127  # what a shell says of a program that it cannot start


def main() -> None:
    parent, cgroup, program = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    die_with(parent)
    try:
        if cgroup != NO_CGROUP:
            enter_cgroup(cgroup)
        os.execvp(program[0], program)
    except OSError as e:
        sys.stderr.write(f"{program[0]}: cannot be started: {e.strerror}\n")
        raise SystemExit(CANNOT_RUN) from e


def die_with(parent: int) -> None:
    """The kernel kills this process when `parent` ends, kill -9 included. It outlives exec."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        raise SystemExit(CANNOT_RUN)


def enter_cgroup(path: str) -> None:
    with open(os.path.join(path, "cgroup.procs"), "w", encoding="ascii") as procs:
        procs.write("0")  # the process that writes


if __name__ == "__main__":
    main()
