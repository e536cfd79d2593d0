"""`farcall store` as a process: refusals, restarts, kills, a full disk, live retention."""

import json
import resource
import socket
import threading
import time
from pathlib import Path

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver import httputil

from farcall.api import LogQuery, SpanQuery
from farcall.effective import RetentionConfig
from farcall.rows import TableName
from farcall.storeport import StoreRefusedError, StoreUnavailableError
from farcall_store import open_reader, open_writer
from farcall_store.engine import MERGED_AT_ONCE
from farcall_store.reader import StoreReader
from farcall_store.writer import StoreWriter
from support_ports import find_free_port
from support_store import (
    StoreProcess,
    build_config,
    build_table,
    log_line,
    running_store,
    span,
    wait_until,
)

pytestmark = pytest.mark.servers

DAY_S = 86_400
DAY_NS = DAY_S * 1_000_000_000


def writer_of(store: StoreProcess) -> StoreWriter:
    return StoreWriter(store.url, password=store.password("writer"))


def reader_of(store: StoreProcess) -> StoreReader:
    return StoreReader(store.url, password=store.password("reader"))


def count(store: StoreProcess, sql: str) -> int:
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=store.port, username="admin", password=store.password("admin"),
        database="farcall", autogenerate_session_id=False, pool_mgr=httputil.get_pool_manager(),
    )  # fmt: skip
    try:
        return int(client.query(sql).result_rows[0][0])
    finally:
        client.close()


