"""Spans out by OTLP: what is sent, what is tried again, what is dropped and counted."""

import gzip
import threading
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from farcall.effective import ExporterConfig
from farcall_exporter import otlpout
from farcall_exporter.batches import Tables, build_batch
from farcall_exporter.counters import Counters
from farcall_exporter.otlpout import OtlpOut, Reply
from support_exporter import T0, decoded, exchange, make_context, wait_until

pytestmark = pytest.mark.unit


def tables(count: int = 3) -> Tables:
    rows = [
        exchange(
            sequence=i,
            service=f"s{i % 2}",
            trace_id=b"\1" * 16,
            parent_span_id=b"\2" * 8,
            trace_state="rojo=1",
            status=500,
        )
        for i in range(count)
    ]
    return build_batch(decoded(rows), make_context())


class Backend:
    """Answers with the given replies, then with 200."""

    def __init__(self, replies: Sequence[Reply] = ()) -> None:
        self.replies = list(replies)
        self.bodies: list[bytes] = []

    def __call__(self, body: bytes) -> Reply:
        self.bodies.append(body)
        return self.replies.pop(0) if self.replies else Reply(200)


def run(post: Callable[[bytes], Reply]) -> tuple[OtlpOut, Counters]:
    counters = Counters()
    out = OtlpOut(ExporterConfig(), counters, post=post)
    out.start()
    return out, counters


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlpout, "FIRST_PAUSE_S", 0.001)


def test_spans_are_sent_by_resource_with_types_and_links() -> None:
    backend = Backend()
    out, counters = run(backend)
    out.offer(tables())
    wait_until(lambda: counters.read()["otlp_out_spans"] == 3)
    out.stop()

    request = ExportTraceServiceRequest.FromString(gzip.decompress(backend.bodies[0]))
    assert len(request.resource_spans) == 2
    span = request.resource_spans[0].scope_spans[0].spans[0]
    attributes = {a.key: a.value for a in span.attributes}
    assert attributes["http.response.status_code"].int_value == 500
    assert attributes["server.address"].string_value == "203.0.113.10"
    assert [link.trace_state for link in span.links] == ["rojo=1"]
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (T0, T0 + 5_000_000)
    assert (len(span.trace_id), len(span.span_id), span.kind, span.status.code) == (16, 8, 3, 2)
    assert [link.trace_id for link in span.links] == [b"\1" * 16]


def test_what_can_be_retried_is_tried_again() -> None:
    backend = Backend([Reply(503), Reply(429, 0.001), Reply(0), Reply(502)])
    out, counters = run(backend)
    out.offer(tables())
    wait_until(lambda: counters.read()["otlp_out_spans"] == 3)
    out.stop()

    assert (len(set(backend.bodies)), counters.read()["otlp_out_retries"]) == (1, 4)


@pytest.mark.parametrize("replies", [[Reply(400)], [Reply(503)] * otlpout.MAX_TRIES])
def test_what_is_refused_or_fails_for_too_long_is_dropped_and_counted(replies: list[Reply]) -> None:
    backend = Backend(replies)
    out, counters = run(backend)
    out.offer(tables())
    wait_until(lambda: counters.read()["otlp_out_dropped"] == 3)
    out.offer(tables())
    wait_until(lambda: counters.read()["otlp_out_spans"] == 3)
    out.stop()


def test_a_full_queue_drops_and_counts_and_never_waits() -> None:
    gate = threading.Event()

    def stuck(_body: bytes) -> Reply:
        gate.wait(60)
        return Reply(200)

    out, counters = run(stuck)
    offered = tables()
    for _ in range(otlpout.MAX_TABLES + 10):
        out.offer(offered)
    assert counters.read()["otlp_out_dropped"] >= 9 * 3
    gate.set()
    out.stop()
    read = counters.read()
    assert read["otlp_out_dropped"] + read["otlp_out_spans"] == (otlpout.MAX_TABLES + 10) * 3


def test_without_an_endpoint_nothing_happens() -> None:
    counters = Counters()
    out = OtlpOut(ExporterConfig(), counters)
    out.start()
    out.offer(tables())
    out.stop()
    assert counters.read()["otlp_out_dropped"] == 0


@pytest.mark.parametrize(("rejected", "sent", "lost"), [(2, 1, 2), (9, 0, 3), (-1, 3, 0)])
def test_what_a_backend_takes_a_part_of_is_counted_and_not_sent_again(
    rejected: int, sent: int, lost: int
) -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = "too old"
    backend = Backend([Reply(200, body=answer.SerializeToString())])
    out, counters = run(backend)
    out.offer(tables(3))
    wait_until(
        lambda: counters.read()["otlp_out_spans"] + counters.read()["otlp_out_rejected_lost"]
    )
    out.stop()

    read = counters.read()
    assert (read["otlp_out_spans"], read["otlp_out_rejected_lost"]) == (sent, lost)
    assert len(backend.bodies) == 1


def test_an_answer_that_is_no_protobuf_is_a_success_all_the_same() -> None:
    out, counters = run(Backend([Reply(200, body=b"<html>ok</html>")]))
    out.offer(tables(3))
    wait_until(lambda: counters.read()["otlp_out_spans"] == 3)
    out.stop()
