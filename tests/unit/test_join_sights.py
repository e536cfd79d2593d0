"""Two sights of one call are one span: same batch, either order, split and glued requests, restarts, late clients."""

from collections.abc import Sequence

import pytest

from farcall.exchange import ExchangeFlag
from farcall_exporter.chores import restore_sights
from support_exporter import (
    BOOT,
    IDENTITY,
    NS,
    OTHER_BOOT,
    T0,
    WATCHED,
    Row,
    identified,
    seen_from_server,
)
from support_join import Exporter

pytestmark = pytest.mark.unit

IS_SERVER = "metoro.is_server_span"


def joined(span: Row) -> tuple[str | None, str | None]:
    attributes = span["SpanAttributes"]
    return attributes.get("farcall.join"), attributes.get("farcall.server.service.name")


def one_client_span(spans: Sequence[Row]) -> Row:
    assert [(s["SpanKind"], s["IsServerSpan"]) for s in spans] == [("Client", False)]
    assert IS_SERVER not in spans[0]["SpanAttributes"]
    return spans[0]


def test_in_one_batch() -> None:
    exporter = Exporter()
    client = identified()
    exporter.take(seen_from_server(client, pod="inventory-5f"), client)
    exporter.wait(60)

    span = one_client_span(exporter.spans)
    assert joined(span) == ("exact", "inventory")
    assert span["SpanAttributes"]["farcall.server.duration_ns"] == "4000000"
    assert span["SpanAttributes"]["farcall.server.pod.name"] == "inventory-5f"
    assert span["DestinationLabel"] == "inventory"
    assert exporter.rows("sights") == []


def test_server_first() -> None:
    exporter = Exporter()
    client = identified()
    exporter.take(seen_from_server(client))
    exporter.wait(2)
    exporter.take(client)
    exporter.wait(60)

    assert joined(one_client_span(exporter.spans)) == ("exact", "inventory")
    assert [row["State"] for row in exporter.rows("sights")] == ["waiting", "joined"]
    assert exporter.writer.waiting_sights() == []


def test_client_first_is_mended_by_overlays() -> None:
    exporter = Exporter()
    client = identified()
    exporter.take(client)
    exporter.wait(2)
    exporter.take(seen_from_server(client, pod="inventory-5f"))
    exporter.wait(60)

    span = one_client_span(exporter.spans)
    [join] = exporter.rows("joins")
    assert (join["TraceId"], join["SpanId"]) == (span["TraceId"], span["SpanId"])
    assert join["Timestamp"] == span["Timestamp"]
    assert join["Attributes"] == {
        "farcall.join": "exact",
        "farcall.server.duration_ns": "4000000",
        "farcall.server.service.name": "inventory",
        "farcall.server.pod.name": "inventory-5f",
    }
    [late] = exporter.rows("late_names")  # its label was the bare address
    assert (late["SpanId"], late["DestinationLabel"]) == (span["SpanId"], "inventory")


def test_a_host_that_no_answer_bears_out_gives_way_to_the_servers_name() -> None:
    exporter = Exporter()
    early, late = identified(host="bank.example.com"), identified(host="bank.example.com")
    exporter.take(early, seen_from_server(early))
    exporter.take({**late, "request_seq": late["request_seq"] + 500})
    exporter.take(seen_from_server({**late, "request_seq": late["request_seq"] + 500}))

    here, stored = exporter.spans
    assert here["DestinationLabel"] == "inventory"
    assert here["SpanAttributes"]["server.address"] == "bank.example.com"
    assert here["SpanAttributes"]["farcall.name.source"] == "server"
    [mended] = exporter.rows("late_names")
    assert (mended["SpanId"], mended["DestinationLabel"]) == (stored["SpanId"], "inventory")


def test_a_host_that_an_answer_bears_out_is_not_replaced_by_the_servers_name() -> None:
    exporter = Exporter()
    client = identified(
        host="stock.shop.svc",
        bound_name="stock.shop.svc.cluster.local",
        bound_answered=T0 - 2 * NS,
        connection_opened=T0 - NS,
    )
    exporter.take(client)
    exporter.take(seen_from_server(client))

    assert one_client_span(exporter.spans)["DestinationLabel"] == "stock"
    assert exporter.rows("late_names") == []
    assert len(exporter.rows("joins")) == 1


