"""The applications' listener: OTLP over HTTP, traces and logs, protobuf and JSON, plain or gzip.

https://opentelemetry.io/docs/specs/otlp/#otlphttp: an answer has the request's content type; an error's body is a
google.rpc.Status; what can be retried is a 503 with Retry-After.
"""

import asyncio
import hashlib
import json
import zlib
from collections.abc import Callable

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from farcall.storeport import StoreRefusedError
from farcall_exporter import metrics
from farcall_exporter.asgi import (
    Answer,
    Receive,
    RefusedError,
    Scope,
    Send,
    read_body,
    read_headers,
    send_answer,
)
from farcall_exporter.otlpin import OtlpError, Taken, parse_logs, parse_traces
from farcall_exporter.pipeline import BusyError, Pipeline

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_INFLATED_BYTES = 64 * 1024 * 1024
PROTOBUF, JSON = "application/x-protobuf", "application/json"
PATHS = ("/v1/traces", "/v1/logs")
# google.rpc.Code for the statuses that we answer with
_CODES = {400: 3, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 500: 13, 503: 14}


class OtlpApp:
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._counters = pipeline.context.counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["method"], scope["path"]) == ("GET", metrics.PATH):
            body = metrics.render_metrics(self._pipeline)
            await send_answer(
                send, Answer(status=200, body=body, content_type=metrics.CONTENT_TYPE)
            )
            return
        headers = read_headers(scope)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_json = kind != PROTOBUF
        try:
            body = await self._read(scope, receive, kind, headers.get("content-encoding", ""))
        except RefusedError as e:
            self._counters.add("otlp_refused", 1)
            answer = failure(e.status, e.detail, is_json=is_json, headers=e.headers)
        else:
            answer = await self._submit(scope["path"], body, is_json=is_json)
        await send_answer(send, answer)

    async def _read(self, scope: Scope, receive: Receive, kind: str, encoding: str) -> bytes:
        if scope["path"] not in PATHS:
            raise RefusedError(404, f"OTLP is posted to {' and '.join(PATHS)}")
        if scope["method"] != "POST":
            raise RefusedError(405, "only POST", (("allow", "POST"),))
        if kind not in (PROTOBUF, JSON):
            raise RefusedError(415, f"the content type is {PROTOBUF} or {JSON}")
        body = await read_body(scope, receive, MAX_BODY_BYTES)
        return inflate(body, encoding.strip().lower())

    async def _submit(self, path: str, body: bytes, *, is_json: bool) -> Answer:
        def job() -> Answer:
            return take_request(self._pipeline, path, body, is_json=is_json)

        try:
            future = self._pipeline.submit(job, len(body))
        except BusyError:
            self._counters.add("otlp_busy", 1)
            return failure(503, "the exporter's queue is full", is_json=is_json, headers=RETRY)
        answer = await asyncio.wrap_future(future)
        if answer.status == 503:  # the pipeline's own words are for agents
            self._counters.add("otlp_busy", 1)
            return failure(503, "the store is not available", is_json=is_json, headers=RETRY)
        if answer.status == 500:
            return failure(500, "the exporter failed", is_json=is_json)
        return answer


def take_request(pipeline: Pipeline, path: str, body: bytes, *, is_json: bool) -> Answer:
    """Runs on the pipeline's thread: parse, commit, answer. Raises StoreError when nothing could be written."""
    counters = pipeline.context.counters
    try:
        taken = PARSERS[path](body, is_json=is_json)
    except OtlpError as e:
        counters.add("otlp_refused", 1)
        return failure(400, str(e), is_json=is_json)
    if taken.table.num_rows:
        # A sender's retry has the same bytes, so the same token, and changes nothing.
        token = f"otlp:{hashlib.blake2b(body, digest_size=16).hexdigest()}"
        try:
            pipeline.commit({taken.table_name: taken.table}, token)
        except StoreRefusedError as e:
            counters.add("otlp_refused", 1)
            return failure(400, f"the store refused it: {e}", is_json=is_json)
    counters.add(COUNTS[path], taken.table.num_rows)
    counters.add("otlp_rejected_lost", taken.rejected)
    return success(path, taken, is_json=is_json)


RETRY = (("retry-after", "2"),)
COUNTS = {"/v1/traces": "otlp_spans", "/v1/logs": "otlp_logs"}


def _parse_traces(body: bytes, *, is_json: bool) -> Taken:
    return parse_traces(body, is_json=is_json)


def _parse_logs(body: bytes, *, is_json: bool) -> Taken:
    return parse_logs(body, is_json=is_json)


PARSERS: dict[str, Callable[..., Taken]] = {
    "/v1/traces": _parse_traces,
    "/v1/logs": _parse_logs,
}


def inflate(body: bytes, encoding: str) -> bytes:
    """Raises RefusedError. A bomb costs at most the limit."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise RefusedError(415, "the content encoding is gzip or none")
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = stream.decompress(body, MAX_INFLATED_BYTES + 1)
    except zlib.error as e:
        raise RefusedError(400, "the body is not gzip") from e
    if len(plain) > MAX_INFLATED_BYTES:
        raise RefusedError(413, f"the body inflates to more than {MAX_INFLATED_BYTES} bytes")
    if not stream.eof:
        raise RefusedError(400, "the gzip body is cut short")
    return plain


def success(path: str, taken: Taken, *, is_json: bool) -> Answer:
    if not is_json:
        body = _trace_success(taken) if path == "/v1/traces" else _log_success(taken)
        return Answer(status=200, body=body, content_type=PROTOBUF)
    name = "rejectedSpans" if path == "/v1/traces" else "rejectedLogRecords"
    partial = {name: str(taken.rejected), "errorMessage": taken.why}
    value = {"partialSuccess": partial} if taken.rejected else {}
    return Answer(status=200, body=json.dumps(value).encode(), content_type=JSON)


def _trace_success(taken: Taken) -> bytes:
    response = ExportTraceServiceResponse()
    if taken.rejected:
        response.partial_success.rejected_spans = taken.rejected
        response.partial_success.error_message = taken.why
    return bytes(response.SerializeToString())


def _log_success(taken: Taken) -> bytes:
    response = ExportLogsServiceResponse()
    if taken.rejected:
        response.partial_success.rejected_log_records = taken.rejected
        response.partial_success.error_message = taken.why
    return bytes(response.SerializeToString())


def failure(
    status: int, detail: str, *, is_json: bool, headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """A google.rpc.Status {1: code, 2: message}; the message stays below 16 kB, so its length is at most two bytes."""
    code, message = _CODES.get(status, 2), detail[:512]
    if is_json:
        body = json.dumps({"code": code, "message": message}).encode()
        return Answer(status=status, body=body, content_type=JSON, headers=headers, detail=message)
    text = message.encode()
    body = bytes([0x08, code, 0x12]) + _varint(len(text)) + text
    return Answer(status=status, body=body, content_type=PROTOBUF, headers=headers, detail=message)


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80, value >> 7])
