"""What `farcall spans|traces|logs|explain` shows of the API's shapes. Pure: shapes in, lines out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from farcall.api import DnsEvidence, Evidence, LogLine, Span, TraceSummary
from farcall.terminal import Column, escape_text, render_table

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """How one kind of item becomes a row. `identify` tells two items apart."""

    noun: str
    columns: tuple[Column, ...]
    row: Callable[[Any], Sequence[str]]
    identify: Callable[[Any], str]


def render_listing(listing: Listing, items: Sequence[Any], *, width: int | None) -> Iterator[str]:
    return render_table(listing.columns, [listing.row(item) for item in items], width=width)


def format_time(time_ns: str) -> str:
    """UTC, to the millisecond."""
    seconds, rest = divmod(int(time_ns), NS_PER_S)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


def format_duration(duration_ns: str) -> str:
    """Three significant places or so, in the unit that reads best."""
    ns = int(duration_ns)
    for factor, unit in ((NS_PER_S, "s"), (1_000_000, "ms"), (1_000, "µs")):
        if ns >= factor:
            return f"{ns / factor:.2f} {unit}"
    return f"{ns} ns"


def format_age(seconds: int) -> str:
    """`42 s`, `12 min`, `3.5 h` or `6.2 d`."""
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7_200:
        return f"{seconds // 60} min"
    if seconds < 172_800:
        return f"{seconds / 3_600:.4g} h"
    return f"{seconds / 86_400:.3g} d"


def name_evidence(span: Span) -> str:
    """Where the destination's name came from, or why there is none."""
    return span.unknown_reason or span.attributes.get("farcall.name.source", "")


def _span_row(span: Span) -> Sequence[str]:
    return (
        format_time(span.start_ns),
        span.service,
        "server" if span.is_server_span else span.kind.lower(),
        span.name,
        span.destination,
        name_evidence(span),
        format_duration(span.duration_ns),
        span.status,
        span.span_id,
    )


def _trace_row(trace: TraceSummary) -> Sequence[str]:
    return (
        format_time(trace.start_ns),
        trace.root_service,
        trace.root_name,
        trace.destination,
        format_duration(trace.duration_ns),
        str(trace.spans),
        str(trace.errors),
        str(trace.unknown),
        "+".join(trace.sources),
        trace.trace_id,
    )


def _log_row(line: LogLine) -> Sequence[str]:
    return (format_time(line.time_ns), line.severity, line.service, line.body, line.trace_id)


SPANS = Listing(
    noun="spans",
    columns=(
        Column(title="TIME"),
        Column(title="SERVICE", flexible=True),
        Column(title="KIND"),
        Column(title="SPAN", flexible=True),
        Column(title="DESTINATION", flexible=True),
        Column(title="NAMED BY"),
        Column(title="DURATION", right=True),
        Column(title="STATUS"),
        Column(title="SPAN ID"),
    ),
    row=_span_row,
    identify=lambda span: f"{span.trace_id}/{span.span_id}",
)
TRACES = Listing(
    noun="traces",
    columns=(
        Column(title="TIME"),
        Column(title="SERVICE", flexible=True),
        Column(title="ROOT", flexible=True),
        Column(title="DESTINATION", flexible=True),
        Column(title="DURATION", right=True),
        Column(title="SPANS", right=True),
        Column(title="ERRORS", right=True),
        Column(title="UNKNOWN", right=True),
        Column(title="FROM"),
        Column(title="TRACE ID"),
    ),
    row=_trace_row,
    identify=lambda trace: trace.trace_id,
)
LOGS = Listing(
    noun="log lines",
    columns=(
        Column(title="TIME"),
        Column(title="SEVERITY"),
        Column(title="SERVICE", flexible=True),
        Column(title="MESSAGE", flexible=True),
        Column(title="TRACE ID"),
    ),
    row=_log_row,
    identify=lambda line: line.id,
)


def render_evidence(evidence: Evidence) -> Iterator[str]:
    """The evidence as sentences, most important first."""
    for sentence in _tell_evidence(evidence):
        yield escape_text(sentence)


def _tell_evidence(evidence: Evidence) -> Iterator[str]:
    caller = evidence.service or evidence.client
    yield f"{caller} called {evidence.peer} at {format_time(evidence.span_time_ns)}."
    yield _tell_label(evidence)
    if evidence.rule:
        yield evidence.rule
    yield _tell_connection(evidence)
    yield from _tell_age(evidence)
    if evidence.rivals:
        yield f"Other names that led there: {', '.join(evidence.rivals)}."
    yield from _tell_answers(evidence.answers)
    if evidence.advice:
        yield f"What to change: {evidence.advice}"


def _tell_label(evidence: Evidence) -> str:
    if evidence.unknown_reason:
        return f"It is shown as {evidence.label}, because: {evidence.unknown_reason}."
    if not evidence.label:
        return "It has no destination to name."
    confidence = f", confidence {evidence.confidence}" if evidence.confidence else ""
    return f"It is shown as {evidence.label}, named by: {evidence.source}{confidence}."


def _tell_connection(evidence: Evidence) -> str:
    if not evidence.connection_opened_ns:
        return "The connection is older than the agent's watch."
    return f"The connection was opened at {format_time(evidence.connection_opened_ns)}."


def _tell_age(evidence: Evidence) -> Iterator[str]:
    ttl = f"{format_age(evidence.ttl_s)} ({evidence.tier} tier)"
    if evidence.ttl_overridden:
        ttl = f"{format_age(evidence.ttl_s)} (overridden for a test)"
    if evidence.answered_at_ns:
        age = "" if evidence.age_s is None else f", {format_age(evidence.age_s)} before the call"
        yield f"The DNS answer was read at {format_time(evidence.answered_at_ns)}{age}; answers are good for {ttl}."
    else:
        yield f"No DNS answer decided this; answers are good for {ttl}."


def _tell_answers(answers: Sequence[DnsEvidence]) -> Iterator[str]:
    if not answers:
        yield "No DNS answer that led to this address is known."
        return
    yield "DNS answers that led to this address:"
    for answer in answers:
        mark = "*" if answer.used else " "
        alias = f" (an alias of {answer.canonical_name})" if answer.canonical_name else ""
        yield (
            f" {mark} {format_time(answer.time_ns)}  {answer.service or answer.client} asked"
            f" {answer.resolver} for {answer.question}{alias}: {answer.address}"
        )
