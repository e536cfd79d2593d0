"""What each alert is for: series that make it fire, with its words, and the nearest that must not.

Series are written as promtool writes them: `0+1x60` is 0, 1, … 60, one each minute. Everything not named by a case is as on
a day on which nothing is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass

HOURS = 240  # minutes of every series: the slowest alert wants two hours
OPERATOR = 'job="farcall-operator",namespace="farcall"'
EXPORTER = 'job="main-exporter",namespace="farcall"'
AGENT = 'job="main-probe",namespace="farcall",pod="main-probe-x7k2p"'
IDLE = f"0x{HOURS}"  # a counter at which nothing happens


def grow(a_minute: int = 1) -> str:
    return f"0+{a_minute}x{HOURS}"


def stay(value: float) -> str:
    return f"{value}x{HOURS}"


def operator(metric: str, /, **labels: str) -> str:
    return _series(f"farcall_operator_{metric}", OPERATOR, labels)


def condition(kind: str, status: str) -> str:
    labels = {"name": "main", "type": kind, "status": status}
    return _series("farcall_tracingconfig_condition", OPERATOR, labels)


def exporter(name: str) -> str:
    return _series(f"farcall_exporter_{name}_total", EXPORTER, {})


def agent(metric: str, /, **labels: str) -> str:
    return _series(f"farcall_agent_{metric}", AGENT, labels)


def _series(name: str, source: str, labels: Mapping[str, str]) -> str:
    more = "".join(f',{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{source}{more}}}"


A, B = ({"instance": f"10.244.0.{number}:8080"} for number in (7, 8))  # two operators
LEADS, STANDS_BY = operator("leader", **A), operator("leader", **B)
ERRORS = operator("reconcile_errors_total", **A)
OLDEST = operator("queue_oldest_seconds", **A)
WATCH_AGE = operator("watch_age_seconds", kind="Pod", **A)
WATCH_FAILURES = operator("watch_failures_total", kind="Pod", **A)


def requests(code: str) -> str:
    return operator("api_requests_total", verb="list", resource="nodes", code=code, **A)


def bucket(bound: str) -> str:
    return operator("reconcile_duration_seconds_bucket", le=bound, **A)


EXPORTER_FAULTS = (
    "batches_given_up_lost", "otlp_rejected_lost", "sights_unreadable_lost", "internal_errors", "batches_failed",
    "batches_busy", "otlp_out_dropped", "cache_failures", "kubernetes_failures", "unauthorized", "config_refused",
    "certificate_refused", "spans_unknown",
)  # fmt: skip
AGENT_FAULTS = (
    "kernel_small_lost", "kernel_large_lost", "kernel_head_lost", "kernel_segment_lost", "kernel_connections_lost",
    "queue_exchanges_dropped", "refused_exchanges_dropped", "kernel_dns_lost", "cache_answers_dropped", "queue_dns_dropped",
    "send_failures",
)  # fmt: skip
GOOD = {"Ready": "True", "Reconciling": "False", "Stalled": "False"} | dict.fromkeys(
    ("ProbesReady", "CacheReady", "ExporterReady"), "True"
)
# Nothing is wrong: two operators, one TracingConfig, an exporter and an agent at work.
WELL: dict[str, str] = {
    LEADS: stay(1),
    STANDS_BY: IDLE,
    ERRORS: stay(3),  # of the day on which it was installed
    OLDEST: IDLE,
    WATCH_AGE: stay(60),
    WATCH_FAILURES: stay(2),
    requests("200"): grow(60),
    requests("403"): IDLE,
    requests("500"): IDLE,
    bucket("10.0"): grow(6),
    bucket("30.0"): grow(6),
    bucket("+Inf"): grow(6),
    **{condition(kind, status): stay(1) for kind, status in GOOD.items()},
    **{exporter(name): IDLE for name in EXPORTER_FAULTS},
    exporter("rows_received"): grow(6000),
    exporter("spans_written"): grow(6000),
    **{agent(f"{name}_total"): IDLE for name in AGENT_FAULTS},
    agent("sent_exchanges_total"): grow(6000),
    agent("ring_fill"): stay(0.25),
    agent("capability", name="tls"): stay(1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """At `fires_min` minutes the alert fires with `labels` and `summary`, at `silent_min` not yet.

    `near` is what resembles it and is none of it. A series of None is gone.
    """

    alert: str
    series: Mapping[str, str | None]
    fires_min: int
    silent_min: int
    labels: Mapping[str, str]
    summary: str
    near: tuple[Mapping[str, str | None], ...] = ()


# Labels that are left of a part's series.
OF_OPERATOR = {"job": "farcall-operator", "namespace": "farcall"}
OF_EXPORTER = {"job": "main-exporter", "namespace": "farcall"}
OF_AGENT = {"job": "main-probe", "namespace": "farcall", "pod": "main-probe-x7k2p"}


def turn(kind: str, status: str, values: str = stay(1)) -> dict[str, str | None]:
    """That condition has another status than on a good day."""
    return {condition(kind, GOOD[kind]): None, condition(kind, status): values}


def of_condition(kind: str, status: str) -> dict[str, str]:
    return {**OF_OPERATOR, "name": "main", "type": kind, "status": status}


def once(at_min: int) -> str:
    """A counter that grew one time."""
    return f"0x{at_min} 1x{HOURS}"


CASES = (
    Case(
        alert="FarcallOperatorAbsent",
        series={LEADS: None, STANDS_BY: None},
        fires_min=11, silent_min=9,
        labels={},
        summary="No farcall operator is being scraped.",
        near=({LEADS: None}, {STANDS_BY: None}),
    ),
    Case(
        alert="FarcallOperatorNoLeader",
        series={LEADS: IDLE},
        fires_min=3, silent_min=1,
        labels=OF_OPERATOR,
        summary="No farcall operator in farcall holds the lease.",
        near=({LEADS: f"1x20 0 1x{HOURS}"},),
    ),
    Case(
        alert="FarcallOperatorSeveralLeaders",
        series={STANDS_BY: stay(1)},
        fires_min=3, silent_min=1,
        labels=OF_OPERATOR,
        summary="2 farcall operators in farcall say that they lead.",
        near=({STANDS_BY: f"0x20 1 0x{HOURS}"},),
    ),
    Case(
        alert="FarcallOperatorReconcileErrors",
        series={ERRORS: grow()},
        fires_min=17, silent_min=15,
        labels=OF_OPERATOR,
        summary="Reconciliations in farcall keep failing.",
        near=({ERRORS: once(20)},),
    ),
    Case(
        alert="FarcallOperatorQueueStuck",
        series={OLDEST: grow(60)},
        fires_min=12, silent_min=10,
        labels={**OF_OPERATOR, **A},
        summary="A TracingConfig has waited for 12m 0s in the operator's queue.",
        near=({OLDEST: stay(300)}, {OLDEST: " ".join(["0+90x6"] * 30)}),
    ),
    Case(
        alert="FarcallOperatorWatchStale",
        series={WATCH_AGE: grow(60)},
        fires_min=10, silent_min=8,
        labels={**OF_OPERATOR, **A, "kind": "Pod"},
        summary="The operator's watch of Pod gave no sign of life for 10m 0s.",
        near=({WATCH_AGE: stay(210)},),
    ),
    Case(
        alert="FarcallOperatorWatchFailures",
        series={WATCH_FAILURES: grow()},
        fires_min=17, silent_min=15,
        labels={**OF_OPERATOR, "kind": "Pod"},
        summary="Lists and watches of Pod keep being refused.",
        near=({WATCH_FAILURES: once(20)},),
    ),
    Case(
        alert="FarcallOperatorForbidden",
        series={requests("403"): grow()},
        fires_min=12, silent_min=10,
        labels={**OF_OPERATOR, "verb": "list", "resource": "nodes"},
        summary="The operator may not list nodes.",
        near=({requests("404"): grow()},),
    ),
    Case(
        alert="FarcallOperatorApiErrors",
        series={requests("500"): grow(20)},
        fires_min=17, silent_min=15,
        labels=OF_OPERATOR,
        summary="25% of the operator's requests to the API server fail.",
        near=({requests("500"): grow(5)}, {requests("404"): grow(60)}),
    ),
    Case(
        alert="FarcallOperatorSlow",
        series={bucket("10.0"): IDLE},
        fires_min=17, silent_min=15,
        labels=OF_OPERATOR,
        summary="The slowest hundredth of reconciliations takes 29.8s.",
        near=({bucket("10.0"): grow(199), bucket("30.0"): grow(200), bucket("+Inf"): grow(200)},),
    ),
    Case(
        alert="FarcallTracingConfigStalled",
        series=turn("Stalled", "True"),
        fires_min=6, silent_min=4,
        labels=of_condition("Stalled", "True"),
        summary="TracingConfig main is stalled.",
        near=(turn("Ready", "False"),),
    ),
    Case(
        alert="FarcallTracingConfigNotReady",
        series=turn("Ready", "False"),
        fires_min=31, silent_min=29,
        labels=of_condition("Ready", "False"),
        summary="TracingConfig main is not ready for half an hour.",
        near=(turn("Ready", "Unknown"),),  # paused
    ),
    Case(
        alert="FarcallTracingConfigNeverSettles",
        series=turn("Reconciling", "True"),
        fires_min=121, silent_min=119,
        labels=of_condition("Reconciling", "True"),
        summary="TracingConfig main has been rolling out for two hours.",
        near=(turn("Reconciling", "True", f"_x20 1x60 stale _x{HOURS}"),),
    ),
    Case(
        alert="FarcallProbesNotReady",
        series=turn("ProbesReady", "False"),
        fires_min=16, silent_min=14,
        labels=of_condition("ProbesReady", "False"),
        summary="Nodes are not traced for main.",
        near=(turn("CacheReady", "False"),),
    ),
    Case(
        alert="FarcallCacheNotReady",
        series=turn("CacheReady", "False"),
        fires_min=11, silent_min=9,
        labels=of_condition("CacheReady", "False"),
        summary="The DNS cache of main is not ready.",
        near=(turn("ExporterReady", "False"),),
    ),
    Case(
        alert="FarcallExporterNotReady",
        series=turn("ExporterReady", "Unknown"),
        fires_min=11, silent_min=9,
        labels=of_condition("ExporterReady", "Unknown"),
        summary="The exporter of main is not ready.",
        near=(turn("ProbesReady", "False"),),
    ),
    Case(
        alert="FarcallExporterLosesSpans",
        series={exporter("sights_unreadable_lost"): grow()},
        fires_min=12, silent_min=10,
        labels=OF_EXPORTER,
        summary="main-exporter loses batches or rows.",
        near=({exporter("batches_busy"): grow()},),
    ),
    Case(
        alert="FarcallStoreRefusesWrites",
        series={exporter("batches_busy"): grow()},
        fires_min=17, silent_min=15,
        labels=OF_EXPORTER,
        summary="main-exporter turns batches away.",
        near=({exporter("batches_failed"): once(20)},),
    ),
    Case(
        alert="FarcallSinkRefused",
        series={exporter("otlp_out_dropped"): grow(120)},
        fires_min=12, silent_min=10,
        labels=OF_EXPORTER,
        summary="main-exporter drops 2 spans a second that were to go to the OTLP endpoint.",
        near=({exporter("otlp_rejected_lost"): grow()},),
    ),
    Case(
        alert="FarcallCacheUnreachable",
        series={exporter("cache_failures"): grow()},
        fires_min=12, silent_min=10,
        labels=OF_EXPORTER,
        summary="main-exporter cannot ask the DNS cache.",
        near=({exporter("cache_failures"): stay(5)},),
    ),
    Case(
        alert="FarcallExporterBlind",
        series={exporter("kubernetes_failures"): grow()},
        fires_min=30, silent_min=14,
        labels=OF_EXPORTER,
        summary="main-exporter cannot read pods, services or workloads from the API server.",
        near=({exporter("kubernetes_failures"): "0x2 1x2 2x2 3x2 4x2 5x2 6x2 7x2 8x2 9x2 10x2 11x2"},),
    ),
    Case(
        alert="FarcallExporterUnauthorized",
        series={exporter("unauthorized"): grow()},
        fires_min=17, silent_min=15,
        labels=OF_EXPORTER,
        summary="Somebody sends main-exporter a wrong token, or none.",
        near=({exporter("unauthorized"): once(20)},),
    ),
    Case(
        alert="FarcallExporterKeepsOldFiles",
        series={exporter("certificate_refused"): once(20)},
        fires_min=23, silent_min=20,
        labels=OF_EXPORTER,
        summary="main-exporter was given a config or certificate that it cannot use.",
        near=({exporter("config_refused"): stay(1)},),
    ),
    Case(
        alert="FarcallManyUnknownDestinations",
        series={exporter("spans_unknown"): grow(3000)},
        fires_min=62, silent_min=60,
        labels=OF_EXPORTER,
        summary="50% of the spans of main-exporter go to an Unknown External Service.",
        near=({exporter("spans_unknown"): grow(1500)},),
    ),
    Case(
        alert="FarcallNothingArrives",
        series={exporter("rows_received"): f"0+6000x60 360000x{HOURS}"},
        fires_min=125, silent_min=85,
        labels=OF_EXPORTER,
        summary="No agent has sent main-exporter anything for an hour.",
        near=({exporter("rows_received"): f"0+6000x20 120000x44 120000+6000x{HOURS}"},),  # idle for 45 minutes
    ),
    Case(
        alert="FarcallAgentLosesCalls",
        series={agent("kernel_segment_lost_total"): grow(60)},
        fires_min=12, silent_min=10,
        labels=OF_AGENT,
        summary="The agent main-probe-x7k2p loses 1 calls a second.",
        near=({agent("kernel_dns_lost_total"): grow()},),
    ),
    Case(
        alert="FarcallAgentLosesAnswers",
        series={agent("cache_answers_dropped_total"): grow(60)},
        fires_min=12, silent_min=10,
        labels=OF_AGENT,
        summary="The agent main-probe-x7k2p loses 1 DNS answers a second.",
        near=({agent("kernel_large_lost_total"): grow()},),
    ),
    Case(
        alert="FarcallAgentCannotSend",
        series={agent("send_failures_total"): grow(), agent("sent_exchanges_total"): stay(7)},
        fires_min=12, silent_min=10,
        labels=OF_AGENT,
        summary="The exporter has taken nothing from the agent main-probe-x7k2p for ten minutes.",
        near=({agent("send_failures_total"): grow()}, {agent("sent_exchanges_total"): stay(7)}),
    ),
    Case(
        alert="FarcallAgentNearlyFull",
        series={agent("ring_fill"): stay(0.9)},
        fires_min=11, silent_min=9,
        labels=OF_AGENT,
        summary="A ring buffer of the agent main-probe-x7k2p is filled to 90%.",
        near=({agent("ring_fill"): stay(0.8)},),
    ),
    Case(
        alert="FarcallAgentLacksCapability",
        series={agent("capability", name="tls"): IDLE},
        fires_min=61, silent_min=59,
        labels={**OF_AGENT, "name": "tls"},
        summary="The agent main-probe-x7k2p goes without tls.",
        near=({agent("capability", name="tls"): f"1x20 0x40 1x{HOURS}"},),
    ),
)  # fmt: skip
