"""The search language against the engine: what it finds, and that the engine takes whatever compiles."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farcall.api import LogQuery, SpanQuery
from farcall.storeport import QuerySyntaxError, Reader
from farcall_store import open_reader, open_writer
from support_store import build_table, log_line, running_store, span, span_id, trace_id

pytestmark = pytest.mark.servers

NOW = time.time_ns() - 60 * 1_000_000_000

SPANS = [
    span(NOW, trace_id(1), span_id(1), SpanName="GET /orders", ServiceName="shop", Duration=150_000_000, StatusCode="Error",
         StatusMessage="boom", DestinationLabel="api.example.com", IsServerSpan=True, SpanKind="Server",
         SpanAttributes={"http.response.status_code": "503", "url.path": "/orders/7", "k": "a=b", "farcall.destination.kind": "external"},
         ResourceAttributes={"k8s.pod.name": "shop-1"}),
    span(NOW + 1, trace_id(1), span_id(2), ParentSpanId=span_id(1), SpanName="SET", ServiceName="cart", Duration=900_000,
         DestinationLabel="Unknown External Service", UnknownReason="no_dns_seen",
         SpanAttributes={"http.response.status_code": "200", "size": "12.5", "farcall.server.duration_ns": "800000"}),
    span(NOW + 2, trace_id(2), span_id(3), SpanName="checkout", ServiceName="cart", Source="otel", SpanKind="Internal", StatusCode="Ok"),
]  # fmt: skip

LOGS = [
    log_line(NOW, "Connection refused by 10.0.0.7:6379 (attempt 3)", SeverityNumber=17, LogAttributes={"user.id": "u1", "n": "5"}),
    log_line(NOW + 1, "connection accepted; user-42 logged in", ServiceName="cart", LogAttributes={"user.id": "u2", "n": "50"}),
    log_line(NOW + 2, "timeout=30s path=/api/v1/orders", SeverityNumber=13, EventName="slow", ResourceAttributes={"host": "h 1"}),
    log_line(NOW + 3, "Größe überschritten: 100% {brace} \\N 'quoted' \"double\"", SeverityNumber=5, TraceId=trace_id(1), SpanId=span_id(1)),
]  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with running_store(tmp_path_factory.mktemp("store")) as store:
        writer = open_writer(store.url, password=store.password("writer"))
        writer.write(
            {"spans": build_table("spans", SPANS), "logs": build_table("logs", LOGS)}, token="1"
        )
        yield open_reader(store.url, password=store.password("reader"))


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("", {1, 2, 3}),
        ("orders", {1}),
        ("ORDERS", {1}),
        ("order", set()),
        ("order*", {1}),
        ("boom", {1}),
        ('"GET /orders"', {1}),
        ("cart", {2, 3}),
        ("-cart", {1}),
        ("orders OR checkout", {1, 3}),
        ("service:cart", {2, 3}),
        ("service:c*t", {2, 3}),
        ("service:Cart", set()),
        ("-service:cart", {1}),
        ("service:cart source:otel", {3}),
        ("NOT (service:cart source:otel)", {1, 2}),
        ('name:"GET /orders"', {1}),
        ("name:/^(GET|SET)/", {1, 2}),
        ("status:error", {1}),
        ("status:OK", {3}),
        ("kind:server", {1}),
        ("is:server", {1}),
        ("is:client", {2}),
        ("is:root", {1, 3}),
        ("is:error", {1}),
        ("is:unknown", {2}),
        ("is:external", {1}),
        ("is:linked", set()),
        ("unknown:no_dns_seen", {2}),
        ("unknown:*", {2}),
        ("unknown:expired", set()),
        ("destination:api.example.com", {1}),
        ("destination:*.example.com", {1}),
        ('destination:"Unknown External Service"', {2}),
        ("duration>100ms", {1}),
        ("duration<1ms", {2}),
        ("duration:0.5ms..1.5ms", {2, 3}),
        ("duration>=900us duration<=900us", {2}),
        ("http.response.status_code:503", {1}),
        ("http.response.status_code>=500", {1}),
        ("http.response.status_code:200..299", {2}),
        ("-http.response.status_code>=500", {2, 3}),
        ("http.response.status_code:*", {1, 2}),
        ("-http.response.status_code:*", {3}),
        ("size>12", {2}),
        ("farcall.server.duration_ns>0.5ms", {2}),
        ("url.path:/orders/7", {1}),
        ("url.path:/orders\\/\\d+/", {1}),
        ("k:a=b", {1}),
        ("k8s.pod.name:shop-1", {1}),
        (f"trace:{trace_id(1)}", {1, 2}),
        (f"span:{span_id(3)}", {3}),
        (f"parent:{span_id(1)}", {2}),
        ("/checkout|SET/", {2, 3}),
        ("/^\\/orders\\/7$/", {1}),
        ("message:boom", {1}),
        ("!!!", set()),
    ],
)
def test_spans_are_found_by(reader: Reader, q: str, found: set[int]) -> None:
    page = reader.list_spans(SpanQuery(q=q))

    assert {int(one.span_id, 16) for one in page.items} == found


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("", {0, 1, 2, 3}),
        ("connection", {0, 1}),
        ("connection refused", {0}),
        ('"Connection refused"', {0}),
        ('"refused connection"', set()),
        ("connection -refused", {1}),
        ("user-42", {1}),
        ("user-4", set()),
        ("10.0.0.7", {0}),
        ("10.0.0.7:6379", {0}),
        ("timeout=30s", {2}),
        ("/api/v1/orders", {2}),
        ("größe", {3}),
        ("ÜBERSCHRITTEN", set()),  # folding is ASCII's
        ("Größe", {3}),
        ("überschritten", {3}),
        ("100%", {3}),
        ("{brace}", {3}),
        ('"\\\\N"', {3}),
        ("'quoted'", {3}),
        ('"\\"double\\""', {3}),
        ("con*ed", {0, 1}),
        ("/refused by \\d+/", {0}),
        ("/Refused/", set()),
        ("/(?i)REFUSED/", {0}),
        ("/ logged in$/", {1}),
        ("body:/^timeout=/", {2}),
        ("message:timeout", {2}),
        ("body:*", {0, 1, 2, 3}),
        ("level:error", {0}),
        ("level>=warn", {0, 2}),
        ("level<info", {3}),
        ("level:info..warn", {1, 2}),
        ("severity:DEBUG", {3}),
        ("is:error", {0}),
        ("service:cart", {1}),
        ("event:slow", {2}),
        ("user.id:u1", {0}),
        ("user.id:u*", {0, 1}),
        ("user.id:/u[12]/", {0, 1}),
        ("-user.id:u1", {1, 2, 3}),
        ("n>5", {1}),
        ("n>=5", {0, 1}),
        ("n:1..10", {0}),
        ('host:"h 1"', {2}),
        (f"trace:{trace_id(1)}", {3}),
        (f"span:{span_id(1)}", {3}),
        ("(connection OR timeout) -level:error", {1, 2}),
    ],
)
def test_lines_are_found_by(reader: Reader, q: str, found: set[int]) -> None:
    page = reader.list_logs(LogQuery(q=q))

    assert {int(line.time_ns) - NOW for line in page.items} == found


_PIECES = st.sampled_from(
    [
        "word", "-", "(", ")", '"a phrase"', "OR", "NOT", " ", "/re.*/", "/[/", "k:", "k:*", "k:v", "k:/x/", "k>5", "n:1..2",
        "duration>1ms", "level>=warn", "service:a*", "unknown:*", "destination:x", "server.address:y", "farcall.join:*",
        "is:unknown", "is:error", f"trace:{trace_id(1)}", f"span:{span_id(1)}", "*", "é", "'", "\\", "%", "{x:Int8}", "--", "/*", ";", "\x01",
    ]
)  # fmt: skip


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.one_of(st.lists(_PIECES, max_size=12).map(" ".join), st.text(max_size=60)))
def test_the_engine_takes_every_query_that_compiles(reader: Reader, text: str) -> None:
    for ask in (
        lambda: reader.list_logs(LogQuery(q=text)),
        lambda: reader.list_spans(SpanQuery(q=text)),
        lambda: reader.list_traces(SpanQuery(q=text)),
    ):
        try:
            ask()
        except QuerySyntaxError as e:
            assert 0 <= e.position <= len(text)


_WORDS = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters='"'),
    min_size=1,
    max_size=30,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=_WORDS)
def test_a_phrase_never_finds_a_line_without_it(reader: Reader, text: str) -> None:
    quoted = '"' + text.replace("\\", "\\\\") + '"'

    for line in reader.list_logs(LogQuery(q=quoted)).items:
        assert text.lower() in line.body.lower()
