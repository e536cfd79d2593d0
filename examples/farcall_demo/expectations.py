"""What must be seen of the demo's calls: one expectation per promise of the FAQ, each a question to the API.

A check looks at everything since the scenario began, not at the one span that fits: a single wrong name is a failure.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from farcall.api import Span
from farcall.attributes import IS_SERVER_SPAN
from farcall.names import UNKNOWN_EXTERNAL_SERVICE, NameSource, UnknownReason
from farcall_demo.plan import Plan
from farcall_demo.view import NS_PER_S, View

SETTLED_S = 9  # the exporter holds a server's sight for 5 s; batches and the store take the rest
TTL_SLACK_S = 1.0  # the key holds milliseconds, the tier whole seconds
SERVER_WORK_NS = 3_000_000  # apps/web.py sleeps this long


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    held: bool
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """`query` is what a person would type to see it; `rows` are the mission's."""

    name: str
    rows: str
    query: str
    must: str
    check: Callable[[View], Finding]


def list_expectations(plan: Plan) -> list[Expectation]:
    """Those that hold at any time while the workload runs."""
    storefront = of_host(plan, "storefront")
    report = of_host(plan, "report")
    cart = of_host(plan, "cart")
    inventory, frontend = of_host(plan, "inventory"), of_host(plan, "frontend")
    visitor, checkout = of_host(plan, "outside"), of_host(plan, "checkout")
    return [
        Expectation(
            name="HTTP by host name",
            rows="M1 M3",
            query=storefront,
            must="named api.example.com by the request itself",
            check=lambda view: check_named(view, storefront, "api.example.com", (NameSource.HTTP,)),
        ),
        Expectation(
            name="HTTP to a bare address",
            rows="M5 M7",
            query=report,
            must=f"{UNKNOWN_EXTERNAL_SERVICE}, {UnknownReason.NO_DNS_SEEN}, though storefront asked for it",
            check=lambda view: check_bare_address(view, report, plan.api),
        ),
        Expectation(
            name="Redis by DNS",
            rows="M4",
            query=cart,
            must="named cache.example.com by the client's own DNS answer",
            check=lambda view: check_named(
                view, cart, "cache.example.com", (NameSource.DNS, NameSource.CACHE)
            ),
        ),
        Expectation(
            name="DNS answer in Redis",
            rows="M4 M6",
            query=f"redis: EXPIRETIME fc1:a:*:{plan.cache}",
            must="expires when the tier's TTL after the answer is over",
            check=lambda view: check_cache_expiry(view, plan.cache, "cache.example.com"),
        ),
        Expectation(
            name="Call from outside",
            rows="M2 M8",
            query=inventory,
            must=f"one server-side span each, {IS_SERVER_SPAN}=true, none of the caller's side",
            check=lambda view: check_outside(view, plan.outside, inventory, visitor),
        ),
        Expectation(
            name="Call between two inside",
            rows="M8",
            query=frontend,
            must=f"one client-side span each, no {IS_SERVER_SPAN}, the server's duration joined",
            check=lambda view: check_inside(view, frontend, inventory),
        ),
        Expectation(
            name="OpenTelemetry service",
            rows="M9 M11",
            query=checkout,
            must="its call links to the OTel trace, which holds both spans and the log lines",
            check=lambda view: check_otel(view, checkout),
        ),
    ]


def of_host(plan: Plan, host: str) -> str:
    """Spans seen at that host's end, in this demo and no other that runs beside it."""
    return f"source:ebpf network.local.address:{plan.find(host).addresses[0]}"


def check_named(view: View, query: str, name: str, sources: Sequence[NameSource]) -> Finding:
    spans = [span for span in view.list_spans(query) if is_client_to_outside(span)]
    wrong = [
        span
        for span in spans
        if span.destination != name
        or span.attributes.get("farcall.name.source") not in sources
        or span.attributes.get("server.address") != name
    ]
    return judge(spans, wrong)


def check_unknown(view: View, query: str, reason: UnknownReason) -> Finding:
    spans = [span for span in view.list_spans(query) if is_client_to_outside(span)]
    wrong = [
        span
        for span in spans
        if span.destination != UNKNOWN_EXTERNAL_SERVICE or span.unknown_reason != reason
    ]
    return judge(spans, wrong)


def check_bare_address(view: View, query: str, address: str) -> Finding:
    """Without a name, although the cache knows one for the address: another client's, which says nothing of this one."""
    finding = check_unknown(view, query, UnknownReason.NO_DNS_SEEN)
    others = {key.name for key in view.list_cache_keys(address)}
    if finding.held and not others:
        return Finding(held=False, found=f"nobody has looked {address} up yet")
    return Finding(
        held=finding.held, found=f"{finding.found}; others call it {', '.join(sorted(others))}"
    )


def is_client_to_outside(span: Span) -> bool:
    peer = span.attributes.get("network.peer.address", "")
    return span.source == "ebpf" and peer.startswith("203.0.113.") and span.kind == "Client"


