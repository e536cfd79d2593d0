"""OTLP over gRPC, sent by the OpenTelemetry SDK and by hand: the same rows as over HTTP, and its own words for refusals."""

import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from farcall.api import LogQuery
from farcall_exporter.otlphttp import MAX_BODY_BYTES
from support_exporter import NS, wait_until
from support_exporter_process import ExporterProcess, running_exporter

pytestmark = pytest.mark.servers

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
RESOURCE = Resource({"service.name": "checkout"})


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExporterProcess]:
    with running_exporter(tmp_path_factory.mktemp("exporter")) as running:
        yield running


@pytest.fixture
def channel(exporter: ExporterProcess) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address(exporter), options=options) as opened:
        yield opened


def address(exporter: ExporterProcess) -> str:
    endpoint = exporter.config.endpoints.exporter_otlp_grpc
    assert endpoint is not None
    return endpoint.removeprefix("http://")


def call(channel: grpc.Channel, body: bytes, path: str = EXPORT, **options: object) -> bytes:
    answer: bytes = channel.unary_unary(path)(body, timeout=30, **options)  # type: ignore[arg-type]
    return answer


def span_request(trace_id: str, span_id: str = "b7ad6b7169203331") -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    now = time.time_ns() - NS
    item = request.resource_spans.add().scope_spans.add().spans.add(name="charge card")
    item.start_time_unix_nano, item.end_time_unix_nano = now, now + 1_000
    item.trace_id, item.span_id = bytes.fromhex(trace_id), bytes.fromhex(span_id)
    return request


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_the_sdks_spans_and_logs_are_found_by_their_trace(
    exporter: ExporterProcess, compression: grpc.Compression
) -> None:
    spans = TracerProvider(resource=RESOURCE)
    to = {"endpoint": address(exporter), "insecure": True, "compression": compression}
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(**to)))
    logs = LoggerProvider(resource=RESOURCE)
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**to)))
    with spans.get_tracer("shop").start_as_current_span("charge card") as span:
        logs.get_logger("shop").emit(
            LogRecord(timestamp=time.time_ns(), body="order paid", severity_text="INFO")
        )
    spans.shutdown()
    logs.shutdown()

    trace_id = f"{span.get_span_context().trace_id:032x}"
    found = wait_until(lambda: exporter.reader().read_trace(trace_id))
    assert [(s.name, s.service, s.source) for s in found.spans] == [
        ("charge card", "checkout", "otel")
    ]
    lines = exporter.reader().list_logs(LogQuery(trace_ids=(trace_id,))).items
    assert [line.body for line in lines] == ["order paid"]


def test_a_retry_changes_nothing_and_what_cannot_be_stored_is_told(
    exporter: ExporterProcess, channel: grpc.Channel
) -> None:
    trace_id = "2af7651916cd43dd8448eb211c80319c"
    request = span_request(trace_id)
    request.resource_spans[0].scope_spans[0].spans.add(name="without ids")
    body = request.SerializeToString()
    for _ in range(2):
        answer = ExportTraceServiceResponse.FromString(call(channel, body))
        assert answer.partial_success.rejected_spans == 1
        assert "trace" in answer.partial_success.error_message.lower()

    found = wait_until(lambda: exporter.reader().read_trace(trace_id))
    assert len(found.spans) == 1


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        (b"\xff\xff\xff", EXPORT, grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x0a" + b"\x00" * 64, EXPORT, grpc.StatusCode.INVALID_ARGUMENT),
        (b"", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", grpc.StatusCode.UNIMPLEMENTED),
        (b"\x00" * (MAX_BODY_BYTES + 1), EXPORT, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_the_next_one_is_taken(
    exporter: ExporterProcess, channel: grpc.Channel, body: bytes, path: str, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, body, path)
    assert refused.value.code() is code
    assert (
        call(channel, span_request("3af7651916cd43dd8448eb211c80319c").SerializeToString()) == b""
    )


def test_a_body_that_inflates_beyond_the_limit_is_refused(channel: grpc.Channel) -> None:
    bomb = b"\x00" * (4 * MAX_BODY_BYTES)
    assert len(gzip.compress(bomb)) < 1_000_000
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, bomb, compression=grpc.Compression.Gzip)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_store_that_is_down_is_unavailable_and_a_retry_is_taken(tmp_path: Path) -> None:
    with running_exporter(tmp_path) as running:
        with grpc.insecure_channel(address(running)) as channel:
            body = span_request("4af7651916cd43dd8448eb211c80319c").SerializeToString()
            running.store.kill()
            with pytest.raises(grpc.RpcError) as refused:
                call(channel, body)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            running.store.start()

            def is_taken() -> bool:
                try:
                    return call(channel, body) == b""
                except grpc.RpcError as e:
                    assert e.code() is grpc.StatusCode.UNAVAILABLE
                    return False

            wait_until(is_taken)
