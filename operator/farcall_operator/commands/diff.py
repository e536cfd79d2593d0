"""`farcall diff`: what applying a TracingConfig would change of its children.

Each child is applied as the operator would, in a dry run: the API server itself says what would come out, defaults and
webhooks and all. Nothing is changed. Exit codes as diff(1): 0 no differences, 1 differences, 2 an error.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from farcall.commands import EXIT_FAULT, EXIT_OK, EXIT_USAGE
from farcall.terminal import Column, escape_text
from farcall.tracingconfig import TracingConfig
from farcall_operator.children import Owner, describe_owner, judge_standing
from farcall_operator.cluster.port import OWNER_LABEL, Cluster, ClusterError, Manifest, ref_of
from farcall_operator.commands import outputs, reach
from farcall_operator.commands.changes import Action, Change, build_change, count_lines
from farcall_operator.commands.inputs import read_one
from farcall_operator.commands.known import SERVICE_MONITORS, Known, read_known

COLUMNS = (
    Column(title="ACTION"), Column(title="OBJECT"), Column(title="LINES"), Column(title="NOTES", flexible=True),
)  # fmt: skip
# Kinds that a TracingConfig may own: what is no longer desired is found among them.
CHILD_KINDS = (
    ("v1", "ConfigMap"), ("v1", "Service"), ("v1", "ServiceAccount"),
    ("apps/v1", "DaemonSet"), ("apps/v1", "StatefulSet"), ("apps/v1", "Deployment"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"), ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"), SERVICE_MONITORS,
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    parser = outputs.make_parser(
        "diff",
        "What applying a TracingConfig would change in the cluster, by dry runs; changes nothing. "
        "Exit codes: 0 nothing, 1 something, 2 an error.",
        "farcall diff -f tracing.yaml",
        "farcall diff -f tracing.yaml -o table",
        "farcall diff -f tracing.yaml -o json | jq -r '.[] | select(.action != \"none\") | .name'",
    )
    parser.add_argument(
        "-f", "--file", required=True, metavar="FILE", help="a file, or - for standard input"
    )
    parser.add_argument("-o", "--output", choices=("diff", "table", "json", "yaml"), default="diff")
    reach.add_target_options(parser)
    arguments = parser.parse_args(argv)
    return outputs.run("diff", lambda: diff(arguments), fault=EXIT_USAGE)


def diff(arguments: argparse.Namespace) -> int:
    target, config = reach.read_target(arguments), read_one(arguments.file)
    known, changes = reach.ask(
        target,
        reach.connect_cluster,
        lambda cluster: find_changes(cluster, config, target.namespace),
    )
    for note in known.notes:
        outputs.tell("diff", note)
    write(changes, arguments.output)
    actions = {change.action for change in changes}
    if "refused" in actions:
        return EXIT_USAGE
    return EXIT_OK if actions <= {"none"} else EXIT_FAULT


async def find_changes(
    cluster: Cluster, config: TracingConfig, namespace: str
) -> tuple[Known, list[Change]]:
    # Here, so that a bad file is told without the templates being loaded.
    from farcall_operator.kubernetes import build_manifests

    known = await read_known(cluster, config, namespace)
    desired = build_manifests(known.config, known.context)
    owner = Owner(name=config.metadata.name, uid=known.config.metadata.uid)
    changes = [await compare(cluster, manifest, owner) for manifest in desired]
    return known, [*changes, *await find_leftovers(cluster, desired, owner, namespace)]


async def compare(cluster: Cluster, manifest: Manifest, owner: Owner) -> Change:
    from farcall_operator.applying import KEPT_KINDS, is_immutable

    ref = ref_of(manifest)
    live = await cluster.get(ref)
    if live is not None and judge_standing(live, owner) == "foreign":
        why = f"it exists already and is {describe_owner(live)}"
        return build_change(ref, "refused", notes=[why])
    try:
        applied = await cluster.apply(manifest, dry_run=True)
    except ClusterError as e:
        if live is None or ref.kind in KEPT_KINDS or not is_immutable(e):
            return build_change(ref, "refused", notes=[e.message])
        # The operator deletes and creates it; a StatefulSet's pod and volume stay.
        return build_change(ref, "recreate", before=live, after=manifest, notes=[e.message])
    action: Action = "create" if live is None else "change"
    return build_change(ref, action, before=live, after=applied.live, notes=list(applied.warnings))


async def find_leftovers(
    cluster: Cluster, desired: Sequence[Manifest], owner: Owner, namespace: str
) -> list[Change]:
    """What is this TracingConfig's and no longer wanted. Volume claims and Secrets are never deleted."""
    from farcall_operator.applying import is_owned

    wanted = {ref_of(manifest) for manifest in desired}
    changes = []
    for version, kind in CHILD_KINDS:
        for live in await list_children(cluster, version, kind, namespace, owner.name):
            if ref_of(live) not in wanted and owner.uid and is_owned(live, owner):
                changes.append(build_change(ref_of(live), "delete", before=live))
    return changes


async def list_children(
    cluster: Cluster, version: str, kind: str, namespace: str, name: str
) -> list[Manifest]:
    try:
        return await cluster.list(version, kind, namespace, labels=f"{OWNER_LABEL}={name}")
    except ClusterError as e:
        if e.status == 404:
            return []  # a kind that this cluster does not have
        raise


def write(changes: Sequence[Change], output: str) -> None:
    if output == "table":
        rows = [
            (c.action, f"{c.kind}/{c.name}", count_lines(c.diff), "; ".join(c.notes))
            for c in changes
        ]
        outputs.write_table(COLUMNS, rows)
    elif output == "diff":
        for change in changes:
            outputs.write_lines(escape_text(line) for line in change.diff)
            for note in change.notes:
                outputs.tell("diff", f"{change.kind}/{change.name}: {change.action}: {note}")
    else:
        outputs.write_structured(output, [asdict(change) for change in changes])
