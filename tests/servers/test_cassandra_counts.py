"""Hundreds of questions to a real Cassandra at once, and one that fills several frames: as many exchanges as calls, at both ends."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from cassandra.cluster import Cluster

from farcall_probes.events import PROTO_CASSANDRA
from farcall_probes.probes import KernelCapture, open_probes
from support_cassandra import running_cassandra
from support_multiplexed import MultiplexedWatch

pytestmark = pytest.mark.servers

BURST = 200
# The kernel side looks at 280 things in one write, and in version 5 the server gives each answer a frame of its own.
FRAMED_BURST = 100


@pytest.fixture(scope="module")
def capture() -> Iterator[KernelCapture]:
    opened = open_probes()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def cassandra() -> Iterator[int]:
    with running_cassandra() as port:
        yield port


def ask(port: int, version: int, compression: bool | str, burst: int) -> None:
    with Cluster(
        ["127.0.0.1"],
        port=port,
        protocol_version=version,
        compression=compression,
        connect_timeout=60,
        control_connection_timeout=60,
    ) as cluster:
        session = cluster.connect()
        session.default_timeout = 60
        session.execute(
            "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = "
            "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        session.execute("CREATE TABLE IF NOT EXISTS shop.orders (id int PRIMARY KEY, note text)")
        insert = session.prepare("INSERT INTO shop.orders (id, note) VALUES (?, ?)")
        session.execute(insert, (1, "x" * 300_000))
        for future in [
            session.execute_async("SELECT id FROM shop.orders WHERE id = 7") for _ in range(burst)
        ]:
            future.result()
        session.execute("SELECT note FROM shop.orders WHERE id = 1")


def watch_asking(
    capture: KernelCapture, port: int, version: int, burst: int, *, compression: bool | str
) -> MultiplexedWatch:
    watch = MultiplexedWatch(capture, PROTO_CASSANDRA, port)
    asking = threading.Thread(target=ask, args=(port, version, compression, burst))
    asking.start()
    while asking.is_alive():
        watch.drain()
        asking.join(0.02)
    return watch


@pytest.mark.parametrize(("version", "burst"), [(3, BURST), (4, BURST), (5, FRAMED_BURST)])
def test_each_of_a_burst_and_a_large_one_are_told_at_both_ends(
    capture: KernelCapture, cassandra: int, version: int, burst: int
) -> None:
    watch = watch_asking(capture, cassandra, version, burst, compression=False)
    for side in watch.sides():
        counts = Counter((x.operation, x.error) for x in side if x.collection == "orders")
        assert counts["SELECT", None] == burst + 1
        assert counts["INSERT", None] == 1
    assert watch.pairer.counters["multiplexed_gaps"] == 0
    assert watch.pairer.counters["multiplexed_requests_lost"] == 0


def test_a_large_one_is_told_when_it_is_packed_and_what_is_not_is_counted(
    capture: KernelCapture, cassandra: int
) -> None:
    """Of a packed frame only as much is known as was captured of it. How many lie behind is not known: that some do is counted."""
    watch = watch_asking(capture, cassandra, 5, BURST, compression="lz4")
    counted = watch.pairer.counters
    lost = counted["multiplexed_requests_lost"] + counted["multiplexed_orphans"]
    for side in watch.sides():
        counts = Counter((x.operation, x.error) for x in side if x.collection == "orders")
        assert counts["INSERT", None] == 1
        assert 0 < counts["SELECT", None] <= BURST + 1
        assert counts["SELECT", None] == BURST + 1 or lost > 0
