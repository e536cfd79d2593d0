"""The store applies every live field while it runs: days go, tables keep what they should, the status says which config."""

import time
from collections.abc import Callable, Iterator
from functools import cache

import clickhouse_connect
import pytest
from clickhouse_connect.driver import httputil
from clickhouse_connect.driver.client import Client

from farcall.api import ComponentStatus
from farcall.effective import RetentionConfig
from farcall.storeport import Reader
from farcall_store import open_reader, open_writer
from support_live_config import STORE_FIELDS, change, wait
from support_store import StoreProcess, build_table, log_line, running_store, span

pytestmark = pytest.mark.servers

DAY_S = 86_400
DAY_NS = DAY_S * 10**9
WIDE = RetentionConfig(traces_s=30 * DAY_S, logs_s=30 * DAY_S, max_size_bytes=1 << 33)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    with running_store(tmp_path_factory.mktemp("store"), WIDE) as running:
        yield running


def apply(store: StoreProcess, field: str, value: object) -> None:
    store.write_config(change(store.config, field, value))


# What is waited for is asked for every 20 ms: one client each, since a client keeps its sockets for as long as it lives.
@cache
def reader_of(url: str, password: str) -> Reader:
    return open_reader(url, password=password)


@cache
def admin_of(port: int, password: str) -> Client:
    return clickhouse_connect.get_client(
        host="127.0.0.1", port=port, username="admin", password=password,
        database="farcall", autogenerate_session_id=False, pool_mgr=httputil.get_pool_manager(),
    )  # fmt: skip


def own_status(store: StoreProcess) -> ComponentStatus:
    found = reader_of(store.url, store.password("reader")).read_statuses()
    return next((s for s in found if s.kind == "store"), None) or pytest.fail("no status")


def count(store: StoreProcess, sql: str) -> int:
    found = admin_of(store.port, store.password("admin")).query(sql)
    return int(found.result_rows[0][0])


def write_days(store: StoreProcess, token: str, *ages: int) -> None:
    now = time.time_ns()
    logs = [
        log_line(now - age * DAY_NS, f"{token}-{age}-{n}" * 20) for age in ages for n in range(300)
    ]
    spans = [span(now - age * DAY_NS, f"{age:032x}", f"{age:016x}") for age in ages]
    open_writer(store.url, password=store.password("writer")).write(
        {"logs": build_table("logs", logs), "spans": build_table("spans", spans)}, token=token
    )


def check_traces(store: StoreProcess) -> None:
    write_days(store, "traces", 0, 5)
    assert count(store, "SELECT count() FROM otel_traces") == 2
    apply(store, "retention.traces_s", DAY_S)
    wait(lambda: count(store, "SELECT count() FROM otel_traces") == 1)
    assert count(store, "SELECT count() FROM otel_logs") == 600


def check_logs(store: StoreProcess) -> None:
    write_days(store, "logs", 0, 6)
    before = count(store, "SELECT count() FROM otel_logs")
    apply(store, "retention.logs_s", DAY_S)
    wait(lambda: count(store, "SELECT count() FROM otel_logs") < before)
    apply(store, "retention.logs_s", 30 * DAY_S)
    where = (
        f"name = 'otel_logs' AND position(create_table_query, 'toIntervalSecond({30 * DAY_S})') > 0"
    )
    wait(lambda: count(store, f"SELECT count() FROM system.tables WHERE {where}") == 1)


def check_size(store: StoreProcess) -> None:
    write_days(store, "size", 0, 7)
    before = count(store, "SELECT count() FROM otel_logs")
    apply(store, "retention.max_size_bytes", 1)
    wait(lambda: count(store, "SELECT count() FROM otel_logs") < before)
    assert count(store, "SELECT count() FROM otel_logs") > 0  # today stays
    apply(store, "retention.max_size_bytes", 1 << 33)


def check_generation(store: StoreProcess) -> None:
    apply(store, "generation", store.config.generation + 1)
    wait(lambda: own_status(store).config_generation == store.config.generation)
    assert own_status(store).config_revision == store.config.revision


CHECKS: dict[str, Callable[[StoreProcess], None]] = {
    "retention.traces_s": check_traces,
    "retention.logs_s": check_logs,
    "retention.max_size_bytes": check_size,
    "generation": check_generation,
}


def test_every_field_of_the_store_has_its_check() -> None:
    assert set(CHECKS) == STORE_FIELDS


@pytest.mark.parametrize("field", list(CHECKS))
def test_a_live_field_is_applied_while_the_store_runs(store: StoreProcess, field: str) -> None:
    CHECKS[field](store)


def test_a_broken_config_leaves_the_old_one_in_force_and_is_counted(store: StoreProcess) -> None:
    (store.folder / "effective.json").write_text("{")
    wait(lambda: own_status(store).counters.get("config_refused") == "1")
    assert own_status(store).config_generation == store.config.generation
