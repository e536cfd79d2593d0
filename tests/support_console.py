"""Help for the console's tests: a store in memory, a config with secrets, and a console process to ask.

`MemoryReader` is a hand-written fake of farcall.storeport.Reader: it knows only what it was given, and understands of
the search language no more than one word. What the language means is the store's to test.
"""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from farcall import secretfiles
from farcall.api import (
    ComponentStatus,
    DnsEvidence,
    HistogramBucket,
    LogHistogram,
    LogLine,
    LogPage,
    LogQuery,
    Span,
    SpanPage,
    SpanQuery,
    Trace,
    TracePage,
    TraceSummary,
    Window,
)
from farcall.effective import EffectiveConfig, Endpoints, write_effective
from farcall.logintoken import mint_login_token
from farcall.meaning import build_effective
from farcall.storeport import QuerySyntaxError, StoreError
from farcall.tracingconfig import TracingConfig
from support_ports import find_free_port

NS = 1_000_000_000
NOW_NS = 1_790_000_000 * NS  # a fixed moment for pure tests
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def make_span(**changes: object) -> Span:
    """A client-side Redis call named by DNS, with `changes`."""
    span = Span(
        trace_id=TRACE,
        span_id=SPAN,
        parent_span_id="",
        name="GET",
        kind="Client",
        start_ns=str(NOW_NS),
        duration_ns="1200000",
        service="checkout",
        status="Unset",
        status_message="",
        source="ebpf",
        destination="cache.example.com",
        unknown_reason="",
        is_server_span=False,
        attributes={
            "network.peer.address": "203.0.113.10",
            "network.peer.port": "6379",
            "farcall.name.source": "dns",
            "farcall.name.confidence": "exact",
            "farcall.connection.id": "boot:1",
        },
        resource={"service.name": "checkout"},
        links=(),
        effective_trace_id=TRACE,
        effective_span_id=SPAN,
    )
    return replace(span, **changes)  # type: ignore[arg-type]


def make_log(**changes: object) -> LogLine:
    line = LogLine(
        id="1",
        time_ns=str(NOW_NS),
        severity="INFO",
        severity_number=9,
        service="checkout",
        body="order placed",
        trace_id=TRACE,
        span_id=SPAN,
        attributes={"order.id": "42"},
        resource={"service.name": "checkout"},
    )
    return replace(line, **changes)  # type: ignore[arg-type]


@dataclass
class MemoryReader:
    """Reader over lists. `error` is raised by every call while it is set."""

    spans: list[Span] = field(default_factory=list)
    logs: list[LogLine] = field(default_factory=list)
    answers: list[DnsEvidence] = field(default_factory=list)
    connections: dict[str, dict[str, str]] = field(default_factory=dict)
    statuses: list[ComponentStatus] = field(default_factory=list)
    error: StoreError | None = None
    delay_s: float = 0.0
    asked: list[object] = field(default_factory=list)

    def list_traces(self, query: SpanQuery) -> TracePage:
        spans = self.list_spans(query).items
        summaries = [self._summary(t) for t in dict.fromkeys(s.trace_id for s in spans)]
        return TracePage(items=tuple(summaries))

    def read_trace(self, trace_id: str, *, limit: int = 50_000) -> Trace | None:
        self._enter(trace_id)
        spans = [s for s in self.spans if trace_id in (s.trace_id, s.effective_trace_id)]
        if not spans:
            return None
        return Trace(
            trace_id=trace_id,
            effective_trace_ids=tuple(dict.fromkeys(s.effective_trace_id for s in spans)),
            start_ns=str(min(int(s.start_ns) for s in spans)),
            end_ns=str(max(int(s.start_ns) + int(s.duration_ns) for s in spans)),
            spans=tuple(sorted(spans, key=lambda s: int(s.start_ns))[:limit]),
            truncated=len(spans) > limit,
            total_spans=len(spans),
        )

    def list_spans(self, query: SpanQuery) -> SpanPage:
        self._enter(query)
        found = [s for s in self.spans if query.q in s.name and _within(s.start_ns, query.window)]
        found.sort(key=lambda s: int(s.start_ns), reverse=True)
        first = int(query.cursor or 0)
        more = str(first + query.limit) if first + query.limit < len(found) else None
        return SpanPage(items=tuple(found[first : first + query.limit]), next=more)

    def read_span(self, trace_id: str, span_id: str) -> Span | None:
        self._enter((trace_id, span_id))
        wanted = (s for s in self.spans if (s.trace_id, s.span_id) == (trace_id, span_id))
        return next(wanted, None)

    def list_logs(self, query: LogQuery) -> LogPage:
        self._enter(query)
        found = [line for line in self._matching(query) if _within(line.time_ns, query.window)]
        found.sort(key=lambda line: int(line.time_ns), reverse=not query.ascending)
        first = int(query.cursor or 0)
        more = str(first + query.limit) if first + query.limit < len(found) else None
        return LogPage(items=tuple(found[first : first + query.limit]), next=more)

    def count_logs(self, query: LogQuery, *, buckets: int = 60) -> LogHistogram:
        self._enter(query)
        matching = self._matching(query)
        inside = [line for line in matching if _within(line.time_ns, query.window)]
        window = query.window or Window(from_ns=0, to_ns=NOW_NS)
        counts = {line.severity: 0 for line in inside}
        for line in inside:
            counts[line.severity] += 1
        return LogHistogram(
            from_ns=str(window.from_ns),
            to_ns=str(window.to_ns),
            step_ns=str(window.to_ns - window.from_ns),
            buckets=(HistogramBucket(start_ns=str(window.from_ns), counts=counts),),
            total=len(inside),
            outside=len(matching) - len(inside),
        )

    def read_answers(
        self, *, address: str, client_key: str | None, window: Window, limit: int = 50
    ) -> list[DnsEvidence]:
        self._enter((address, client_key, window))
        return [
            a
            for a in self.answers
            if a.address == address
            and client_key in (None, a.client)
            and _within(a.time_ns, window)
        ][:limit]

    def read_connection(self, connection_id: str) -> dict[str, str] | None:
        self._enter(connection_id)
        return self.connections.get(connection_id)

    def read_statuses(self) -> list[ComponentStatus]:
        self._enter("statuses")
        return self.statuses

    def _matching(self, query: LogQuery) -> list[LogLine]:
        if query.q.startswith("("):
            raise QuerySyntaxError("this bracket does not close", position=0)
        return [
            line
            for line in self.logs
            if query.q in line.body
            and (not query.trace_ids or line.trace_id in query.trace_ids)
            and (not query.span_ids or line.span_id in query.span_ids)
        ]

    def _summary(self, trace_id: str) -> TraceSummary:
        spans = [s for s in self.spans if s.trace_id == trace_id]
        root = next((s for s in spans if not s.parent_span_id), spans[0])
        return TraceSummary(
            trace_id=trace_id,
            root_name=root.name,
            root_service=root.service,
            destination=root.destination,
            start_ns=root.start_ns,
            duration_ns=root.duration_ns,
            spans=len(spans),
            errors=sum(s.status == "Error" for s in spans),
            sources=tuple(dict.fromkeys(s.source for s in spans)),
            unknown=sum(bool(s.unknown_reason) for s in spans),
        )

    def _enter(self, asked: object) -> None:
        self.asked.append(asked)
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.error is not None:
            raise self.error


