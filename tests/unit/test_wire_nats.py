"""NATS' messages and errors, as nats-server and its clients write them: whole, cut at each length, and any bytes at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.wire.nats import NatsError, NatsMessage, parse_message
from farcall_probes.wire.outcomes import NEED_MORE, NOT_MINE, Outcome, Truncated
from farcall_probes.wire.tracecontext import B3, NOBODY, W3C

pytestmark = pytest.mark.unit

TRACE, SPAN = bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331")
PARENT = b"traceparent: 00-%s-%s-01\r\n" % (TRACE.hex().encode(), SPAN.hex().encode())
HEADERS = b"NATS/1.0\r\nNats-Msg-Id: 7\r\n" + PARENT + b"tracestate: a=b\r\n\r\n"


def with_headers(line: bytes, headers: bytes = HEADERS, payload: bytes = b"hello") -> bytes:
    sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
    return line + b" " + sizes + b"\r\n" + headers + payload + b"\r\n"


def message(
    *, published: bool = True, subject: str = "orders.new", reply: bool = False, size: int = 5
) -> NatsMessage:
    return NatsMessage(published, subject, reply, size, NOBODY, W3C, None)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"PUB orders.new 5\r\nhello\r\n", message()),
        (b"PUB orders.new 0\r\n\r\n", message(size=0)),
        (b"PUB orders.new _INBOX.a.b 5\r\nhello\r\n", message(reply=True)),
        (b"PUB  orders.new\t5\r\nhello\r\n", message()),
        (b"MSG orders.new 12 5\r\nhello\r\n", message(published=False)),
        (b"MSG orders.new 12 _INBOX.a.b 5\r\nhello\r\n", message(published=False, reply=True)),
        (b"PUB orders.new 1048576\r\nhel", message(size=1048576)),
        (b"-ERR 'Authorization Violation'\r\n", NatsError("authorization_violation", None)),
        (b"-ERR 'Unknown Protocol Operation'\r\n", NatsError("unknown_protocol_operation", None)),
        (
            b"-ERR 'Permissions Violation for Publish to \"orders.new\"'\r\n",
            NatsError("permissions_violation", "orders.new"),
        ),
        (
            b'-ERR \'Permissions Violation for Subscription to "a.>" using queue "q"\'\r\n',
            NatsError("permissions_violation", "a.>"),
        ),
        (
            b"-ERR 'Secure Connection - TLS Required'\r\n",
            NatsError("secure_connection_tls_required", None),
        ),
    ],
)
def test_messages_and_errors_are_read(data: bytes, found: object) -> None:
    assert parse_message(data) == found
    assert parse_message(data + b"PING\r\n") == found
    line = data.index(b"\r\n") + 2
    for end in range(line - 1):
        assert parse_message(data[:end]) is NEED_MORE
        assert parse_message(data[:end], cut=True) is NOT_MINE
    for end in range(line, len(data)):  # nothing of a payload is read
        assert parse_message(data[:end], cut=True) == found


@pytest.mark.parametrize(
    ("line", "published", "reply"),
    [
        (b"HPUB orders.new", True, False),
        (b"HPUB orders.new _INBOX.a", True, True),
        (b"HMSG orders.new 4", False, False),
        (b"HMSG orders.new 4 _INBOX.a", False, True),
    ],
)
def test_headers_say_the_trace(line: bytes, published: bool, reply: bool) -> None:
    data = with_headers(line)
    whole = message(published=published, reply=reply)
    found = whole._replace(ids=(TRACE, SPAN), trace_state="a=b")
    head = data.index(b"\r\n") + 2

    assert parse_message(data) == found
    for end in range(head, head + len(HEADERS)):
        assert parse_message(data[:end]) is NEED_MORE
        cut = parse_message(data[:end], cut=True)
        assert isinstance(cut, Truncated) and isinstance(cut.partial, NatsMessage)
        assert cut.partial.ids in ((TRACE, SPAN), NOBODY)
        assert cut.partial._replace(ids=NOBODY, trace_state=None) == whole


@pytest.mark.parametrize(
    ("headers", "ids", "form"),
    [
        (b"NATS/1.0\r\nTraceParent:" + PARENT[12:] + b"\r\n", (TRACE, SPAN), W3C),
        (
            b"NATS/1.0\r\nb3: %s-%s-1\r\n\r\n" % (TRACE.hex().encode(), SPAN.hex().encode()),
            (TRACE, SPAN),
            B3,
        ),
        (b"NATS/1.0\r\ntraceparent: 00-xyz\r\n\r\n", NOBODY, W3C),
        (b"NATS/1.0 503\r\n\r\n", NOBODY, W3C),
        (b"HTTP/1.1\r\n" + PARENT + b"\r\n", NOBODY, W3C),
        (b"NATS/1.0\r\nno colon\r\n" + PARENT + b"\r\n", NOBODY, W3C),
    ],
)
def test_other_headers_say_it_or_nothing(headers: bytes, ids: object, form: int) -> None:
    found = parse_message(with_headers(b"HPUB orders.new", headers))

    assert isinstance(found, NatsMessage)
    assert (found.ids, found.trace_format) == (ids, form)


@pytest.mark.parametrize(
    "data",
    [
        b"PING\r\n",
        b"SUB orders 1\r\n",
        b'INFO {"server_id":"x"}\r\n',
        b'CONNECT {"pass":"secret"}\r\n',
        b"+OK\r\n",
        b"PUB orders\r\n",
        b"PUB orders five\r\n",
        b"PUB a b c 5\r\n",
        b"PUB orders 999999999\r\n",
        b"HPUB orders 9 5\r\n",
        b"HPUB orders 0 5\r\n",
        b"-ERR without quotes\r\n",
        b"PUBLISH orders 5\r\n",
        b"PUB " + b"a" * 5000,
        b"GET / HTTP/1.1\r\n",
        b"\r\n",
    ],
)
def test_other_lines_are_not_ours(data: bytes) -> None:
    assert parse_message(data) is NOT_MINE
    assert parse_message(data, cut=True) is NOT_MINE


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"PUB ", b"HPUB ", b"MSG a ", b"-ERR '"]),
    st.booleans(),
)
def test_any_bytes_have_one_of_the_outcomes(data: bytes, begin: bytes, cut: bool) -> None:
    outcome = parse_message(begin + data, cut=cut)

    assert isinstance(outcome, Outcome | Truncated | NatsMessage | NatsError)


@given(st.integers(0, len(HEADERS)), st.binary(max_size=40))
def test_any_headers_have_one_of_the_outcomes(at: int, junk: bytes) -> None:
    headers = HEADERS[:at] + junk + HEADERS[at:]

    assert isinstance(parse_message(with_headers(b"HMSG a 1", headers)), NatsMessage)
