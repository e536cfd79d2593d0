"""A farcall that the demo's checks can be shown: spans in, answers out, as the API would give them."""

from dataclasses import dataclass, field, replace

from farcall.api import LogLine, LogPage, LogQuery, Span, SpanPage, SpanQuery, Status, Trace
from farcall.rundir import RunDir
from farcall_demo.view import View
from support_api import SPAN, STATUS


@dataclass(slots=True)
class Shown:
    """Answers `service:NAME` queries, and knows nothing else of the search language."""

    spans: list[Span] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    traces: dict[str, Trace] = field(default_factory=dict)
    status: Status = STATUS

    def list_spans(self, query: SpanQuery) -> SpanPage:
        service = query.q.removeprefix("service:")
        return SpanPage(items=tuple(span for span in self.spans if span.service == service))

    def list_logs(self, query: LogQuery) -> LogPage:
        return LogPage(items=tuple(x for x in self.lines if x.trace_id in query.trace_ids))

    def read_trace(self, trace_id: str) -> Trace:
        return self.traces[trace_id]

    def read_status(self) -> Status:
        return self.status


def show(run_dir: RunDir, *spans: Span) -> View:
    return View(run_dir=run_dir, client=Shown(spans=list(spans)), since_ns=0)


def make_span(service: str, **changes: object) -> Span:
    """A client-side eBPF span to 203.0.113.10; `attributes` are laid over its own."""
    attributes = {
        "network.peer.address": "203.0.113.10",
        "server.address": "api.example.com",
        "farcall.name.source": "http",
    }
    given = changes.pop("attributes", {})
    assert isinstance(given, dict)
    span = replace(SPAN, service=service, attributes={**attributes, **given}, links=())
    return replace(span, **changes)  # type: ignore[arg-type]  # names and types are the test's business
