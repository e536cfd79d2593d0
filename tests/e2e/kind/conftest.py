"""One TracingConfig and one set of calling pods for all tests on the cluster. Artefacts stay when a test fails.

The pods start before the agents do: what was there before anybody watched is one of the cases.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_cluster import Cluster, find_kubectl
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[pytest.TestReport]:
    report = yield
    if report.failed and (cluster := getattr(item, "funcargs", {}).get("cluster")):
        cluster.save_artefacts(RESULTS / re.sub(r"\W+", "-", item.name).strip("-"))
    return report
