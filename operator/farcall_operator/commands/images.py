"""`farcall images`: every image that a TracingConfig needs, to be copied to where the cluster can pull from.

Read off the manifests themselves, so that no image can be forgotten here. Asks neither cluster nor registry.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from farcall.commands import EXIT_OK
from farcall.terminal import Column
from farcall.tracingconfig import TracingConfig
from farcall_operator.commands import outputs
from farcall_operator.commands.inputs import Inputs, read_inputs
from farcall_operator.commands.outputs import UsageError

COLUMNS = (Column(title="IMAGE"), Column(title="COPY FROM"), Column(title="NEEDED BY"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """`image` as the pods ask for it; `origin` where it is published; both alike without `images.registry`."""

    image: str
    origin: str
    needed_by: list[str]


def main(argv: Sequence[str]) -> int:
    parser = outputs.make_parser(
        "images",
        "List every image that TracingConfigs need, the operator's own among them: what an air-gapped cluster must hold.",
        "farcall images -f tracing.yaml",
        "farcall images -f tracing.yaml -o name | xargs -n1 docker pull",
        "farcall images -f manifests/ -o json",
    )
    parser.add_argument(
        "-f", "--file", nargs="+", action="extend", required=True, metavar="FILE",
        help="a file, a folder of manifests, or - for standard input",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", choices=("table", "name", "json", "yaml"), default="table"
    )
    arguments = parser.parse_args(argv)
    return outputs.run("images", lambda: images(arguments))


def images(arguments: argparse.Namespace) -> int:
    inputs: Inputs = read_inputs(arguments.file)
    if inputs.faults:
        raise inputs.faults[0]
    if not inputs.configs:
        raise UsageError("there is no TracingConfig in what was given")
    found = merge_images(image for _, config in inputs.configs for image in find_images(config))
    if arguments.output == "table":
        outputs.write_table(COLUMNS, [(i.image, i.origin, ", ".join(i.needed_by)) for i in found])
    elif arguments.output == "name":
        outputs.write_lines(i.image for i in found)
    else:
        outputs.write_structured(arguments.output, [asdict(i) for i in found])
    return EXIT_OK


def find_images(config: TracingConfig) -> Iterator[Image]:
    published = with_images(config, registry=None)
    pairs = zip(list_containers(config), list_containers(published), strict=True)
    for (container, image), (_, origin) in pairs:
        yield Image(image=image, origin=origin, needed_by=[container])


def list_containers(config: TracingConfig) -> Iterator[tuple[str, str]]:
    """(who needs it, image), the operator first."""
    # Here, so that a bad file is told without the templates being loaded.
    from farcall_operator.context import Context
    from farcall_operator.kubernetes import build_manifests
    from farcall_operator.view import find_image

    # Installed by a manifest of its own, which pins it where it is to be pinned.
    yield "operator", find_image(with_images(config, digests=None), "operator")
    for manifest in build_manifests(config, Context(namespace="farcall")):
        template = manifest.get("spec", {}).get("template")
        if not isinstance(template, dict):
            continue
        pod = template["spec"]
        for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
            yield f"{manifest['metadata']['name']}/{container['name']}", container["image"]


def with_images(config: TracingConfig, **changes: None) -> TracingConfig:
    """`config` without some of what `spec.images` says."""
    if config.spec.images is None:
        return config
    images = config.spec.images.model_copy(update=changes)
    return config.model_copy(update={"spec": config.spec.model_copy(update={"images": images})})


def merge_images(images: Iterator[Image]) -> list[Image]:
    """Each image once, in the order it was met."""
    merged: dict[tuple[str, str], Image] = {}
    for image in images:
        known = merged.setdefault(
            (image.image, image.origin), Image(image=image.image, origin=image.origin, needed_by=[])
        )
        known.needed_by.extend(n for n in image.needed_by if n not in known.needed_by)
    return list(merged.values())
