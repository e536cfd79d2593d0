"""What every long-running component shares: its two arguments, its exit codes, how it says that it is ready.

`farcall <component> --config FILE [--ready-file FILE]`. SIGTERM and SIGINT stop it within 10 s, exit code 0. A bad
config is exit code 2 and one sentence. When it can serve, it creates the ready file; one of its
predecessor is removed at start, because a container's restart leaves it there.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from farcall.commands import EXIT_USAGE
from farcall.effective import EffectiveConfigError, EffectiveWatcher
from farcall.secretfiles import SecretError

STOP_WITHIN_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """`watcher.current` is the config at start; `watcher.poll()` gives later ones."""

    watcher: EffectiveWatcher
    ready_file: Path | None
    extra: argparse.Namespace

    def mark_ready(self) -> None:
        if self.ready_file is not None:
            self.ready_file.write_text("ready\n", encoding="ascii")


def parse_launch(
    name: str,
    brief: str,
    argv: Sequence[str],
    add: Callable[[argparse.ArgumentParser], None] | None = None,
) -> Launch:
    """Reads the arguments and the config. Exits with 2 and a sentence when either is unusable."""
    parser = argparse.ArgumentParser(
        prog=f"farcall {name}",
        description=brief,
        # To ask for the terminal's width `shutil` is imported, and all that it compresses with.
        formatter_class=partial(argparse.HelpFormatter, width=100),
    )
    parser.add_argument("--config", type=Path, required=True, help="the effective config (JSON)")
    parser.add_argument("--ready-file", type=Path, help="created once the component can serve")
    if add is not None:
        add(parser)
    arguments = parser.parse_args(argv)
    try:
        watcher = EffectiveWatcher(arguments.config)
    except EffectiveConfigError as e:
        refuse(name, str(e))
    ready_file: Path | None = arguments.ready_file
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    return Launch(watcher=watcher, ready_file=ready_file, extra=arguments)


def refuse(name: str, why: str | SecretError) -> NoReturn:
    """Ends the process as one that was not given what it needs."""
    sys.stderr.write(f"farcall {name}: {why}\n")
    raise SystemExit(EXIT_USAGE)


def on_stop(callback: Callable[[], None]) -> None:
    """Calls `callback` at the first SIGTERM or SIGINT. Main thread only."""

    called = False

    def handle(_signal: int, _frame: object) -> None:
        nonlocal called
        if not called:
            called = True
            callback()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
