"""OTLP requests as rows: protobuf and JSON alike, odd values bounded, bad items rejected alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from farcall.rows import TABLES
from farcall_exporter.asgi import RefusedError
from farcall_exporter.otlphttp import MAX_INFLATED_BYTES, failure, inflate
from farcall_exporter.otlpin import OtlpError, Taken, parse_logs, parse_traces
from support_exporter import T0, Row, to_rows

pytestmark = pytest.mark.unit

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def traces_json(**changes: object) -> dict[str, object]:
    span = {
        "traceId": TRACE,
        "spanId": SPAN,
        "parentSpanId": "00f067aa0ba902b7",
        "name": "place order",
        "kind": 2,
        "startTimeUnixNano": str(T0),
        "endTimeUnixNano": str(T0 + 5_000),
        "attributes": [
            {"key": "order.id", "value": {"intValue": "17"}},
            {"key": "paid", "value": {"boolValue": True}},
            {
                "key": "items",
                "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"doubleValue": 1.5}]}},
            },
        ],
        "status": {"code": 2, "message": "boom"},
        "events": [
            {
                "timeUnixNano": str(T0 + 1),
                "name": "exception",
                "attributes": [{"key": "k", "value": {"stringValue": "v"}}],
            }
        ],
        "links": [{"traceId": TRACE, "spanId": SPAN}],
        **changes,
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "checkout"}}]}
    scope = {"name": "lib", "version": "1"}
    return {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": [span]}]}]
    }


def take_json(value: object) -> Taken:
    return parse_traces(json.dumps(value).encode(), is_json=True)


def test_a_span_in_json_and_the_same_in_protobuf_are_the_same_row() -> None:
    taken = take_json(traces_json())
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "checkout"
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name, scope_spans.scope.version = "lib", "1"
    span = scope_spans.spans.add(
        name="place order", kind=2, start_time_unix_nano=T0, end_time_unix_nano=T0 + 5_000
    )  # type: ignore[arg-type]
    span.trace_id, span.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    span.parent_span_id = bytes.fromhex("00f067aa0ba902b7")
    span.attributes.add(key="order.id").value.int_value = 17
    span.attributes.add(key="paid").value.bool_value = True
    values = span.attributes.add(key="items").value.array_value.values
    values.add(string_value="a")
    values.add(double_value=1.5)
    span.status.code, span.status.message = 2, "boom"  # type: ignore[assignment]
    event = span.events.add(time_unix_nano=T0 + 1, name="exception")
    event.attributes.add(key="k").value.string_value = "v"
    span.links.add(trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN))
    [row] = to_rows(taken.table)

    assert taken.table.schema.equals(TABLES["spans"])
    assert to_rows(parse_traces(request.SerializeToString(), is_json=False).table) == [row]
    assert row["SpanAttributes"] == {"order.id": "17", "paid": "true", "items": '["a", 1.5]'}
    assert (row["ServiceName"], row["SpanKind"], row["StatusCode"], row["StatusMessage"]) == (
        "checkout",
        "Server",
        "Error",
        "boom",
    )
    assert (row["Source"], row["DestinationLabel"], row["IsServerSpan"], row["ConnectionId"]) == (
        "otel",
        "",
        False,
        "",
    )
    assert (row["Duration"], row["ParentSpanId"]) == (5_000, "00f067aa0ba902b7")
    assert (row["Events.Name"], row["Links.TraceId"]) == (["exception"], [TRACE])


@pytest.mark.parametrize(
    "change",
    [
        {"traceId": "00" * 16},
        {"traceId": "ab"},
        {"spanId": ""},
        {"startTimeUnixNano": "0"},
        {"startTimeUnixNano": str(2**63)},
        {"endTimeUnixNano": str(2**64 - 1)},
    ],
)
def test_a_span_that_cannot_be_stored_is_rejected_alone(change: Row) -> None:
    value = traces_json()
    bad = traces_json(**change)
    value["resourceSpans"] += bad["resourceSpans"]  # type: ignore[operator]
    taken = take_json(value)
    assert (taken.table.num_rows, taken.rejected) == (1, 1)
    assert taken.why


def test_a_span_that_ends_before_it_starts_lasts_nothing() -> None:
    [row] = to_rows(take_json(traces_json(endTimeUnixNano=str(T0 - 1))).table)
    assert row["Duration"] == 0


def test_unknown_words_and_fields_do_no_harm() -> None:
    value = traces_json(kind=99, status={"code": 7}, newField={"a": [1]})
    [row] = to_rows(take_json(value).table)
    assert (row["SpanKind"], row["StatusCode"]) == ("Unspecified", "Unset")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'"x"',
        b"\xff",
        b"[" * 100_000,
        b'{"resourceSpans": 5}',
        json.dumps(traces_json(traceId="xyz")).encode(),
    ],
)
def test_json_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(OtlpError):
        parse_traces(body, is_json=True)


@given(st.binary(max_size=512))
def test_any_bytes_are_rows_or_a_refusal(body: bytes) -> None:
    for parse in (parse_traces, parse_logs):
        for is_json in (False, True):
            try:
                parse(body, is_json=is_json).table.validate(full=True)
            except OtlpError:
                pass


def log_row(clock_ns: int = T0, **changes: object) -> Row:
    record = {
        "timeUnixNano": str(T0),
        "severityNumber": 9,
        "body": {"stringValue": "order 7 paid"},
        **changes,
    }
    value = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    taken = parse_logs(json.dumps(value).encode(), is_json=True, clock_ns=lambda: clock_ns)
    assert taken.table.schema.equals(TABLES["logs"])
    [row] = to_rows(taken.table)
    return row


def test_a_log_record() -> None:
    row = log_row(traceId=TRACE, spanId=SPAN, flags=0x101, observedTimeUnixNano=str(T0 + 5))
    assert (row["TraceId"], row["SpanId"], row["TraceFlags"]) == (TRACE, SPAN, 1)
    assert (row["SeverityText"], row["SeverityNumber"]) == ("INFO", 9)
    assert (row["Body"], row["ServiceName"]) == ("order 7 paid", "unknown_service")
    assert (row["Timestamp"], row["ObservedTimestamp"]) == (T0, T0 + 5)


def test_a_log_record_without_times_gets_the_observed_one_or_now() -> None:
    assert log_row(timeUnixNano="0", observedTimeUnixNano="77")["Timestamp"] == 77
    assert log_row(timeUnixNano="0", clock_ns=99)["Timestamp"] == 99


@pytest.mark.parametrize(
    ("body", "attributes", "want"),
    [
        ({"trace_id": TRACE, "span_id": SPAN}, {}, (TRACE, SPAN)),
        ({"traceId": TRACE.upper(), "msg": "x"}, {}, (TRACE, "")),
        ({}, {"trace_id": TRACE, "span_id": SPAN}, (TRACE, SPAN)),
        ({"trace_id": "not an id"}, {}, ("", "")),
        ({"trace_id": "0" * 32}, {}, ("", "")),
        ({"trace_id": 5}, {}, ("", "")),
        ({"span_id": SPAN}, {}, ("", "")),
    ],
)
def test_a_line_that_names_its_trace_itself(
    body: Row, attributes: dict[str, str], want: tuple[str, str]
) -> None:
    pairs = [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()]
    row = log_row(body={"stringValue": json.dumps(body)}, attributes=pairs)
    assert (row["TraceId"], row["SpanId"]) == want


def test_the_records_own_trace_wins_over_the_bodys() -> None:
    body = {"stringValue": json.dumps({"trace_id": "ff" * 16})}
    assert log_row(traceId=TRACE, body=body)["TraceId"] == TRACE


def test_a_structured_body_is_json_and_its_trace_is_found() -> None:
    pairs = [
        {"key": "trace_id", "value": {"stringValue": TRACE}},
        {"key": "n", "value": {"intValue": "1"}},
    ]
    row = log_row(body={"kvlistValue": {"values": pairs}})
    assert json.loads(row["Body"]) == {"trace_id": TRACE, "n": 1}
    assert row["TraceId"] == TRACE


def test_a_text_that_is_too_long_is_cut() -> None:
    assert len(log_row(body={"stringValue": "x" * 500_000})["Body"]) == 131_072
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=T0)
    for number in range(1_000):
        record.attributes.add(key=f"k{number}").value.string_value = "v"
    [row] = to_rows(parse_logs(request.SerializeToString(), is_json=False).table)
    assert len(row["LogAttributes"]) == 256


def test_gzip_is_inflated_up_to_a_limit() -> None:
    import gzip

    assert inflate(gzip.compress(b"x" * 1_000), "gzip") == b"x" * 1_000
    assert inflate(b"plain", "") == b"plain"
    for body, encoding, status in (
        (gzip.compress(bytes(MAX_INFLATED_BYTES + 1)), "gzip", 413),
        (b"no gzip", "gzip", 400),
        (gzip.compress(b"x" * 10_000)[:-20], "gzip", 400),
        (b"x", "br", 415),
    ):
        with pytest.raises(RefusedError) as caught:
            inflate(body, encoding)
        assert caught.value.status == status


def test_a_failure_is_a_google_rpc_status() -> None:
    answer = failure(400, "x" * 300, is_json=False)
    assert answer.body == b"\x08\x03\x12\xac\x02" + b"x" * 300
    assert json.loads(failure(503, "later", is_json=True).body) == {"code": 14, "message": "later"}
