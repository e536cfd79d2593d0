"""Spans out to another backend: OTLP over HTTP from a bounded queue on a thread of its own.

farcall's own spans only: applications that speak OTLP choose their backends themselves. Nothing here can hold up the
store: a full queue drops and counts.
"""

import gzip
import http.client
import queue
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from farcall.attributes import REGISTRY
from farcall.effective import ExporterConfig
from farcall.journal import get_log
from farcall.rows import TableName
from farcall.tlsfiles import PinnedAuthority, TlsFileError, find_tls_fault
from farcall_exporter.counters import Counters

log = get_log("exporter")

MAX_TABLES = 64
SPANS_A_REQUEST = 2_000  # about 2 MB before compression
TIMEOUT_S = 10
MAX_TRIES = 6
MAX_ANSWER_BYTES = 65_536
FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 30.0
_OWN_HEADERS = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
_HEADER_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*"
)  # what a Secret's key and a header's name may both be
RETRYABLE = frozenset({429, 502, 503, 504})  # the specification's list
_KINDS = {"Client": Span.SPAN_KIND_CLIENT, "Server": Span.SPAN_KIND_SERVER}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int  # 0: no answer
    retry_after_s: float | None = None
    why: str = ""  # of no answer
    body: bytes = b""  # of an answer, bounded


Post = Callable[[bytes], Reply]


class OtlpOut:
    def __init__(
        self, config: ExporterConfig, counters: Counters, *, post: Post | None = None
    ) -> None:
        self._post = post or (HttpPost(config) if config.otlp_out_endpoint else None)
        self._counters = counters
        self._tables: queue.Queue[pa.Table | None] = queue.Queue(MAX_TABLES)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-out", daemon=True)

    def start(self) -> None:
        if self._post is not None:
            self._thread.start()

    def stop(self) -> None:
        """What is on its way gets one more try; the rest is counted as dropped."""
        self._stopping.set()
        if self._thread.is_alive():
            try:
                self._tables.put_nowait(None)
            except queue.Full:
                pass  # the thread looks at the event as well
            self._thread.join(2)

    def offer(self, tables: dict[TableName, pa.Table]) -> None:
        """Called after each commit; never waits."""
        spans = tables.get("spans")
        if self._post is None or spans is None:
            return
        own = spans.filter(pc.equal(spans.column("Source").cast(pa.string()), "ebpf"))
        if not own.num_rows:
            return
        try:
            self._tables.put_nowait(own)
        except queue.Full:
            self._counters.add("otlp_out_dropped", own.num_rows)

    def _run(self) -> None:
        while True:
            table = self._tables.get()
            if table is None or self._stopping.is_set():
                break
            for start in range(0, table.num_rows, SPANS_A_REQUEST):
                self._send(table.slice(start, SPANS_A_REQUEST))
        while table is not None:
            self._counters.add("otlp_out_dropped", table.num_rows)
            table = None if self._tables.empty() else self._tables.get_nowait()

    def _send(self, table: pa.Table) -> None:
        assert self._post is not None
        body = gzip.compress(build_request(table).SerializeToString(), 1)
        pause_s = FIRST_PAUSE_S
        for attempt in range(MAX_TRIES):
            reply = self._post(body)
            if 200 <= reply.status < 300:
                self._count_sent(table.num_rows, reply.body)
                return
            if reply.status and reply.status not in RETRYABLE:
                break
            wait_s = min(reply.retry_after_s or pause_s, MAX_PAUSE_S)
            if attempt + 1 == MAX_TRIES or self._stopping.wait(wait_s):
                break
            self._counters.add("otlp_out_retries", 1)
            pause_s *= 2
        self._counters.add("otlp_out_dropped", table.num_rows)
        log.warning(
            "spans not sent by OTLP", spans=table.num_rows, status=reply.status, why=reply.why
        )

    def _count_sent(self, spans: int, body: bytes) -> None:
        """A backend may take a part, and says so in its answer; sending the rest again is forbidden by the specification."""
        rejected, why = read_partial_success(body)
        rejected = min(rejected, spans)
        self._counters.add("otlp_out_spans", spans - rejected)
        self._counters.add("otlp_out_rejected_lost", rejected)
        if rejected or why:
            log.warning("spans rejected by OTLP", spans=rejected, why=why)


