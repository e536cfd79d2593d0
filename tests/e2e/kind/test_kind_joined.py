"""A pod with the OpenTelemetry SDK: its trace and what the agents saw of it are one, and its logs are found from both."""

import pytest

from farcall.api import LogLine, LogQuery, Span, Trace
from support_cluster import Cluster, wait_until
from support_cluster_shop import CONFIG, SHOP, Shop
from support_cluster_spans import pod_of

pytestmark = pytest.mark.kind


def wait_seen(cluster: Cluster, name: str) -> Span:
    """A call of the pod that has that OpenTelemetry span, as the agents saw it."""

    def look() -> Span:
        found = cluster.list_spans("url.path:/charge/*")
        ours = [s for s in found if s.source == "ebpf" and pod_of(s).startswith(f"{name}-")]
        joined = [s for s in ours if s.links]
        assert joined, f"{len(found)} spans, {len(ours)} of its own"
        return joined[-1]  # the oldest: everything about it has arrived

    return wait_until(look, f"a call of {name} is seen and linked")


def read_trace(cluster: Cluster, trace_id: str) -> Trace:
    def look() -> Trace:
        with cluster.open_api(CONFIG) as api:
            trace = api.read_trace(trace_id)
        names = {s.name for s in trace.spans if s.source == "otel"}
        assert {"place order", "charge card", "reserve stock"} <= names, str(names)
        return trace

    return wait_until(look, "the whole trace is there")


def test_the_agents_sight_of_a_call_hangs_below_the_span_that_made_it(
    cluster: Cluster, shop: Shop
) -> None:
    seen = wait_seen(cluster, "checkout")
    trace = read_trace(cluster, seen.effective_trace_id)
    (charge,) = [s for s in trace.spans if s.name == "charge card"]
    below = [s for s in trace.spans if s.source == "ebpf" and s.effective_span_id == charge.span_id]

    assert seen.effective_span_id == charge.span_id
    assert charge.service == "checkout"
    assert seen.destination == "api"
    assert [(s.trace_id, s.span_id) for s in below] == [(seen.trace_id, seen.span_id)]
    assert charge.resource["k8s.pod.name"] == pod_of(seen)
    assert charge.resource["k8s.namespace.name"] == SHOP


@pytest.mark.parametrize("start_from", ["otel", "ebpf"])
def test_the_logs_of_a_trace_are_those_of_its_requests_whichever_trace_one_came_by(
    cluster: Cluster, shop: Shop, start_from: str
) -> None:
    seen = wait_seen(cluster, "checkout")
    trace_id = {"otel": seen.effective_trace_id, "ebpf": seen.trace_id}[start_from]
    with cluster.open_api(CONFIG) as api:
        ids = api.read_trace(trace_id).effective_trace_ids
    number = seen.attributes["url.path"].rpartition("/")[2]
    lines = wait_lines(cluster, LogQuery(trace_ids=ids, ascending=True), at_least=2)

    assert seen.effective_trace_id in ids
    bodies = [line.body for line in lines if line.trace_id == seen.effective_trace_id]
    assert [bodies[0], bodies[-1]] == [f"order {number} received", f"order {number} paid"]


def test_the_logs_of_a_span_are_its_own_alone(cluster: Cluster, shop: Shop) -> None:
    seen = wait_seen(cluster, "checkout")
    trace = read_trace(cluster, seen.effective_trace_id)
    (order,) = [s for s in trace.spans if s.name == "place order"]
    (charge,) = [s for s in trace.spans if s.name == "charge card"]
    ids = (seen.effective_trace_id,)
    lines = wait_lines(cluster, LogQuery(trace_ids=ids, span_ids=(order.span_id,)), at_least=2)
    with cluster.open_api(CONFIG) as api:
        none = api.list_logs(LogQuery(trace_ids=ids, span_ids=(charge.span_id,))).items

    assert {line.span_id for line in lines} == {order.span_id}
    assert {line.service for line in lines} == {"checkout"}
    assert none == ()


def wait_lines(cluster: Cluster, query: LogQuery, *, at_least: int) -> tuple[LogLine, ...]:
    def look() -> tuple[LogLine, ...]:
        with cluster.open_api(CONFIG) as api:
            lines = api.list_logs(query).items
        assert len(lines) >= at_least, str(lines)
        return lines

    return wait_until(look, f"{at_least} lines")
