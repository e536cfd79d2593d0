"""The exporter's counters as Prometheus' text, for `GET /metrics` beside OTLP. Names alone, and nothing of any call."""

from farcall_exporter.counters import NAMES
from farcall_exporter.pipeline import Pipeline

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "farcall_exporter"


def render_metrics(pipeline: Pipeline) -> bytes:
    lines = [
        f"# HELP {PREFIX}_queue_jobs Batches and requests that wait to be written.",
        f"# TYPE {PREFIX}_queue_jobs gauge",
        f"{PREFIX}_queue_jobs {pipeline.queued}",
    ]
    for name, count in pipeline.context.counters.read().items():
        metric = f"{PREFIX}_{name}_total"
        lines += [
            f"# HELP {metric} Number of {NAMES[name]}.",
            f"# TYPE {metric} counter",
            f"{metric} {count}",
        ]
    return ("\n".join(lines) + "\n").encode()
