"""Which spans are stored: filters, a sample that holds whole traces, and each service's share."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcall.effective import DropRule, SelectionConfig
from farcall_exporter.batches import build_batch
from farcall_exporter.context import Context
from farcall_exporter.selection import MAX_SERVICES, Budgets
from support_exporter import (
    FakeWriter,
    Row,
    decoded,
    exchange,
    identified,
    make_context,
    seen_from_server,
)

pytestmark = pytest.mark.unit


def store(rows: list[Row], config: SelectionConfig, context: Context | None = None) -> FakeWriter:
    writer = FakeWriter()
    context = context or make_context(selection=config)
    writer.write(build_batch(decoded(rows, "exchanges"), context), token="t")
    return writer


def calls(count: int, **changes: object) -> list[Row]:
    return [
        exchange(**{"connection_id": n, "isn_client": n * 7_919, "isn_server": n, **changes})
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"paths": ["/health*"]}, ["/orders", "/Healthz"]),
        ({"paths": ["/o*s", "*lthz"]}, []),
        ({"paths": ["/healthz"], "services": ["other"]}, ["/healthz", "/orders", "/Healthz"]),
        ({"services": ["ch*t"]}, []),
        ({"namespaces": ["shop"]}, []),
        ({"namespaces": ["sho"]}, ["/healthz", "/orders", "/Healthz"]),
        ({"paths": ["/health."]}, ["/healthz", "/orders", "/Healthz"]),  # no regular expression
    ],
)
def test_a_filter_leaves_out_what_matches_all_that_it_says(
    rule: dict[str, list[str]], kept: list[str]
) -> None:
    rows = [
        row
        for path in ("/healthz", "/orders", "/Healthz")
        for row in calls(1, target=path, service="checkout", namespace="shop")
    ]
    rows = [{**row, "connection_id": n, "isn_client": n} for n, row in enumerate(rows)]
    written = store(rows, SelectionConfig(drop=[DropRule(**rule)]))

    assert [s["SpanAttributes"]["url.path"] for s in written.rows("spans")] == kept


def test_a_call_without_a_path_is_matched_by_no_path() -> None:
    redis = exchange(protocol="redis", operation="GET", target="GET ?", host=None, status=None)
    written = store([redis], SelectionConfig(drop=[DropRule(paths=["*"])]))
    assert len(written.rows("spans")) == 1


def test_a_sample_is_by_trace_and_the_same_on_every_exporter() -> None:
    rows = calls(400)
    first = store(rows, SelectionConfig(percent=25)).rows("spans")
    again = store(rows[::-1], SelectionConfig(percent=25)).rows("spans")

    assert 60 < len(first) < 140
    assert {s["TraceId"] for s in first} == {s["TraceId"] for s in again}
    wider = store(rows, SelectionConfig(percent=50)).rows("spans")
    assert {s["TraceId"] for s in first} <= {s["TraceId"] for s in wider}


def test_calls_of_one_opentelemetry_trace_are_kept_or_left_out_together() -> None:
    low, high = bytes(16 - 1) + b"\x01", b"\xff" * 16
    parent = {"parent_span_id": b"\x01" * 8}
    for trace, expected in ((low, 0), (high, 30)):
        rows = calls(30, trace_id=trace, **parent)
        assert len(store(rows, SelectionConfig(percent=10)).rows("spans")) == expected


def test_failed_and_slow_calls_are_stored_whatever_the_sample() -> None:
    config = SelectionConfig(percent=1, slower_than_s=0.2)
    failed, slow = calls(20, status=503), calls(20, duration_ns=200_000_001)

    assert len(store(failed, config).rows("spans")) == 20
    assert len(store(slow, config).rows("spans")) == 20
    assert len(store(calls(20, duration_ns=200_000_000), config).rows("spans")) < 20


def test_one_service_cannot_take_what_is_anothers() -> None:
    config = SelectionConfig(spans_per_second=10)
    context = make_context(selection=config)
    rows = [*calls(50, service="noisy"), *calls(3, service="quiet")]
    rows = [{**row, "connection_id": n, "isn_client": n} for n, row in enumerate(rows)]
    services = [s["ServiceName"] for s in store(rows, config, context).rows("spans")]

    assert (services.count("noisy"), services.count("quiet")) == (10, 3)
    assert context.counters.read()["spans_rate_limited_lost"] == 40
    assert context.counters.read()["spans_written"] == 13


def test_beyond_its_share_a_services_failures_go_first() -> None:
    config = SelectionConfig(spans_per_second=3)
    rows = [*calls(5), *calls(2, status=500)]
    rows = [{**row, "connection_id": n, "isn_client": n} for n, row in enumerate(rows)]
    statuses = [s["StatusCode"] for s in store(rows, config).rows("spans")]

    assert sorted(statuses) == ["Error", "Error", "Unset"]


def test_the_servers_sight_of_a_call_that_is_left_out_becomes_no_span() -> None:
    config = SelectionConfig(drop=[DropRule(paths=["/api/data"])])
    context = make_context(selection=config)
    client = identified(target="/api/data", peer_address="10.244.2.8")
    assert store([client], config, context).rows("spans") == []
    written = store([seen_from_server(client)], config, context)

    assert written.rows("spans") == []
    assert context.counters.read()["joins_stored"] == 1


def test_links_of_what_is_left_out_are_left_out() -> None:
    config = SelectionConfig(drop=[DropRule(paths=["*"])])
    rows = calls(3, trace_id=b"\x01" * 16, parent_span_id=b"\x02" * 8)
    assert store(rows, config).rows("links") == []


@given(
    asked=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 50), st.floats(0, 5)), max_size=30
    ),
    per_s=st.integers(1, 20),
)
@settings(deadline=None)
def test_no_service_gets_more_than_its_rate_and_one_second_beside(
    asked: list[tuple[str, int, float]], per_s: int
) -> None:
    budgets, now, got = Budgets(), 0.0, {"a": 0, "b": 0}
    for service, wanted, pause_s in asked:
        now += pause_s
        granted = budgets.take(service, wanted, per_s, now)
        assert 0 <= granted <= wanted
        got[service] += granted
    assert all(count <= per_s * (now + 1) + 1e-6 for count in got.values())


def test_no_more_services_are_remembered_than_there_is_room_for() -> None:
    budgets = Budgets()
    for number in range(MAX_SERVICES + 10):
        budgets.take(str(number), 1, 1, 0.0)
    assert len(budgets) == MAX_SERVICES
