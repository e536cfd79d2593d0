"""Twenty pods that call for a while: nothing restarts, memory stays, and every call is one span or a counted loss.

FARCALL_SOAK_S: for how many seconds; two minutes among the other tests, twenty by `make soak-cluster`. A machine that is
slow makes fewer calls in them, and takes no longer.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from farcall.api import SpanQuery, Window
from farcall_console.status import losses_of
from support_cluster import NAMESPACE, NS_PER_S, PATIENCE_S, Cluster, Object, wait_until
from support_cluster_shop import CONFIG, SHOP, Shop, caller, wait_ready
from support_cluster_spans import pod_of
from support_cluster_usage import Container, read_usage

pytestmark = pytest.mark.kind

SOAK_S = int(os.environ.get("FARCALL_SOAK_S", "120"))
PODS_PER_NODE = 10
EVERY_S = 0.5
# Allocators keep what they once had; a leak of a span's size at 40 calls/s is 5 MB in two minutes.
MAY_GROW_BY = 32 << 20
# It holds as much of its data as its own limit allows, and more the longer it runs.
ENGINES = ("store",)
Call = tuple[str, int]  # pod, round


@pytest.fixture
def callers(cluster: Cluster, shop: Shop) -> Iterator[list[str]]:
    names = [f"soak-{n}" for n in range(2)]
    cluster.wait_current(CONFIG)
    cluster.apply(*(build(name, node) for name, node in zip(names, shop.nodes, strict=False)))
    try:
        yield names
    finally:
        for name in names:
            cluster.kubectl("-n", SHOP, "delete", "deployment", name, "--wait=false")


def build(name: str, node: str) -> Object:
    made = caller(name, node, "http://api:8080/soak/")
    made["spec"]["replicas"] = PODS_PER_NODE
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container["env"] = [
        {"name": "EVERY_S", "value": str(EVERY_S)},
        {"name": "FOR_S", "value": str(SOAK_S)},
    ]
    return made


def read_logs(cluster: Cluster, name: str, *, tail: int = -1) -> list[tuple[str, str]]:
    """(pod, line)"""
    said = cluster.kubectl(
        "-n", SHOP, "logs", "--selector", f"deployment={name}", f"--tail={tail}", "--prefix",
        f"--max-log-requests={PODS_PER_NODE}",
    )  # fmt: skip
    lines = (line.split("] ", 1) for line in said.splitlines())
    return [(head.removeprefix("[pod/").partition("/")[0], line) for head, line in lines]


def read_answered(cluster: Cluster, names: list[str]) -> set[Call]:
    """The calls that their pods say were answered."""
    lines = [entry for name in names for entry in read_logs(cluster, name)]
    return {(pod, int(line.split()[2])) for pod, line in lines if line.startswith("ok ")}


def count_seen(cluster: Cluster, since_ns: int) -> Counter[Call]:
    """All of them, page by page."""
    window = Window(from_ns=since_ns, to_ns=time.time_ns() + NS_PER_S)
    seen: Counter[Call] = Counter()
    cursor: str | None = None
    with cluster.open_api(CONFIG) as api:
        while True:
            query = SpanQuery(q="url.path:/soak/*", window=window, limit=1000, cursor=cursor)
            page = api.list_spans(query)
            seen.update((pod_of(s), int(s.attributes["url.path"].rpartition("/")[2])) for s in page.items)  # fmt: skip
            cursor = page.next
            if cursor is None:
                return seen


def read_memory(cluster: Cluster) -> dict[Container, float]:
    """Anonymous memory of each container of ours."""
    usage = {c: u for c, u in read_usage(cluster).items() if c.namespace == NAMESPACE}
    missing = {"probe", "exporter", "store", "console", "redis", "operator"} - {c.name for c in usage}  # fmt: skip
    assert not missing, f"the kubelets say nothing of {missing}"
    return {c: u.rss_bytes for c, u in usage.items()}


def read_lost(cluster: Cluster) -> int:
    with cluster.open_api(CONFIG) as api:
        components = api.read_status().components
    # A library that is not read is no lost call of these, which are plain.
    losses = (loss for c in components for loss in losses_of(c).items())
    return sum(count for name, count in losses if not name.startswith("tls_"))


def read_restarts(cluster: Cluster) -> dict[str, int]:
    return {
        f"{pod['metadata']['name']}/{one['name']}": one["restartCount"]
        for pod in cluster.items("pods", namespace=NAMESPACE)
        for one in pod["status"].get("containerStatuses", [])
    }


def test_twenty_pods_calling_lose_nothing_uncounted_and_nothing_grows_or_restarts(
    cluster: Cluster, shop: Shop, callers: list[str]
) -> None:
    since_ns, lost_before = time.time_ns() - 60 * NS_PER_S, read_lost(cluster)
    restarts = read_restarts(cluster)
    wait_ready(cluster)
    time.sleep(SOAK_S / 2)
    early = wait_until(lambda: read_memory(cluster), "the kubelets say what is taken")

    def are_done() -> bool:
        last = [line for name in callers for _, line in read_logs(cluster, name, tail=1)]
        return last == ["done"] * len(callers) * PODS_PER_NODE

    wait_until(are_done, "all have called", within_s=SOAK_S + PATIENCE_S, every_s=5)
    answered = read_answered(cluster, callers)
    late = wait_until(lambda: read_memory(cluster), "the kubelets say what is taken")

    def look() -> bool:
        missing = answered - count_seen(cluster, since_ns).keys()
        lost = read_lost(cluster) - lost_before
        assert len(missing) <= lost, f"{len(missing)} of {len(answered)} missing, {lost} counted"
        return True

    wait_until(look, "every call is a span or counted", every_s=5)
    seen = count_seen(cluster, since_ns)
    # The server's own view of a caller that its agent did not know yet has the server's pod, and is no second one.
    assert {c: n for c, n in seen.items() if n > 1 and c[0].startswith("soak-")} == {}
    assert early.keys() == late.keys()
    grown = {who: late[who] - early[who] for who in late if who.name not in ENGINES}
    assert all(by < MAY_GROW_BY for by in grown.values()), grown
    assert read_restarts(cluster) == restarts
