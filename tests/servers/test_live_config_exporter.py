"""The exporter applies every live field while it runs: each is changed, and spans, statuses and waiting times follow."""

import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from farcall.api import ComponentStatus, Span, SpanQuery
from farcall.dnscache import Answer, Binding, format_endpoint
from farcall.effective import DropRule
from support_exporter import NS, Row, batch, exchange, redis_exchange, wait_until
from support_exporter_process import ExporterProcess, running_exporter
from support_live_config import EXPORTER_FIELDS, change

pytestmark = pytest.mark.servers

_numbers = itertools.count(1_000)


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExporterProcess]:
    with running_exporter(tmp_path_factory.mktemp("exporter"), join_hold_s=0.5) as running:
        yield running


def apply(exporter: ExporterProcess, field: str, value: object) -> None:
    exporter.config = change(exporter.config, field, value)
    exporter.store.write_config(exporter.config)
    said = f'"generation": {exporter.config.generation}, "revision": "{exporter.config.revision}"'
    wait_until(lambda: said in exporter.read_log())


def older(service: str, ip: str, **changes: object) -> Row:
    """A call over a connection that was there before the agent: only Redis can name its far end."""
    row: Row = {
        "connection_id": next(_numbers),
        "start": time.time_ns() - NS,
        "connection_opened": None,
        "flags": 1 << 3,
        "service": service,
        "client_key": f"c:{service}",
        "peer_address": ip,
        **changes,
    }
    return redis_exchange(**row)


def post(exporter: ExporterProcess, service: str, row: Row) -> Span:
    """The newest span of that service."""
    assert exporter.post_batch(batch([row])).status_code == 200
    found = list(exporter.reader().list_spans(SpanQuery(q=f"service:{service}")).items)
    return max(found, key=lambda span: int(span.start_ns))


def cache_name(exporter: ExporterProcess, service: str, ip: str, *, age_s: float) -> None:
    now = time.time()
    answer = Answer(
        client_key=f"c:{service}", ip=ip, name="a.example", answered_at=now - age_s, trusted=False
    )
    exporter.redis.writer().write([answer], [], ttl_s=10 * 86_400, now=now)


def own_status(exporter: ExporterProcess) -> ComponentStatus:
    return next(s for s in exporter.reader().read_statuses() if s.kind == "exporter")


def check_generation(exporter: ExporterProcess) -> None:
    apply(exporter, "generation", exporter.config.generation + 1)
    wait_until(lambda: own_status(exporter).config_generation == exporter.config.generation)
    assert own_status(exporter).config_revision == exporter.config.revision


def check_cidrs(exporter: ExporterProcess) -> None:
    address = "203.0.113.20"
    outside = post(exporter, "cidrs", older("cidrs", address))
    assert outside.attributes["farcall.destination.kind"] == "unknown"
    apply(exporter, "cluster_cidrs", [*exporter.config.cluster_cidrs, "203.0.113.0/24"])
    inside = post(exporter, "cidrs", older("cidrs", address))
    assert inside.attributes["farcall.destination.kind"] == "service"
    apply(exporter, "cluster_cidrs", ["10.244.0.0/16", "10.96.0.0/12"])


def check_ttl(exporter: ExporterProcess) -> None:
    cache_name(exporter, "tier", "203.0.113.21", age_s=7_200)
    hobby = exporter.config.dns.ttl_s
    assert post(exporter, "tier", older("tier", "203.0.113.21")).unknown_reason
    apply(exporter, "dns.ttl_s", 604_800)
    assert post(exporter, "tier", older("tier", "203.0.113.21")).destination == "a.example"
    apply(exporter, "dns.ttl_s", hobby)
    assert post(exporter, "tier", older("tier", "203.0.113.21")).unknown_reason == "expired"


def check_override(exporter: ExporterProcess) -> None:
    cache_name(exporter, "over", "203.0.113.22", age_s=60)
    assert post(exporter, "over", older("over", "203.0.113.22")).destination == "a.example"
    apply(exporter, "dns.ttl_override_s", 30)
    assert post(exporter, "over", older("over", "203.0.113.22")).unknown_reason == "expired"
    apply(exporter, "dns.ttl_override_s", None)
    assert post(exporter, "over", older("over", "203.0.113.22")).destination == "a.example"


def check_hold(exporter: ExporterProcess) -> None:
    ip, now = "203.0.113.23", time.time()
    row = older("hold", ip)
    binding = Binding(
        client_key="c:hold",
        local=format_endpoint(str(row["local_address"]), int(row["local_port"])),
        peer=format_endpoint(ip, int(row["peer_port"])),
        name="held.example",
        answered_at=now - 7_200,
        held_at=now,
    )
    exporter.redis.writer().write([], [binding], ttl_s=86_400, now=now)
    assert post(exporter, "hold", row).unknown_reason == "expired"
    apply(exporter, "dns.hold_while_connected", True)
    assert post(exporter, "hold", older("hold", ip)).destination == "held.example"
    apply(exporter, "dns.hold_while_connected", False)
    assert post(exporter, "hold", older("hold", ip)).unknown_reason == "expired"


