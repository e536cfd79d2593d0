"""`farcall up`: runs a TracingConfig on this machine. Arguments, and everything that is checked before anything starts."""

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from farcall.commands import EXIT_USAGE
from farcall.fieldtypes import NAME_PATTERN
from farcall.rundir import RUN_ROOT, STATE_ROOT, RunDir
from farcall.terminal import escape_text
from farcall.tracingconfig import (
    InvalidConfigError,
    TracingConfig,
    parse_tracingconfig,
    read_tracingconfig,
)
from farcall_operator.desired import Workload
from farcall_operator.local.checks import Machine, list_missing, this_machine
from farcall_operator.local.instance import (
    InstanceError,
    InstanceLock,
    StateDir,
    check_socket_path,
)
from farcall_operator.local.ports import PortClaims, PortTakenError
from farcall_operator.local.screen import open_standard_screen
from farcall_operator.local.session import THIS_FARCALL, Session, Stop, choose_ports

# What runs when no file is given: the smallest TracingConfig there is.
BUILT_IN = b"""\
apiVersion: farcall.dev/v1alpha1
kind: TracingConfig
metadata: {name: local}
spec: {tier: Hobby}
"""


def main(
    argv: Sequence[str],
    *,
    machine: Machine | None = None,
    farcall: tuple[str, ...] = THIS_FARCALL,
) -> int:
    """`machine` and `farcall` (how a component is called) are for tests."""
    arguments = parse_arguments(argv)
    try:
        config = read_config(arguments.file)
    except InvalidConfigError as e:
        return refuse([f"{e.source}: {problem}" for problem in e.problems])
    instance = arguments.instance or config.metadata.name
    run_dir = RunDir(arguments.run_root / instance)
    workload = choose_workload(arguments)
    if problems := list_missing(machine or this_machine(), demo=workload != "none"):
        return refuse(problems)
    claims, lock = PortClaims(), InstanceLock(run_dir)
    with contextlib.ExitStack() as undo:
        undo.callback(lock.release)
        undo.callback(claims.release)
        try:
            check_socket_path(run_dir)
            lock.take()
            ports = choose_ports(claims, console=arguments.console_port, otlp=arguments.otlp_port)
        except PortTakenError as e:
            return refuse([f"{e}; stop it, or choose another with --console-port, --otlp-port"])
        except InstanceError as e:
            return refuse([str(e)])
        except OSError as e:
            return refuse([f"{run_dir.path}: {e.strerror}; choose another with --run-root"])
        return run(
            Session(
                config=config,
                run_dir=run_dir,
                state=StateDir(path=arguments.state_root / instance),
                ports=ports,
                workload=workload,
                screen=open_standard_screen(),
                stop=Stop(),
                farcall=farcall,
            )
        )


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="farcall up",
        description="Run a TracingConfig on this machine until Ctrl-C. Needs root.",
    )
    parser.add_argument("-f", "--file", type=Path, help="the TracingConfig; Hobby when left out")
    parser.add_argument("--demo", action="store_true", help="with the demo workload")
    parser.add_argument(
        "--once",
        action="store_true",
        help="run the demo, end when its expectations are known; exit code 0 if all held",
    )
    parser.add_argument("--instance", type=parse_name, help="default: the resource's name")
    parser.add_argument("--console-port", type=parse_port, help="default 8430, or the next free")
    parser.add_argument("--otlp-port", type=parse_port, help="default 4318, or the next free")
    parser.add_argument("--run-root", type=Path, default=RUN_ROOT, help=f"default {RUN_ROOT}")
    parser.add_argument("--state-root", type=Path, default=STATE_ROOT, help=f"default {STATE_ROOT}")
    arguments = parser.parse_args(argv)
    arguments.run_root = arguments.run_root.absolute()
    arguments.state_root = arguments.state_root.absolute()
    return arguments


def parse_name(text: str) -> str:
    if not re.match(NAME_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a DNS label of at most 40 characters")
    return text


def parse_port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write 1 to 65535")
    return int(text)


def read_config(path: Path | None) -> TracingConfig:
    """Raises InvalidConfigError."""
    if path is None:
        return parse_tracingconfig(BUILT_IN, source="the built-in TracingConfig")
    return read_tracingconfig(path)


def choose_workload(arguments: argparse.Namespace) -> Workload:
    if arguments.once:
        return "once"
    return "demo" if arguments.demo else "none"


def refuse(problems: Sequence[str]) -> int:
    for problem in problems:
        sys.stderr.write(f"farcall up: {escape_text(problem)}\n")
    return EXIT_USAGE


def run(session: Session) -> int:
    # Not component.on_stop: here a second signal means something. SIGHUP: the terminal was closed.
    for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(wanted, lambda _signal, _frame: session.stop.request())
    screen = session.screen
    try:
        code = session.run()
        screen.say("farcall: stopped, nothing of it is left running")
    finally:
        screen.close()
    if screen.is_closed:
        # The interpreter must not flush into the closed pipe once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