class HttpPost:
    """`/v1/traces` is appended to the endpoint, as the specification says. Headers and authorities are read each time."""

    def __init__(self, config: ExporterConfig) -> None:
        endpoint = config.otlp_out_endpoint or ""
        self._url: SplitResult = urlsplit(endpoint.rstrip("/") + "/v1/traces")
        self._headers_dir = config.otlp_out_headers_dir
        self._skip_verify = config.otlp_out_skip_verify
        ca_file = config.otlp_out_ca_file
        self._authority = PinnedAuthority(ca_file) if ca_file else None

    def __call__(self, body: bytes) -> Reply:
        connection: http.client.HTTPConnection | None = None
        try:
            headers = read_headers(self._headers_dir) if self._headers_dir else {}
            connection = self._open()
            connection.request("POST", self._url.path, body, {**headers, **_OWN_HEADERS})
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES)
            return Reply(
                response.status, _seconds(response.headers.get("retry-after")), body=answer
            )
        except (OSError, http.client.HTTPException, TlsFileError, HeaderFileError) as e:
            fault = find_tls_fault(e)
            return Reply(0, why=(fault.sentence if fault else f"{type(e).__name__}: {e}")[:256])
        finally:
            if connection is not None:
                connection.close()

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._context())

    def _context(self) -> ssl.SSLContext:
        if self._skip_verify:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return context
        return self._authority.context() if self._authority else ssl.create_default_context()


def read_partial_success(body: bytes) -> tuple[int, str]:
    """(spans that the backend did not take, why); an answer that is no protobuf says nothing of it."""
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return 0, ""
    return max(partial.rejected_spans, 0), partial.error_message[:256]


class HeaderFileError(Exception):
    """A header's file cannot be used; the message names it, and never what it holds."""


def read_headers(folder: str) -> dict[str, str]:
    """One header per file, as a mounted Secret has them. Raises HeaderFileError."""
    found: dict[str, str] = {}
    for path in sorted(Path(folder).glob("[!.]*")):  # the kubelet's own links begin with a dot
        try:
            value = path.read_text(encoding="ascii").strip()
        except OSError as e:
            raise HeaderFileError(f"{path}: cannot be read: {e.strerror or e}") from e
        except UnicodeDecodeError:
            # Not chained: the codec's message and the exception's `object` hold the value.
            raise HeaderFileError(f"{path}: holds something else than ASCII text") from None
        if not _HEADER_NAME.fullmatch(path.name) or not value.isprintable():
            raise HeaderFileError(f"{path}: is no header's name, or holds more than one line")
        found[path.name.lower()] = value
    return found


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def build_request(spans: pa.Table) -> ExportTraceServiceRequest:
    """Spans grouped by resource; attributes get the type that the registry gives them."""
    request = ExportTraceServiceRequest()
    scopes: dict[tuple[tuple[str, str], ...], Any] = {}
    times = spans.column("Timestamp").cast(pa.int64()).to_pylist()
    index = spans.schema.get_field_index("Timestamp")
    for start_ns, row in zip(times, spans.remove_column(index).to_pylist(), strict=True):
        resource = tuple(row["ResourceAttributes"])
        if resource not in scopes:
            scopes[resource] = _add_scope(request, resource, row)
        _fill_span(scopes[resource].spans.add(), start_ns, row)
    return request


def _add_scope(
    request: ExportTraceServiceRequest, resource: tuple[tuple[str, str], ...], row: dict[str, Any]
) -> Any:
    resource_spans = request.resource_spans.add()
    _fill_attributes(resource_spans.resource.attributes, resource)
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name, scope_spans.scope.version = row["ScopeName"], row["ScopeVersion"]
    return scope_spans


def _fill_span(span: Any, start_ns: int, row: dict[str, Any]) -> None:
    span.trace_id, span.span_id = bytes.fromhex(row["TraceId"]), bytes.fromhex(row["SpanId"])
    span.name, span.kind = row["SpanName"], _KINDS[row["SpanKind"]]
    span.trace_state = row["TraceState"]
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, start_ns + row["Duration"]
    _fill_attributes(span.attributes, row["SpanAttributes"])
    if row["StatusCode"] == "Error":
        span.status.code = Status.STATUS_CODE_ERROR
    for trace_id, span_id in zip(row["Links.TraceId"], row["Links.SpanId"], strict=True):
        link = span.links.add()
        link.trace_id, link.span_id = bytes.fromhex(trace_id), bytes.fromhex(span_id)
        link.trace_state = dict(row["SpanAttributes"]).get("farcall.link.tracestate", "")


def _fill_attributes(target: Any, pairs: Any) -> None:
    for key, text in pairs:
        value = target.add(key=key).value
        kind = REGISTRY[key].type
        if kind == "int":
            value.int_value = int(text)
        elif kind == "bool":
            value.bool_value = text == "true"
        else:
            value.string_value = text
