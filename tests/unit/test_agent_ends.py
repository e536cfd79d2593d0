"""From records to rows: requests without an answer, connects that failed, and connections that nobody reads."""

from pathlib import Path

import pytest

from farcall.exchange import ExchangeFlag
from farcall_probes import events
from support_agent import a_answer, make_dns, make_drained, make_http, make_redis
from support_agent_room import GET, PING, Room
from support_tls_hello import make_hello

pytestmark = pytest.mark.unit


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (events.END_CLIENT_CLOSED, "client_closed"),
        (events.END_RESET, "reset"),
        (events.END_TIMEOUT, "timeout"),
        (255, "no_response"),  # of a kernel side that knows more
    ],
)
def test_why_there_is_no_answer_is_said_for_every_protocol(
    room: Room, end: int, error: str
) -> None:
    silent = {"flags": events.FLAG_NO_RESPONSE, "end": end}
    query = b"Q\0\0\0\x0dselect 1\0"
    rows = room.take(
        make_drained(
            small=[make_redis(PING, b"", **silent)],
            large=[
                make_http(GET, b"", conn_id=78, **silent),
                make_http(query, b"", conn_id=79, proto=events.PROTO_POSTGRES, **silent),
            ],
        )
    )["exchanges"]

    assert [row["error"] for row in rows] == [error] * 3
    assert room.no_answers() == {
        "redis_no_answer": 1,
        "http_no_answer": 1,
        "postgresql_no_answer": 1,
    }


def test_a_connect_that_failed_is_a_row_with_its_destinations_name(room: Room) -> None:
    failed = make_redis(
        b"",
        b"",
        proto=events.PROTO_TCP,
        end=events.END_REFUSED,
        flags=events.FLAG_NO_RESPONSE | events.FLAG_CONNECTOR | events.FLAG_UNCONNECTED,
    )
    answer = make_dns(a_answer("a.example", "203.0.113.10"))
    (row,) = room.take(make_drained(dns=[answer], small=[failed]))["exchanges"]

    assert (row["protocol"], row["operation"], row["error"]) == (
        "tcp",
        "connect",
        "connection_refused",
    )
    assert row["bound_name"] == "a.example"
    assert row["flags"] & ExchangeFlag.UNCONNECTED
    assert room.no_answers() == {}


def test_of_a_tls_connection_that_nobody_reads_a_row_says_what_its_client_asked_for(
    room: Room,
) -> None:
    hellos = [
        make_hello("api.example.com", ["h2", "http/1.1"]),
        make_hello("api.example.com", ["x" * 100, "y" * 200]),
        make_hello(None, []),
        b"no TLS at all",
    ]
    sealed = [make_http(h, b"", conn_id=n, proto=events.PROTO_TCP) for n, h in enumerate(hellos)]
    rows = room.take(make_drained(large=sealed))["exchanges"]

    found = {(row["connection_id"], row["host"], row["alpn"]) for row in rows}
    assert found == {
        (0, "api.example.com", "h2,http/1.1"),
        (1, "api.example.com", "x" * 100 + "," + "y" * 154),
        (2, None, None),
        (3, None, None),
    }
