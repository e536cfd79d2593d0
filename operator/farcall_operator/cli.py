"""`farcall validate` and `farcall render`: what a TracingConfig means, without a cluster and without root."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from farcall.commands import EXIT_OK, EXIT_USAGE
from farcall.terminal import escape_text
from farcall.tracingconfig import InvalidConfigError, TracingConfig, read_tracingconfig

NAMESPACE = "farcall"
NAMESPACE_PATTERN = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123 label


def main_validate(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="farcall validate",
        description="Check TracingConfigs: every fault on a line of its own.",
    )
    parser.add_argument(
        "-f", "--file", type=Path, nargs="+", required=True, action="extend", metavar="FILE"
    )
    files: list[Path] = parser.parse_args(argv).file
    valid = True
    for path in files:
        try:
            config = read_tracingconfig(path)
        except InvalidConfigError as e:
            complain("validate", e)
            valid = False
        else:
            sys.stdout.write(f"{escape_text(str(path))}: {describe(config)}\n")
    return EXIT_OK if valid else EXIT_USAGE


def describe(config: TracingConfig) -> str:
    return f"TracingConfig {config.metadata.name}, tier {config.spec.tier}, is valid"


def main_render(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="farcall render",
        description="Print the Kubernetes objects that a TracingConfig becomes. Asks no cluster.",
    )
    parser.add_argument("-f", "--file", type=Path, required=True)
    parser.add_argument(
        "--namespace", type=parse_namespace, default=NAMESPACE, help=f"default {NAMESPACE}"
    )
    arguments = parser.parse_args(argv)
    try:
        config = read_tracingconfig(arguments.file)
    except InvalidConfigError as e:
        complain("render", e)
        return EXIT_USAGE
    # Here, so that `validate` needs neither Jinja2 nor the templates.
    from farcall_operator.context import Context
    from farcall_operator.rendering import render_config

    sys.stdout.write(render_config(config, Context(namespace=arguments.namespace)))
    return EXIT_OK


def parse_namespace(text: str) -> str:
    if NAMESPACE_PATTERN.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a namespace: a DNS label is expected")
    return text


def complain(command: str, error: InvalidConfigError) -> None:
    for problem in error.problems:
        sys.stderr.write(escape_text(f"farcall {command}: {error.source}: {problem}") + "\n")
