"""OTLP requests → rows of spans and logs. Bytes in, tables out; no I/O. Not the hot path: plain Python per record.

An item that cannot be stored is rejected alone and counted in the partial success; a request that cannot be read is
an OtlpError.
"""

import base64
import binascii
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from farcall.rows import LOGS, SPANS, TableName
from farcall_exporter.decode import MAX_TIME_NS
from farcall_exporter.otlpvalues import (
    MAX_BODY_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    Pairs,
    find_trace,
    hex_id,
    render_attributes,
    render_value,
    to_plain,
)

MAX_ITEMS = 65_536
MAX_EVENTS = 128  # of one span, links likewise
UNKNOWN_SERVICE = "unknown_service"  # as the semantic conventions say
_KINDS = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
_STATUSES = ("Unset", "Ok", "Error")
# SeverityText when a sender gave only the number: OTLP's ranges of four.
_SEVERITIES = ("", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_ID_KEYS = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})

Row = tuple[Any, ...]


class OtlpError(ValueError):
    """The request cannot be read; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    table_name: TableName
    table: pa.Table
    rejected: int
    why: str  # of the last rejected item


def parse_traces(body: bytes, *, is_json: bool) -> Taken:
    request = _parse(ExportTraceServiceRequest(), body, is_json=is_json)
    rows: list[Row] = []
    rejected, why = 0, ""
    for resource_spans in request.resource_spans:
        resource = render_attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                problem = _check_span(span) or _check_room(rows)
                if problem:
                    rejected, why = rejected + 1, problem
                else:
                    rows.append(_span_row(span, scope_spans.scope, resource))
    return Taken(table_name="spans", table=_table(rows, SPANS), rejected=rejected, why=why)


def parse_logs(body: bytes, *, is_json: bool, clock_ns: Callable[[], int] = time.time_ns) -> Taken:
    request = _parse(ExportLogsServiceRequest(), body, is_json=is_json)
    rows: list[Row] = []
    rejected, why = 0, ""
    now_ns = clock_ns()
    for resource_logs in request.resource_logs:
        resource = render_attributes(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                problem = _check_time(record.time_unix_nano) or _check_room(rows)
                if problem:
                    rejected, why = rejected + 1, problem
                else:
                    rows.append(_log_row(record, scope_logs.scope, resource, now_ns))
    return Taken(table_name="logs", table=_table(rows, LOGS), rejected=rejected, why=why)


def _parse(request: Any, body: bytes, *, is_json: bool) -> Any:
    try:
        if is_json:
            _parse_json(request, body)
        else:
            request.ParseFromString(body)
    except (DecodeError, json_format.ParseError, ValueError, RecursionError) as e:
        raise OtlpError(f"the body is not an OTLP request: {str(e)[:256]}") from e
    return request


def _parse_json(request: Message, body: bytes) -> None:
    """OTLP's JSON is protobuf's, but for IDs in hex instead of base64."""
    value = json.loads(body)
    if not isinstance(value, dict):
        raise OtlpError("the body is not a JSON object")
    json_format.ParseDict(_ids_to_base64(value), request, ignore_unknown_fields=True)


def _ids_to_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_ids_to_base64(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _hex_to_base64(item)
        if key in _ID_KEYS and isinstance(item, str)
        else _ids_to_base64(item)
        for key, item in value.items()
    }


def _hex_to_base64(text: str) -> str:
    try:
        return base64.b64encode(bytes.fromhex(text)).decode("ascii")
    except (ValueError, binascii.Error) as e:
        raise OtlpError(f"{text[:40]!r} is not an ID in hex") from e


def _check_room(rows: list[Row]) -> str:
    return f"the request holds more than {MAX_ITEMS} items" if len(rows) >= MAX_ITEMS else ""


def _check_time(time_ns: int) -> str:
    return "" if 0 <= time_ns <= MAX_TIME_NS else "a time lies beyond the year 2100"


def _check_span(span: Any) -> str:
    if not hex_id(span.trace_id, 16) or not hex_id(span.span_id, 8):
        return "a span has no valid trace ID and span ID"
    if span.start_time_unix_nano == 0:
        return "a span has no start time"
    return _check_time(span.start_time_unix_nano) or _check_time(span.end_time_unix_nano)


def _pick(words: tuple[str, ...], index: int) -> str:
    return words[index] if 0 <= index < len(words) else words[0]


def _service(resource: Pairs) -> str:
    return dict(resource).get("service.name") or UNKNOWN_SERVICE


def _span_row(span: Any, scope: Any, resource: Pairs) -> Row:
    start = span.start_time_unix_nano
    events = [e for e in span.events[:MAX_EVENTS] if not _check_time(e.time_unix_nano)]
    links = [link for link in span.links[:MAX_EVENTS] if hex_id(link.trace_id, 16)]
    return (
        start,
        span.trace_id.hex(),
        span.span_id.hex(),
        hex_id(span.parent_span_id, 8),
        span.trace_state[:MAX_VALUE_CHARACTERS],
        span.name[:MAX_VALUE_CHARACTERS],
        _pick(_KINDS, span.kind),
        _service(resource),
        resource,
        scope.name[:MAX_VALUE_CHARACTERS],
        scope.version[:MAX_VALUE_CHARACTERS],
        render_attributes(span.attributes),
        max(span.end_time_unix_nano - start, 0),
        _pick(_STATUSES, span.status.code),
        span.status.message[:MAX_VALUE_CHARACTERS],
        "otel",
        "",
        "",
        False,
        "",
        [event.time_unix_nano for event in events],
        [event.name[:MAX_VALUE_CHARACTERS] for event in events],
        [render_attributes(event.attributes) for event in events],
        [link.trace_id.hex() for link in links],
        [hex_id(link.span_id, 8) for link in links],
    )


def _log_row(record: Any, scope: Any, resource: Pairs, now_ns: int) -> Row:
    observed = record.observed_time_unix_nano
    if observed == 0 or _check_time(observed):
        observed = now_ns
    attributes = render_attributes(record.attributes)
    body = _render_body(record.body)
    trace, span = hex_id(record.trace_id, 16), hex_id(record.span_id, 8)
    if not trace:
        trace, span = find_trace(body, attributes)
    number = min(max(int(record.severity_number), 0), 24)
    return (
        record.time_unix_nano or observed,
        observed,
        trace,
        span,
        record.flags & 0xFF,
        record.severity_text[:MAX_VALUE_CHARACTERS] or _SEVERITIES[(number + 3) // 4],
        number,
        _service(resource),
        body,
        record.event_name[:MAX_VALUE_CHARACTERS],
        resource,
        scope.name[:MAX_VALUE_CHARACTERS],
        attributes,
    )


def _render_body(value: Any) -> str:
    if value.WhichOneof("value") == "string_value":
        return str(value.string_value)[:MAX_BODY_CHARACTERS]
    if value.WhichOneof("value") in ("kvlist_value", "array_value"):
        return json.dumps(to_plain(value), ensure_ascii=False)[:MAX_BODY_CHARACTERS]
    return render_value(value)


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
