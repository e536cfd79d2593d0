"""Twenty pods that call for a while: nothing restarts, memory stays, and every call is one span or a counted loss.

FARCALL_SOAK_S: for how many seconds; two minutes among the other tests, twenty by `make soak-cluster`. A machine that is
slow makes fewer calls in them, and takes no longer.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from farcall.api import SpanQuery, Window
from farcall_console.status import losses_of
from support_cluster import NAMESPACE, NS_PER_S, PATIENCE_S, Cluster, Object, wait_until
from support_cluster_shop import CONFIG, SHOP, Shop, caller, field, wait_ready
from support_cluster_usage import Container, read_usage

pytestmark = pytest.mark.kind

SOAK_S = int(os.environ.get("FARCALL_SOAK_S", "120"))
PODS_PER_NODE = 10
EVERY_S = 0.5
# Allocators keep what they once had; a leak of a span's size at 40 calls/s is 5 MB in two minutes.
MAY_GROW_BY = 32 << 20
# It holds as much of its data as its own limit allows, and more the longer it runs.
ENGINES = ("store",)


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
    made = caller(name, node, "http://api:8080/soak/$(POD)/")
    made["spec"]["replicas"] = PODS_PER_NODE
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container["env"] = [
        field("POD", "metadata.name"),
        {"name": "EVERY_S", "value": str(EVERY_S)},
        {"name": "FOR_S", "value": str(SOAK_S)},
    ]
    return made


def read_logs(cluster: Cluster, name: str, *, tail: int = -1) -> list[str]:
    return cluster.kubectl(
        "-n", SHOP, "logs", "--selector", f"deployment={name}", f"--tail={tail}",
        f"--max-log-requests={PODS_PER_NODE}",
    ).splitlines()  # fmt: skip


def read_answered(cluster: Cluster, names: list[str]) -> set[str]:
    """The paths of the calls that their pods say were answered: each has its own."""
    lines = [line.split() for name in names for line in read_logs(cluster, name)]
    return {f"{urlsplit(words[1]).path}{words[2]}" for words in lines if words[0] == "ok"}


def count_seen(cluster: Cluster, since_ns: int) -> Counter[str]:
    """Spans by their path, page by page."""
    window = Window(from_ns=since_ns, to_ns=time.time_ns() + NS_PER_S)
    seen: Counter[str] = Counter()
    cursor: str | None = None
    with cluster.open_api(CONFIG) as api:
        while True:
            query = SpanQuery(q="url.path:/soak/*", window=window, limit=1000, cursor=cursor)
            page = api.list_spans(query)
            seen.update(str(span.attributes["url.path"]) for span in page.items)
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
        last = [line for name in callers for line in read_logs(cluster, name, tail=1)]
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
    assert {path: n for path, n in count_seen(cluster, since_ns).items() if n > 1} == {}
    assert early.keys() == late.keys()
    grown = {who: late[who] - early[who] for who in late if who.name not in ENGINES}
    assert all(by < MAY_GROW_BY for by in grown.values()), grown
    assert read_restarts(cluster) == restarts