def check_join_hold(exporter: ExporterProcess) -> None:
    def lonely(service: str) -> bytes:
        """The server's sight of a call from inside whose client's sight never comes."""
        start = time.time_ns() - NS
        return batch(
            [
                exchange(
                    role=1, start=start, connection_id=next(_numbers), service=service,
                    connection_opened=start, local_address="10.244.1.7", peer_address="10.244.2.8",
                )
            ]
        )  # fmt: skip

    def is_kept(service: str) -> bool:
        return bool(exporter.reader().list_spans(SpanQuery(q=f"service:{service}")).items)

    apply(exporter, "exporter.join_hold_s", 3_600.0)
    assert exporter.post_batch(lonely("waiting")).status_code == 200
    sights = own_status(exporter).seen_ns
    wait_until(lambda: int(own_status(exporter).seen_ns) > int(sights) + 2 * NS)
    assert not is_kept("waiting")
    apply(exporter, "exporter.join_hold_s", 0.2)
    wait_until(lambda: is_kept("waiting"))


def send_calls(exporter: ExporterProcess, service: str, count: int, **changes: object) -> int:
    """How many of them are stored."""
    rows = [
        exchange(
            connection_id=next(_numbers), start=time.time_ns() - NS, service=service, **changes
        )
        for _ in range(count)
    ]
    assert exporter.post_batch(batch(rows)).status_code == 200
    return len(
        list(exporter.reader().list_spans(SpanQuery(q=f'service:"{service}"', limit=1_000)).items)
    )


def check_percent(exporter: ExporterProcess) -> None:
    apply(exporter, "selection.percent", 20)
    assert 0 < send_calls(exporter, "sampled", 200) < 100
    assert send_calls(exporter, "failing", 40, status=500) == 40
    apply(exporter, "selection.percent", 100)
    assert send_calls(exporter, "whole", 40) == 40


def check_slow(exporter: ExporterProcess) -> None:
    apply(exporter, "selection.percent", 1)
    apply(exporter, "selection.slower_than_s", 0.5)
    assert send_calls(exporter, "slow", 40, duration_ns=NS) == 40
    apply(exporter, "selection.slower_than_s", 2.0)
    assert send_calls(exporter, "not slow", 40, duration_ns=NS) < 40
    apply(exporter, "selection.percent", 100)


def check_drop(exporter: ExporterProcess) -> None:
    rule = {"namespaces": [], "services": ["prob*"], "paths": ["/health*"]}
    apply(exporter, "selection.drop", [DropRule(**rule)])
    assert send_calls(exporter, "prober", 3, target="/healthz") == 0
    assert send_calls(exporter, "prober", 3, target="/orders") == 3
    assert send_calls(exporter, "shop", 3, target="/healthz") == 3
    apply(exporter, "selection.drop", [])
    assert send_calls(exporter, "prober", 3, target="/healthz") == 6


def check_limit(exporter: ExporterProcess) -> None:
    apply(exporter, "selection.spans_per_second", 10)
    assert send_calls(exporter, "noisy", 200) < 200
    assert send_calls(exporter, "quiet", 5) == 5
    wait_until(lambda: int(own_status(exporter).counters["spans_rate_limited_lost"]) > 0)
    apply(exporter, "selection.spans_per_second", None)


CHECKS: dict[str, Callable[[ExporterProcess], None]] = {
    "generation": check_generation,
    "cluster_cidrs": check_cidrs,
    "dns.ttl_s": check_ttl,
    "dns.ttl_override_s": check_override,
    "dns.hold_while_connected": check_hold,
    "exporter.join_hold_s": check_join_hold,
    "selection.percent": check_percent,
    "selection.slower_than_s": check_slow,
    "selection.drop": check_drop,
    "selection.spans_per_second": check_limit,
}


def test_every_field_of_the_exporter_has_its_check() -> None:
    assert set(CHECKS) == EXPORTER_FIELDS


@pytest.mark.parametrize("field", sorted(CHECKS))
def test_a_live_field_is_applied_while_the_exporter_runs(
    exporter: ExporterProcess, field: str
) -> None:
    CHECKS[field](exporter)


def test_a_broken_config_is_counted(exporter: ExporterProcess) -> None:
    (exporter.folder / "effective.json").write_text('{"cluster_cidrs": ["10.0.0.1/8"]}')
    wait_until(lambda: int(own_status(exporter).counters["config_refused"]) == 1)
    assert own_status(exporter).config_revision == exporter.config.revision

    apply(exporter, "generation", exporter.config.generation + 1)
    wait_until(lambda: own_status(exporter).config_generation == exporter.config.generation)