def judge(spans: Sequence[Span], wrong: Sequence[Span]) -> Finding:
    if not spans:
        return Finding(held=False, found="no such span yet")
    if wrong:
        return Finding(
            held=False, found=f"{len(wrong)} of {len(spans)} spans: {describe_span(wrong[0])}"
        )
    return Finding(held=True, found=f"{count(len(spans), 'span')}: {describe_span(spans[0])}")


def describe_span(span: Span) -> str:
    how = span.unknown_reason or span.attributes.get("farcall.name.source", "no source")
    return f"{span.destination or 'no destination'} ({how})"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_cache_expiry(view: View, address: str, name: str) -> Finding:
    ttl_s = view.read_config().dns.ttl_s
    keys = [key for key in view.list_cache_keys(address) if key.name == name]
    if not keys:
        return Finding(held=False, found=f"no key for {address}")
    for key in keys:
        life_s = key.expires_at - key.answered_at
        if abs(life_s - ttl_s) > TTL_SLACK_S:
            return Finding(held=False, found=f"{life_s:.0f} s instead of {ttl_s} s: {key.key}")
    return Finding(
        held=True, found=f"{count(len(keys), 'key')}, {ttl_s} s from the answer to the expiry"
    )


def check_outside(view: View, caller: str, *queries: str) -> Finding:
    calls = group_by_path(view, "/shop/", *queries)
    for path, spans in calls.items():
        span = spans[0]
        fits = (
            len(spans) == 1
            and span.is_server_span
            and span.kind == "Server"
            and span.attributes.get(IS_SERVER_SPAN) == "true"
            and span.attributes.get("client.address") == caller
        )
        if not fits:
            return Finding(held=False, found=f"{path}: {describe_sides(spans)}")
    return judge_calls(calls, f"server-side, from {caller}")


def check_inside(view: View, *queries: str) -> Finding:
    calls = group_by_path(view, "/stock/", *queries)
    for path, spans in calls.items():
        span = spans[0]
        joined = span.attributes.get("farcall.server.duration_ns", "")
        if len(spans) != 1 or span.kind != "Client" or IS_SERVER_SPAN in span.attributes:
            return Finding(held=False, found=f"{path}: {describe_sides(spans)}")
        if not joined.isdigit() or int(joined) < SERVER_WORK_NS:
            return Finding(held=False, found=f"{path}: server's duration is {joined or 'missing'}")
    return judge_calls(calls, "client-side, with the server's duration")


def group_by_path(view: View, prefix: str, *queries: str) -> dict[str, list[Span]]:
    """Spans of calls that are old enough for both sights to be in. Each call of the workload has its own path."""
    settled_ns = time.time_ns() - SETTLED_S * NS_PER_S
    calls: dict[str, list[Span]] = {}
    for query in queries:
        for span in view.list_spans(query):
            path = span.attributes.get("url.path", "")
            if (
                span.source == "ebpf"
                and path.startswith(prefix)
                and int(span.start_ns) < settled_ns
            ):
                calls.setdefault(path, []).append(span)
    return calls


def describe_sides(spans: Sequence[Span]) -> str:
    return ", ".join(f"{span.kind} span of {span.service}" for span in spans)


def judge_calls(calls: dict[str, list[Span]], what: str) -> Finding:
    if not calls:
        return Finding(held=False, found="no such call yet")
    return Finding(held=True, found=f"{count(len(calls), 'call')}: one span each, {what}")


def check_otel(view: View, query: str) -> Finding:
    """The newest linked call of which everything has arrived decides; the SDK and the agent batch on their own."""
    spans = [span for span in view.list_spans(query) if span.source == "ebpf"]
    calls = [span for span in spans if span.destination == "payments.example.com"]
    if not calls:
        return Finding(held=False, found="no call to payments.example.com yet")
    found = "none is linked to an OpenTelemetry trace"
    for span in calls:
        for link in span.links:
            missing = find_missing(view, span, link.trace_id, link.span_id)
            if missing is None:
                return Finding(held=True, found=f"trace {link.trace_id}: both spans, its log lines")
            found = missing
    return Finding(held=False, found=found)


def find_missing(view: View, span: Span, trace_id: str, parent_id: str) -> str | None:
    if span.effective_trace_id != trace_id:
        return f"effective trace ID is {span.effective_trace_id}, the link's is {trace_id}"
    trace = view.read_trace(trace_id)
    held = {(s.source, s.span_id) for s in trace.spans}
    if ("otel", parent_id) not in held or ("ebpf", span.span_id) not in held:
        return f"trace {trace_id} holds {len(held)} spans, but not both"
    if trace_id not in trace.effective_trace_ids:
        return f"trace {trace_id} does not list its own ID as effective"
    lines = view.list_logs_of(span.effective_trace_id)
    if not any(line.body.startswith("order ") and line.body.endswith(" paid") for line in lines):
        return f"trace {trace_id}: its log lines are not there"
    return None
