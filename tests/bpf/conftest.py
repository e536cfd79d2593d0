"""One load of the programs serves the tests of a module: each takes a fresh Watch over it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from farcall_probes.probes import KernelCapture, open_probes
from support_cause import Ends, open_ends
from support_probes import Watch
from support_secrets import Leavings, Secrets, running_leavings
from support_tlslib import make_certificate


@pytest.fixture(scope="module")
def capture() -> Iterator[KernelCapture]:
    opened = open_probes()
    yield opened
    opened.close()


@pytest.fixture
def watch(capture: KernelCapture) -> Watch:
    return Watch(capture)


@pytest.fixture
def ends() -> Iterator[Ends]:
    with open_ends() as ends:
        yield ends


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leavings]:
    """All that leaves an agent which is watching."""
    with running_leavings(tmp_path_factory.mktemp("agent")) as left:
        yield left


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[pytest.TestReport]:
    """A failure tells what was lost: the kernel leaves programs out while the same one, or a change of a table, waits for a CPU."""
    report = yield
    capture = getattr(item, "funcargs", {}).get("capture")
    if report.failed and report.when == "call" and capture is not None:
        counters = capture.read_counters()
        lost = {name: n for name, n in counters.items() if n and name.endswith("_lost")}
        report.sections.append(("lost since the programs were loaded", str(lost)))
    return report
