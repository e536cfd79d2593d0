"""The `farcall` command: a table of commands. A command's room is imported only when it is called."""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`target` is `module:function`; the function takes the remaining arguments and returns the exit code."""

    name: str
    target: str
    brief: str
    group: str


COMMANDS = (
    Command(
        name="up",
        target="farcall_operator.local.up:main",
        brief="run a TracingConfig on this machine",
        group="use",
    ),
    Command(name="spans", target="farcall.query:main_spans", brief="list spans", group="use"),
    Command(name="traces", target="farcall.query:main_traces", brief="list traces", group="use"),
    Command(name="logs", target="farcall.query:main_logs", brief="search log lines", group="use"),
    Command(
        name="explain",
        target="farcall.query:main_explain",
        brief="why a span has its name, or none",
        group="use",
    ),
    Command(
        name="login",
        target="farcall.query:main_login",
        brief="print a one-time login link to the console",
        group="use",
    ),
    Command(
        name="doctor",
        target="farcall_probes.doctor:main",
        brief="what can be seen on this machine, what not, and why",
        group="use",
    ),
    Command(
        name="tail",
        target="farcall_probes.tail:main",
        brief="live exchanges of this machine, as its agent sees them",
        group="use",
    ),
    Command(
        name="validate",
        target="farcall_operator.commands.validate:main",
        brief="check TracingConfigs",
        group="configure",
    ),
    Command(
        name="render",
        target="farcall_operator.commands.render:main",
        brief="print what a TracingConfig becomes on Kubernetes",
        group="configure",
    ),
    Command(
        name="images",
        target="farcall_operator.commands.images:main",
        brief="list every image that TracingConfigs need",
        group="configure",
    ),
    Command(
        name="diff",
        target="farcall_operator.commands.diff:main",
        brief="what applying a TracingConfig would change in the cluster",
        group="cluster",
    ),
    Command(
        name="status",
        target="farcall_operator.commands.status:main",
        brief="how TracingConfigs do in the cluster, and what to do next",
        group="cluster",
    ),
    Command(
        name="open",
        target="farcall_operator.commands.open:main",
        brief="a way to the console of a cluster, and a one-time login link",
        group="cluster",
    ),
    Command(
        name="operator",
        target="farcall_operator.running.process:main",
        brief="keep a cluster as its TracingConfigs say",
        group="components",
    ),
    Command(
        name="agent",
        target="farcall_probes.starting:main",
        brief="the node agent",
        group="components",
    ),
    Command(
        name="exporter",
        target="farcall_exporter.serve:main",
        brief="receive, resolve, link, store",
        group="components",
    ),
    Command(
        name="store",
        target="farcall_store.serve:main",
        brief="the embedded store behind HTTP",
        group="components",
    ),
    Command(
        name="console",
        target="farcall_console.serve:main",
        brief="the web application and the HTTP API",
        group="components",
    ),
    Command(
        name="demo",
        target="farcall_demo.run:main",
        brief="the demo workload and its expectations",
        group="components",
    ),
)

EXIT_OK = 0
EXIT_FAULT = 1
EXIT_USAGE = 2  # bad arguments or bad input: nothing was started


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(render_help())
        return EXIT_OK
    if arguments[0] in ("-V", "--version", "version"):
        from farcall.installed import read_version  # every other start is sooner

        sys.stdout.write(f"farcall {read_version()}\n")
        return EXIT_OK
    for command in COMMANDS:
        if command.name == arguments[0]:
            return _run(command, arguments[1:])
    sys.stderr.write(f"farcall: no command {arguments[0]!r}; `farcall help` lists them\n")
    return EXIT_USAGE


def _run(command: Command, arguments: Sequence[str]) -> int:
    try:
        function = load(command)
    except ModuleNotFoundError as e:
        if e.name is None or e.name.partition(".")[0] != command.target.partition(".")[0]:
            raise  # the room is here and lacks something: a fault, not a choice
        # Each image holds only its own rooms.
        sys.stderr.write(f"farcall {command.name} is not part of this installation\n")
        return EXIT_USAGE
    return function(arguments)


def load(command: Command) -> Callable[[Sequence[str]], int]:
    module, _, function = command.target.partition(":")
    loaded: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), function)
    return loaded


def render_help() -> str:
    lines = ["usage: farcall COMMAND [options]   (farcall COMMAND --help says more)", ""]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines.append(f"{group}:")
        lines += [f"  {c.name:<10} {c.brief}" for c in COMMANDS if c.group == group]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
