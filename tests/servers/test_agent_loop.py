"""The whole agent over a Capture of ours, against a real HTTP server: what goes in comes out, and it ends as it should."""

import json
import threading
import time
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import pytest

from farcall.effective import EffectiveWatcher, write_effective
from farcall.envelope import BATCH_PATH, STATUS_PATH, parse_agent_status
from farcall_probes import agent
from farcall_probes.agent import PORTION, Agent
from farcall_probes.capture import Drained
from farcall_probes.surroundings import Surroundings
from support_agent import (
    TOKEN,
    FakeCapture,
    FakeExporter,
    Posted,
    Reply,
    a_answer,
    make_config,
    make_dns,
    make_drained,
    make_http,
    make_redis,
    rows_of,
    write_config,
)
from support_agent_thread import running

pytestmark = pytest.mark.servers

GET = b"GET /cart?id=42 HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
SET = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"


def make_agent(tmp_path: Path, exporter: FakeExporter, capture: FakeCapture) -> Agent:
    path = write_config(make_config(tmp_path, exporter=exporter.url), tmp_path)
    return Agent(EffectiveWatcher(path), capture, surroundings=Surroundings(status_every_s=0.2))


def test_answers_connections_and_exchanges_arrive_named(tmp_path: Path) -> None:
    capture = FakeCapture()
    now = time.monotonic_ns()
    capture.waiting.append(make_drained())  # what lies there before the policy is set is not traced
    capture.waiting.append(
        make_drained(
            dns=[make_dns(a_answer("cache.example.com", "203.0.113.10"), ts_ns=now - 3_000)],
            small=[
                make_redis(SET, conn_open_ns=now - 2_000, ts_req_ns=now - 1_000, ts_resp_ns=now)
            ],
            large=[make_http(GET, conn_id=78, conn_open_ns=now - 9_000, ts_req_ns=now)],
        )
    )
    with FakeExporter() as exporter, running(make_agent(tmp_path, exporter, capture)):
        exporter.wait_for(lambda _: len(rows_of(exporter.batches("exchanges"))) == 2)
        redis, http = rows_of(exporter.batches("exchanges"))
        (answer,) = rows_of(exporter.batches("dns"))
        connections = rows_of(exporter.batches("connections"))

    assert (redis["protocol"], redis["target"]) == ("redis", "SET ? ?")
    assert redis["bound_name"] == "cache.example.com"
    assert (http["host"], http["target"], http["query"], http["status"]) == (
        "api.example.com",
        "/cart",
        "id=?",
        200,
    )
    assert http["bound_name"] is None  # its connect came before the answer
    assert answer["question"] == "cache.example.com"
    assert {c["connection_id"] for c in connections} == {77, 78}
    assert capture.closed and capture.forgot_own
    assert {p.authorization for p in exporter.posted} == {f"Bearer {TOKEN}"}


def test_status_says_what_is_seen_and_lost(tmp_path: Path) -> None:
    capture = FakeCapture()
    capture.counters["kernel_small_lost"] = 5
    with FakeExporter() as exporter, running(make_agent(tmp_path, exporter, capture)):
        exporter.wait_for(lambda posted: any(p.path == STATUS_PATH for p in posted))
        body = next(p.body for p in exporter.posted if p.path == STATUS_PATH)
    status = parse_agent_status(json.loads(body))

    assert status.node == "node-1"
    assert status.dns_ttl_s == 3600 and not status.dns_ttl_overridden
    assert status.counters["kernel_small_lost"] == 5
    assert status.gauges["rss_bytes"] > 1_000_000
    assert status.capabilities[0].name == "fake"


def test_status_says_until_when_all_is_told_and_nothing_while_rows_wait(tmp_path: Path) -> None:
    capture = FakeCapture()
    is_open = threading.Event()

    def answer(posted: Posted) -> Reply:
        is_batch = posted.path == BATCH_PATH
        headers = {"Retry-After": "0"}
        return Reply(status=503 if is_batch and not is_open.is_set() else 200, headers=headers)

    def told(posted: list[Posted]) -> list[int]:
        statuses = [json.loads(p.body) for p in posted if p.path == STATUS_PATH]
        return [parse_agent_status(status).reported_ns for status in statuses]

    with FakeExporter(answer) as exporter, running(make_agent(tmp_path, exporter, capture)):
        exporter.wait_for(lambda posted: any(told(posted)))  # of a quiet node too
        ends_ns = time.time_ns()
        capture.waiting.append(make_drained(large=[make_http(GET)]))
        exporter.wait_for(lambda posted: any(p.path == BATCH_PATH for p in posted))
        seen = len(told(exporter.posted))
        exporter.wait_for(lambda posted: len(told(posted)) >= seen + 5)
        waiting = told(exporter.posted)[seen:]
        is_open.set()
        exporter.wait_for(lambda posted: max(told(posted)) > ends_ns)
        last = max(told(exporter.posted))

    assert set(waiting) == {0}
    assert ends_ns < last < time.time_ns()