def test_a_second_process_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with running_store(tmp_path) as store:
        second = StoreProcess.__new__(StoreProcess)
        second.folder, second.port = tmp_path, store.port
        second.process = None
        config = build_config(tmp_path, store.port)
        free = find_free_port()
        second.write_config(
            config.model_copy(
                update={
                    "endpoints": config.endpoints.model_copy(
                        update={"store": f"http://127.0.0.1:{free}"}
                    )
                }
            )
        )
        ready = (tmp_path / "ready").read_text(encoding="ascii")

        process = second.spawn()

        assert process.wait(60) == 2, store.read_log()
        assert (
            f"farcall store: {tmp_path / 'state'} is in use by another farcall store"
            in store.read_log()
        )
        assert ready == "ready\n"
        assert reader_of(store).list_spans(SpanQuery()).items == ()


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    store = StoreProcess(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", store.port))
        other.listen()

        assert store.spawn().wait(60) == 2, store.read_log()

    assert f"cannot listen on {store.url}" in store.read_log()


def test_a_missing_password_is_refused_by_its_file(tmp_path: Path) -> None:
    store = StoreProcess(tmp_path)
    (tmp_path / "secrets" / "store-reader-password").unlink()

    assert store.spawn().wait(60) == 2, store.read_log()
    assert "store-reader-password: cannot be read" in store.read_log()


def test_sigterm_ends_it_with_0_and_a_restart_finds_the_data(tmp_path: Path) -> None:
    store = StoreProcess(tmp_path)
    try:
        store.start()
        writer, reader = writer_of(store), reader_of(store)
        writer.write({"logs": build_table("logs", [log_line(time.time_ns(), "kept")])}, token="1")

        assert store.stop() == 0

        with pytest.raises(StoreUnavailableError):
            writer.write({"logs": build_table("logs", [log_line(1, "x")])}, token="2")
        with pytest.raises(StoreUnavailableError):
            reader.list_logs(LogQuery())

        store.start()

        assert [line.body for line in reader.list_logs(LogQuery()).items] == ["kept"]
        writer.write({"logs": build_table("logs", [log_line(time.time_ns(), "more")])}, token="3")
        assert len(reader.list_logs(LogQuery()).items) == 2
        assert count(store, "SELECT count() FROM schema_migrations") == 3
        assert '"steps": 0' in store.read_log()
    finally:
        store.kill()


def test_a_kill_during_inserts_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Every batch is retried with its token until it is acknowledged; then it is there, once, views included."""
    store = StoreProcess(tmp_path)
    acknowledged: list[int] = []
    stop = threading.Event()
    errors: list[BaseException] = []

    def write_all() -> None:
        writer = writer_of(store)
        number = 0
        while not stop.is_set():
            batch = build_batch(number)
            while True:
                try:
                    writer.write(batch, token=f"boot:{number}")
                    break
                except StoreUnavailableError:
                    time.sleep(0.02)
                except BaseException as e:
                    errors.append(e)
                    return
            acknowledged.append(number)
            number += 1

    try:
        store.start()
        thread = threading.Thread(target=write_all)
        thread.start()
        for cycle in range(4):
            seen = len(acknowledged)
            wait_until(
                lambda seen=seen: len(acknowledged) > seen + 3 or bool(errors), "no progress"
            )
            time.sleep(0.013 * cycle)  # another moment of the write each time
            store.kill()
            store.start()
        stop.set()
        thread.join(60)

        assert not errors
        batches = len(acknowledged)
        assert count(store, "SELECT count() FROM otel_traces") == batches * ROWS
        assert count(store, "SELECT uniqExact(SpanId) FROM otel_traces") == batches * ROWS
        assert count(store, "SELECT count() FROM trace_links") == batches * ROWS
        assert count(store, "SELECT uniqExact(TraceId) FROM otel_traces_trace_id_ts") == batches
        assert count(store, "SELECT count() FROM system.parts WHERE active AND rows = 0") == 0
    finally:
        stop.set()
        store.kill()


ROWS = 500


def build_batch(number: int) -> dict[TableName, pa.Table]:
    at = time.time_ns()
    trace = f"{number:032x}"
    ids = [f"{number:08x}{n:08x}" for n in range(ROWS)]
    links = [
        {
            "Timestamp": at,
            "EbpfTraceId": trace,
            "EbpfSpanId": one,
            "OtelTraceId": trace,
            "OtelSpanId": one,
        }
        for one in ids
    ]
    return {
        "spans": build_table("spans", [span(at, trace, one) for one in ids]),
        "links": build_table("links", links),
    }


def test_a_write_the_system_refuses_is_a_typed_error_and_later_ones_work(tmp_path: Path) -> None:
    """A limit on the size of files stands for a system that has no room; the guard of the disk has a unit test."""
    with running_store(tmp_path) as store:
        assert store.process is not None
        writer = writer_of(store)
        batch = {
            "logs": build_table(
                "logs", [log_line(time.time_ns(), f"{n:x}" * 50) for n in range(3000)]
            )
        }
        writer.write({"logs": build_table("logs", [log_line(time.time_ns(), "before")])}, token="0")
        unlimited = resource.prlimit(store.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(store.process.pid, resource.RLIMIT_FSIZE, (200_000, unlimited[1]))

        with pytest.raises(StoreRefusedError):
            writer.write(batch, token="1")

        resource.prlimit(store.process.pid, resource.RLIMIT_FSIZE, unlimited)
        writer.write(batch, token="1")
        assert count(store, "SELECT count() FROM otel_logs") == 3001


def test_a_wrong_password_is_told_also_after_a_large_batch(tmp_path: Path) -> None:
    """The body is read to its end before the answer: otherwise it would look like a broken connection."""
    with running_store(tmp_path) as store:
        writer = writer_of(store)
        writer.read_high_water("x")  # connected
        writer._client._driver.headers["Authorization"] = "Basic d3JvbmcK"  # type: ignore[union-attr]
        lines = [log_line(time.time_ns(), "x" * 4000) for _ in range(5000)]

        with pytest.raises(StoreRefusedError):
            writer.write({"logs": build_table("logs", lines)}, token="1")


def test_retention_is_applied_live_and_old_days_go(tmp_path: Path) -> None:
    now = time.time_ns()
    with running_store(tmp_path) as store:
        rows = [log_line(now, "today"), log_line(now - 5 * DAY_NS, "old")]
        writer_of(store).write(
            {"logs": build_table("logs", rows), "spans": build_table("spans", [span(now - 5 * DAY_NS, "a" * 32, "b" * 16)])},
            token="1",
        )  # fmt: skip
        assert count(store, "SELECT count() FROM otel_logs") == 2

        store.write_config(
            store.config.model_copy(
                update={
                    "generation": 2,
                    "retention": RetentionConfig(
                        traces_s=30 * DAY_S, logs_s=DAY_S, max_size_bytes=1 << 33
                    ),
                }
            )
        )

        wait_until(lambda: count(store, "SELECT count() FROM otel_logs") == 1, "the old day stayed")
        assert count(store, "SELECT count() FROM otel_traces") == 1
        assert (
            count(
                store,
                "SELECT count() FROM system.tables WHERE name = 'otel_logs' "
                f"AND position(create_table_query, 'toIntervalSecond({DAY_S})') > 0",
            )
            == 1
        )


def test_past_its_size_the_oldest_day_goes_first(tmp_path: Path) -> None:
    now = time.time_ns()
    retention = RetentionConfig(traces_s=30 * DAY_S, logs_s=30 * DAY_S, max_size_bytes=1 << 33)
    with running_store(tmp_path, retention) as store:
        for day in range(3):
            rows = [log_line(now - day * DAY_NS, f"{day}-{n}" * 20) for n in range(500)]
            writer_of(store).write({"logs": build_table("logs", rows)}, token=str(day))
        size = count(
            store,
            "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'otel_logs'",
        )

        # Room for two of the three days.
        smaller = retention.model_copy(update={"max_size_bytes": size * 8 // 10})
        store.write_config(store.config.model_copy(update={"generation": 2, "retention": smaller}))

        wait_until(
            lambda: count(store, "SELECT count() FROM otel_logs") == 1000, "the oldest day stayed"
        )
        assert count(store, "SELECT countIf(startsWith(Body, '2-')) FROM otel_logs") == 0


def test_the_store_reports_itself(tmp_path: Path) -> None:
    with running_store(tmp_path) as store:
        reader = open_reader(store.url, password=store.password("reader"))
        wait_until(lambda: bool(reader.read_statuses()), "no status")

        status = reader.read_statuses()[0]

        assert (status.kind, status.name, status.alive) == ("store", "test", True)
        assert status.gauges["rss_bytes"] > 0


def test_parts_of_few_rows_wait_for_others_before_they_are_merged(tmp_path: Path) -> None:
    with running_store(tmp_path) as store:
        asked = "SELECT value FROM system.merge_tree_settings WHERE name = '{}'"
        assert count(store, asked.format("min_parts_to_merge_at_once")) == MERGED_AT_ONCE
        leaves_out = "merge_selector_enable_heuristic_to_remove_small_parts_at_right"
        assert count(store, asked.format(leaves_out)) == 0


def test_an_older_build_refuses_a_newer_schema(tmp_path: Path) -> None:
    store = StoreProcess(tmp_path)
    try:
        store.start()
        client = clickhouse_connect.get_client(
            host="127.0.0.1", port=store.port, username="admin", password=store.password("admin"),
            database="farcall", autogenerate_session_id=False, pool_mgr=httputil.get_pool_manager(),
        )  # fmt: skip
        client.raw_insert(
            "schema_migrations",
            ["Number", "Name"],
            json.dumps({"Number": 9000, "Name": "x"}),
            fmt="JSONEachRow",
        )
        client.close()
        store.stop()

        assert store.spawn().wait(60) == 2, store.read_log()
        assert "schema step 9000, which this version does not know" in store.read_log()
    finally:
        store.kill()


def test_the_open_functions_give_the_ports() -> None:
    writer = open_writer("http://127.0.0.1:1", password="x")
    with pytest.raises(StoreUnavailableError):
        writer.read_high_water("boot")
    with pytest.raises(ValueError, match="http"):
        open_reader("127.0.0.1:1", password="x")
