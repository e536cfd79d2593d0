"""The agent applies every live field of a ConfigMap's volume while it runs: each is changed, and its effect is seen."""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farcall.dnscache import binding_key, cluster_key
from farcall.effective import EffectiveConfig, EffectiveWatcher
from farcall.envelope import STATUS_PATH
from farcall_probes.agent import LATE_EVERY_S, Agent
from farcall_probes.surroundings import Surroundings
from support_agent import (
    FakeCapture,
    FakeExporter,
    a_answer,
    make_config,
    make_dns,
    make_drained,
    make_http,
    make_redis,
    rows_of,
)
from support_live_config import AGENT_FIELDS, ConfigVolume, RedisServer, change, running_redis, wait

pytestmark = pytest.mark.servers

GET = b"GET /cart?id=42 HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
PING = b"*1\r\n$4\r\nPING\r\n"
NS = 1_000_000_000
UID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"


class Node:
    """An agent on Kubernetes as it believes, with a pod of `shop`, a container of no pod, and a process outside containers."""

    def __init__(self, folder: Path, redis: RedisServer, exporter: FakeExporter) -> None:
        self.redis, self.exporter, self.capture = redis, exporter, FakeCapture()
        self.shop = self._make_group(folder, f"kubepods/pod{UID}/{'a' * 64}")
        self.host = self._make_group(folder, "system.slice/cron.service")
        (folder / "log" / "pods" / f"shop_cart_{UID}" / "cart").mkdir(parents=True)
        (folder / "resolv.conf").write_text("nameserver 192.0.2.1\n")
        self.base = make_config(folder, exporter=exporter.url, redis=redis.url, mode="kubernetes")
        self.volume = ConfigVolume(folder / "config")
        self.config = self.base
        self._numbers = itertools.count(1)
        self.agent = Agent(
            EffectiveWatcher(self.volume.publish(self.base)),
            self.capture,
            surroundings=Surroundings(
                cgroups=folder / "cgroup",
                pod_logs=folder / "log",
                resolv_conf=folder / "resolv.conf",
                status_every_s=0.1,
            ),
        )

    def _make_group(self, folder: Path, path: str) -> int:
        group = folder / "cgroup" / "unified" / path
        group.mkdir(parents=True)
        return os.stat(group).st_ino

    def apply(self, field: str, value: object) -> None:
        """Publishes the base with that one change, and waits until the agent says that it runs it."""
        generation = self.config.generation + 1
        changed = change(self.base, field, value) if field != "generation" else self.base
        self.run(changed.model_copy(update={"generation": generation}))

    def run(self, config: EffectiveConfig) -> None:
        self.config = config
        self.volume.publish(config)
        wait(
            lambda: (
                self.status()["config_revision"] == config.revision
                and self.status()["config_generation"] == config.generation
            )
        )

    def status(self) -> dict[str, Any]:
        bodies = [p.body for p in list(self.exporter.posted) if p.path == STATUS_PATH]
        found: dict[str, Any] = json.loads(bodies[-1]) if bodies else {"config_revision": ""}
        return found

    def see(self, group: int, *, request: bytes = GET, **values: Any) -> dict[str, Any] | None:
        """The row of a call made in that cgroup; None when it is not reported."""
        own = self.number()
        now = time.monotonic_ns()
        common = {"cgroup_id": group, "ts_req_ns": now, "ts_resp_ns": now, **values}
        record = (
            make_http(GET, conn_id=own, tgid=4_100_000 + own, **common)
            if request is GET
            else make_redis(request, conn_id=own, tgid=4_100_000 + own, **common)
        )
        self.capture.waiting.append(
            make_drained(
                large=[record] if request is GET else [], small=[] if request is GET else [record]
            )
        )
        # Answers go out before exchanges: what is of one flush with the first is there when the second is.
        self.mark()
        self.mark()
        rows = rows_of(self.exporter.batches("exchanges"))
        return next((row for row in rows if row["connection_id"] == own), None)

    def mark(self) -> None:
        """An answer all the way to the exporter."""
        number = self.number()
        self.answer(f"marker-{number}.example", f"198.51.100.{number % 250}")
        wait(
            lambda: any(
                r["question"] == f"marker-{number}.example"
                for r in rows_of(self.exporter.batches("dns"))
            )
        )

    def answer(self, name: str, ip: str, *, resolver: str = "10.96.0.10", group: int = 0) -> None:
        """DNS of a container that no field of a test leaves out."""
        self.capture.waiting.append(
            make_drained(
                dns=[
                    make_dns(
                        a_answer(name, ip),
                        ts_ns=time.monotonic_ns(),
                        raddr=resolver,
                        cgroup_id=group or self.shop,
                    )
                ]
            )
        )

    def number(self) -> int:
        return next(self._numbers)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    with running_redis(folder) as redis, FakeExporter() as exporter:
        node = Node(folder, redis, exporter)
        ready = threading.Event()
        thread = threading.Thread(target=node.agent.run, args=(ready.set,))
        thread.start()
        try:
            assert ready.wait(60)
            wait(lambda: node.status()["config_revision"])
            yield node
        finally:
            node.agent.stop()
            thread.join(15)
            assert not thread.is_alive()