def _within(time_ns: str, window: Window | None) -> bool:
    return window is None or window.from_ns <= int(time_ns) < window.to_ns


def make_config(directory: Path, *, ttl_override_s: int | None = None) -> EffectiveConfig:
    """A local Hobby config on free ports; its secrets are written below `directory`."""
    secrets_dir = directory / "secrets"
    secrets_dir.mkdir(mode=0o700)
    for name in secretfiles.ALL:
        path = secrets_dir / name
        path.write_text(secrets.token_urlsafe(32), encoding="ascii")
        path.chmod(0o600)
    resource = {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": "hobby"},
        "spec": {"tier": "Hobby"},
    }
    return build_effective(
        TracingConfig.model_validate(resource),
        mode="local",
        node="here",
        endpoints=Endpoints(
            exporter_ingest=f"http://127.0.0.1:{find_free_port()}",
            exporter_otlp_http=f"http://127.0.0.1:{find_free_port()}",
            redis=f"unix://{directory}/redis.sock",
            store=f"http://127.0.0.1:{find_free_port()}",
            console=f"http://127.0.0.1:{find_free_port()}",
        ),
        secrets_dir=str(secrets_dir),
        state_dir=str(directory / "state"),
        dns_ttl_override_s=ttl_override_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A component of ours that runs for a test."""

    name: str
    config: EffectiveConfig
    log: Path

    def secret(self, name: str) -> str:
        return secretfiles.read_secret(self.config.secrets_dir, name)

    @property
    def url(self) -> str:
        return self.config.endpoints.console

    def login_path(self) -> str:
        token = mint_login_token(self.secret(secretfiles.ADMIN_SECRET), now_s=time.time())
        return f"/login?token={token}"

    def api(self) -> httpx.Client:
        token = self.secret(secretfiles.API_TOKEN)
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {token}"})

    def browserlike(self) -> httpx.Client:
        """Keeps cookies, as a browser does."""
        return httpx.Client(base_url=self.url)


@contextmanager
def running(
    name: str, config: EffectiveConfig, directory: Path, *extra: str, deadline_s: float = 60
) -> Iterator[Process]:
    """Starts `farcall NAME` and waits until it says that it is ready; stops it by its pid."""
    file = directory / "effective.json"
    write_effective(config, file)
    ready, log = directory / f"{name}.ready", directory / f"{name}.log"
    command = [sys.executable, "-m", "farcall.commands", name, "--config", str(file)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready), *extra], stdout=output, stderr=output
        )
    try:
        until = time.monotonic() + deadline_s
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{name} did not get ready:\n{log.read_text()[-4000:]}")
            time.sleep(0.02)
        yield Process(name=name, config=config, log=log)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        ready.unlink(missing_ok=True)


def problem_of(response: httpx.Response) -> dict[str, object]:
    assert response.headers["content-type"].startswith("application/problem+json"), response.text
    body: dict[str, object] = json.loads(response.text)
    return body


def host_of(url: str) -> str:
    return urlsplit(url).netloc
