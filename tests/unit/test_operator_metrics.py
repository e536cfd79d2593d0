"""The operator's metrics as Prometheus reads them."""

import re

import pytest

from farcall_operator.cluster.paths import Asked
from farcall_operator.running import metrics
from farcall_operator.running.metrics import Counters

pytestmark = pytest.mark.unit

# A comment, or a name with labels whose values hold no bare quote or newline, and a number.
LINE = re.compile(
    r'# (HELP|TYPE) \S+ .+|[a-z_]+(\{([a-z]+="([^"\\\n]|\\[\\"n])*",?)+\})? [0-9.e+-]+'
)


def build_config(name: str, *conditions: tuple[str, str]) -> dict[str, object]:
    listed = [{"type": kind, "status": status} for kind, status in conditions]
    return {"metadata": {"name": name}, "status": {"conditions": listed}}


def test_every_line_is_one_that_prometheus_can_read():
    counters = Counters()
    counters.count_request(Asked("patch", "daemonsets.apps"), 200)
    counters.reconciled("ok", 0.003)
    lines = metrics.render_counters(counters)
    lines += metrics.render_conditions([build_config('evil"\\\n', ("Ready", "True"))])

    assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_requests_are_counted_by_verb_resource_and_code():
    counters = Counters()
    for code in (200, 200, 409):
        counters.count_request(Asked("patch", "services"), code)
    text = "\n".join(metrics.render_counters(counters))

    assert 'requests_total{verb="patch",resource="services",code="200"} 2' in text
    assert 'requests_total{verb="patch",resource="services",code="409"} 1' in text


def test_durations_fill_cumulative_buckets():
    counters = Counters()
    for duration_s in (0.001, 0.05, 0.07, 99.0):
        counters.reconciled("ok", duration_s)
    text = "\n".join(metrics.render_counters(counters))

    assert 'duration_seconds_bucket{le="0.005"} 1' in text
    assert 'duration_seconds_bucket{le="0.05"} 2' in text
    assert 'duration_seconds_bucket{le="0.1"} 3' in text
    assert 'duration_seconds_bucket{le="30.0"} 3' in text
    assert 'duration_seconds_bucket{le="+Inf"} 4' in text
    assert "duration_seconds_count 4" in text


def test_failures_are_errors_whatever_their_kind():
    counters = Counters()
    for result in ("ok", "error", "timeout"):
        counters.reconciled(result, 0.1)

    assert "farcall_operator_reconcile_errors_total 2" in metrics.render_counters(counters)


def test_each_condition_has_the_status_it_has_now_and_no_other():
    before = metrics.render_conditions([build_config("main", ("Ready", "False"))])
    after = metrics.render_conditions([build_config("main", ("Ready", "True"))])

    wanted = 'farcall_tracingconfig_condition{name="main",type="Ready",status="%s"} 1'
    assert before[2:] == [wanted % "False"]
    assert after[2:] == [wanted % "True"]
    assert metrics.render_conditions([])[2:] == []
