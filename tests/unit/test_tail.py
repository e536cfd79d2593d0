"""`farcall tail`: what an agent's socket sends, filtered and printed."""

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farcall_probes import events, stream, tail
from farcall_probes.arrowstream import Batch
from farcall_probes.stream import ExchangeStream
from farcall_probes.tailfilter import KEYS, FilterError, parse_filter
from support_agent import a_answer, make_dns, make_drained, make_http, make_redis
from support_agent_room import GET, PING, Room

pytestmark = pytest.mark.unit


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """A call to a.example, one that a server saw fail, and a Redis command that was never answered."""
    (tmp_path / "room").mkdir()
    room = Room(tmp_path / "room")
    room.tracer.take(
        make_drained(
            dns=[make_dns(a_answer("a.example", "203.0.113.10"))],
            small=[make_redis(PING, b"", flags=events.FLAG_NO_RESPONSE, end=events.END_RESET)],
            large=[
                make_http(GET, conn_id=78, ts_req_ns=1_000, ts_resp_ns=2_501_000),
                make_http(
                    b"GET /\x1b[31m/%0a HTTP/1.1\r\nHost: b.example\r\n\r\n",
                    b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
                    conn_id=79,
                    role=events.ROLE_SERVER,
                ),
            ],
        ),
        now_ns=0,
    )
    return dict(room.tracer.take_batches())["exchanges"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, ExchangeStream]]:
    path = tmp_path / "tail.sock"
    server = ExchangeStream(path)
    server.start()
    yield path, server
    server.stop()


def show_until_heard(server: ExchangeStream, batch: Batch, done: threading.Event) -> None:
    while not done.wait(0.02):
        server.show(batch)


def run(
    served: tuple[Path, ExchangeStream],
    batch: Batch,
    capsys: pytest.CaptureFixture[str],
    *words: str,
) -> list[str]:
    path, server = served
    done = threading.Event()
    feeding = threading.Thread(target=show_until_heard, args=(server, batch, done))
    feeding.start()
    try:
        assert tail.main(["--socket", str(path), *words]) == 0
    finally:
        done.set()
        feeding.join()
    return capsys.readouterr().out.splitlines()


def test_rows_are_lines_of_a_table(
    served: tuple[Path, ExchangeStream],
    batch: Batch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    title, *lines = run(served, batch, capsys, "-n", "3")

    assert title.split() == "TIME SIDE SERVICE DESTINATION PROTOCOL MS STATUS REQUEST".split()
    redis, call, failed = lines
    assert "a.example:" in redis and "reset" in redis and "PING" in redis
    assert "client" in call and "2.50" in call and "200" in call and "GET /" in call
    assert "server" in failed and "503" in failed
    assert "\x1b" not in failed  # what others send cannot steer the terminal


def test_rows_are_json_lines_with_every_field_that_there_is(
    served: tuple[Path, ExchangeStream],
    batch: Batch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (line,) = run(served, batch, capsys, "-o", "ndjson", "-n", "1", "-q", "side:client http")
    row = json.loads(line)

    assert row["destination"] == "a.example" or row["host"]
    assert row["duration_ms"] == 2.5 and row["status"] == 200
    assert row["peer_address"] == "203.0.113.10"
    assert row["time"].endswith("Z") and len(row["time"]) == 30
    assert "error" not in row and set(row) <= KEYS


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {"redis", "call", "failed"}),
        ("status:>=500", {"failed"}),
        ("-status:>=500", {"redis", "call"}),
        ("protocol:redis", {"redis"}),
        ("protocol:RED*", {"redis"}),
        ("PING", {"redis"}),
        ("error:reset side:client", {"redis"}),
        ("duration_ms:>1", {"call"}),
        ("duration_ms:<=1", {"redis", "failed"}),
        ("destination:*.example", {"redis", "call", "failed"}),
        ("-error:* protocol:http", {"call", "failed"}),
        ("no-such-text", set()),
        ('"GET"', {"call", "failed"}),
    ],
)
def test_a_query_shows_what_matches_all_of_it(query: str, shown: set[str]) -> None:
    rows = {
        "redis": {"protocol": "redis", "operation": "PING", "error": "reset", "side": "client", "duration_ms": 0.1},
        "call": {"protocol": "http", "operation": "GET", "status": 200, "side": "client", "duration_ms": 2.5},
        "failed": {"protocol": "http", "operation": "GET", "status": 503, "side": "server", "duration_ms": 1.0},
    }  # fmt: skip
    matches = parse_filter(query)

    assert {n for n, row in rows.items() if matches({"destination": "a.example", **row})} == shown


@pytest.mark.parametrize("query", ["nonsense:1", "statu:>5", "-x_y:z"])
def test_an_unknown_field_is_one_sentence(query: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FilterError, match="no field"):
        parse_filter(query)

    assert tail.main(["-q", query]) == 2
    assert capsys.readouterr().err.startswith("farcall tail: no field")


def test_where_no_agent_is_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tail.main(["--socket", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == f"farcall tail: no agent listens at {tmp_path / 'none'}\n"


def test_the_socket_is_found_where_agents_put_it(tmp_path: Path) -> None:
    (tmp_path / "main" / "ready").mkdir(parents=True)
    (tmp_path / "main" / "effective.json").write_text("{}")
    assert tail.find_socket(None, root=tmp_path) == tmp_path / "main" / "ready" / "tail.sock"
    (tmp_path / "tail.sock").touch()
    assert tail.find_socket(None, root=tmp_path) == tmp_path / "tail.sock"
    assert tail.find_socket("main", root=tmp_path) == tmp_path / "main" / "ready" / "tail.sock"


def test_only_its_owner_may_open_the_socket_and_it_goes_with_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "tail.sock"
    path.touch()  # of an agent that was killed
    server = ExchangeStream(path)
    server.start()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    server.stop()
    assert not path.exists()


def test_a_listener_that_reads_nothing_costs_a_bounded_queue_and_is_counted(
    served: tuple[Path, ExchangeStream], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SEND_WITHIN_S", 60.0)
    path, server = served
    with socket.socket(socket.AF_UNIX) as lazy:
        lazy.connect(str(path))
        deadline = time.monotonic() + 60
        while not server.dropped and time.monotonic() < deadline:
            server.show(batch)
        dropped = server.dropped
        assert dropped and dropped % batch.rows == 0
        told = 0
        for rows, told_dropped in tail.read_frames(lazy):
            assert len(rows) == batch.rows
            told = told_dropped
            if told == dropped:
                break
        assert told == dropped


def test_more_listeners_than_there_is_room_for_are_turned_away(
    served: tuple[Path, ExchangeStream],
) -> None:
    path, _ = served
    socks = []
    for _ in range(stream.MAX_LISTENERS + 1):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        socks.append(sock)
    socks[-1].settimeout(10)
    assert socks[-1].recv(1) == b""
    for sock in socks:
        sock.close()
