"""Spans of NATS and AMQP messages: named by what was done and where to, with the message's size."""

from typing import Any

import pytest

from farcall_exporter.batches import build_batch
from support_exporter import FakeWriter, decoded, exchange, make_context, seen_from_server

pytestmark = pytest.mark.unit


def build(*rows: dict[str, Any]) -> FakeWriter:
    writer = FakeWriter()
    writer.write(build_batch(decoded(rows), make_context()), token="t")
    return writer


def nats_exchange(subject: str = "orders.new", **more: Any) -> dict[str, Any]:
    said = {"operation": "publish", "target": subject, "collection": subject, "host": None}
    return exchange(protocol="nats", status=None, **{**said, **more})


@pytest.mark.parametrize(
    ("operation", "subject", "sizes", "name", "kind"),
    [
        ("publish", "orders.new", (5, 0), "publish orders.new", "send"),
        ("receive", "orders.7f3a9c21", (0, 7), "receive orders.{id}", "receive"),
        ("receive", "_INBOX.x4.y", (0, 0), "receive _INBOX.{id}", "receive"),
    ],
)
def test_a_message_is_named_by_what_was_done_and_its_subject(
    operation: str, subject: str, sizes: tuple[int, int], name: str, kind: str
) -> None:
    bytes_ = {"request_bytes": sizes[0], "response_bytes": sizes[1]}
    [span] = build(nats_exchange(subject, operation=operation, **bytes_)).rows("spans")

    assert span["SpanName"] == name and span["StatusCode"] == "Unset"
    assert {k: v for k, v in span["SpanAttributes"].items() if k.startswith("messaging.")} == {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": subject,
        "messaging.message.body.size": str(sum(sizes)),
    }


def amqp_exchange(destination: str | None, key: str | None, **more: Any) -> dict[str, Any]:
    said = {"target": destination, "collection": destination, "database": key, "host": None}
    return exchange(protocol="amqp", status=None, **{"operation": "publish", **said, **more})


@pytest.mark.parametrize(
    ("operation", "destination", "name", "kind"),
    [
        ("publish", "shop:order.new", "publish shop:order.new", "send"),
        ("deliver", "shop:order.81:orders", "deliver shop:order.{id}:orders", "process"),
        ("get", "amq.gen-JzTYxBRgKO", "get amq.{id}", "receive"),
    ],
)
def test_rabbitmqs_messages_are_named_by_exchange_routing_key_and_queue(
    operation: str, destination: str, name: str, kind: str
) -> None:
    sizes = {"request_bytes": 5, "response_bytes": 0}
    [span] = build(amqp_exchange(destination, "k", operation=operation, **sizes)).rows("spans")

    assert span["SpanName"] == name and span["StatusCode"] == "Unset"
    assert span["SpanAttributes"]["network.protocol.name"] == "amqp"
    assert {k: v for k, v in span["SpanAttributes"].items() if k.startswith("messaging.")} == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": destination,
        "messaging.message.body.size": "5",
        "messaging.rabbitmq.destination.routing_key": "k",
    }


def test_what_is_asked_of_rabbitmq_moves_no_message() -> None:
    row = amqp_exchange(None, None, operation="channel.close", error="not-found")
    [span] = build(row).rows("spans")

    assert span["SpanName"] == "channel.close" and span["StatusCode"] == "Error"
    said = span["SpanAttributes"]
    assert said["error.type"] == "not-found" and "messaging.message.body.size" not in said
    assert "messaging.operation.type" not in said and "db.namespace" not in said


def test_what_a_server_refuses_has_failed() -> None:
    [span] = build(nats_exchange(operation="error", error="permissions_violation")).rows("spans")

    assert span["SpanName"] == "error orders.new" and span["StatusCode"] == "Error"
    assert span["SpanAttributes"]["error.type"] == "permissions_violation"


@pytest.mark.parametrize("operation", ["publish", "receive"])
def test_both_ends_of_a_message_are_one_span_of_the_servers_client(operation: str) -> None:
    seen = nats_exchange(operation=operation)
    [span] = build(seen, seen_from_server(seen)).rows("spans")

    assert span["SpanKind"] == "Client" and not span["IsServerSpan"]
