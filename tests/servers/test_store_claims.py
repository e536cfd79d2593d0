"""A store that was killed, or lost its power, between remembering an insert and storing it."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from farcall.effective import RetentionConfig
from farcall.storeport import StoreRefusedError, StoreUnavailableError
from farcall_store import open_reader
from farcall_store.claimfiles import EXIT_FALSE_CLAIM, find_false_claims
from farcall_store.client import Client
from farcall_store.writer import StoreWriter
from support_store import (
    StoreProcess,
    build_table,
    connect,
    log_line,
    running_store,
    span,
    wait_until,
)

pytestmark = pytest.mark.servers

DAY_S = 86_400
DAY_NS = DAY_S * 1_000_000_000
TRACES, VIEW = "otel_traces", "otel_traces_trace_id_ts"
LOG = "deduplication_logs/deduplication_log_1.txt"
NOW_NS = time.time_ns()
FORGOTTEN = "insert forgotten: its rows are not stored"


def write(store: StoreProcess, number: int) -> None:
    """The same rows under the same token, as often as it is called."""
    spans = [span(NOW_NS + number, f"{number:032x}", f"{number:08x}{n:08x}") for n in range(50)]
    writer = StoreWriter(store.url, password=store.password("writer"))
    writer.write({"spans": build_table("spans", spans)}, token=f"boot:{number}")


def run(store: StoreProcess, sql: str) -> None:
    client = connect(store, "admin")
    client.command(sql)
    client.close()


def count(store: StoreProcess, table: str) -> int:
    client = connect(store, "admin")
    rows = client.query(f"SELECT count() FROM {table}").result_rows
    client.close()
    return int(rows[0][0])


def folder_of(store: StoreProcess, table: str) -> Path:
    return (store.folder / "state/data/data/farcall" / table).resolve()


def find_newest(folder: Path) -> Path:
    parts = [path for path in folder.iterdir() if path.name[0].isdigit()]
    return max(parts, key=lambda path: int(path.name.split("_")[1]))


def unname(part: Path) -> None:
    """A kill behind the record and before the name."""
    part.rename(part.with_name(f"tmp_insert_{part.name}"))


def empty(part: Path) -> None:
    """A power loss: names were on disk, bytes were not."""
    for file in part.iterdir():
        os.truncate(file, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreProcess]:
    with running_store(tmp_path) as process:
        yield process


@pytest.mark.parametrize("lose", [unname, empty])
@pytest.mark.parametrize("table", [TRACES, VIEW])
def test_an_insert_that_is_remembered_and_not_stored_arrives_once_when_it_comes_again(
    store: StoreProcess, table: str, lose: Callable[[Path], None]
) -> None:
    write(store, 0)
    write(store, 1)
    store.stop()
    lose(find_newest(folder_of(store, table)))

    store.start()

    assert (count(store, TRACES), count(store, VIEW)) == ((50, 2) if table == TRACES else (100, 1))
    write(store, 1)
    write(store, 0)
    assert (count(store, TRACES), count(store, VIEW)) == (100, 2)
    assert store.read_log().count(FORGOTTEN) == 1
    reader = open_reader(store.url, password=store.password("reader"))
    wait_until(lambda: bool(reader.read_statuses()), "no status")
    assert reader.read_statuses()[0].counters["inserts_forgotten"] == "1"

    store.kill()
    store.start()

    write(store, 1)
    assert (count(store, TRACES), count(store, VIEW)) == (100, 2)
    assert store.read_log().count(FORGOTTEN) == 1


def test_a_record_that_was_not_written_whole_costs_no_other(store: StoreProcess) -> None:
    write(store, 0)
    store.stop()
    with (folder_of(store, TRACES) / LOG).open("ab") as log:
        log.write(b"1\t20260930_2_")

    store.start()
    write(store, 1)
    store.kill()
    store.start()

    write(store, 0)
    write(store, 1)
    assert (count(store, TRACES), count(store, VIEW)) == (100, 2)
    assert store.read_log().count('"unreadable_lines": 1') == 1


def test_a_failed_insert_that_is_remembered_ends_the_store_which_then_forgets_it(
    store: StoreProcess,
) -> None:
    """The record is written here by hand: the engine leaves one when it cannot rename the part."""
    write(store, 0)
    with (folder_of(store, TRACES) / LOG).open("ab") as log:
        log.write(b"1\t20260930_7_7_0\t20260930_1_2\n")
    assert store.process is not None

    with pytest.raises(StoreUnavailableError):
        write_no_rows(store)

    assert store.process.wait(60) == EXIT_FALSE_CLAIM
    store.start()
    with pytest.raises(StoreRefusedError):
        write_no_rows(store)
    assert store.read_log().count(FORGOTTEN) == 1


def write_no_rows(store: StoreProcess) -> None:
    """What the engine refuses."""
    client = Client(store.url, user="writer", password=store.password("writer"))
    client.insert(TRACES, ["TraceId"], b"no rows", token="none")


def test_what_merges_mutations_and_retention_take_is_not_forgotten(tmp_path: Path) -> None:
    retention = RetentionConfig(traces_s=30 * DAY_S, logs_s=30 * DAY_S, max_size_bytes=8 << 30)
    with running_store(tmp_path, retention) as store:

        def write_days() -> None:
            writer = StoreWriter(store.url, password=store.password("writer"))
            for day in range(5):
                for part in range(3):
                    rows = [log_line(NOW_NS - day * DAY_NS, f"{day}-{part}-{n}") for n in range(20)]
                    batch = {"logs": build_table("logs", rows)}
                    writer.write(batch, token=f"{day}-{part}")

        write_days()
        run(store, "OPTIMIZE TABLE otel_logs FINAL")
        shorter = retention.model_copy(update={"logs_s": DAY_S})
        store.write_config(store.config.model_copy(update={"generation": 2, "retention": shorter}))
        wait_until(lambda: count(store, "otel_logs") <= 180, "the old days stayed")
        run(store, "OPTIMIZE TABLE otel_logs FINAL")  # the engine's own way with what has expired
        wait_until(lambda: count(store, "otel_logs") <= 120, "a day that has passed stayed")
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        run(store, f"ALTER TABLE otel_logs DROP PARTITION '{yesterday}'")
        left = count(store, "otel_logs")

        for _ in range(2):
            store.kill()
            store.start()

        assert FORGOTTEN not in store.read_log()
        assert count(store, "otel_logs") == left
        assert find_false_claims(store.folder / "state") == set()
        write_days()
        assert count(store, "otel_logs WHERE startsWith(Body, '0-')") == 60
