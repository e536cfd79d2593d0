"""The real OpenTelemetry collector at both ends of OTLP: it takes farcall's spans, and hands applications' spans to farcall."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from support_exporter import NS, batch, exchange, wait_until
from support_exporter_process import ExporterProcess, running_exporter
from support_ports import find_free_port
from support_repository import ROOT

pytestmark = pytest.mark.servers

BUILD = (ROOT / "tests/build-go.sh", ROOT / "tests/collector")


@contextmanager
def running_collector(folder: Path, **exporters: object) -> Iterator[tuple[str, Path]]:
    """Its OTLP over HTTP, and its log: what came is in it in full, and goes on to `exporters`."""
    program = subprocess.run(BUILD, check=True, capture_output=True, text=True).stdout.strip()
    port = find_free_port()
    config = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": {"debug": {"verbosity": "detailed"}, **exporters},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["debug", *exporters]}},
        },
    }
    file, log = folder / "collector.yaml", folder / "collector.log"
    file.write_text(yaml.safe_dump(config))
    with log.open("wb") as out:
        process = subprocess.Popen([program, "--config", f"file:{file}"], stdout=out, stderr=out)
    try:
        wait_until(lambda: "Everything is ready" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}", log
    finally:
        process.terminate()
        process.wait(60)


def test_the_collector_takes_our_spans_with_their_types_and_links(tmp_path: Path) -> None:
    with (
        running_collector(tmp_path) as (url, log),
        running_exporter(tmp_path, otlp_out_endpoint=url) as exporter,
    ):
        start = time.time_ns() - NS
        row = exchange(
            start=start,
            connection_opened=start,
            service="checkout",
            host="payments.example.com",
            status=503,
            trace_id=bytes.fromhex("0af7651916cd43dd8448eb211c80319c"),
            parent_span_id=bytes.fromhex("b7ad6b7169203331"),
        )
        assert exporter.post_batch(batch([row])).status_code == 200
        wait_until(lambda: "payments.example.com" in log.read_text())

    text = log.read_text()
    for line in (
        "service.name: Str(checkout)",
        "Kind           : Client",
        "Status code    : Error",
        "http.response.status_code: Int(503)",
        "farcall.destination.name: Str(payments.example.com)",
        "farcall.name.source: Str(http)",
        "Trace ID: 0af7651916cd43dd8448eb211c80319c",  # of its link
    ):
        assert line in text, line


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExporterProcess]:
    with running_exporter(tmp_path_factory.mktemp("exporter")) as running:
        yield running


@pytest.mark.parametrize("protocol", ["otlp", "otlp_http"])
def test_an_applications_spans_come_through_a_collector(
    exporter: ExporterProcess, tmp_path: Path, protocol: str
) -> None:
    endpoints = exporter.config.endpoints
    to = {
        "otlp": (endpoints.exporter_otlp_grpc or "").removeprefix("http://"),
        "otlp_http": endpoints.exporter_otlp_http,
    }
    forward = {protocol: {"endpoint": to[protocol], "tls": {"insecure": True}}}
    with running_collector(tmp_path, **forward) as (url, _):
        provider = TracerProvider(resource=Resource({"service.name": "checkout"}))
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
        with provider.get_tracer("shop").start_as_current_span(f"charge by {protocol}") as span:
            trace_id = f"{span.get_span_context().trace_id:032x}"
        provider.shutdown()
        found = wait_until(lambda: exporter.reader().read_trace(trace_id))

    assert [(s.name, s.source) for s in found.spans] == [(f"charge by {protocol}", "otel")]
