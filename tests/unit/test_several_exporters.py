"""What one of several exporters makes of calls whose other end went to another one."""

from collections.abc import Callable
from typing import Any

import pytest

from farcall.exchange import ExchangeFlag
from farcall.storeport import StoredEnd, StoreUnavailableError
from farcall_exporter.chores import Chores
from farcall_exporter.orphans import render_run
from farcall_exporter.selfstatus import SelfStatus
from support_exporter import (  # fmt: skip
    BOOT,
    NS,
    OTHER_BOOT,
    T0,
    FakeWriter,
    Row,
    asked_for,
    batch,
    identified,
    seen_from_server,
)
from support_join import Exporter

pytestmark = pytest.mark.unit


class Peer(Exporter):
    """One of several at the same store."""

    def __init__(self, writer: FakeWriter | None = None, *, name: str = "one") -> None:
        super().__init__()
        self.writer = writer or self.writer
        self.pipeline.writer = self.writer
        self.context.peers = self.writer
        self.context.wall_ns = lambda: T0 + int((self.clock.now - 1_000) * NS)
        self.status = SelfStatus(self.pipeline, node=name)
        self.chores = Chores(self.pipeline, started_ns=0)

    def counted(self, name: str) -> int:
        return self.context.counters.read()[name]


def test_a_server_sight_finds_the_span_that_the_other_exporter_stored() -> None:
    one = Peer()
    two = Peer(one.writer)
    client = identified()
    two.take(seen_from_server(client))
    one.take(client)
    two.wait(6)

    assert [s["SpanKind"] for s in one.spans] == ["Client"]
    assert [j["Attributes"]["farcall.join"] for j in one.rows("joins")] == ["exact"]


def glued(client: Row, **more: Any) -> Row:
    """The server read the request together with the bytes before it: it has another number there."""
    return seen_from_server(
        client,
        request_seq=client["request_seq"] - 100,
        request_bytes=client["request_bytes"] + 100,
        **more,
    )


def test_a_glued_request_finds_the_span_that_the_other_exporter_stored() -> None:
    one = Peer()
    two = Peer(one.writer)
    client = identified()
    one.take(client)
    two.take(glued(client))
    two.wait(6)

    assert [s["SpanKind"] for s in one.spans] == ["Client"]
    [join], [name] = one.rows("joins"), one.rows("late_names")
    assert join["Attributes"]["farcall.join"] == "overlap"
    assert join["SpanId"] == name["SpanId"] == one.spans[0]["SpanId"]
    assert name["DestinationLabel"] == join["Attributes"]["farcall.server.service.name"]


@pytest.mark.parametrize("seen", [seen_from_server, glued])
def test_a_client_that_comes_after_the_other_exporter_kept_its_server_is_no_second_span(
    seen: Callable[[Row], Row],
) -> None:
    one = Peer()
    two = Peer(one.writer)
    client = identified()
    two.take(seen(client))
    two.wait(6)
    one.clock.now += 7
    one.take(client)

    assert [s["SpanKind"] for s in one.spans] == ["Server"]
    assert one.counted("client_sights_late_lost") == 1


def test_a_call_on_the_same_connection_is_not_the_glued_one() -> None:
    one = Peer()
    two = Peer(one.writer)
    first = identified()
    second = {**first, "request_seq": first["request_seq"] + 1_000}
    one.take(second)
    two.take(glued(first))
    two.wait(6)

    assert sorted(s["SpanKind"] for s in one.spans) == ["Client", "Server"]
    assert one.rows("joins") == []


