"""What the operator counts, and its Prometheus text. Names begin with `farcall_operator_` but for the resource's own gauge.

Counters live here; what has a state of its own (queue, streams, conditions) is read when somebody asks, so that what is
gone from the cluster is gone from the metrics.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from farcall_operator.cluster.paths import Asked
from farcall_operator.cluster.port import Manifest

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


@dataclass(slots=True)
class Counters:
    requests: dict[tuple[Asked, int], int] = field(default_factory=dict)
    reconciles: dict[str, int] = field(default_factory=lambda: {"ok": 0, "error": 0, "timeout": 0})
    errors: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    duration_sum_s: float = 0.0

    def count_request(self, asked: Asked, code: int) -> None:
        self.requests[asked, code] = self.requests.get((asked, code), 0) + 1

    def reconciled(self, result: str, duration_s: float) -> None:
        self.reconciles[result] = self.reconciles.get(result, 0) + 1
        self.errors += result != "ok"
        self.buckets[bisect_left(BUCKETS_S, duration_s)] += 1
        self.duration_sum_s += duration_s


def render_counters(counters: Counters) -> list[str]:
    lines = render_family(
        "farcall_operator_reconcile_total",
        "counter",
        "Reconciliations of a TracingConfig, by result.",
        [({"result": result}, n) for result, n in sorted(counters.reconciles.items())],
    )
    lines += render_family(
        "farcall_operator_reconcile_errors_total",
        "counter",
        "Reconciliations that raised or took too long.",
        [({}, counters.errors)],
    )
    lines += _render_durations(counters)
    return lines + render_family(
        "farcall_operator_api_requests_total",
        "counter",
        "Requests to the API server, watches included; code 0 is no answer.",
        [
            ({"verb": asked.verb, "resource": asked.resource, "code": str(code)}, n)
            for (asked, code), n in sorted(counters.requests.items())
        ],
    )


def _render_durations(counters: Counters) -> list[str]:
    name = "farcall_operator_reconcile_duration_seconds"
    lines = [f"# HELP {name} How long a reconciliation took.", f"# TYPE {name} histogram"]
    total = 0
    for bound, n in zip([*BUCKETS_S, float("inf")], counters.buckets, strict=True):
        total += n
        label = "+Inf" if bound == float("inf") else repr(bound)
        lines.append(f'{name}_bucket{{le="{label}"}} {total}')
    return [*lines, f"{name}_sum {counters.duration_sum_s!r}", f"{name}_count {total}"]


def render_conditions(configs: Iterable[Manifest]) -> list[str]:
    """Written out, since there are thousands: six for each TracingConfig."""
    name = "farcall_tracingconfig_condition"
    text = "1 for the status that each condition of each TracingConfig has now."
    lines = render_family(name, "gauge", text, [])
    for config in configs:
        of = config["metadata"]["name"].translate(_ESCAPES)
        for condition in (config.get("status") or {}).get("conditions") or ():
            type_, status = (condition[key].translate(_ESCAPES) for key in ("type", "status"))
            lines.append(f'{name}{{name="{of}",type="{type_}",status="{status}"}} 1')
    return lines


def render_family(name: str, kind: str, text: str, samples: Sequence[Sample]) -> list[str]:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    return lines + [f"{name}{_render_labels(labels)} {_render_value(v)}" for labels, v in samples]


def _render_labels(labels: Labels) -> str:
    if not labels:
        return ""
    pairs = (f'{key}="{value.translate(_ESCAPES)}"' for key, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _render_value(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(round(value, 6))
