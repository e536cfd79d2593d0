"""How the commands answer: YAML, JSON or a table, one sentence per fault, and exit codes that a script can rely on.

0: done, and nothing amiss. 1: a fault, or what was asked about is not so (differences, not ready). 2: the question
cannot be asked (bad arguments, bad input). `diff` has codes of its own, as diff(1) has.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence

import yaml

from farcall.commands import EXIT_FAULT, EXIT_OK, EXIT_USAGE
from farcall.query import read_width
from farcall.terminal import Column, escape_text, render_table
from farcall.tracingconfig import InvalidConfigError


class FaultError(Exception):
    """What was asked cannot be done; the message says why and may be shown."""


class UsageError(Exception):
    """The arguments make no sense; the message says why."""


def run(command: str, body: Callable[[], int], *, fault: int = EXIT_FAULT) -> int:
    """Turns what can go wrong into sentences and an exit code."""
    try:
        return body()
    except InvalidConfigError as e:
        tell_faults(command, e)
        return EXIT_USAGE
    except UsageError as e:
        tell(command, str(e))
        return EXIT_USAGE
    except FaultError as e:
        tell(command, str(e))
        return fault
    except KeyboardInterrupt:
        return EXIT_OK  # how one leaves --watch
    except BrokenPipeError:
        # `farcall render … | head`: the reader has what it wants. The interpreter must not flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def tell(command: str, sentence: str) -> None:
    sys.stderr.write(f"farcall {command}: {escape_text(sentence)}\n")


def tell_faults(command: str, error: InvalidConfigError) -> None:
    for problem in error.problems:
        tell(command, f"{error.source}: {problem}")


def make_parser(command: str, brief: str, *examples: str) -> argparse.ArgumentParser:
    """A parser whose help ends with examples, each a line that can be copied."""
    lines = "\n".join(f"  {example}" for example in examples)
    return argparse.ArgumentParser(
        prog=f"farcall {command}",
        description=brief,
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def write_structured(output: str, value: object) -> None:
    """`value` as `json` or `yaml`: the shapes are in docs/commands.md and stay stable."""
    text = json.dumps(value, indent=2) + "\n"
    if output == "yaml":
        # By way of JSON: two places that share a value would become an anchor and an alias.
        text = yaml.safe_dump(json.loads(text), sort_keys=False, width=120)
    sys.stdout.write(text)


def write_lines(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def write_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    write_lines(render_table(columns, rows, width=read_width()))
