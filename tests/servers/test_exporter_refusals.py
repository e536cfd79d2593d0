"""The agents' listener on the wire: tokens, sizes, types, broken bodies; a bad request harms nothing."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator

import pytest

from farcall.api import SpanQuery
from farcall.envelope import BATCH_PATH, MAX_BATCH_BYTES, MAX_STATUS_BYTES
from support_exporter import NS, batch, exchange, wait_until
from support_exporter_process import ExporterProcess, running_exporter

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExporterProcess]:
    with running_exporter(tmp_path_factory.mktemp("exporter")) as running:
        yield running


def good(service: str) -> bytes:
    start = time.time_ns() - NS
    return batch([exchange(start=start, connection_opened=start, service=service)])


def test_without_the_token_nothing_is_taken(exporter: ExporterProcess) -> None:
    body = good("intruder")
    for header in (
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {exporter.token}",
        f"Bearer {exporter.token}x",
    ):
        answer = exporter.post_batch(body, authorization=header)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert exporter.token not in answer.text
    assert exporter.reader().list_spans(SpanQuery(q="service:intruder")).items == ()


def test_a_token_that_was_replaced_is_read_anew(exporter: ExporterProcess) -> None:
    path = exporter.folder / "secrets" / "ingest-token"
    old = path.read_text()
    path.write_text("n" * 40)
    try:
        wait_until(lambda: exporter.post_batch(good("rotated")).status_code == 200)
    finally:
        path.write_text(old)
    wait_until(lambda: exporter.post_batch(good("rotated")).status_code == 200)


def test_what_is_wrong_is_said(exporter: ExporterProcess) -> None:
    body = good("x")
    cases = [
        (exporter.post_batch(b"rubbish"), 400, "Arrow"),
        (exporter.post_batch(body[:-9]), 400, "cut short"),
        (exporter.post_batch(body, **{"content-type": "text/plain"}), 415, "content type"),
        (exporter.post_batch(body, **{"content-encoding": "gzip"}), 415, "encoding"),
        (exporter.post_batch(b"x" * (MAX_BATCH_BYTES + 1)), 413, "at most"),
        (exporter.post("/nowhere", b""), 404, BATCH_PATH),
        (exporter.post_status(b"{"), 400, "status"),
        (exporter.post_status(b"[" * 60_000), 400, "status"),
        (exporter.post_status(b'{"node": 5}'), 400, "lacks"),
        (exporter.post_status(b" " * (MAX_STATUS_BYTES + 1)), 413, "at most"),
    ]
    for answer, status, word in cases:
        assert answer.status_code == status
        problem = answer.json()
        assert (problem["status"], answer.headers["content-type"]) == (
            status,
            "application/problem+json",
        )
        assert word in problem["detail"]
    assert exporter.post_batch(good("after")).status_code == 200


def test_a_body_without_a_length_is_limited_as_well(exporter: ExporterProcess) -> None:
    head = f"POST {BATCH_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {exporter.token}\r\n"
    head += (
        "content-type: application/vnd.apache.arrow.stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", exporter.ingest_port), 30) as connection:
        connection.sendall(head.encode())
        chunk = b"100000\r\n" + os.urandom(1 << 20) + b"\r\n"
        answer = b""
        for _ in range(24):
            try:
                connection.sendall(chunk)
            except OSError:
                break
        try:
            answer = connection.recv(4096)
        except OSError:
            answer = b"reset"
    assert b" 413 " in answer or answer == b"reset"
    assert exporter.post_batch(good("after-flood")).status_code == 200


def test_connections_that_break_off_leave_nothing_behind(exporter: ExporterProcess) -> None:
    head = f"POST {BATCH_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {exporter.token}\r\n"
    head += "content-type: application/vnd.apache.arrow.stream\r\ncontent-length: 1000000\r\n\r\n"
    for part in (b"", b"GET", head.encode(), head.encode() + b"x" * 1000, b"\x16\x03\x01\x02\x00"):
        with socket.create_connection(("127.0.0.1", exporter.ingest_port), 30) as connection:
            connection.sendall(part)
    assert exporter.post_batch(good("after-breaks")).status_code == 200


@pytest.mark.parametrize("part", [b"x-a: b\r\n", b"x"], ids=["many headers", "one header"])
def test_an_endless_head_ends_the_connection(exporter: ExporterProcess, part: bytes) -> None:
    with socket.create_connection(("127.0.0.1", exporter.ingest_port), 30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx-long: ")
        with pytest.raises(OSError):
            for _ in range(2_000):
                connection.sendall(part * 4_096)
    assert exporter.post_batch(good("after-heads")).status_code == 200


def test_many_agents_at_once_are_all_answered_and_none_is_lost(exporter: ExporterProcess) -> None:
    bodies = [
        batch([exchange(start=time.time_ns() - NS, service="crowd")], boot=f"{i:032x}", number=1)
        for i in range(24)
    ]

    async def post_all() -> list[int]:
        return list(await asyncio.gather(*(asyncio.to_thread(until_taken, b) for b in bodies)))

    def until_taken(body: bytes) -> int:
        return int(wait_until(lambda: (s := exporter.post_batch(body).status_code) == 200 and s))

    assert asyncio.run(post_all()) == [200] * 24
    assert len(exporter.reader().list_spans(SpanQuery(q="service:crowd")).items) == 24


def test_the_exporter_counts_what_it_refused(exporter: ExporterProcess) -> None:
    def counted() -> bool:
        statuses = [s for s in exporter.reader().read_statuses() if s.kind == "exporter"]
        counters = statuses[0].counters if statuses else {}
        return int(counters.get("batches_refused", 0)) >= 8 and int(counters["unauthorized"]) >= 5

    wait_until(counted)


def test_bad_starts_say_what_is_missing(exporter: ExporterProcess) -> None:
    twin = exporter.spawn()  # the ports are taken
    assert twin.wait(30) == 2
    assert "cannot listen on" in exporter.read_log()
    (exporter.folder / "exporter-ready").touch()


def test_the_log_is_json_and_holds_no_secret(exporter: ExporterProcess) -> None:
    lines = [line for line in exporter.read_log().splitlines() if line.startswith("{")]
    assert {json.loads(line)["component"] for line in lines} == {"exporter"}
    assert exporter.token not in exporter.read_log()
    assert "Traceback" not in exporter.read_log()
