"""The HTTP API's shapes: what the console's pages, the command line and anybody's scripts read. Version 1.

| path | answer |
|---|---|
| GET /api/v1/traces?q=&from=&to=&limit=&cursor= | Page of TraceSummary, newest first |
| GET /api/v1/traces/{trace_id}?limit= | Trace: the first spans by start, 50,000 unless asked, at most 100,000 |
| GET /api/v1/spans?q=&from=&to=&limit=&cursor= | Page of Span, newest first |
| GET /api/v1/traces/{trace_id}/spans/{span_id} | Span |
| GET /api/v1/traces/{trace_id}/spans/{span_id}/evidence | Evidence |
| GET /api/v1/logs?q=&trace=&span=&from=&to=&limit=&cursor=&order= | Page of LogLine (`order=asc|desc`, newest first unless asked) |
| GET /api/v1/logs/histogram?q=&trace=&span=&from=&to= | LogHistogram |
| GET /api/v1/status | Status |
| GET /api/v1/openapi.json | this, for machines |

Auth: `Authorization: Bearer <api token>`, or the login cookie. Errors are RFC 9457 (`application/problem+json`: type,
title, status, detail, and `field` where one parameter is at fault, with `position` inside `q`). Integers of 64 bits travel as strings. `from` and
`to` are RFC 3339 or Unix nanoseconds; `limit` is 100 unless given, at most 1,000; `cursor` is opaque and comes from `next`.
`q` is the search language of farcall_store.search.
"""

from dataclasses import dataclass, field

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
DEFAULT_TRACE_SPANS = 50_000
MAX_TRACE_SPANS = 100_000
MAX_QUERY_LENGTH = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span with every overlay applied. `attributes` hold strings, whatever the type in the registry."""

    trace_id: str
    span_id: str
    parent_span_id: str  # "" for a root
    name: str
    kind: str  # Client | Server | Internal | Producer | Consumer | Unspecified
    start_ns: str  # Unix nanoseconds, decimal
    duration_ns: str
    service: str
    status: str  # Unset | Ok | Error
    status_message: str
    source: str  # ebpf | otel
    destination: str  # farcall.destination.name, "" when none
    unknown_reason: str
    is_server_span: bool
    attributes: dict[str, str]
    resource: dict[str, str]
    links: tuple[Link, ...]
    # The trace ID that logs carry: its own traceparent's, else its nearest linked ancestor's, else its own.
    effective_trace_id: str
    effective_span_id: str  # the OTel span that sent the request, else its own


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    trace_id: str
    root_name: str
    root_service: str
    destination: str  # of the root span
    start_ns: str
    duration_ns: str
    spans: int
    errors: int
    sources: tuple[str, ...]
    unknown: int  # spans to an Unknown External Service
    unknown_reasons: tuple[str, ...] = ()  # theirs, without doubles


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    trace_id: str
    effective_trace_ids: tuple[str, ...]  # what View Logs filters by
    start_ns: str
    end_ns: str
    spans: tuple[Span, ...]  # by start; eBPF spans linked to this trace included
    truncated: bool  # more spans than the reader returns
    total_spans: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    id: str  # stable within the store: keyset cursor and DOM key
    time_ns: str
    severity: str  # TRACE | DEBUG | INFO | WARN | ERROR | FATAL | ""
    severity_number: int
    service: str
    body: str
    trace_id: str
    span_id: str
    attributes: dict[str, str]
    resource: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramBucket:
    start_ns: str
    counts: dict[str, int]  # by severity


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHistogram:
    from_ns: str
    to_ns: str
    step_ns: str
    buckets: tuple[HistogramBucket, ...]
    total: int
    outside: (
        int  # lines of the same trace or query outside the window: "12 more outside this range"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsEvidence:
    """One answer that was, or could have been, behind a name."""

    time_ns: str
    client: str
    service: str
    resolver: str
    question: str
    address: str
    canonical_name: str
    used: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why a span has its name, or none: only what was true then."""

    trace_id: str
    span_id: str
    label: str
    source: str  # NameSource or ""
    confidence: str
    unknown_reason: str  # UnknownReason or ""
    rule: str  # one sentence: which rule decided
    advice: str  # one sentence: what to change, "" when nothing
    client: str
    service: str
    peer: str  # address:port
    connection_opened_ns: str  # "" when older than the agent
    span_time_ns: str
    answered_at_ns: str  # "" when no answer
    age_s: int | None
    ttl_s: int
    tier: str
    ttl_overridden: bool
    answers: tuple[DnsEvidence, ...]
    rivals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    """One agent, exporter or store as it last spoke."""

    kind: str  # agent | exporter | store
    name: str
    version: str
    seen_ns: str
    started_ns: str
    config_generation: int
    alive: bool
    capabilities: tuple[dict[str, str], ...]  # name, on, why, cost
    counters: dict[str, str]
    gauges: dict[str, float]
    config_revision: str = ""  # EffectiveConfig.revision of what it applied last


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    name: str
    version: str
    tier: str
    dns_ttl_s: int
    dns_ttl_overridden: bool
    cluster_cidrs: tuple[str, ...]
    config_generation: int
    components: tuple[ComponentStatus, ...]
    warnings: tuple[str, ...]  # sentences a person should read
    config_revision: str = ""  # EffectiveConfig.revision
    cluster_cidrs_source: str = ""  # given | discovered


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePage:
    items: tuple[TraceSummary, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanPage:
    items: tuple[Span, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    items: tuple[LogLine, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """RFC 9457."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    field: str | None = None
    position: int | None = None  # 0-based offset into `field`, where a query cannot be understood


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Half-open range of Unix nanoseconds."""

    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanQuery:
    q: str = ""
    window: Window | None = None
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    q: str = ""
    trace_ids: tuple[str, ...] = field(default_factory=tuple)  # effective IDs; any of them
    span_ids: tuple[str, ...] = field(default_factory=tuple)
    window: Window | None = None
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    ascending: bool = False