@pytest.mark.parametrize("is_glued", [False, True])
@pytest.mark.parametrize("is_between", [False, True])
def test_ends_that_look_for_each_other_in_the_same_moment_are_no_two_spans(
    is_glued: bool, is_between: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's batch is committed just before the other exporter asks, or just after."""
    one = Peer()
    two = Peer(one.writer)
    client = identified()
    two.take(glued(client) if is_glued else seen_from_server(client))
    one.clock.now += 6
    find, is_taken = one.writer.find_ends, False

    def find_meanwhile(*asked: Any) -> list[StoredEnd]:
        nonlocal is_taken
        before = find(*asked)
        if not is_taken:
            is_taken = True
            one.take(client)
        return find(*asked) if is_between else before

    monkeypatch.setattr(one.writer, "find_ends", find_meanwhile)
    two.wait(6)

    # Where both saw each other the client's row is given up, and counted.
    assert [s["SpanKind"] for s in one.spans] == ([] if is_between else ["Server"])
    assert one.counted("client_sights_late_lost") == 1


def test_a_sight_waits_on_while_the_store_cannot_be_asked() -> None:
    one = Peer()
    two = Peer(one.writer)
    client = identified()
    two.take(seen_from_server(client))
    two.wait(4)
    one.writer.fail_with = [StoreUnavailableError("away") for _ in range(3)]
    while one.writer.fail_with:
        two.wait(1)
    one.take(client)
    two.wait(40)

    assert [s["SpanKind"] for s in one.spans] == ["Client"]
    assert len(one.rows("joins")) == 1


@pytest.mark.parametrize("edge_ns", [-1_000, 0, 1_000])
def test_ends_in_two_buckets_of_time_are_one_call(edge_ns: int) -> None:
    """The bucket is part of the span's ID (ids)."""
    edge = ((T0 >> 36) + 1) << 36
    client = identified(start=edge - 50_000 + edge_ns)
    one = Peer()
    two = Peer(one.writer)
    one.take(client)
    two.take(seen_from_server(client, start=client["start"] + 50_000))
    two.wait(6)

    assert [s["SpanKind"] for s in one.spans] == ["Client"]


def test_a_copied_row_names_the_parent_and_is_nothing_else() -> None:
    one = Peer()
    call = identified(seq=1)
    served = seen_from_server(call)
    asked = asked_for(served)
    copy: Row = {**served, "flags": served["flags"] | ExchangeFlag.COPY}
    one.take(asked)
    one.take(copy)
    one.wait(8)
    two = Peer()
    two.take(call)

    [span], [tie], [parent] = one.spans, one.rows("links"), two.spans
    assert tie["EbpfSpanId"] == span["SpanId"]
    assert (tie["OtelTraceId"], tie["OtelSpanId"]) == (parent["TraceId"], parent["SpanId"])
    assert [row["State"] for row in one.rows("sights")] == ["client"]  # of the call it sent


def test_a_parent_is_told_by_a_tie_because_its_trace_is_anothers() -> None:
    one = Peer()
    call = identified(seq=1)
    served = seen_from_server(call)
    asked = asked_for(served)
    one.take(call, served, asked)

    parent, child = sorted(one.spans, key=lambda s: str(s["Timestamp"]))
    assert child["ParentSpanId"] == parent["SpanId"]
    assert child["TraceId"] != parent["TraceId"]
    [tie] = one.rows("links")
    assert (tie["OtelTraceId"], tie["Method"]) == (parent["TraceId"], "cause")


def test_sights_of_an_exporter_that_is_gone_are_kept_by_the_first_of_the_others() -> None:
    gone = Peer(name="gone")
    gone.take(seen_from_server(identified()))
    one, two = Peer(gone.writer, name="one"), Peer(gone.writer, name="two")
    for _ in range(50):
        gone.writer.waiting = gone.writer.waiting_sights()
        for peer in (one, two):
            peer.clock.now += 2
            status = peer.status.read(peer.clock.now)
            gone.writer.statuses = [s for s in gone.writer.statuses if s.name != status.name] + [
                status
            ]
            peer.chores.run(peer.clock.now)

    assert [s["SpanKind"] for s in gone.spans] == ["Server"]
    assert (one.counted("sights_adopted"), two.counted("sights_adopted")) == (1, 0)


def test_nobody_takes_what_a_living_exporter_waits_with() -> None:
    two = Peer(name="two")
    two.take(seen_from_server(identified()))
    one = Peer(two.writer, name="one")
    two.writer.waiting = two.writer.waiting_sights()
    two.writer.statuses = [two.status.read(0.0), one.status.read(0.0)]
    one.wait(100)

    assert one.spans == []


def test_numbers_count_for_each_stream_of_an_agent() -> None:
    one = Peer()
    rows = [identified()]
    first = batch(rows, number=1, stream="aa")
    other = batch([identified(seq=2_000)], number=1, stream="bb")

    assert [one.pipeline.take_batch(b).status for b in (first, other, first)] == [200, 200, 200]
    assert len(one.spans) == 2
    one.pipeline.start()
    assert one.pipeline.stop(60)
    assert one.writer.marks == {f"{BOOT}:aa": 1, f"{BOOT}:bb": 1}
    assert OTHER_BOOT not in one.writer.marks
    assert render_run("one", 5) == "one/5"