def test_what_fills_a_ring_is_gathered_and_taken_when_no_more_may_fit(tmp_path: Path) -> None:
    capture, seen = FakeCapture(), list[str]()
    is_taken = threading.Event()
    waiting = chain([PORTION // 2] * 20, repeat(PORTION))
    drain = capture.drain

    def gather(most: int | None) -> int:
        seen.append("portion" if (count := next(waiting)) == most else "some")
        return count

    def drain_seen(most: int | None = None) -> Drained:
        seen.append("drain")
        if "portion" in seen:
            is_taken.set()
        return drain(most)

    capture.measure_fill = lambda: 1.0
    capture.gather, capture.drain = gather, drain_seen  # type: ignore[method-assign]
    with FakeExporter() as exporter, running(make_agent(tmp_path, exporter, capture)):
        assert is_taken.wait(30)

    portion = seen.index("portion")
    assert seen[portion + 1] == "drain"
    assert seen[:portion].count("drain") < seen[:portion].count("some")


def test_rings_are_looked_at_while_a_take_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "LOOK_AGAIN_NS", 0)  # after each piece of the work
    capture, is_looked = FakeCapture(), threading.Event()

    def gather(most: int | None) -> int:
        if most == PORTION // 2:  # with what is taken it is no more than the rings' next portion
            is_looked.set()
        return 0

    capture.measure_fill, capture.gather = lambda: 1.0, gather
    many = [make_http(GET, conn_id=100 + number) for number in range(300)]
    with FakeExporter() as exporter, running(make_agent(tmp_path, exporter, capture)):
        capture.waiting.append(make_drained(large=many))
        assert is_looked.wait(30)


def test_rows_wait_and_go_in_fewer_batches_while_the_exporter_is_behind(tmp_path: Path) -> None:
    """Each round would be two batches of its own, of exchanges and of connections."""
    rounds = 10
    capture = FakeCapture()
    is_open = threading.Event()

    def answer(posted: Posted) -> Reply:
        is_batch = posted.path == BATCH_PATH
        return Reply(status=503 if is_batch and not is_open.is_set() else 200)

    with FakeExporter(answer) as exporter, running(make_agent(tmp_path, exporter, capture)):
        for number in range(rounds):
            capture.waiting.append(make_drained(large=[make_http(GET, conn_id=100 + number)]))
            time.sleep(0.7)  # longer than rows wait for company
        is_open.set()
    taken = {
        header.number: rows_of([table])
        for header, table in (p.table() for p in exporter.posted if p.path == BATCH_PATH)
        if header.kind == "exchanges"
    }

    assert {row["connection_id"] for rows in taken.values() for row in rows} == {
        100 + number for number in range(rounds)
    }
    assert len(taken) <= 5  # three until it is behind, and what waited then


def test_rows_of_the_last_moment_are_sent_when_it_stops(tmp_path: Path) -> None:
    capture = FakeCapture()
    with FakeExporter() as exporter:
        with running(make_agent(tmp_path, exporter, capture)):
            capture.waiting.append(make_drained(large=[make_http(GET)]))
        rows = rows_of(exporter.batches("exchanges"))

    assert len(rows) == 1


def test_a_new_config_is_applied_without_a_restart(tmp_path: Path) -> None:
    capture = FakeCapture()
    with FakeExporter() as exporter, running(make_agent(tmp_path, exporter, capture)):
        config = make_config(
            tmp_path,
            exporter=exporter.url,
            spec={"capture": {"masking": {"enabled": False}}},
            dns_ttl_override_s=5,
        )
        write_effective(config, tmp_path / "effective.json")

        def applied() -> bool:
            bodies = [json.loads(p.body) for p in exporter.posted if p.path == STATUS_PATH]
            return any(b["dns_ttl_s"] == 5 and b["dns_ttl_overridden"] for b in bodies)

        exporter.wait_for(lambda _: applied())
        capture.waiting.append(make_drained(large=[make_http(GET)]))
        exporter.wait_for(lambda _: bool(exporter.batches("exchanges")))
        (row,) = rows_of(exporter.batches("exchanges"))

    assert row["query"] == "id=42"


def test_records_that_we_fail_at_are_counted_and_tracing_goes_on(tmp_path: Path) -> None:
    capture = FakeCapture()
    broken = make_drained(large=[make_http(GET)])
    with FakeExporter() as exporter, running(make_agent(tmp_path, exporter, capture)):
        capture.waiting.append(replace(broken, large=broken.large[["conn_id"]]))
        capture.waiting.append(make_drained(small=[make_redis(SET)]))
        exporter.wait_for(lambda _: bool(exporter.batches("exchanges")))

        def counted() -> bool:
            bodies = [json.loads(p.body) for p in exporter.posted if p.path == STATUS_PATH]
            return any(b["counters"].get("records_faulted_lost") == 1 for b in bodies)

        exporter.wait_for(lambda _: counted())


def test_exchanges_from_before_the_policy_are_left_out_and_answers_are_kept(tmp_path: Path) -> None:
    capture = FakeCapture()
    capture.waiting.append(
        make_drained(
            dns=[make_dns(a_answer("early.example", "203.0.113.10"))], large=[make_http(GET)]
        )
    )
    with FakeExporter() as exporter, running(make_agent(tmp_path, exporter, capture)):
        exporter.wait_for(lambda _: bool(exporter.batches("dns")))
        assert not exporter.batches("exchanges")