def test_a_lonely_sight_is_kept_after_the_hold_and_says_so() -> None:
    exporter = Exporter()
    exporter.take(seen_from_server(identified()))
    exporter.wait(4.5)
    assert exporter.spans == []
    exporter.wait(1)

    [span] = exporter.spans
    assert (span["SpanKind"], span["IsServerSpan"], span["ServiceName"]) == (
        "Server",
        True,
        "inventory",
    )
    assert span["SpanAttributes"][IS_SERVER] == "true"
    assert span["SpanAttributes"]["farcall.join"] == "none"
    assert [row["State"] for row in exporter.rows("sights")] == ["waiting", "kept"]


def test_a_kept_sight_keeps_its_link_to_the_otel_trace() -> None:
    exporter = Exporter()
    exporter.take(seen_from_server(identified(trace_id=b"\1" * 16, parent_span_id=b"\2" * 8)))
    assert exporter.rows("links") == []
    exporter.wait(6)

    [link], [span] = exporter.rows("links"), exporter.spans
    assert (link["EbpfSpanId"], link["OtelTraceId"]) == (span["SpanId"], "01" * 16)


def test_a_client_that_comes_after_its_sight_was_kept_makes_no_second_span() -> None:
    exporter = Exporter()
    client = identified()
    exporter.take(seen_from_server(client))
    exporter.wait(6)
    exporter.take(client, identified(seq=9_000))

    assert [s["SpanKind"] for s in exporter.spans] == ["Server", "Client"]  # the other call's
    assert exporter.context.counters.read()["client_sights_late_lost"] == 1


def test_waiting_sights_outlive_the_exporter() -> None:
    before = Exporter()
    client = identified()
    before.take(seen_from_server(client), seen_from_server(identified(seq=2_000)))

    after = Exporter()
    after.writer.waiting = [*before.writer.waiting_sights(), ("zz", "{}"), ("0" * 24, "not JSON")]
    restore_sights(after.pipeline)
    after.take(client)
    after.hear(BOOT, reported_ns=T0 + 10 * NS)
    after.wait(6)

    assert [(s["SpanKind"], joined(s)[0]) for s in after.spans] == [
        ("Client", "exact"),
        ("Server", "none"),
    ]
    assert after.context.counters.read()["sights_restored"] == 2
    assert after.context.counters.read()["sights_unreadable_lost"] == 2


def test_a_server_that_reads_one_write_in_pieces_joins_all_of_them_by_overlap() -> None:
    exporter = Exporter()
    client = identified(seq=1_000, request_bytes=400)
    pieces = [
        seen_from_server(client, request_seq=1_000 + 100 * i, request_bytes=100, sequence=i)
        for i in range(4)
    ]
    exporter.take(pieces[1], client, pieces[0])
    exporter.take(pieces[2], pieces[3])
    exporter.wait(60)

    assert joined(one_client_span(exporter.spans))[0] == "exact"
    assert [j["Attributes"]["farcall.join"] for j in exporter.rows("joins")] == ["overlap"] * 2
    assert exporter.context.counters.read()["sights_kept"] == 0


def test_a_first_request_glued_to_the_handshake_joins_by_overlap() -> None:
    exporter = Exporter()
    client = identified(seq=1_080, request_bytes=200)
    exporter.take(client, seen_from_server(client, request_seq=1_000, request_bytes=280))

    assert joined(one_client_span(exporter.spans))[0] == "overlap"


def test_waiting_sights_join_by_overlap_as_well() -> None:
    exporter = Exporter()
    client = identified(seq=1_080, request_bytes=200)
    exporter.take(seen_from_server(client, request_seq=1_000, request_bytes=280))
    exporter.take(client)
    exporter.wait(60)

    assert joined(one_client_span(exporter.spans))[0] == "overlap"


def test_byte_ranges_meet_across_the_wrap_of_the_sequence_space() -> None:
    exporter = Exporter()
    client = identified(seq=2**32 - 50, request_bytes=200)
    exporter.take(client, seen_from_server(client, request_seq=20, request_bytes=100))

    assert joined(one_client_span(exporter.spans))[0] == "overlap"


@pytest.mark.parametrize(
    "protocol",
    [
        {"protocol": "http2"},
        {"protocol": "grpc"},
        {"protocol": "kafka", "flags": int(ExchangeFlag.TLS) | IDENTITY},
    ],
)
def test_of_requests_that_lie_between_each_other_only_equal_places_are_joined(
    protocol: Row,
) -> None:
    """The bytes of a long upload are not those behind its headers."""
    exporter = Exporter()
    upload = identified(seq=1_000, **{"request_bytes": 5_000_000, **protocol})
    other = identified(seq=90_000, connection_id=2, **{"request_bytes": 5_000_000, **protocol})
    exporter.take(upload, seen_from_server(other))
    exporter.take(seen_from_server(upload))
    exporter.wait(60)

    assert [j["Attributes"]["farcall.join"] for j in exporter.rows("joins")] == ["exact"]
    assert sorted(joined(span)[0] or "" for span in exporter.spans) == ["", "none"]


