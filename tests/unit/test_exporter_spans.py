"""Exchanges as spans: sides, names, kinds, status, attributes of the registry alone, links, evidence."""

import pytest

from farcall.attributes import REGISTRY
from farcall.exchange import ExchangeFlag
from farcall.rows import TABLES
from farcall_exporter.batches import build_batch
from farcall_exporter.spans import mask_path, span_name
from support_exporter import (
    BOOT,
    NS,
    T0,
    WATCHED,
    FakeWriter,
    Row,
    decoded,
    exchange,
    identified,
    make_context,
    redis_exchange,
    seen_from_server,
    who,
)

pytestmark = pytest.mark.unit

OUT, IN, OTHER_OUT, LOOP = "203.0.113.10", "10.244.0.15", "198.51.100.7", "127.0.0.1"


def build(*rows: Row, kind: str = "exchanges", **settings: object) -> FakeWriter:
    writer = FakeWriter()
    context = make_context(**settings)  # type: ignore[arg-type]
    writer.write(build_batch(decoded(rows, kind), context), token="t")  # type: ignore[arg-type]
    return writer


def one_span(**changes: object) -> Row:
    [span] = build(exchange(**changes)).rows("spans")
    return span


@pytest.mark.parametrize(
    ("role", "local", "peer", "side"),
    [
        (0, IN, OUT, "Client"),
        (0, IN, "10.96.0.10", "Client"),
        (0, LOOP, LOOP, "Client"),
        (0, "::1", "::1", "Client"),
        (0, OUT, IN, None),  # the server's sight is the span
        (0, OUT, LOOP, None),
        (0, OTHER_OUT, OUT, "Client"),  # a machine beyond the CIDRs: nobody else reports it
        (1, IN, OUT, "Server"),
        (1, IN, "10.244.9.9", "waits"),
        (1, LOOP, LOOP, "waits"),
        (1, OTHER_OUT, IN, "waits"),
        (1, OTHER_OUT, OUT, "waits"),
    ],
)
def test_which_sight_is_the_span(role: int, local: str, peer: str, side: str | None) -> None:
    writer = build(exchange(role=role, local_address=local, peer_address=peer))

    kinds = [s["SpanKind"] for s in writer.rows("spans")]
    waits = ["waits" for _ in writer.rows("sights")]
    assert kinds + waits == ([side] if side else [])


def test_a_call_from_outside_is_a_server_side_span_of_the_called_service() -> None:
    server = exchange(
        role=1,
        peer_address=OTHER_OUT,
        peer_port=5555,
        local_port=8080,
        service="shop",
        host="shop.example.com:80",
    )
    client = exchange(local_address=OTHER_OUT, peer_address="10.244.0.5")
    [span] = build(server, client).rows("spans")

    attributes = span["SpanAttributes"]
    assert (span["IsServerSpan"], attributes["metoro.is_server_span"]) == (True, "true")
    assert (attributes["client.address"], attributes["client.port"]) == (OTHER_OUT, "5555")
    assert (attributes["server.address"], attributes["server.port"]) == ("shop.example.com", "8080")
    assert (span["DestinationLabel"], attributes["farcall.destination.kind"]) == ("shop", "service")


def test_the_attribute_is_absent_on_client_side_spans() -> None:
    span = one_span()
    assert "metoro.is_server_span" not in span["SpanAttributes"]
    assert "client.address" not in span["SpanAttributes"]


@pytest.mark.parametrize(
    ("role", "status", "error", "flags", "code", "error_type"),
    [
        (0, 200, None, 0, "Unset", None),
        (0, 399, None, 0, "Unset", None),
        (0, 400, None, 0, "Error", "400"),
        (0, 503, None, 0, "Error", "503"),
        (1, 404, None, 0, "Unset", None),
        (1, 500, None, 0, "Error", "500"),
        (0, None, "reset", 0, "Error", "reset"),
        (0, None, None, ExchangeFlag.NO_RESPONSE, "Error", "no_response"),
        (0, 200, "reset", 0, "Error", "reset"),
    ],
)
def test_http_status(
    role: int, status: int | None, error: str | None, flags: int, code: str, error_type: str | None
) -> None:
    peer = OUT if role == 0 else OTHER_OUT
    span = one_span(role=role, status=status, error=error, flags=int(flags), peer_address=peer)

    assert (span["StatusCode"], span["SpanAttributes"].get("error.type")) == (code, error_type)
    assert span["SpanAttributes"].get("http.response.status_code") == (
        str(status) if status else None
    )


