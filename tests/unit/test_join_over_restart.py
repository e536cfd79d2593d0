"""A call is one span also when the exporter is replaced between its client's sight and its server's."""

import pytest

from farcall.storeport import StoreUnavailableError
from farcall_exporter.chores import Chores
from support_exporter import NS, T0, identified, seen_from_server
from support_join import Exporter

pytestmark = pytest.mark.unit


def replaced(before: Exporter) -> Exporter:
    """Another process at the same store: it remembers nothing."""
    after = Exporter()
    after.writer = after.pipeline.writer = before.writer
    after.chores = Chores(after.pipeline, started_ns=T0 + NS)
    return after


def test_a_server_sight_finds_the_clients_span_that_another_exporter_stored() -> None:
    before = Exporter()
    client = identified()
    before.take(client)
    after = replaced(before)
    after.take(seen_from_server(client, pod="inventory-5f"))
    after.wait(6)

    [span], [join] = after.spans, after.rows("joins")
    assert (span["SpanKind"], join["SpanId"], join["TraceId"]) == (
        "Client",
        span["SpanId"],
        span["TraceId"],
    )
    assert join["Timestamp"] == span["Timestamp"]
    assert join["Attributes"]["farcall.server.pod.name"] == "inventory-5f"
    assert join["Attributes"]["farcall.join"] == "exact"
    assert [row["State"] for row in after.rows("sights")] == ["waiting", "joined"]
    assert after.context.counters.read()["joins_from_store"] == 1


def test_a_sight_whose_client_nobody_stored_becomes_a_span_as_ever() -> None:
    before = Exporter()
    before.take(identified(seq=9_000))
    after = replaced(before)
    after.take(seen_from_server(identified(seq=1_000)))
    after.wait(6)

    assert [s["SpanKind"] for s in after.spans] == ["Client", "Server"]
    assert after.rows("joins") == []


def test_a_sight_waits_on_while_the_store_cannot_be_asked() -> None:
    before = Exporter()
    before.take(identified())
    after = replaced(before)
    after.take(seen_from_server(identified()))
    after.writer.fail_with = [StoreUnavailableError("it is gone")]
    after.wait(20)

    assert [s["SpanKind"] for s in after.spans] == ["Client"]
    assert after.context.counters.read()["stored_spans_unasked"] == 0


def test_what_cannot_be_asked_and_has_no_room_to_wait_is_kept_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("farcall_exporter.chores.MAX_WAITING", 0)
    before = Exporter()
    client = identified()
    before.take(client)
    after = replaced(before)
    after.take(seen_from_server(client))
    after.writer.fail_with = [StoreUnavailableError("it is gone")]
    after.wait(6)

    assert [s["SpanKind"] for s in after.spans] == ["Client", "Server"]
    assert after.context.counters.read()["stored_spans_unasked"] == 1