@pytest.mark.parametrize(
    "change",
    [
        {"isn_client": 12},
        {"isn_server": 23},
        {"request_seq": 1_120},  # the next request's first byte
        {"request_seq": 700},
        {"start": T0 + 60 * NS},  # the same numbers 4 GiB later
        {"start": T0 - 60 * NS},
    ],
)
def test_what_differs_in_one_part_of_the_key_is_not_joined(change: Row) -> None:
    for order in (1, -1):
        exporter = Exporter()
        client = identified()
        server = seen_from_server(client, **change)
        for row in (client, server)[::order]:
            exporter.take(row)
        exporter.take(
            identified(seq=50_000, connection_id=3), seen_from_server(identified(seq=60_000))
        )

        assert all(joined(span) == (None, None) for span in exporter.spans)
        assert exporter.rows("joins") == []


def test_keep_alive_exchanges_are_joined_one_to_one() -> None:
    exporter = Exporter()
    clients = [
        identified(seq=1_000 + 120 * i, sequence=i, start=T0 + i * NS // 100, target=f"/n/{i}")
        for i in range(200)
    ]
    servers = [seen_from_server(c, duration_ns=1_000 + i) for i, c in enumerate(clients)]
    exporter.take(*clients[:150], *servers[:50])
    exporter.take(*servers[50:], *clients[150:])
    exporter.wait(60)

    assert len(exporter.spans) == 200
    durations = {
        s["SpanAttributes"]["url.path"]: s["SpanAttributes"].get("farcall.server.duration_ns")
        for s in exporter.spans
    }
    by_span = {s["SpanId"]: s["SpanAttributes"]["url.path"] for s in exporter.spans}
    for join in exporter.rows("joins"):
        durations[by_span[join["SpanId"]]] = join["Attributes"]["farcall.server.duration_ns"]
    assert durations == {f"/n/{i}": str(1_000 + i) for i in range(200)}


def test_both_exporters_derive_the_same_ids_from_the_key() -> None:
    client = identified()
    one, other = Exporter(), Exporter()
    one.take(client)
    other.take(seen_from_server(client), boot=OTHER_BOOT)
    other.wait(6)

    assert one.spans[0]["TraceId"] == other.spans[0]["TraceId"]
    assert one.spans[0]["SpanId"] == other.spans[0]["SpanId"]


def test_without_identity_ids_come_from_the_agents_boot_and_are_never_equal() -> None:
    exporter = Exporter()
    rows = [
        identified(flags=WATCHED, sequence=i, connection_id=c) for i in range(20) for c in range(20)
    ]
    exporter.take(*rows)
    exporter.take(*rows, boot=OTHER_BOOT)

    assert (
        len({s["SpanId"] for s in exporter.spans})
        == len({s["TraceId"] for s in exporter.spans})
        == 800
    )


def test_a_call_whose_ends_have_no_identity_is_still_one_span() -> None:
    for missing in ((0, IDENTITY), (IDENTITY, 0), (0, 0)):
        exporter = Exporter()
        client = identified()
        exporter.take({**client, "flags": WATCHED | missing[0]})
        exporter.take(seen_from_server(client, flags=WATCHED | missing[1]))
        exporter.wait(10)

        one_client_span(exporter.spans)
        assert exporter.context.counters.read()["sights_unproven_lost"] == 1
        assert exporter.writer.waiting_sights() == []


def test_a_call_through_a_service_whose_client_could_not_read_its_identity_is_one_span() -> None:
    exporter = Exporter()
    client = identified()
    exporter.take({**client, "flags": WATCHED, "peer_address": "10.244.99.9", "peer_port": 80})
    exporter.take(seen_from_server(client))
    exporter.wait(10)

    one_client_span(exporter.spans)
    assert exporter.context.counters.read()["sights_unproven_lost"] == 1


def test_a_server_beyond_the_cidrs_that_an_agent_sees_makes_no_second_span() -> None:
    """Its client is inside, so it is remembered by nobody: what is called outside has no sight as a rule."""
    exporter = Exporter()
    client = {**identified(), "peer_address": "203.0.113.10"}
    exporter.take(client)
    exporter.take(seen_from_server(client))
    exporter.wait(10)

    one_client_span(exporter.spans)
    assert [row["Attributes"]["farcall.join"] for row in exporter.rows("joins")] == ["exact"]