def test_a_connection_that_nobody_reads_is_named_by_its_tls_handshake() -> None:
    plain = {"protocol": "tcp", "operation": None, "target": None, "status": None, "query": None}
    named, bare = build(
        exchange(**plain, host="pay.example.com", alpn="h2", request_bytes=10, response_bytes=20),
        exchange(**plain, host=None, peer_address=OTHER_OUT),
    ).rows("spans")

    assert named["SpanName"] == bare["SpanName"] == "TCP"
    attributes = named["SpanAttributes"]
    assert attributes["farcall.destination.name"] == "pay.example.com"
    assert attributes["farcall.name.source"] == "sni"
    assert attributes["tls.client.server_name"] == "pay.example.com"
    assert attributes["farcall.tls.alpn"] == "h2"
    assert [attributes[f"farcall.tcp.{end}_bytes"] for end in ("client", "server")] == ["10", "20"]
    assert bare["SpanAttributes"]["farcall.destination.name"] == "Unknown External Service"


@pytest.mark.parametrize("local", [IN, OUT, "0.0.0.0"])
def test_a_connect_that_failed_is_its_clients_span_whatever_the_clients_address(local: str) -> None:
    """Nobody else saw it; a client that found no route has no address."""
    flags = ExchangeFlag.UNCONNECTED | ExchangeFlag.NO_RESPONSE
    nothing = {"protocol": "tcp", "target": None, "status": None, "request_bytes": 0, "response_bytes": 0}  # fmt: skip
    (span,) = build(
        exchange(
            **nothing,
            operation="connect",
            error="connection_refused",
            flags=int(flags),
            local_address=local,
            peer_address="10.244.9.9",
        )
    ).rows("spans")

    assert (span["SpanName"], span["SpanKind"], span["StatusCode"]) == (
        "connect",
        "Client",
        "Error",
    )
    assert span["SpanAttributes"]["error.type"] == "connection_refused"


def test_redis() -> None:
    error, batch_row = (
        redis_exchange(error="WRONGTYPE"),
        redis_exchange(operation="SET", batch_size=16),
    )
    lost = redis_exchange(error="reset")
    spans = build(error, batch_row, lost).rows("spans")

    attributes = spans[0]["SpanAttributes"]
    assert (spans[0]["SpanName"], spans[0]["StatusCode"]) == ("GET", "Error")
    assert attributes["db.response.status_code"] == attributes["error.type"] == "WRONGTYPE"
    assert (attributes["db.system.name"], attributes["db.query.text"]) == ("redis", "GET ?")
    assert "http.request.method" not in attributes
    assert spans[1]["SpanAttributes"]["db.operation.batch.size"] == "16"
    assert "db.response.status_code" not in spans[2]["SpanAttributes"]
    assert spans[2]["SpanAttributes"]["error.type"] == "reset"


