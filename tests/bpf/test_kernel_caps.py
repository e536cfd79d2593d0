"""What one container may take of the rings: what comes beyond is lost and counted for it, and the next window begins anew."""

import time
from collections.abc import Iterator

import pytest

from farcall_probes.probes import KernelCapture
from support_probes import OK, Watch, connection, make_request, port_of

pytestmark = pytest.mark.bpf

PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"


@pytest.fixture
def capped(capture: KernelCapture) -> Iterator[KernelCapture]:
    yield capture
    capture.set_cap(0)


def test_beyond_its_share_a_containers_records_are_counted_and_lost(
    watch: Watch, capped: KernelCapture
) -> None:
    before = sum(capped.read_capped().values())
    capped.set_cap(70)  # ten in a window
    with connection() as pair:
        for _ in range(500):
            pair.exchange(PING, PONG)
        kept = len(watch.exchanges(port_of(pair)))
        time.sleep(0.3)
        pair.exchange(PING, PONG)
        later = len(watch.exchanges(port_of(pair))) - kept

    lost = watch.count("capped_lost")
    assert kept < 1000 and lost >= 1000 - kept
    assert sum(capped.read_capped().values()) - before >= 1000 - kept
    assert later >= 1  # a new window


def test_without_a_limit_nothing_is_lost(watch: Watch, capped: KernelCapture) -> None:
    capped.set_cap(0)
    before = capped.read_capped()
    with connection() as pair:
        for number in range(200):
            pair.exchange(make_request(f"/{number}"), OK)
        assert len(watch.exchanges(port_of(pair))) == 400

    assert watch.count("capped_lost") == 0
    assert capped.read_capped() == before
