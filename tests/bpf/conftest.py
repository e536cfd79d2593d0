"""One load of the programs serves the tests of a module: each takes a fresh Watch over it."""

from collections.abc import Iterator

import pytest

from farcall_probes.probes import KernelCapture, open_probes
from support_probes import Watch


@pytest.fixture(scope="module")
def capture() -> Iterator[KernelCapture]:
    opened = open_probes()
    yield opened
    opened.close()


@pytest.fixture
def watch(capture: KernelCapture) -> Watch:
    return Watch(capture)
