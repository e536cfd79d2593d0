"""Batches as agents post them → rows that a search finds: the real exporter beside a real store and a real Redis.

Two agents post what a node sends, half of it joined in the same batch, a quarter outside by Host, a quarter Redis whose name
only the DNS cache knows. An answer comes when the store has the rows, so the time of the posts is the time of everything. Redis
counts the round trips: its own number of reads from its clients. Every span that the exporter said it kept must be in the store.
"""

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import redis

from farcall.dnscache import Answer
from support_exporter import BOOT, OTHER_BOOT, Row, header, to_bytes, to_table
from support_exporter_process import ExporterProcess, running_exporter
from support_store import connect

BUSY_RETRIES = 600
RETRY_S = 0.05
ADMIN = "user bench on nopass ~* &* +@all"


class ThroughputError(Exception):
    """Batches were refused, or spans are missing in the store; the message says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    spans_per_s: list[float]  # of each round
    round_trips_per_1000: float
    rss_mb: float  # of the exporter's process, the highest
    spans: int


def measure(
    rows: Sequence[Row], answers: Sequence[Answer], *, rounds: int, batches: int
) -> Throughput:
    """`rows`: of one batch, all kept or joined; `batches` of them a round, from each of two agents. Raises ThroughputError."""
    table = to_table("exchanges", rows)
    with tempfile.TemporaryDirectory(prefix="farcall-throughput-") as folder:
        with running_exporter(Path(folder), redis_lines=(ADMIN,)) as exporter:
            exporter.redis.writer().write(answers, [], ttl_s=3_600, now=time.time())
            _post_all(exporter, table, 0, 2)  # warm
            begin = _count_spans(exporter), _count_reads(exporter)
            rates = [
                _take_round(exporter, table, number, batches) for number in range(1, rounds + 1)
            ]
            spans = _count_spans(exporter) - begin[0]
            reads = _count_reads(exporter) - begin[1]
            assert exporter.process is not None
            peak_mb = _read_peak_mb(exporter.process.pid)
    return Throughput(
        spans_per_s=rates,
        round_trips_per_1000=reads / spans * 1_000,
        rss_mb=peak_mb,
        spans=spans,
    )


def _take_round(exporter: ExporterProcess, table: pa.Table, number: int, batches: int) -> float:
    before = _count_spans(exporter)
    seconds = _post_all(exporter, table, number, batches)
    return (_count_spans(exporter) - before) / seconds


def _post_all(exporter: ExporterProcess, table: pa.Table, number: int, batches: int) -> float:
    bodies = {
        boot: [_make_body(table, boot, number * batches + n + 1) for n in range(batches)]
        for boot in (BOOT, OTHER_BOOT)
    }
    begin = time.monotonic()
    with ThreadPoolExecutor(len(bodies)) as pool:
        for done in [pool.submit(_post, exporter, each) for each in bodies.values()]:
            done.result()
    return time.monotonic() - begin


def _make_body(table: pa.Table, boot: str, number: int) -> bytes:
    """The same calls, on connections of their own and now."""
    own = number * 2 + (boot == OTHER_BOOT)
    by_ns = time.time_ns() - int(table["start"][0].value)
    times = ("start", "connection_opened", "bound_answered")
    changed = {
        **{name: _shift(table[name], by_ns) for name in times},
        "connection_id": pa.array(table["connection_id"].to_numpy() + np.uint64(own << 32)),
        "isn_client": pa.array(table["isn_client"].to_numpy() + np.uint32(own * 4_096)),
    }
    for name, column in changed.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), column)
    return to_bytes(table, header(number=number, boot=boot))


def _shift(times: pa.ChunkedArray, by_ns: int) -> pa.ChunkedArray:
    return pc.add(times.cast(pa.int64()), by_ns).cast(times.type)


def _post(exporter: ExporterProcess, bodies: list[bytes]) -> None:
    for body in bodies:
        for _ in range(BUSY_RETRIES):
            answer = exporter.post_batch(body)
            if answer.status_code < 300:
                break
            if answer.status_code not in (429, 503):
                raise ThroughputError(f"a batch was refused: {answer.status_code} {answer.text}")
            time.sleep(RETRY_S)  # it is full: agents wait too
        else:
            raise ThroughputError("the exporter stayed full")


def _count_spans(exporter: ExporterProcess) -> int:
    client = connect(exporter.store, "reader")
    try:
        return int(client.query("SELECT count() FROM otel_traces").result_rows[0][0])
    finally:
        client.close()


def _count_reads(exporter: ExporterProcess) -> int:
    """How often Redis has read from a client; its own question is one of them."""
    with redis.Redis(unix_socket_path=str(exporter.redis.socket), username="bench") as admin:
        return int(admin.info("stats")["total_reads_processed"])


def _read_peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1_024
