"""`farcall render`: the Kubernetes objects that a TracingConfig becomes. With `-f` it asks no cluster."""

import argparse
import sys
from collections.abc import Sequence

from farcall.commands import EXIT_OK
from farcall.tracingconfig import TracingConfig
from farcall_operator.commands import outputs, reach
from farcall_operator.commands.inputs import read_one
from farcall_operator.context import Context


def main(argv: Sequence[str]) -> int:
    parser = outputs.make_parser(
        "render",
        "Print the Kubernetes objects that a TracingConfig becomes. With -f no cluster is asked.",
        "farcall render -f tracing.yaml",
        "farcall render -f tracing.yaml --namespace tracing -o json",
        "farcall render --cluster main     # as the operator sees it, with what it discovers",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-f", "--file", metavar="FILE", help="a file, or - for standard input")
    source.add_argument("--cluster", metavar="NAME", help="a TracingConfig of the cluster")
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml")
    reach.add_target_options(parser)
    arguments = parser.parse_args(argv)
    return outputs.run("render", lambda: render(arguments))


def render(arguments: argparse.Namespace) -> int:
    if arguments.cluster is not None:
        # Here, as what follows: a file needs nothing of it.
        from farcall_operator.commands.known import ask_known

        known = ask_known(reach.read_target(arguments), arguments.cluster)
        config, context = known.config, known.context
    else:
        config, context = read_one(arguments.file), Context(namespace=arguments.namespace)
    write(config, context, arguments.output)
    return EXIT_OK


def write(config: TracingConfig, context: Context, output: str) -> None:
    # Here, so that a bad file is told without the templates being loaded.
    from farcall_operator.kubernetes import build_manifests
    from farcall_operator.rendering import describe_needs, render_config

    if output == "yaml":
        sys.stdout.write(render_config(config, context))
        return
    # JSON has no comments: what the objects rely on goes where it does not disturb a pipe.
    for need in describe_needs(config, context):
        sys.stderr.write(f"# {need}\n")
    items = build_manifests(config, context)
    outputs.write_structured("json", {"apiVersion": "v1", "kind": "List", "items": items})
