"""Several agents' batches in one insert, on a real store: one part for each table, and each row once whoever is killed."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from farcall.api import SpanQuery
from support_exporter import NS, batch, dns_answer, exchange, wait_until
from support_exporter_process import ExporterProcess, running_exporter
from support_stopped import stop
from support_store import connect

pytestmark = pytest.mark.servers

AGENTS = [f"{number:032x}" for number in range(1, 7)]
OTHERS = [f"{number:032x}" for number in range(101, 107)]  # an agent sends one batch at a time
COUNTED = "farcall_exporter_batches_committed_total "


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExporterProcess]:
    with running_exporter(tmp_path_factory.mktemp("exporter")) as running:
        yield running


def calls(agent: str, number: int, service: str) -> bytes:
    start = time.time_ns() - NS
    row = exchange(
        start=start, connection_opened=start, service=service, connection_id=int(agent, 16)
    )
    return batch([row], boot=agent, number=number)


def answers(agent: str, number: int) -> bytes:
    row = dns_answer(f"c:{agent}", time.time_ns())
    return batch([row], "dns", boot=agent, number=number)


def until_taken(exporter: ExporterProcess, body: bytes) -> None:
    """As an agent does: again, whatever becomes of the exporter and the store meanwhile."""

    def is_taken() -> bool:
        try:
            return exporter.post_batch(body).status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(is_taken, 120)


@contextmanager
def posting(exporter: ExporterProcess, bodies: list[bytes]) -> Iterator[None]:
    """While the store stands still: all bodies wait in the exporter when the block begins."""
    assert exporter.store.process is not None
    stop(exporter.store.process.pid)
    threads = [threading.Thread(target=until_taken, args=(exporter, body)) for body in bodies]
    for thread in threads:
        thread.start()
    wait_until(lambda: read_metric(exporter, "farcall_exporter_queue_jobs ") >= len(bodies) - 1)
    yield
    for thread in threads:
        thread.join(150)
    assert not any(thread.is_alive() for thread in threads)


def read_metric(exporter: ExporterProcess, name: str) -> int:
    text = httpx.get(f"{exporter.config.endpoints.exporter_otlp_http}/metrics", timeout=30).text
    [line] = [line for line in text.splitlines() if line.startswith(name)]
    return int(line.removeprefix(name))


def count(exporter: ExporterProcess, sql: str) -> int:
    client = connect(exporter.store, "admin")
    try:
        return int(client.query(sql).result_rows[0][0])
    finally:
        client.close()


def spans_of(exporter: ExporterProcess, service: str) -> Counter[str]:
    page = exporter.reader().list_spans(SpanQuery(q=f"service:{service}"))
    return Counter(span.span_id for span in page.items)


def test_batches_that_wait_are_one_part_for_each_table(exporter: ExporterProcess) -> None:
    until_taken(exporter, calls(AGENTS[0], 1, "before"))
    parts = "SELECT max(max_block_number) FROM system.parts WHERE table = '{}'"
    tables = ("otel_traces", "dns_answers")
    before = [count(exporter, parts.format(table)) for table in tables]
    bodies = [calls(agent, 2, "crowd") for agent in AGENTS[:3]]
    bodies += [answers(agent, 2) for agent in AGENTS[3:]]
    with posting(exporter, bodies):
        assert exporter.store.process is not None
        os.kill(exporter.store.process.pid, signal.SIGCONT)

    assert list(spans_of(exporter, "crowd").values()) == [1, 1, 1]
    assert count(exporter, "SELECT count() FROM dns_answers") == 3
    after = [count(exporter, parts.format(table)) for table in tables]
    # The first may have been on its way alone. Numbers of blocks begin with 1.
    assert sum(after) - sum(before) < len(bodies)


def test_each_agents_rows_are_there_once_after_the_store_was_killed(
    exporter: ExporterProcess,
) -> None:
    bodies = [calls(agent, 11, "patient") for agent in AGENTS]
    with posting(exporter, bodies):
        exporter.store.kill()
        exporter.store.start()

    assert list(spans_of(exporter, "patient").values()) == [1] * len(AGENTS)


def test_each_agents_rows_are_there_once_after_the_exporter_was_killed(
    exporter: ExporterProcess,
) -> None:
    """Its batches are stored and may not be marked: the one that comes next cannot know the group."""
    bodies = [calls(agent, 21, "survivor") for agent in AGENTS]
    bodies += [answers(agent, 21) for agent in OTHERS]
    stored = count(exporter, "SELECT count() FROM dns_answers")
    with posting(exporter, bodies):
        assert exporter.store.process is not None
        os.kill(exporter.store.process.pid, signal.SIGCONT)
        wait_until(lambda: count(exporter, "SELECT count() FROM dns_answers") > stored)
        exporter.kill()
        exporter.start()
    for body in bodies:
        until_taken(exporter, body)

    assert list(spans_of(exporter, "survivor").values()) == [1] * len(AGENTS)
    assert count(exporter, "SELECT count() FROM dns_answers") == stored + len(OTHERS)
    assert read_metric(exporter, COUNTED) + read_metric(
        exporter, "farcall_exporter_batches_repeated_total "
    ) >= len(bodies)
