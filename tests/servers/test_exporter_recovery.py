"""What dies comes back, and nothing acknowledged is lost: store, Redis and the exporter itself; live config."""

import itertools
import time
from collections.abc import Iterator

import pytest

from farcall.api import Span, SpanQuery
from farcall.dnscache import Answer
from support_exporter import NS, WATCHED, Row, batch, exchange, redis_exchange, wait_until
from support_exporter_process import ExporterProcess, running_exporter

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExporterProcess]:
    with running_exporter(tmp_path_factory.mktemp("exporter"), join_hold_s=1.0) as running:
        yield running


_connections = itertools.count(1_000)  # span IDs come from it


def older(service: str, ip: str) -> Row:
    return redis_exchange(
        connection_id=next(_connections),
        start=time.time_ns() - NS,
        connection_opened=None,
        flags=1 << 3,
        service=service,
        client_key=f"c:{service}",
        peer_address=ip,
    )


def spans_of(exporter: ExporterProcess, service: str) -> list[Span]:
    return list(exporter.reader().list_spans(SpanQuery(q=f"service:{service}")).items)


def cache_name(exporter: ExporterProcess, service: str, ip: str, age_s: float = 300) -> None:
    now = time.time()
    answer = Answer(
        client_key=f"c:{service}",
        ip=ip,
        name="cache.example.com",
        answered_at=now - age_s,
        trusted=True,
    )
    exporter.redis.writer().write([answer], [], ttl_s=3600, now=now)


def test_a_batch_refused_while_the_store_is_down_is_stored_once_it_is_back(
    exporter: ExporterProcess,
) -> None:
    start = time.time_ns() - NS
    body = batch([exchange(start=start, connection_opened=start, service="patient")])
    exporter.store.kill()
    answer = exporter.post_batch(body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    exporter.store.start()
    wait_until(lambda: exporter.post_batch(body).status_code == 200)
    assert exporter.post_batch(body).status_code == 200

    assert len(spans_of(exporter, "patient")) == 1


def test_retries_over_a_kill_of_the_exporter_are_harmless(exporter: ExporterProcess) -> None:
    start = time.time_ns() - NS
    body = batch([exchange(start=start, connection_opened=start, service="survivor")])
    assert exporter.post_batch(body).status_code == 200
    exporter.kill()
    exporter.start()
    assert exporter.post_batch(body).status_code == 200

    assert len(spans_of(exporter, "survivor")) == 1


def test_without_redis_spans_say_so_and_get_their_names_later(exporter: ExporterProcess) -> None:
    exporter.redis.kill()
    assert exporter.post_batch(batch([older("late", "203.0.113.70")])).status_code == 200
    [span] = spans_of(exporter, "late")
    assert span.unknown_reason == "cache_unavailable"

    exporter.redis.start()
    cache_name(exporter, "late", "203.0.113.70")
    [mended] = wait_until(
        lambda: [s for s in spans_of(exporter, "late") if s.destination == "cache.example.com"]
    )
    assert "farcall.unknown.reason" not in mended.attributes
    assert mended.attributes["farcall.name.source"] == "cache"


def test_a_reason_given_without_redis_is_corrected_when_it_is_there_again(
    exporter: ExporterProcess,
) -> None:
    """One call whose connection nobody saw being opened, and one of a client that was watched from its start."""
    now = time.time_ns() - NS
    whole = {"flags": WATCHED, "connection_opened": now, "start": now, "client_key": "c:silent"}
    rows = [older("patiently", "203.0.113.72"), {**older("silent", "203.0.113.73"), **whole}]
    exporter.redis.kill()
    assert exporter.post_batch(batch(rows)).status_code == 200
    assert {s.unknown_reason for n in ("patiently", "silent") for s in spans_of(exporter, n)} == {
        "cache_unavailable"
    }
    exporter.redis.start()

    def reason(service: str) -> str:
        [span] = spans_of(exporter, service)
        assert span.attributes["farcall.unknown.reason"] == span.unknown_reason
        return span.unknown_reason

    wait_until(lambda: reason("patiently") == "agent_started_later")
    wait_until(lambda: reason("silent") == "no_dns_seen")

    cache_name(exporter, "patiently", "203.0.113.72")  # of this client itself, late as it is
    wait_until(lambda: spans_of(exporter, "patiently")[0].destination == "cache.example.com")
    assert spans_of(exporter, "silent")[0].unknown_reason == "no_dns_seen"


def test_a_ttl_override_is_live_and_expires_what_was_named(exporter: ExporterProcess) -> None:
    cache_name(exporter, "brief", "203.0.113.71", age_s=30)
    assert exporter.post_batch(batch([older("brief", "203.0.113.71")])).status_code == 200
    dns = exporter.config.dns.model_copy(update={"ttl_override_s": 10})
    exporter.write_config(dns=dns, generation=2)
    try:

        def ask() -> bool:
            body = batch([older("brief", "203.0.113.71")])
            return exporter.post_batch(body).status_code == 200 and any(
                s.unknown_reason == "expired" for s in spans_of(exporter, "brief")
            )

        wait_until(ask)
    finally:
        exporter.write_config(dns=dns.model_copy(update={"ttl_override_s": None}), generation=3)


def test_a_broken_config_changes_nothing(exporter: ExporterProcess) -> None:
    path = exporter.folder / "effective.json"
    good = path.read_text()
    path.write_text("{")
    wait_until(lambda: "the config is broken" in exporter.read_log())
    start = time.time_ns() - NS
    body = batch([exchange(start=start, connection_opened=start, service="steady")])
    assert exporter.post_batch(body).status_code == 200
    path.write_text(good)


def test_sigterm_ends_it_in_order(exporter: ExporterProcess) -> None:
    assert exporter.stop() == 0
    assert '"stopped"' in exporter.read_log()
    exporter.start()


def test_it_waits_for_a_store_that_is_not_there_yet_and_can_be_stopped_meanwhile(
    exporter: ExporterProcess,
) -> None:
    assert exporter.stop() == 0
    exporter.store.kill()
    exporter.process = exporter.spawn()
    wait_until(lambda: "retry_in_s" in exporter.read_log())
    assert not (exporter.folder / "exporter-ready").exists()
    assert exporter.stop() == 0
    exporter.process = exporter.spawn()
    exporter.store.start()
    wait_until(lambda: (exporter.folder / "exporter-ready").exists(), 30)