@pytest.mark.parametrize(
    ("path", "masked"),
    [
        ("/", "/"),
        ("/api/v1/items", "/api/v1/items"),
        ("/orders/17", "/orders/{id}"),
        ("/u/275ecb36-5aa8-4c2a-9c47-d8bb681b9aff/x", "/u/{id}/x"),
        ("/blob/4c01db0b339c", "/blob/{id}"),
        ("/t/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "/t/{id}"),
        ("/deadbeef/facade", "/deadbeef/facade"),  # words without a digit
        ("/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/…"),
        ("", ""),
    ],
)
def test_a_spans_name_has_few_values(path: str, masked: str) -> None:
    assert mask_path(path) == masked


def test_span_names() -> None:
    assert span_name("http", "GET", "/orders/17") == "GET /orders/{id}"
    assert span_name("http", "GET", None) == "GET"
    assert span_name("http", None, "/x") == "HTTP /x"
    assert span_name("redis", None, None) == "REDIS"
    assert len(span_name("http", "GET", "/" + "a" * 500)) == 100


def test_flags_scheme_and_connection() -> None:
    flags = ExchangeFlag.TLS | ExchangeFlag.CUT | ExchangeFlag.LATE
    span = one_span(flags=int(flags), connection_id=2**63 + 5)

    assert span["SpanAttributes"]["farcall.flags"] == "cut,late"
    assert span["SpanAttributes"]["url.scheme"] == "https"
    assert (
        span["ConnectionId"]
        == span["SpanAttributes"]["farcall.connection.id"]
        == f"{BOOT}:{2**63 + 5}"
    )


def test_whose_end_it_is_goes_to_the_resource() -> None:
    span = one_span(
        pod="cart-1", namespace="shop", container="app", container_id="4c01", pod_uid="u"
    )

    assert span["ResourceAttributes"] == {
        "service.name": "cart",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "cart-1",
        "k8s.pod.uid": "u",
        "k8s.container.name": "app",
        "k8s.node.name": "node-1",
        "container.id": "4c01",
        "process.pid": "4711",
        "process.executable.name": "python3",
    }


def test_every_key_is_in_the_registry_and_every_value_in_its_list() -> None:
    client = identified(
        pod="p", query="a=?", user_agent="curl", content_type="text/plain", error="reset"
    )
    writer = build(
        client,
        seen_from_server(client),
        exchange(),
        exchange(host="a.example.com", flags=0xFFFF & ~ExchangeFlag.COPY),
        redis_exchange(
            bound_name="a.example.com", bound_answered=T0 - 2 * NS, batch_size=3, error="ERR"
        ),
        exchange(role=1, peer_address=OTHER_OUT),
        exchange(peer_address="2001:db8::1"),
        *[exchange(protocol=p, operation="publish", target="a") for p in ("kafka", "nats", "amqp")],
    )
    spans = writer.rows("spans")
    assert len(spans) == 9
    for span in spans:
        for key, value in {**span["SpanAttributes"], **span["ResourceAttributes"]}.items():
            assert key in REGISTRY
            assert not REGISTRY[key].values or value in REGISTRY[key].values
            assert REGISTRY[key].type != "int" or value.isdigit()


def test_a_traceparent_becomes_a_link_and_the_span_keeps_its_own_ids() -> None:
    traced = exchange(trace_id=b"\xab" * 16, parent_span_id=b"\xcd" * 8, sequence=1)
    writer = build(
        exchange(sequence=2),
        traced,
        exchange(trace_id=bytes(16), parent_span_id=b"\xcd" * 8, sequence=3),
        exchange(trace_id=b"\xab" * 16, parent_span_id=bytes(8), sequence=4),
        exchange(trace_id=b"\xab" * 16, sequence=5),
    )
    spans = writer.rows("spans")
    assert [s["Links.TraceId"] for s in spans] == [[], ["ab" * 16], [], [], []]
    [link] = writer.rows("links")
    assert link == {
        "Timestamp": T0,
        "EbpfTraceId": spans[1]["TraceId"],
        "EbpfSpanId": spans[1]["SpanId"],
        "OtelTraceId": "ab" * 16,
        "OtelSpanId": "cd" * 8,
        "Method": "traceparent",
    }
    assert spans[1]["TraceId"] != "ab" * 16
    assert spans[1]["ParentSpanId"] == ""


def test_a_tracestate_is_kept_with_the_link_that_it_belongs_to() -> None:
    traced = exchange(trace_id=b"\xab" * 16, parent_span_id=b"\xcd" * 8, trace_state="rojo=1")
    spans = build(traced, {**traced, "sequence": 2, "trace_id": bytes(16)}).rows("spans")

    said = [s["SpanAttributes"].get("farcall.link.tracestate") for s in spans]
    assert said == ["rojo=1", None]
    assert [s["TraceState"] for s in spans] == ["", ""]  # of their own traces


def test_a_link_says_which_header_named_its_trace() -> None:
    traced = exchange(trace_id=b"\xab" * 16, parent_span_id=b"\xcd" * 8)
    writer = build(
        {**traced, "sequence": 1, "flags": traced["flags"] | ExchangeFlag.TRACE_B3},
        {**traced, "sequence": 2, "flags": traced["flags"] | ExchangeFlag.TRACE_JAEGER},
        {**traced, "sequence": 3},
    )

    assert [link["Method"] for link in writer.rows("links")] == ["b3", "jaeger", "traceparent"]


def test_names_in_one_batch_do_not_mix() -> None:
    """Two clients reach two names on one address (B1), and one address changes its name between connections."""
    rows = [
        redis_exchange(
            connection_id=i,
            client_key=f"c:{i % 7}",
            bound_name=f"n{i % 11}.example.com",
            bound_answered=T0 - 2 * NS,
        )
        for i in range(500)
    ]
    labels = [s["DestinationLabel"] for s in build(*rows).rows("spans")]
    assert labels == [f"n{i % 11}.example.com" for i in range(500)]


def test_a_name_expires_within_a_batch() -> None:
    rows = [
        redis_exchange(
            start=T0 + i * NS,
            bound_name="a.example.com",
            bound_answered=T0 - 8 * NS,
            connection_opened=T0 - 8 * NS,
        )
        for i in range(5)
    ]
    spans = build(*rows, ttl_s=10).rows("spans")
    assert [s["UnknownReason"] for s in spans] == ["", "", "expired", "expired", "expired"]
    assert [s["SpanAttributes"].get("farcall.name.age_s") for s in spans] == [
        "8",
        "9",
        None,
        None,
        None,
    ]


def connection(**changes: object) -> Row:
    row = who(
        time=T0,
        opened=T0 - NS,
        connection_id=7,
        role=0,
        protocol="redis",
        flags=WATCHED,
        netns=1,
        local_address="10.244.0.5",
        local_port=41_000,
        peer_address=OUT,
        peer_port=6379,
        bound_name="cache.example.com",
        bound_answered=T0 - 2 * NS,
        rivals=["other.example.com"],
    )
    return {**row, **changes}


def test_a_connection_says_how_it_was_named_and_by_which_ttl() -> None:
    rows = build(
        connection(),
        connection(bound_name=None, bound_answered=None, rivals=None),
        connection(role=1),
        kind="connections",
        ttl_s=7,
    ).rows("connections")

    assert [(r["Label"], r["NameSource"], r["UnknownReason"]) for r in rows] == [
        ("cache.example.com", "dns", ""),
        ("Unknown External Service", "", "no_dns_seen"),
        ("", "", ""),  # a server's end calls nobody
    ]
    assert rows[0]["AnsweredAt"] == T0 - 2 * NS
    assert rows[1]["AnsweredAt"] is None
    assert {r["TtlSeconds"] for r in rows} == {7}
    assert [r["Rivals"] for r in rows] == [["other.example.com"], [], ["other.example.com"]]


def test_an_answer_is_a_row_with_or_without_an_address() -> None:
    answer = who(
        time=T0,
        resolver="10.96.0.10",
        question="a.example.com",
        question_type="A",
        rcode=0,
        address=OUT,
        ttl_s=30,
        canonical_name="b.example.net",
    )
    rows = build(
        answer, {**answer, "address": None, "rcode": 3, "canonical_name": None}, kind="dns"
    ).rows("dns_answers")

    assert [(r["Address"], r["Rcode"], r["CanonicalName"]) for r in rows] == [
        (OUT, 0, "b.example.net"),
        ("", 3, ""),
    ]
    assert rows[0]["Resolver"] == "10.96.0.10"
    assert rows[0].keys() == set(TABLES["dns_answers"].names)
