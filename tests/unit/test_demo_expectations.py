"""The demo's checks: each holds for what was promised, and says what is wrong otherwise."""

from pathlib import Path

import pytest

from farcall.api import Link, LogLine, Span, Trace
from farcall.names import NameSource, UnknownReason
from farcall.rundir import RunDir
from farcall_demo.expectations import (
    check_inside,
    check_named,
    check_otel,
    check_outside,
    check_unknown,
)
from farcall_demo.scenarios import check_status
from support_api import LINE
from support_demo import Shown, make_span, show

pytestmark = pytest.mark.unit
NOWHERE = RunDir(Path("/nonexistent/main"))
CALLER = "198.51.100.7"
OTEL_TRACE = "1" * 32
INSIDE = ("service:frontend", "service:inventory")


def test_a_name_holds_when_every_span_has_it() -> None:
    view = show(NOWHERE, make_span("storefront"), make_span("storefront"))

    finding = check_named(view, "service:storefront", "api.example.com", (NameSource.HTTP,))

    assert finding.held
    assert finding.found == "2 spans: api.example.com (http)"


@pytest.mark.parametrize(
    "wrong",
    [
        make_span("storefront", destination="other.example.com"),
        make_span("storefront", attributes={"farcall.name.source": "cluster"}),
        make_span("storefront", attributes={"server.address": "203.0.113.10"}),
        make_span("storefront", destination="Unknown External Service", unknown_reason="expired"),
    ],
)
def test_one_wrong_name_among_right_ones_is_a_failure(wrong: Span) -> None:
    view = show(NOWHERE, make_span("storefront"), wrong)

    finding = check_named(view, "service:storefront", "api.example.com", (NameSource.HTTP,))

    assert not finding.held
    assert finding.found.startswith("1 of 2 spans: ")


def test_nothing_seen_is_nothing_held() -> None:
    for view in (show(NOWHERE), show(NOWHERE, make_span("storefront", source="otel"))):
        finding = check_named(view, "service:storefront", "api.example.com", (NameSource.HTTP,))

        assert not finding.held
        assert finding.found == "no such span yet"


def test_unknown_needs_its_reason() -> None:
    span = make_span("report", destination="Unknown External Service", unknown_reason="no_dns_seen")

    assert check_unknown(show(NOWHERE, span), "service:report", UnknownReason.NO_DNS_SEEN).held
    assert not check_unknown(show(NOWHERE, span), "service:report", UnknownReason.EXPIRED).held
    named = make_span("report")
    assert not check_unknown(
        show(NOWHERE, span, named), "service:report", UnknownReason.NO_DNS_SEEN
    ).held


def make_outside(**changes: object) -> Span:
    attributes = {
        "url.path": "/shop/1",
        "metoro.is_server_span": "true",
        "client.address": CALLER,
        "network.peer.address": CALLER,
    }
    given = changes.pop("attributes", {})
    assert isinstance(given, dict)
    values: dict[str, object] = {"kind": "Server", "is_server_span": True, "start_ns": "1"}
    return make_span("inventory", attributes={**attributes, **given}, **{**values, **changes})


def test_a_call_from_outside_is_one_server_side_span() -> None:
    assert check_outside(
        show(NOWHERE, make_outside()), CALLER, "service:inventory", "service:visitor"
    ).held


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [make_outside(), make_outside()],
        [make_outside(), make_span("visitor", attributes={"url.path": "/shop/1"}, start_ns="1")],
        [make_outside(kind="Client", is_server_span=False)],
        [make_outside(attributes={"client.address": "10.244.100.11"})],
    ],
)
def test_anything_else_from_outside_is_a_failure(spans: list[Span]) -> None:
    assert not check_outside(
        show(NOWHERE, *spans), CALLER, "service:inventory", "service:visitor"
    ).held


def make_inside(**changes: object) -> Span:
    attributes = {"url.path": "/stock/7", "farcall.server.duration_ns": "3400000"}
    given = changes.pop("attributes", {})
    assert isinstance(given, dict)
    values = {"start_ns": "1", **changes}
    return make_span("frontend", attributes={**attributes, **given}, **values)


def test_a_call_inside_is_one_client_side_span_with_the_servers_duration() -> None:
    assert check_inside(show(NOWHERE, make_inside()), *INSIDE).held


@pytest.mark.parametrize(
    ("spans", "found"),
    [
        ([], "no such call yet"),
        ([make_inside(), make_inside()], "Client span of frontend, Client span of frontend"),
        ([make_inside(attributes={"metoro.is_server_span": "false"})], "/stock/7"),
        ([make_inside(attributes={"farcall.server.duration_ns": ""})], "missing"),
        ([make_inside(attributes={"farcall.server.duration_ns": "12"})], "12"),
        ([make_inside(kind="Server")], "Server span of frontend"),
    ],
)
def test_anything_else_inside_is_a_failure(spans: list[Span], found: str) -> None:
    finding = check_inside(show(NOWHERE, *spans), *INSIDE)

    assert not finding.held
    assert found in finding.found


def make_linked() -> tuple[Span, Shown]:
    """A linked eBPF span, and a farcall in which everything about it has arrived."""
    span = make_span(
        "checkout",
        destination="payments.example.com",
        effective_trace_id=OTEL_TRACE,
        links=(Link(trace_id=OTEL_TRACE, span_id="2" * 16),),
    )
    parent = make_span("checkout", source="otel", trace_id=OTEL_TRACE, span_id="2" * 16)
    trace = Trace(
        trace_id=OTEL_TRACE,
        effective_trace_ids=(OTEL_TRACE,),
        start_ns="1",
        end_ns="2",
        spans=(parent, span),
        truncated=False,
        total_spans=2,
    )
    line = make_line("order 1 paid")
    return span, Shown(spans=[span], lines=[line], traces={OTEL_TRACE: trace})


def make_line(body: str) -> LogLine:
    values = {name: getattr(LINE, name) for name in LogLine.__dataclass_fields__}
    return LogLine(**{**values, "body": body, "trace_id": OTEL_TRACE})


def test_a_linked_call_holds_when_trace_and_lines_are_there() -> None:
    _, shown = make_linked()
    view = show(NOWHERE)
    view.client = shown

    assert check_otel(view, "service:checkout").held


def test_a_linked_call_without_its_lines_is_a_failure() -> None:
    _, shown = make_linked()
    shown.lines = []
    view = show(NOWHERE)
    view.client = shown

    assert (
        check_otel(view, "service:checkout").found
        == f"trace {OTEL_TRACE}: its log lines are not there"
    )


def test_a_call_without_a_link_is_a_failure() -> None:
    span, _ = make_linked()
    unlinked = make_span("checkout", destination=span.destination)

    assert (
        check_otel(show(NOWHERE, unlinked), "service:checkout").found
        == "none is linked to an OpenTelemetry trace"
    )


def test_the_status_is_compared_with_what_is_expected() -> None:
    assert check_status(show(NOWHERE), overridden=False).held
    assert not check_status(show(NOWHERE), overridden=True).held