def check_generation(node: Node) -> None:
    node.apply("generation", None)
    assert node.status()["config_generation"] == node.config.generation > 1


def check_ttl(node: Node) -> None:
    key = cluster_key("203.0.113.1")
    node.apply("dns.resolvers", ["10.96.0.10"])
    node.answer("old.example", "203.0.113.1")
    wait(lambda: node.redis.lives(key))
    node.run(change(node.config, "dns", node.config.dns.model_copy(update={"ttl_s": 604_800})))
    wait(lambda: node.redis.lives(key).get(key, 0) > 604_000)
    assert node.status()["dns_ttl_s"] == 604_800
    node.run(change(node.config, "dns", node.config.dns.model_copy(update={"ttl_s": 3_600})))
    wait(lambda: 0 < node.redis.lives(key).get(key, 0) <= 3_600)


def check_override(node: Node) -> None:
    node.answer("brief.example", "203.0.113.2")
    wait(lambda: node.redis.lives("fc1:a:*:203.0.113.2"))
    node.apply("dns.ttl_override_s", 1)
    assert node.status()["dns_ttl_overridden"]
    wait(lambda: not node.redis.lives("fc1:a:*:203.0.113.2"))


def check_hold(node: Node) -> None:
    opened, conn = time.monotonic_ns() - 60 * NS, 990_001
    node.apply("dns.ttl_override_s", 20)
    node.capture.waiting.append(
        make_drained(
            dns=[
                make_dns(
                    a_answer("held.example", "203.0.113.3"),
                    ts_ns=opened - 1_000,
                    cgroup_id=node.shop,
                )
            ]
        )
    )
    use(node, conn, opened)
    key = binding_key(f"c:{'a' * 64}", "10.0.0.1:40000", "203.0.113.3:6379")
    assert not node.redis.admin.exists(key)  # the name is older than its life
    held = node.config.dns.model_copy(update={"hold_while_connected": True})
    node.run(change(node.config, "dns", held))
    use(node, conn, opened)
    wait(lambda: node.redis.admin.exists(key))


def use(node: Node, conn: int, opened: int) -> None:
    """One more call over the same connection."""
    now = time.monotonic_ns()
    node.capture.waiting.append(
        make_drained(
            small=[
                make_redis(
                    PING, conn_id=conn, tgid=4_000_500, cgroup_id=node.shop, conn_open_ns=opened,
                    raddr="203.0.113.3", rport=6_379, ts_req_ns=now, ts_resp_ns=now,
                )
            ]
        )
    )  # fmt: skip
    node.mark()
    node.mark()


def check_resolvers(node: Node) -> None:
    node.apply("dns.resolvers", [])
    node.answer("first.example", "203.0.113.4", resolver="10.96.0.99")
    wait(lambda: node.redis.lives("fc1:a:*:203.0.113.4"))
    assert not node.redis.lives(cluster_key("203.0.113.4"))
    node.apply("dns.resolvers", ["10.96.0.99"])
    node.answer("first.example", "203.0.113.4", resolver="10.96.0.99")
    wait(lambda: node.redis.lives(cluster_key("203.0.113.4")))


def check_protocols(node: Node) -> None:
    node.apply("capture.protocols", ["redis"])
    assert node.see(node.shop) is None
    assert node.see(node.shop, request=PING) is not None
    node.apply("capture.protocols", [])
    assert node.see(node.shop) is not None


def check_host_processes(node: Node) -> None:
    node.apply("capture.host_processes", False)
    assert node.see(node.host) is None
    node.apply("capture.host_processes", True)
    assert node.see(node.host) is not None


