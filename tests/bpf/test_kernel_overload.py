"""More exchanges than anybody can take, on all CPUs at once: each one is a record, or in exactly one counter."""

import threading
import time
from collections.abc import Iterator

import pytest

from farcall_probes.maps import MapSizes
from farcall_probes.probes import KernelCapture, open_probes
from support_probes import OK, Watch, connection, make_request, port_of

pytestmark = pytest.mark.bpf

PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
THREADS, EACH = 6, 2_500
COUNTED = ("small_lost", "large_lost", "capped_lost", "sampled_dropped", "connections_lost")


@pytest.fixture(scope="module")
def flooded() -> Iterator[KernelCapture]:
    """Rings that are soon full. Others of the machine are left alone: what they lose is not ours."""
    opened = open_probes(MapSizes(ring_small=32_768, ring_large=65_536))
    try:
        opened.enable(only_own=True)
        yield opened
    finally:
        opened.close()


def flood(watch: Watch) -> list[int]:
    """The connections' ports, after EACH exchanges of both protocols on each, while the rings are read now and then."""
    ports: list[int] = []

    def ask() -> None:
        with connection() as http, connection() as redis:
            ports.extend((port_of(http), port_of(redis)))
            for number in range(EACH):
                http.exchange(make_request(f"/{number}"), OK)
                redis.exchange(PING, PONG)

    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        watch.drain()
        time.sleep(0.002)
    return ports


@pytest.mark.parametrize(
    ("records_per_s", "share", "wanted"),
    [
        (0, 1.0, ("small_lost", "large_lost")),
        (700, 1.0, ("capped_lost",)),
        (0, 0.25, ("sampled_dropped",)),
        (2_000, 0.5, ("capped_lost", "sampled_dropped")),
    ],
    ids=("rings", "a container's share", "the ceiling", "all of them"),
)
def test_what_is_no_record_is_counted_once(
    flooded: KernelCapture, records_per_s: int, share: float, wanted: tuple[str, ...]
) -> None:
    flooded.set_cap(records_per_s)
    flooded.set_kept(share)
    watch = Watch(flooded)
    ports = flood(watch)
    records = len(watch.exchanges(*ports))
    lost = {name: watch.count(name) for name in COUNTED}

    assert records + sum(lost.values()) == 2 * 2 * THREADS * EACH
    assert all(lost[name] > 0 for name in wanted), lost
    assert records > 0
