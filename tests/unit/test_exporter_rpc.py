"""HTTP/2 and gRPC exchanges as spans: service and method, and whose fault a status is."""

import pytest

from farcall_exporter.batches import build_batch
from support_exporter import FakeWriter, Row, decoded, exchange, make_context

pytestmark = pytest.mark.unit

OUT = "203.0.113.10"


def one_span(row: Row) -> Row:
    writer = FakeWriter()
    writer.write(build_batch(decoded([row], "exchanges"), make_context()), token="t")
    [span] = writer.rows("spans")
    return span


def grpc(**changes: object) -> Row:
    call = {
        "protocol": "grpc",
        "operation": "POST",
        "target": "/shop.Cart/AddItem",
        "content_type": "application/grpc",
        "rpc_status": "0",
    }
    return exchange(**{**call, **changes})


def test_a_grpc_call_is_named_by_service_and_method() -> None:
    row = grpc(rpc_status="5", message="no such cart")
    span = one_span(row)
    attributes = span["SpanAttributes"]

    assert span["SpanName"] == "shop.Cart/AddItem"
    assert (span["StatusCode"], span["StatusMessage"]) == ("Error", "no such cart")
    assert {key: value for key, value in attributes.items() if key.startswith("rpc.")} == {
        "rpc.system": "grpc",
        "rpc.service": "shop.Cart",
        "rpc.method": "AddItem",
        "rpc.grpc.status_code": "5",
    }
    assert attributes["error.type"] == "NOT_FOUND"
    assert (attributes["network.protocol.name"], attributes["network.protocol.version"]) == (
        "http",
        "2",
    )
    sizes = attributes["http.request.size"], attributes["http.response.size"]
    assert sizes == (str(row["request_bytes"]), str(row["response_bytes"]))


@pytest.mark.parametrize(
    ("role", "status", "error", "expected"),
    [
        (0, "0", None, None),
        (0, None, None, None),  # a connection joined late: not known, so not said
        (0, "1", None, "CANCELLED"),
        (1, "5", None, None),  # the caller's mistake
        (1, "14", None, "UNAVAILABLE"),
        (0, None, "CANCEL", "CANCEL"),
        (1, None, "reset", "reset"),
    ],
)
def test_a_grpc_call_fails_by_its_status_as_its_side_sees_it(
    role: int, status: str | None, error: str | None, expected: str | None
) -> None:
    row = grpc(role=role, rpc_status=status, error=error, peer_address=OUT)
    span = one_span(row)

    assert span["SpanAttributes"].get("error.type") == expected
    assert span["StatusCode"] == ("Error" if expected else "Unset")
    assert span["SpanAttributes"].get("rpc.grpc.status_code") == status


def test_http2_is_http_of_version_2() -> None:
    span = one_span(exchange(protocol="http2", status=503))

    assert span["SpanName"] == "GET /api/data"
    assert span["SpanAttributes"]["network.protocol.version"] == "2"
    assert span["SpanAttributes"]["error.type"] == "503"
    assert "rpc.system" not in span["SpanAttributes"]