def check_answer_timeout(node: Node) -> None:
    node.apply("capture.answer_timeout_s", 7)
    wait(lambda: node.capture.limits_ns[-1:] == [7 * NS])
    node.apply("capture.answer_timeout_s", 0)
    seen = len(node.capture.limits_ns)
    time.sleep(LATE_EVERY_S * 1.2)
    assert len(node.capture.limits_ns) <= seen + 1


def check_records_per_s(node: Node) -> None:
    node.apply("capture.records_per_s", 7)
    assert node.capture.cap == 7


def check_tls(node: Node) -> None:
    def is_off() -> bool:
        return any(c["name"] == "tls" and not c["on"] for c in node.status()["capabilities"])

    node.apply("capture.tls", False)
    wait(is_off)
    node.apply("capture.tls", True)
    wait(lambda: not is_off())


def check_cpu_millicores(node: Node) -> None:
    """Any agent uses more than a thousandth of a core while it answers this test."""
    node.apply("capture.cpu_millicores", 1)
    wait(lambda: node.capture.shares[-1:] and node.capture.shares[-1] < 1)
    node.apply("capture.cpu_millicores", 0)
    wait(lambda: node.capture.shares[-1] == 1)


def check_masking(node: Node) -> None:
    node.apply("capture.masking", True)
    assert (node.see(node.shop) or {})["query"] == "id=?"
    node.apply("capture.masking", False)
    assert (node.see(node.shop) or {})["query"] == "id=42"


def check_include(node: Node) -> None:
    node.apply("capture.namespaces_include", ["shop"])
    row = node.see(node.shop)
    assert row is not None and row["namespace"] == "shop"
    assert_kernel_learns(node, "capture.namespaces_include", ["other"])


def check_exclude(node: Node) -> None:
    node.apply("capture.namespaces_exclude", [])
    assert node.see(node.shop) is not None
    assert_kernel_learns(node, "capture.namespaces_exclude", ["shop"])


def assert_kernel_learns(node: Node, field: str, value: object) -> None:
    """The pod is left out, also what it has open, and the kernel sends no more of it; and it comes back."""
    node.apply(field, value)
    before = len(rows_of(node.exporter.batches("exchanges")))
    now = time.monotonic_ns()
    node.capture.waiting.append(
        make_drained(
            large=[
                make_http(
                    GET, conn_id=node.number(), cgroup_id=node.shop, ts_req_ns=now, ts_resp_ns=now
                )
            ]
        )
    )
    wait(lambda: node.shop in node.capture.policies[-1])
    assert len(rows_of(node.exporter.batches("exchanges"))) == before
    node.apply("generation", None)
    wait(lambda: node.shop not in node.capture.policies[-1])
    assert node.see(node.shop) is not None


def check_own_cgroups(node: Node) -> None:
    node.apply("capture.own_cgroups", ["/kubepods"])
    wait(lambda: node.shop in node.capture.policies[-1])
    node.apply("capture.own_cgroups", [])
    wait(lambda: node.shop not in node.capture.policies[-1])


CHECKS: dict[str, Callable[[Node], None]] = {
    "generation": check_generation,
    "dns.ttl_s": check_ttl,
    "dns.ttl_override_s": check_override,
    "dns.hold_while_connected": check_hold,
    "dns.resolvers": check_resolvers,
    "capture.protocols": check_protocols,
    "capture.host_processes": check_host_processes,
    "capture.masking": check_masking,
    "capture.answer_timeout_s": check_answer_timeout,
    "capture.tls": check_tls,
    "capture.records_per_s": check_records_per_s,
    "capture.cpu_millicores": check_cpu_millicores,
    "capture.namespaces_include": check_include,
    "capture.namespaces_exclude": check_exclude,
    "capture.own_cgroups": check_own_cgroups,
}


def test_every_field_of_the_agent_has_its_check() -> None:
    assert set(CHECKS) == AGENT_FIELDS


@pytest.mark.parametrize("field", sorted(CHECKS))
def test_a_live_field_is_applied_while_the_agent_runs(node: Node, field: str) -> None:
    CHECKS[field](node)


def test_a_broken_config_leaves_the_old_one_in_force_and_is_counted(node: Node) -> None:
    node.apply("capture.masking", True)
    refused = node.status()["counters"].get("config_refused", 0)
    node.volume.publish(b"{")
    wait(lambda: node.status()["counters"].get("config_refused", 0) == refused + 1)

    assert node.status()["config_revision"] == node.config.revision
    assert (node.see(node.shop) or {})["query"] == "id=?"
    node.apply("capture.masking", False)
    assert (node.see(node.shop) or {})["query"] == "id=42"
