"""A small HTTP server that answers the API's shapes, for tests of whoever asks it. Ephemeral port, one thread per call."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from farcall.api import Evidence, Link, LogLine, Span, Status, TraceSummary

TOKEN = "t" * 32
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"

SPAN = Span(
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    parent_span_id="",
    name="GET /api/data",
    kind="Client",
    start_ns="1795591234567890123",
    duration_ns="3210000",
    service="storefront",
    status="Ok",
    status_message="",
    source="ebpf",
    destination="api.example.com",
    unknown_reason="",
    is_server_span=False,
    attributes={"farcall.name.source": "http", "network.peer.address": "203.0.113.10"},
    resource={"service.name": "storefront"},
    links=(Link(trace_id="1" * 32, span_id="2" * 16),),
    effective_trace_id="1" * 32,
    effective_span_id="2" * 16,
)
LINE = LogLine(
    id="1795591234567890123-1",
    time_ns="1795591234567890123",
    severity="INFO",
    severity_number=9,
    service="checkout",
    body="order 1 paid",
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    attributes={"order.id": "1"},
    resource={"service.name": "checkout"},
)
SUMMARY = TraceSummary(
    trace_id=TRACE_ID,
    root_name="GET /api/data",
    root_service="storefront",
    destination="api.example.com",
    start_ns=SPAN.start_ns,
    duration_ns=SPAN.duration_ns,
    spans=2,
    errors=0,
    sources=("ebpf", "otel"),
    unknown=0,
)
EVIDENCE = Evidence(
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    label="Unknown External Service",
    source="",
    confidence="",
    unknown_reason="expired",
    rule="The answer that named this connection is older than the tier keeps answers.",
    advice="set spec.dns.holdWhileConnected to keep a name for as long as its connection lives.",
    client="p:node:4711:99",
    service="cart",
    peer="203.0.113.12:6379",
    connection_opened_ns="1795591234000000000",
    span_time_ns="1795595234000000000",
    answered_at_ns="1795591233900000000",
    age_s=4000,
    ttl_s=3600,
    tier="Hobby",
    ttl_overridden=False,
    answers=(),
    rivals=(),
)
STATUS = Status(
    name="hobby",
    version="0.1.0",
    tier="Hobby",
    dns_ttl_s=3600,
    dns_ttl_overridden=False,
    cluster_cidrs=("10.244.0.0/16",),
    config_generation=1,
    components=(),
    warnings=(),
)


def make_spans(number: int) -> tuple[Span, ...]:
    """Newest first, each with its own ID."""
    return tuple(
        replace(SPAN, span_id=f"{i:016x}", start_ns=str(int(SPAN.start_ns) - i))
        for i in range(number)
    )


@dataclass(slots=True)
class Content:
    """What the server answers, and what it was asked."""

    spans: tuple[Span, ...] = (SPAN,)
    lines: tuple[LogLine, ...] = (LINE,)
    traces: tuple[TraceSummary, ...] = (SUMMARY,)
    evidence: Evidence = EVIDENCE
    status: Status = STATUS
    replies: dict[str, tuple[int, bytes]] = field(
        default_factory=dict
    )  # by path, instead of the shape
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def answer(self, path: str, parameters: dict[str, list[str]]) -> tuple[int, bytes]:
        self.asked.append((path, parameters))
        if path in self.replies:
            return self.replies[path]
        if path == "/api/v1/spans":
            return self._page(self.spans, parameters)
        if path == "/api/v1/logs":
            return self._page(self.lines, parameters)
        if path == "/api/v1/traces":
            return self._page(self.traces, parameters)
        if path == "/api/v1/status":
            return 200, json.dumps(asdict(self.status)).encode()
        if path == f"/api/v1/traces/{TRACE_ID}/spans/{SPAN_ID}/evidence":
            return 200, json.dumps(asdict(self.evidence)).encode()
        return 404, json.dumps({"title": "Not found", "status": 404, "detail": path}).encode()

    def _page(
        self,
        items: tuple[Span, ...] | tuple[LogLine, ...] | tuple[TraceSummary, ...],
        parameters: dict[str, list[str]],
    ) -> tuple[int, bytes]:
        start = int(parameters.get("cursor", ["0"])[0])
        end = start + int(parameters["limit"][0])
        following = str(end) if end < len(items) else None
        page = {"items": [asdict(item) for item in items[start:end]], "next": following}
        return 200, json.dumps(page).encode()


@contextmanager
def serve_api(content: Content) -> Iterator[str]:
    """Its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            content.tokens.append(self.headers.get("Authorization", ""))
            status, body = content.answer(url.path, parse_qs(url.query))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
