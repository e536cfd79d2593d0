"""HTTP/1 heads: whole, byte by byte, cut at every length, with bytes behind them, and any bytes at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire.http1 import HttpRequest, RequestParser, parse_lines, parse_status
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated
from farcall_probes.wire.tracecontext import parse_traceparent

pytestmark = pytest.mark.unit

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
HEAD = (
    b"POST /cart/items?sku=9&note=a%20b HTTP/1.1\r\n"
    b"hOsT: api.example.com:8443\r\n"
    b"User-Agent:  curl/8.5 \r\n"
    b"Authorization: Bearer secret\r\n"
    b"traceparent: 00-" + TRACE.encode() + b"-" + SPAN.encode() + b"-01\r\n"
    b"Content-Type: application/json\r\n"
    b"\r\n"
)


def parse(data: bytes, *, cut: bool = False) -> HttpRequest:
    request = RequestParser().parse(data, cut=cut)
    if isinstance(request, Truncated):
        request = request.partial
    assert isinstance(request, HttpRequest)
    return request


def test_a_whole_head_is_read() -> None:
    assert parse(HEAD) == HttpRequest(
        method="POST",
        path="/cart/items",
        query="sku=9&note=a%20b",
        host="api.example.com:8443",
        user_agent="curl/8.5",
        content_type="application/json",
        trace_id=bytes.fromhex(TRACE),
        parent_span_id=bytes.fromhex(SPAN),
        extra=(),
        requests=1,
    )


def test_a_head_that_grows_byte_by_byte_needs_more_until_it_is_whole() -> None:
    parser = RequestParser()
    assert {parser.parse(HEAD[:end]) for end in range(1, len(HEAD))} == {NEED_MORE}
    assert isinstance(parser.parse(HEAD), HttpRequest)


def test_a_head_that_is_cut_at_any_length_keeps_its_whole_lines_and_guesses_nothing() -> None:
    whole = parse(HEAD)
    for end in range(1, len(HEAD)):
        outcome = RequestParser().parse(HEAD[:end], cut=True)
        assert isinstance(outcome, Truncated), end
        partial = outcome.partial
        assert whole.method.startswith(partial.method)
        assert whole.path.startswith(partial.path)
        for name in ("host", "user_agent", "content_type", "trace_id", "parent_span_id"):
            assert getattr(partial, name) in (None, getattr(whole, name)), (end, name)


def test_bytes_behind_the_head_are_the_body_and_not_read() -> None:
    body = b"Host: evil.example.com\r\n\r\n"
    head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert parse(head + body) == parse(head)


def test_pipelined_requests_are_counted_behind_bodies() -> None:
    get = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
    post = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    assert parse(get * 4).requests == 4
    assert parse(post + get).requests == 2
    assert parse(get + get[:9]).requests == 2
    assert parse(get + b"\x00\x01").requests == 1
    chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert parse(chunked + get).requests == 1  # where the next begins is not known
    assert parse(get * 500).requests == 65


@pytest.mark.parametrize(
    ("line", "path", "query", "host"),
    [
        (b"GET http://a.example.com:81/x?y=1 HTTP/1.1", "/x", "y=1", "a.example.com:81"),
        (b"GET http://a.example.com HTTP/1.1", "/", None, "a.example.com"),
        (b"GET http://u:p@a.example.com?q HTTP/1.0", "/", "q", "a.example.com"),
        (b"CONNECT u:p@a.example.com:443 HTTP/1.1", "a.example.com:443", None, "a.example.com:443"),
        (b"CONNECT a.example.com:443 HTTP/1.1", "a.example.com:443", None, "a.example.com:443"),
        (b"OPTIONS * HTTP/1.1", "*", None, "header.example.com"),
        (b"GET /? HTTP/1.1", "/", "", "header.example.com"),
        (b"PURGE /x HTTP/1.1", "/x", None, "header.example.com"),
    ],
)
def test_each_form_of_target(line: bytes, path: str, query: str | None, host: str) -> None:
    request = parse(line + b"\r\nHost: header.example.com\r\n\r\n")
    assert (request.path, request.query, request.host) == (path, query, host)


def test_a_user_in_the_host_header_is_left_out() -> None:
    request = parse(b"GET / HTTP/1.1\r\nHost: me:hunter2@a.example.com:80\r\n\r\n")
    assert request.host == "a.example.com:80"


@pytest.mark.parametrize("host", ["1.2.3.4:8080", "[2001:db8::1]:80", "203.0.113.5"])
def test_an_ip_literal_stays_as_it_was_sent(host: str) -> None:
    assert parse(b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n").host == host


def test_no_host_is_none_and_an_empty_one_too() -> None:
    assert parse(b"GET / HTTP/1.0\r\n\r\n").host is None
    assert parse(b"GET / HTTP/1.1\r\nHost:\r\n\r\n").host is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        f"00-{TRACE}-{SPAN}-01-extra".encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-1".encode(),
        f"00-{TRACE[:-1]}-{SPAN}-01".encode(),
        b"\xff" * 55,
    ],
)
def test_an_invalid_traceparent_is_ignored(value: bytes) -> None:
    assert parse_traceparent(value) == (None, None)


def test_a_later_version_of_traceparent_is_read_as_far_as_we_know_it() -> None:
    ids = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    assert parse_traceparent(f"01-{TRACE}-{SPAN}-01-more".encode()) == ids
    assert parse_traceparent(f" 00-{TRACE}-{SPAN}-00\t".encode()) == ids


def test_two_traceparents_are_none() -> None:
    other = f"Traceparent: 00-{'1' * 32}-{SPAN}-01\r\n".encode()
    request = parse(HEAD.replace(b"Content-Type", other + b"Content-Type"))
    assert (request.trace_id, request.parent_span_id) == (None, None)


def test_only_allowed_headers_are_kept() -> None:
    head = HEAD.replace(b"Content-Type", b"X-Tenant: blue\r\nX-Other: red\r\nContent-Type")
    request = RequestParser(["x-tenant", "x-absent"]).parse(head)
    assert isinstance(request, HttpRequest)
    assert request.extra == (("x-tenant", "blue"),)
    assert "secret" not in str(request) and "red" not in str(request)


def test_a_header_is_found_by_its_whole_name() -> None:
    head = b"GET / HTTP/1.1\r\nX-Host: no\r\nNot: Host: no\r\nHost: yes\r\n\r\n"
    assert parse(head).host == "yes"


def test_hostile_text_is_escaped_and_bounded() -> None:
    agent = b"User-Agent: " + b"A" * 5000
    request = parse(b"GET /\xff?\x80 HTTP/1.1\r\nHost: \x00\x1b]0;x\x07\r\n" + agent + b"\r\n\r\n")
    assert request.path == "/\\xff" and request.query == "\\x80"
    assert request.host == "\\x00\\x1b]0;x\\x07"
    assert request.user_agent == "A" * 256


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\r\n\r\n",
    ],
)
def test_other_bytes_are_not_mine(data: bytes) -> None:
    assert RequestParser().parse(data) is NOT_MINE
    assert RequestParser().parse(data, cut=True) is NOT_MINE


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_give_a_declared_outcome(data: bytes, cut: bool) -> None:
    outcome = RequestParser(["x-a"]).parse(data, cut=cut)
    assert isinstance(outcome, HttpRequest | Truncated | Outcome)
    assert not (cut and outcome is NEED_MORE)
    assert cut or not isinstance(outcome, Truncated)


@given(st.binary(max_size=120), st.binary(max_size=120), st.binary(max_size=40))
def test_any_line_and_headers_give_bounded_printable_text(a: bytes, b: bytes, c: bytes) -> None:
    outcome = RequestParser().parse(
        b"GET /" + a + b" HTTP/1.1\r\nHost:" + b + b"\r\n" + c + b"\r\n\r\n"
    )
    if isinstance(outcome, HttpRequest):
        for value in (outcome.path, outcome.query or "", outcome.host or ""):
            assert value.isprintable() and len(value.encode()) <= 2048


def test_a_status_line_is_read() -> None:
    line = b"HTTP/1.1 404 Not Found\r\n"
    assert parse_status(line) == 404
    assert parse_status(b"HTTP/1.0 200\r\n") == 200
    for end in range(13):
        assert parse_status(line[:end]) is NEED_MORE, end
        assert isinstance(parse_status(line[:end], cut=True), Truncated)
    assert parse_status(b"HTTP/1.1 20x OK") is NOT_MINE
    assert parse_status(b"HTTP/2 200 OK\r\n") is NOT_MINE


@given(st.binary(max_size=40))
def test_any_bytes_give_a_declared_outcome_for_a_status(data: bytes) -> None:
    assert isinstance(parse_status(data), int | Outcome)


_LINE_PART = st.sampled_from(
    [b"GET", b"PURGE", b"CONNECT", b" ", b" ", b"/", b"/a?b", b"?", b"*", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"\n", b"\r", b"\x85",
     b"\xff", b"\0", b"~", b"http://u:p@a.example.com/", b"GET /cart?id=42 HTTP/1.1", b"POST /orders HTTP/1.0", b"PUT /? HTTP/1.1"]
)  # fmt: skip


@given(st.lists(st.lists(_LINE_PART, max_size=6).map(b"".join), max_size=8))
def test_many_request_lines_say_what_each_says_alone(raws: list[bytes]) -> None:
    assert parse_lines(raws) == [RequestParser().read_line(raw) for raw in raws]
