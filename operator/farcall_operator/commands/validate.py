"""`farcall validate`: is a TracingConfig right? Every fault is a sentence: field, what it is, what is allowed."""

import argparse
import sys
from collections.abc import Sequence

from farcall.commands import EXIT_OK, EXIT_USAGE
from farcall.terminal import escape_text
from farcall.tracingconfig import InvalidConfigError, TracingConfig
from farcall_operator.commands import outputs
from farcall_operator.commands.inputs import Given, Inputs, read_inputs

ALL = ""  # --cluster without a name


def main(argv: Sequence[str]) -> int:
    parser = outputs.make_parser(
        "validate",
        "Check TracingConfigs: every fault on a line of its own. Other kinds of documents are left out.",
        "farcall validate -f tracing.yaml",
        "farcall validate -f manifests/ more/tracing.yaml",
        "kustomize build . | farcall validate -f -",
        "farcall validate --cluster        # those that a cluster holds, with this version's eyes",
    )
    parser.add_argument(
        "-f", "--file", nargs="+", action="extend", default=[], metavar="FILE",
        help="a file, a folder of manifests, or - for standard input",
    )  # fmt: skip
    parser.add_argument(
        "--cluster", nargs="?", const=ALL, metavar="NAME", help="of a cluster: this one, or all"
    )
    parser.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text")
    # Here, and below: checking a file needs no HTTP client.
    from farcall_operator.commands.reach import add_target_options

    add_target_options(parser)
    arguments = parser.parse_args(argv)
    if not arguments.file and arguments.cluster is None:
        parser.error("nothing to check: give -f or --cluster")
    return outputs.run("validate", lambda: validate(arguments))


def validate(arguments: argparse.Namespace) -> int:
    inputs = read_inputs(arguments.file)
    inputs.faults += find_duplicates(inputs.configs)
    if arguments.cluster is not None:
        add_cluster(inputs, arguments)
    write = write_text if arguments.output == "text" else write_report
    write(inputs, arguments.output)
    return EXIT_USAGE if inputs.faults or not inputs.configs else EXIT_OK


def add_cluster(inputs: Inputs, arguments: argparse.Namespace) -> None:
    from farcall_operator.commands import reach

    manifests = reach.ask(reach.read_target(arguments), reach.connect_cluster, reach.read_configs)
    for manifest in manifests:
        name = manifest["metadata"]["name"]
        if arguments.cluster not in (ALL, name):
            continue
        try:
            config = reach.check_manifest(manifest)
        except InvalidConfigError as e:
            inputs.faults.append(e)
        else:
            inputs.configs.append(Given("cluster", config))


def find_duplicates(configs: Sequence[Given]) -> list[InvalidConfigError]:
    """Applied one after the other, the last would win without a word."""
    first: dict[str, str] = {}
    faults = []
    for source, config in configs:
        name = config.metadata.name
        if name in first:
            problem = f"metadata.name: {name} is given before, in {first[name]}"
            faults.append(InvalidConfigError(source, [problem]))
        first.setdefault(name, source)
    return faults


def write_text(inputs: Inputs, _output: str) -> None:
    for source, config in inputs.configs:
        sys.stdout.write(f"{escape_text(source)}: {describe(config)}\n")
    for fault in inputs.faults:
        outputs.tell_faults("validate", fault)
    if not inputs.configs and not inputs.faults:
        outputs.tell("validate", "there is no TracingConfig in what was given")


def describe(config: TracingConfig) -> str:
    return f"TracingConfig {config.metadata.name}, tier {config.spec.tier}, is valid"


def write_report(inputs: Inputs, output: str) -> None:
    valid = [
        {"source": source, "name": config.metadata.name, "tier": config.spec.tier, "problems": []}
        for source, config in inputs.configs
    ]
    faulty = [
        {"source": fault.source, "name": None, "tier": None, "problems": fault.problems}
        for fault in inputs.faults
    ]
    outputs.write_structured(output, [*valid, *faulty])
