"""The exporter as a process, beside a real store and a real Redis: batch in, named spans out of the reader."""

import json
import time
from collections.abc import Iterator

import pytest

from farcall.api import Span, SpanQuery
from farcall.dnscache import Answer
from farcall.envelope import AgentStatus, Capability
from support_exporter import (
    BOOT,
    NS,
    Row,
    batch,
    dns_answer,
    exchange,
    identified,
    redis_exchange,
    seen_from_server,
    wait_until,
    who,
)
from support_exporter_process import ExporterProcess, running_exporter

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExporterProcess]:
    with running_exporter(tmp_path_factory.mktemp("exporter"), join_hold_s=1.0) as running:
        yield running


def now_ns() -> int:
    return time.time_ns() - NS


def recent(row: Row, **changes: object) -> Row:
    start = now_ns()
    return {**row, "start": start, "connection_opened": start - NS, **changes}


def spans_of(exporter: ExporterProcess, service: str) -> list[Span]:
    return list(exporter.reader().list_spans(SpanQuery(q=f"service:{service}")).items)


def test_a_call_is_stored_with_the_name_in_its_host_header(exporter: ExporterProcess) -> None:
    answer = exporter.post_batch(batch([recent(exchange(host="api.example.com", service="named"))]))
    assert (answer.status_code, answer.json()) == (200, {})

    [span] = spans_of(exporter, "named")
    assert (span.destination, span.attributes["farcall.name.source"]) == ("api.example.com", "http")


def test_a_batch_sent_twice_is_stored_once(exporter: ExporterProcess) -> None:
    body = batch([recent(exchange(service="twice"))])
    assert [exporter.post_batch(body).status_code for _ in range(3)] == [200, 200, 200]

    assert len(spans_of(exporter, "twice")) == 1


def test_redis_names_a_connection_that_is_older_than_the_agent(exporter: ExporterProcess) -> None:
    at = time.time() - 5
    answer = Answer(
        client_key="c:old",
        ip="203.0.113.40",
        name="cache.example.com",
        answered_at=at,
        trusted=True,
    )
    exporter.redis.writer().write([answer], [], ttl_s=3600, now=time.time())
    row = recent(
        redis_exchange(
            client_key="c:old", service="old", peer_address="203.0.113.40", flags=1 << 3
        ),
        connection_opened=None,
    )
    assert exporter.post_batch(batch([row])).status_code == 200

    [span] = spans_of(exporter, "old")
    assert (span.destination, span.attributes["farcall.name.confidence"]) == (
        "cache.example.com",
        "client",
    )


def test_both_sights_of_a_call_are_one_span_in_either_order(exporter: ExporterProcess) -> None:
    for service, seq in (("first", 5_000), ("second", 6_000)):
        client = recent(identified(seq=seq, service=service, connection_id=seq))
        bodies = [batch([client]), batch([seen_from_server(client, service=f"{service}-srv")])]
        for body in bodies if service == "first" else bodies[::-1]:
            assert exporter.post_batch(body).status_code == 200

        [span] = spans_of(exporter, service)
        assert span.attributes["farcall.server.service.name"] == f"{service}-srv"
        assert span.attributes["farcall.join"] == "exact"
        assert "metoro.is_server_span" not in span.attributes
    time.sleep(1.5)  # longer than the hold: nothing may be left to be kept
    assert spans_of(exporter, "first-srv") == spans_of(exporter, "second-srv") == []


def test_a_lonely_sight_survives_a_kill_and_becomes_a_server_side_span(
    exporter: ExporterProcess,
) -> None:
    client = recent(identified(seq=7_000, connection_id=7_000))
    assert (
        exporter.post_batch(batch([seen_from_server(client, service="lonely")])).status_code == 200
    )
    exporter.kill()
    exporter.start()

    [span] = wait_until(lambda: spans_of(exporter, "lonely"))
    assert (span.kind, span.attributes["metoro.is_server_span"]) == ("Server", "true")
    assert span.attributes["farcall.join"] == "none"


def test_a_servers_sight_after_a_kill_is_joined_to_the_clients_span_of_before(
    exporter: ExporterProcess,
) -> None:
    client = recent(identified(seq=8_000, connection_id=8_000), service="restarted")
    assert exporter.post_batch(batch([client])).status_code == 200
    exporter.kill()
    exporter.start()
    sight = seen_from_server(client, service="behind")
    assert exporter.post_batch(batch([sight])).status_code == 200

    def joined() -> bool:
        [span] = spans_of(exporter, "restarted")
        return span.attributes.get("farcall.server.service.name") == "behind"

    wait_until(joined)
    assert spans_of(exporter, "behind") == []


def test_answers_and_connections_become_evidence(exporter: ExporterProcess) -> None:
    at = now_ns()
    dns = dns_answer("c:pg", at)
    connection = who(
        client_key="c:pg",
        time=at,
        opened=at,
        connection_id=77,
        role=0,
        protocol="redis",
        flags=1 << 9,
        netns=1,
        local_address="10.244.0.5",
        local_port=41_000,
        peer_address="203.0.113.50",
        peer_port=5432,
        bound_name="pg.example.com",
        bound_answered=at - NS,
        rivals=["other.example.com"],
    )
    assert exporter.post_batch(batch([dns], "dns")).status_code == 200
    assert exporter.post_batch(batch([connection], "connections")).status_code == 200

    row = exporter.reader().read_connection(f"{BOOT}:77")
    assert row is not None
    assert (row["Label"], row["NameSource"]) == ("pg.example.com", "dns")


def test_statuses_of_agents_and_of_the_exporter_are_stored(exporter: ExporterProcess) -> None:
    status = AgentStatus(
        node="node-7",
        boot_id=BOOT,
        version="1",
        time_ns=time.time_ns(),
        started_ns=1,
        config_generation=3,
        dns_ttl_s=3600,
        dns_ttl_overridden=False,
        kernel="6.18",
        capabilities=(Capability(name="syscalls/write", on=True),),
        counters={"events": 5},
    )
    assert exporter.post_status(json.dumps(status.to_json()).encode()).status_code == 200

    wait_until(
        lambda: (
            [s.name for s in exporter.reader().read_statuses() if s.kind == "agent"] == ["node-7"]
        )
    )
    wait_until(lambda: any(s.kind == "exporter" for s in exporter.reader().read_statuses()))
