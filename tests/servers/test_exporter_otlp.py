"""OTLP over the wire: applications' spans and logs are found by their trace; spans go out to another backend."""

import gzip
import http.server
import json
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from farcall.api import LogQuery
from support_exporter import NS, batch, exchange, wait_until
from support_exporter_process import ExporterProcess, running_exporter

pytestmark = pytest.mark.servers

PROTOBUF = "application/x-protobuf"


class Backend(http.server.ThreadingHTTPServer):
    """Another tracing backend: fails once, then takes everything."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, bytes]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Backend

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((self.path, gzip.decompress(body)))
        self.send_response(503 if len(self.server.requests) == 1 else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    server = Backend()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def exporter(
    tmp_path_factory: pytest.TempPathFactory, backend: Backend
) -> Iterator[ExporterProcess]:
    endpoint = f"http://127.0.0.1:{backend.server_address[1]}/"
    folder = tmp_path_factory.mktemp("exporter")
    with running_exporter(folder, otlp_out_endpoint=endpoint) as running:
        yield running


def span_request(trace: str, span: str = "b7ad6b7169203331") -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "checkout"
    now = time.time_ns() - NS
    item = resource_spans.scope_spans.add().spans.add(name="charge card", start_time_unix_nano=now)
    item.end_time_unix_nano = now + 1_000
    item.trace_id, item.span_id = bytes.fromhex(trace), bytes.fromhex(span)
    return request.SerializeToString()


def test_an_ebpf_span_and_the_otel_span_that_caused_it_are_one_trace(
    exporter: ExporterProcess,
) -> None:
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    answer = exporter.post_otlp(
        "/v1/traces", span_request(trace, span), **{"content-type": PROTOBUF}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)
    assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")
    start = time.time_ns() - NS
    row = exchange(
        start=start,
        connection_opened=start,
        service="checkout",
        host="payments.example.com",
        trace_id=bytes.fromhex(trace),
        parent_span_id=bytes.fromhex(span),
    )
    assert exporter.post_batch(batch([row])).status_code == 200

    found = exporter.reader().read_trace(trace)
    assert found is not None
    assert {s.source for s in found.spans} == {"otel", "ebpf"}
    [ebpf] = [s for s in found.spans if s.source == "ebpf"]
    assert (ebpf.effective_trace_id, ebpf.effective_span_id) == (trace, span)


def test_logs_in_json_and_gzip_are_found_by_their_trace(exporter: ExporterProcess) -> None:
    trace = "1af7651916cd43dd8448eb211c80319c"
    now = str(time.time_ns())
    records = [
        {
            "timeUnixNano": now,
            "severityNumber": 9,
            "body": {"stringValue": "order 1 paid"},
            "traceId": trace,
        },
        {
            "timeUnixNano": now,
            "body": {"stringValue": json.dumps({"msg": "order 2", "trace_id": trace})},
        },
    ]
    value = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    body = gzip.compress(json.dumps(value).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = exporter.post_otlp("/v1/logs", body, **headers)
    assert (answer.status_code, answer.json()) == (200, {})

    lines = exporter.reader().list_logs(LogQuery(trace_ids=(trace,))).items
    assert {line.body for line in lines} == {"order 1 paid", records[1]["body"]["stringValue"]}  # type: ignore[index]


def test_the_same_request_again_changes_nothing(exporter: ExporterProcess) -> None:
    trace = "2af7651916cd43dd8448eb211c80319c"
    body = span_request(trace)
    for _ in range(3):
        assert (
            exporter.post_otlp("/v1/traces", body, **{"content-type": PROTOBUF}).status_code == 200
        )
    found = exporter.reader().read_trace(trace)
    assert found is not None and found.total_spans == 1


def test_a_bad_item_is_a_partial_success_and_a_bad_request_a_status(
    exporter: ExporterProcess,
) -> None:
    headers = {"content-type": PROTOBUF}
    answer = exporter.post_otlp("/v1/traces", span_request("00" * 16), **headers)
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, partial.rejected_spans) == (200, 1)
    assert "trace ID" in partial.error_message
    cases = [
        ("/v1/traces", b"\xff\xff", headers, 400),
        ("/v1/traces", b"{", {"content-type": "application/json"}, 400),
        ("/v1/traces", b"x", {"content-type": "text/plain"}, 415),
        ("/v1/traces", b"x", {**headers, "content-encoding": "br"}, 415),
        (
            "/v1/traces",
            gzip.compress(bytes(70 << 20)),
            {**headers, "content-encoding": "gzip"},
            413,
        ),
        ("/v1/metrics", b"", headers, 404),
    ]
    for path, body, given, status in cases:
        answer = exporter.post_otlp(path, body, **given)
        assert answer.status_code == status
        if given["content-type"] == PROTOBUF:
            assert answer.headers["content-type"] == PROTOBUF
            assert answer.content[0] == 0x08
        else:
            assert answer.json()["message"]


def test_spans_go_out_to_the_other_backend(exporter: ExporterProcess, backend: Backend) -> None:
    start = time.time_ns() - NS
    row = exchange(start=start, connection_opened=start, service="outgoing", host="api.example.com")
    assert exporter.post_batch(batch([row])).status_code == 200

    def sent() -> bool:
        for path, body in backend.requests[1:]:
            request = ExportTraceServiceRequest.FromString(body)
            names = {
                a.value.string_value for r in request.resource_spans for a in r.resource.attributes
            }
            if path == "/v1/traces" and "outgoing" in names:
                return True
        return False

    wait_until(sent)


def test_a_store_that_is_down_is_a_503_in_otlps_own_words(exporter: ExporterProcess) -> None:
    exporter.store.kill()
    headers = {"content-type": PROTOBUF}
    answer = exporter.post_otlp(
        "/v1/traces", span_request("3af7651916cd43dd8448eb211c80319c"), **headers
    )
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.content[:2] == b"\x08\x0e"
    exporter.store.start()
    body = span_request("4af7651916cd43dd8448eb211c80319c")
    wait_until(lambda: exporter.post_otlp("/v1/traces", body, **headers).status_code == 200)
