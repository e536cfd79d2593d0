"""One TracingConfig and one set of calling pods for all tests on the cluster. Artefacts stay when a test fails.

The pods start before the agents do: what was there before anybody watched is one of the cases.
"""

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from support_cluster import Cluster, find_kubectl
from support_cluster_protocols import Images, bring_images
from support_cluster_shop import Shop, open_shop

RESULTS = Path(__file__).resolve().parents[3] / "test-results/kind"


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster(find_kubectl())


@pytest.fixture(scope="session")
def shop(cluster: Cluster) -> Iterator[Shop]:
    """Farcall is traced into being, and the pods call."""
    with open_shop(cluster) as shop:
        yield shop


@pytest.fixture(scope="session", autouse=True)
def images(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator["Future[Images] | None"]:
    """Those of the market, if a test is to be run that opens it: they take minutes to be on their nodes, and come there beside the
    tests before, which mostly wait."""
    with ThreadPoolExecutor(1) as pool:
        if any("market" in item.fixturenames for item in request.session.items):
            yield pool.submit(bring_images, cluster.nodes())
        else:
            yield None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[pytest.TestReport]:
    report = yield
    if report.failed and (cluster := getattr(item, "funcargs", {}).get("cluster")):
        cluster.save_artefacts(RESULTS / re.sub(r"\W+", "-", item.name).strip("-"))
    return report
