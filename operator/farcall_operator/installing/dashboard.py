"""The Grafana dashboard as data: what the operator exports, and nothing that it does not. Pure."""

import json
from dataclasses import dataclass
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 8, 8  # three panels a row of Grafana's 24 columns
WHERE = 'job=~"$job",namespace=~"$namespace"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    title: str
    about: str
    queries: tuple[tuple[str, str], ...]  # (expression, legend)
    unit: str = "short"
    kind: str = "timeseries"


def rate(metric: str, by: str, match: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{WHERE}{match}}}[$__rate_interval]))"


def quantile(share: str) -> tuple[str, str]:
    bucket = rate("farcall_operator_reconcile_duration_seconds_bucket", "le")
    return f"histogram_quantile({share}, {bucket})", f"p{share.removeprefix('0.')}"


PANELS = (
    Panel(
        title="Conditions",
        about="Each condition of each TracingConfig, by the status that it has. Ready is good when True, Stalled when False.",
        queries=(
            (f"farcall_tracingconfig_condition{{{WHERE}}} == 1", "{{name}} {{type}}={{status}}"),
        ),
        kind="state-timeline",
    ),
    Panel(
        title="TracingConfigs that are ready",
        about="Of those that the leading operator knows.",
        queries=(
            (f'count(farcall_tracingconfig_condition{{{WHERE},type="Ready",status="True"}}) or vector(0)', "ready"),
            (f'count(farcall_tracingconfig_condition{{{WHERE},type="Ready"}}) or vector(0)', "all"),
        ),
        kind="stat",
    ),
    Panel(
        title="Leaders",
        about="One is right.",
        queries=((f"sum(farcall_operator_leader{{{WHERE}}})", "leading"),),
        kind="stat",
    ),
    Panel(
        title="Reconciliations",
        about="By result; an error or a timeout is the operator's own.",
        queries=((rate("farcall_operator_reconcile_total", "result"), "{{result}}"),),
        unit="ops",
    ),
    Panel(
        title="How long they take",
        about="",
        queries=(quantile("0.50"), quantile("0.99")),
        unit="s",
    ),
    Panel(
        title="Queue",
        about="Those that wait and those that run.",
        queries=(
            (f"farcall_operator_queue_depth{{{WHERE}}}", "waiting"),
            (f"farcall_operator_queue_running{{{WHERE}}}", "running"),
        ),
    ),
    Panel(
        title="Oldest in the queue",
        about="How long the first has waited, and how long the slowest runs.",
        queries=(
            (f"farcall_operator_queue_oldest_seconds{{{WHERE}}}", "waiting"),
            (f"farcall_operator_queue_longest_running_seconds{{{WHERE}}}", "running"),
        ),
        unit="s",
    ),
    Panel(
        title="Requests to the API server",
        about="By verb and code; 0 is no answer. In quiet times only watches are renewed.",
        queries=((rate("farcall_operator_api_requests_total", "verb, code"), "{{verb}} {{code}}"),),
        unit="reqps",
    ),
    Panel(
        title="Writes",
        about="Zero when nothing changes.",
        queries=(
            (rate("farcall_operator_api_requests_total", "verb, resource", ',verb=~"create|update|patch|delete"'), "{{verb}} {{resource}}"),
        ),
        unit="reqps",
    ),
    Panel(
        title="Rows",
        about="That agents sent and the store took.",
        queries=((rate("farcall_exporter_rows_received_total", "job"), "{{job}}"),),
        unit="rowsps",
    ),
    Panel(
        title="Spans",
        about="Written, of them to an Unknown External Service, and received by OTLP.",
        queries=(
            (rate("farcall_exporter_spans_written_total", "job"), "{{job}} written"),
            (rate("farcall_exporter_spans_unknown_total", "job"), "{{job}} unknown"),
            (rate("farcall_exporter_otlp_spans_total", "job"), "{{job}} OTLP"),
        ),
        unit="ops",
    ),
    Panel(
        title="Losses and refusals",
        about="Each should be zero; docs/counters.md says what each means.",
        queries=tuple(
            (rate(f"farcall_exporter_{name}_total", "job"), "{{job}} " + name)
            for name in (
                "batches_given_up_lost",
                "batches_failed",
                "batches_busy",
                "otlp_rejected_lost",
                "otlp_out_dropped",
                "cache_failures",
                "kubernetes_failures",
                "unauthorized",
                "internal_errors",
            )
        ),
        unit="ops",
    ),
    Panel(
        title="Exporters' queue",
        about="Batches and requests that wait to be written.",
        queries=((f"farcall_exporter_queue_jobs{{{WHERE}}}", "{{pod}}"),),
    ),
    Panel(
        title="Age of the watches",
        about="Since the last sign of life; a bookmark comes each minute.",
        queries=((f"farcall_operator_watch_age_seconds{{{WHERE}}}", "{{kind}}"),),
        unit="s",
    ),
    Panel(
        title="Watches refused, lists begun",
        about="A list at start, and one whenever a watch was too far behind.",
        queries=(
            (rate("farcall_operator_watch_failures_total", "kind"), "{{kind}} failures"),
            (rate("farcall_operator_watch_lists_total", "kind"), "{{kind}} lists"),
        ),
        unit="ops",
    ),
)  # fmt: skip


def build_dashboard() -> dict[str, Any]:
    return {
        "uid": "farcall",
        "title": "farcall",
        "description": "The operator, its TracingConfigs and the exporters. What agents and store count is on the console's status page.",
        "tags": ["farcall"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                build_variable("job", "label_values({__name__=~\"farcall_operator_leader|farcall_exporter_queue_jobs\"}, job)"),
                build_variable("namespace", 'label_values({__name__=~"farcall_operator_leader|farcall_exporter_queue_jobs",job=~"$job"}, namespace)'),
            ]
        },
        "panels": [build_panel(number, panel) for number, panel in enumerate(PANELS)],
    }  # fmt: skip


def build_variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def build_panel(number: int, panel: Panel) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"x": number % 3 * WIDTH, "y": number // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for i, (query, legend) in enumerate(panel.queries)
        ],
    }  # fmt: skip


def render_dashboard() -> str:
    return json.dumps(build_dashboard(), indent=2, ensure_ascii=False) + "\n"
