"""Alerts and dashboard ask only for what operator and exporters export, in PromQL that parses, and each alert has its runbook."""

import asyncio
import functools
import json
import re
from typing import Any

import promql_parser
import pytest
import yaml

from farcall_exporter.counters import NAMES
from farcall_exporter.metrics import PREFIX
from farcall_operator.cluster.paths import Asked
from farcall_operator.cluster.port import Manifest, Outcome
from farcall_operator.cluster.world import World
from farcall_operator.conditions import CACHE, EXPORTER, PROBES, READY, RECONCILING, STALLED
from farcall_operator.installing.dashboard import build_dashboard
from farcall_operator.running.health import Health
from farcall_operator.running.metrics import Counters
from farcall_operator.running.streams import Streams
from farcall_operator.running.watching import WATCHED
from farcall_operator.running.workqueue import Workqueue
from farcall_probes.metrics import PREFIX as AGENT_PREFIX
from support_ground import ROOT
from support_install import DEPLOY, read_objects

pytestmark = pytest.mark.unit

GROUPS = read_objects(DEPLOY / "monitoring/alerts.yaml")[0]["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
CONDITIONS = {READY, RECONCILING, STALLED, PROBES, CACHE, EXPORTER}
# Prometheus adds them when it scrapes; Grafana's variables stand for values of theirs.
SCRAPED = {"job", "namespace", "instance", "pod"}


class Idle:
    async def reconcile(self, name: str) -> Outcome:
        return Outcome()


async def render_metrics() -> str:
    """As a leading operator with one TracingConfig writes them."""
    counters = Counters()
    counters.count_request(Asked("get", "nodes"), 200)
    counters.reconciled("ok", 0.1)
    world = World()
    condition = {"type": "Ready", "status": "True"}
    world.put(build_config("main", {"conditions": [condition]}))
    health = Health(
        counters=counters,
        leading=True,
        world=world,
        streams=Streams(WATCHED, find=lambda _: None, conclude=lambda *_: None, clock=lambda: 0.0),
        queue=Workqueue(Idle(), watcher=counters, keeps=lambda _: True, resync_s=600),
    )
    return health.render()


@functools.cache
def export() -> dict[str, set[str]]:
    """Metric → its labels."""
    found: dict[str, set[str]] = {
        f"{PREFIX}_queue_jobs": set(),
        **{f"{PREFIX}_{name}_total": set() for name in NAMES},
    }
    found |= {f"{AGENT_PREFIX}_{name}_total": set() for name in list_agent_counters()}
    found |= {f"{AGENT_PREFIX}_{name}": set() for name in ("ring_fill", "cpu_seconds_total")}
    found[f"{AGENT_PREFIX}_capability"] = {"name"}
    for line in asyncio.run(render_metrics()).splitlines():
        match = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? \S+", line)
        if match:
            labels = set(re.findall(r'(\w+)="', match[2] or ""))
            found.setdefault(match[1], set()).update(labels)
    return found


def list_agent_counters() -> list[str]:
    """Of the page that another test holds against the code."""
    page = (ROOT / "docs/counters.md").read_text(encoding="utf-8")
    agents = "".join(s for s in page.split("\n## ") if s.startswith("Agent"))
    return re.findall(r"^\| `(\w+)` \|", agents, flags=re.M)


def build_config(name: str, status: dict[str, Any]) -> Manifest:
    return {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": name},
        "spec": {"tier": "Hobby"},
        "status": status,
    }


def list_queries() -> list[tuple[str, str]]:
    """Grafana's own words are replaced by what they stand for."""
    panels = build_dashboard()["panels"]
    dashboard = [
        (panel["title"], target["expr"].replace("$__rate_interval", "2m"))
        for panel in panels
        for target in panel["targets"]
    ]
    return [(name, rule["expr"]) for name, rule in ALERTS.items()] + dashboard


def list_selectors(query: str) -> list[tuple[str, list[tuple[str, str]]]]:
    found: list[tuple[str, list[tuple[str, str]]]] = []

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            matchers = [(m.name, m.value) for m in node.matchers.matchers]
            found.append((str(node.name), matchers))

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


@pytest.mark.parametrize(("name", "query"), list_queries())
def test_a_query_asks_for_what_is_exported(name: str, query: str) -> None:
    exported = export()
    selectors = list_selectors(query)

    assert selectors, name
    for metric, matchers in selectors:
        assert metric in exported, name
        assert {label for label, _ in matchers} <= exported[metric] | SCRAPED, name
        for label, value in matchers:
            if metric == "farcall_tracingconfig_condition" and label == "type":
                assert value in CONDITIONS
    grouped = {
        label.strip() for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(",")
    }  # fmt: skip
    known = set().union(*(exported[metric] for metric, _ in selectors))
    assert grouped <= known | SCRAPED, name


def test_every_metric_of_the_operator_is_shown_or_alerted_on() -> None:
    used = {metric for _, query in list_queries() for metric, _ in list_selectors(query)}
    derived = {
        "farcall_operator_reconcile_duration_seconds_sum",
        "farcall_operator_reconcile_duration_seconds_count",
    }

    exported = {name for name in export() if not name.startswith((PREFIX, AGENT_PREFIX))}
    assert exported - derived <= used


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]

    assert re.fullmatch(r"Farcall([A-Z][a-z]+)+", name)
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    annotations = rule["annotations"]
    assert annotations["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
    assert annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")


def test_labels_in_an_alerts_text_survive_its_expression() -> None:
    for name, rule in ALERTS.items():
        text = " ".join(rule["annotations"].values())
        used = set(re.findall(r"\$labels\.(\w+)", text))
        grouped = re.findall(r"by \(([^)]*)\)", rule["expr"])
        if grouped:
            assert used <= {label.strip() for label in grouped[0].split(",")}, name
        else:
            exported = export()
            for metric, _ in list_selectors(rule["expr"]):
                assert used <= exported[metric] | SCRAPED, name


def test_each_alert_has_a_section_of_the_runbooks_and_no_section_is_left_over() -> None:
    page = (ROOT / "docs/runbooks.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.M)[1:]
    runbooks = {s.splitlines()[0]: s for s in sections if s.startswith("Farcall")}

    assert list(runbooks) == list(ALERTS)
    for name, text in runbooks.items():
        for heading in ("**Means:**", "**Look:**", "**Mend:**"):
            assert heading in text, name


def test_the_rule_object_holds_the_same_groups() -> None:
    (rule,) = read_objects(DEPLOY / "monitoring/prometheusrule.yaml")

    assert rule["spec"] == {"groups": GROUPS}
    assert rule["kind"] == "PrometheusRule"


def test_the_service_monitor_finds_the_operators_service_and_no_other() -> None:
    (monitor,) = read_objects(DEPLOY / "monitoring/servicemonitor.yaml")
    services = [m for m in read_objects(DEPLOY / "install.yaml") if m["kind"] == "Service"]
    for name in ("hobby", "scale", "everything"):
        services += [
            m
            for m in read_objects(ROOT / f"tests/golden/render/{name}.golden.yaml")
            if m["kind"] == "Service"
        ]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (found,) = [m for m in services if wanted <= m["metadata"]["labels"].items()]

    assert found["metadata"]["name"] == "farcall-operator"
    assert {e["port"] for e in monitor["spec"]["endpoints"]} <= {
        port["name"] for port in found["spec"]["ports"]
    }


def test_the_dashboard_lets_its_reader_choose_the_data_source() -> None:
    dashboard = json.loads((DEPLOY / "monitoring/dashboard.json").read_text(encoding="utf-8"))

    assert dashboard == build_dashboard()
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]}
    assert len(places) == len(dashboard["panels"])


def test_alert_groups_are_named_once() -> None:
    names = [group["name"] for group in GROUPS]

    assert len(set(names)) == len(names)
    rules = [rule["alert"] for group in GROUPS for rule in group["rules"]]
    assert len(set(rules)) == len(rules)
    assert yaml.safe_dump(GROUPS)
