"""`farcall status`: how a TracingConfig does, what runs of it, and what to do next. Reads only."""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from farcall.commands import EXIT_FAULT, EXIT_OK
from farcall.listings import format_age
from farcall.query import read_width
from farcall.terminal import Column, escape_text, render_table
from farcall_operator.cluster.port import OWNER_LABEL, Cluster, Manifest
from farcall_operator.commands import outputs, reach
from farcall_operator.commands.parts import WORKLOADS, Part
from farcall_operator.commands.report import Report, build_report, plain_report

WATCH_EVERY_S = 2.0
CLEAR = "\x1b[H\x1b[2J"
MAX_CIDRS = 6  # shown in the text; -o json has them all
CONFIGS = (
    Column(title="NAME"), Column(title="TIER"), Column(title="READY"), Column(title="REASON"), Column(title="PROBES"),
    Column(title="AGE"), Column(title="VERSION"), Column(title="MESSAGE", flexible=True),
)  # fmt: skip
CONDITIONS = (
    Column(title="CONDITION"), Column(title="STATUS"), Column(title="REASON"), Column(title="FOR"),
    Column(title="MESSAGE", flexible=True),
)  # fmt: skip
PARTS = (
    Column(title="PART"), Column(title="OBJECT"), Column(title="READY", right=True), Column(title="UPDATED", right=True),
    Column(title="RESTARTS", right=True), Column(title="TROUBLE", flexible=True),
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    parser = outputs.make_parser(
        "status",
        "How TracingConfigs do: conditions, what runs, which config the agents have, what to do next. "
        "Exit code 1 when one of them is not ready.",
        "farcall status",
        "farcall status main --watch",
        "farcall status main -o json",
    )
    parser.add_argument(
        "name", nargs="?", default="", help="one of them in full; all when left out"
    )
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    parser.add_argument("-w", "--watch", action="store_true", help="again and again until Ctrl-C")
    reach.add_target_options(parser)
    arguments = parser.parse_args(argv)
    if arguments.watch and arguments.output != "table":
        parser.error("--watch is for the table; a script asks again")
    return outputs.run("status", lambda: status(arguments))


def status(arguments: argparse.Namespace) -> int:
    target = reach.read_target(arguments)
    while True:
        reports = reach.ask(
            target,
            reach.connect_cluster,
            lambda cluster: read_reports(cluster, arguments.name, target.namespace),
        )
        write(reports, arguments)
        if not arguments.watch:
            return EXIT_OK if all(report.ready == "True" for report in reports) else EXIT_FAULT
        time.sleep(WATCH_EVERY_S)


async def read_reports(cluster: Cluster, name: str, namespace: str) -> list[Report]:
    configs = (
        [await reach.read_config(cluster, name)] if name else await reach.read_configs(cluster)
    )
    labels = f"{OWNER_LABEL}={name}" if name else OWNER_LABEL
    workloads, pods = await asyncio.gather(
        read_workloads(cluster, name, namespace),
        cluster.list("v1", "Pod", namespace, labels=labels),
    )
    return [build_report(c, workloads, owned_by(c, pods), namespace) for c in configs]


async def read_workloads(cluster: Cluster, name: str, namespace: str) -> list[Manifest]:
    """By name, or all that the namespace has: one that lost its labels is to be shown as well."""
    if name:
        asked = (cluster.get(workload.ref(name, namespace)) for workload in WORKLOADS)
        return [found for found in await asyncio.gather(*asked) if found is not None]
    lists = (cluster.list(w.api_version, w.kind, namespace) for w in WORKLOADS)
    return [found for listed in await asyncio.gather(*lists) for found in listed]


def owned_by(config: Manifest, children: Sequence[Manifest]) -> list[Manifest]:
    name = config["metadata"]["name"]
    return [c for c in children if (c["metadata"].get("labels") or {}).get(OWNER_LABEL) == name]


def write(reports: Sequence[Report], arguments: argparse.Namespace) -> None:
    if arguments.output != "table":
        plain = [plain_report(report) for report in reports]
        outputs.write_structured(arguments.output, plain[0] if arguments.name else plain)
        return
    if arguments.watch and sys.stdout.isatty():
        sys.stdout.write(CLEAR)
    width, now = read_width(), datetime.now(UTC)
    if len(reports) == 1:
        outputs.write_lines(render_report(reports[0], now, width))
    elif reports:
        rows = [config_row(report, now) for report in reports]
        outputs.write_lines(render_table(CONFIGS, rows, width=width))
    else:
        outputs.tell("status", "the cluster has no TracingConfig")
    sys.stdout.flush()


def config_row(report: Report, now: datetime) -> Sequence[str]:
    age = format_since(report.created, now)
    return (
        report.name, report.tier, report.ready, report.reason, report.probes or "-", age, report.version or "-",
        report.message or (report.next[0] if report.next else ""),
    )  # fmt: skip


def render_report(report: Report, now: datetime, width: int | None) -> Iterator[str]:
    paused = ", paused" if report.paused else ""
    by = f", by operator {report.version}" if report.version else ""
    yield escape_text(
        f"TracingConfig {report.name}, {report.tier} tier{paused}: "
        f"generation {report.generation}, seen {report.observed_generation}{by}"
    )
    yield from (escape_text(line) for line in tell_effective(report))
    if report.conditions:
        yield ""
        rows = [condition_row(condition, now) for condition in report.conditions]
        yield from render_table(CONDITIONS, rows, width=width)
    if report.parts:
        yield ""
        yield from render_table(PARTS, [part_row(part) for part in report.parts], width=width)
    yield ""
    yield "What to do next:"
    for sentence in report.next or [conclude(report)]:
        yield f"  - {escape_text(sentence)}"


def conclude(report: Report) -> str:
    if report.ready == "True":
        return f"Nothing. `farcall open {report.name}` opens the console."
    return f"Wait: {report.message or 'the operator is at work'}"


def tell_effective(report: Report) -> Iterator[str]:
    effective, nodes = report.effective, report.nodes
    if ttl_s := effective.get("dnsTTLSeconds"):
        kept = ", ".join(f"{k} {v}" for k, v in (effective.get("retention") or {}).items())
        yield f"DNS answers count for {format_age(int(ttl_s))}; kept: {kept}"
    if "clusterCIDRs" in effective:
        shown = effective["clusterCIDRs"]
        more = int(effective.get("clusterCIDRsTotal", len(shown))) - len(shown[:MAX_CIDRS])
        rest = f" and {more} more" if more > 0 else ""
        origin = ", ".join(effective.get("clusterCIDRsFrom") or [])
        inside = ", ".join(shown[:MAX_CIDRS]) or "nothing"
        yield f"Inside: {inside}{rest}{f' (from {origin})' if origin else ''}"
    if nodes:
        left = ", ".join(f"{count} {why}" for why, count in (nodes.get("leftOut") or {}).items())
        out = f"; left out: {left}" if left else ""
        yield f"Nodes: {nodes.get('traced', 0)} of {nodes.get('total', 0)} are traced{out}"
    if report.config_generations:
        runs = ", ".join(
            f"{entry.get('agents')} run generation {entry.get('generation')}"
            for entry in report.config_generations
        )
        yield f"Agents: {runs}"


def condition_row(condition: Manifest, now: datetime) -> Sequence[str]:
    since = format_since(str(condition.get("lastTransitionTime", "")), now)
    texts = (str(condition.get(key, "")) for key in ("type", "status", "reason"))
    return (*texts, since, " ".join(str(condition.get("message", "")).split()))


def part_row(part: Part) -> Sequence[str]:
    troubles = [f"{t.reason} on {t.pods}" if t.pods > 1 else t.reason for t in part.troubles]
    if not part.current:
        troubles.append("its controller has not seen the newest version")
    counts = (f"{part.ready}/{part.wanted}", f"{part.updated}/{part.wanted}", str(part.restarts))
    return (part.part, f"{part.kind}/{part.name}", *counts, ", ".join(troubles))


def format_since(moment: str, now: datetime) -> str:
    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return "-"
    if then.tzinfo is None:
        return "-"
    return format_age(max(0, int((now - then).total_seconds())))
