"""Migrations as text, and the store's own housekeeping over a fake engine."""

import datetime
import itertools
import threading
from collections import Counter
from collections.abc import Mapping

import pytest

from farcall.api import Window
from farcall.effective import RetentionConfig
from farcall.rows import TABLES
from farcall_store.engine import Pool
from farcall_store.paging import MAX_NS, clamp, split_newest_first, widen_newest_first
from farcall_store.schema import (
    RETAINED,
    TABLE_NAMES,
    SchemaError,
    migrate,
    read_migrations,
    render_statements,
    render_values,
)
from farcall_store.upkeep import Watchdog, build_status, drop_expired_days, drop_over_size
from support_store import build_config

pytestmark = pytest.mark.unit

DAY_S = 86_400
RETENTION = RetentionConfig(traces_s=3 * DAY_S, logs_s=DAY_S, max_size_bytes=100)
TODAY = datetime.date(2026, 3, 10)


def all_statements() -> list[str]:
    values = render_values(RETENTION)
    return [
        text for migration in read_migrations() for text in render_statements(migration, values)
    ]


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [migration.number for migration in read_migrations()]

    assert numbers == list(range(1, len(numbers) + 1))


def test_every_statement_may_run_twice_and_has_nothing_left_to_fill() -> None:
    for statement in all_statements():
        assert "IF NOT EXISTS" in statement.split("\n")[0]
        assert "{" not in statement


@pytest.mark.parametrize("name", list(TABLES))
def test_every_table_has_the_columns_of_its_rows(name: str) -> None:
    table = TABLE_NAMES[name]  # type: ignore[index]
    statement = next(text for text in all_statements() if f"EXISTS {table} " in text)

    for column in TABLES[name].names:  # type: ignore[index]
        last = column.rsplit(".", 1)[-1]
        assert f"\n  {last} " in statement or f"\n    {last} " in statement


def test_every_table_with_a_retention_is_one_that_a_migration_makes() -> None:
    made = " ".join(all_statements())

    for table, column in RETAINED.items():
        assert f"EXISTS {table} " in made
        assert f"TTL toDateTime({column}) + toIntervalSecond(" in made


class FakeDatabase:
    """Remembers statements; answers SELECTs from `answers` by their beginning."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self._answers = answers
        self.statements: list[str] = []

    def __call__(self, sql: str, params: Mapping[str, str]) -> bytes:
        self.statements.append(sql)
        return next((text for start, text in self._answers.items() if sql.startswith(start)), b"")


def test_only_missing_steps_are_applied() -> None:
    first = read_migrations()[0]
    database = FakeDatabase({"SELECT Number": f"1\t{first.checksum}\n".encode()})

    steps = migrate(database, RETENTION)

    assert steps == len(read_migrations()) - 1
    assert not any("otel_logs" in sql for sql in database.statements)
    assert any("trace_links" in sql for sql in database.statements)


@pytest.mark.parametrize("applied", ["99\tx\n", "1\tother\n"])
def test_a_schema_of_another_build_is_refused(applied: str) -> None:
    with pytest.raises(SchemaError):
        migrate(FakeDatabase({"SELECT Number": applied.encode()}), RETENTION)


class FakeResult:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def bytes(self) -> bytes:
        return self._body

    def rows_read(self) -> int:
        return 1


class FakeConnection:
    def __init__(self, parts: str = "", gate: threading.Event | None = None) -> None:
        self._parts = parts
        self._gate = gate
        self.dropped: list[str] = []

    def query(
        self, query_str: str, format: str, *, params: Mapping[str, str] | None = None
    ) -> FakeResult:
        if self._gate is not None:
            self._gate.wait(60)
        if query_str.startswith("ALTER"):
            self.dropped.append(query_str)
        return FakeResult(self._parts.encode())

    def send_query(
        self, query_str: str, format: str, *, params: Mapping[str, str] | None = None
    ) -> object:
        raise NotImplementedError

    def streaming_fetch_result(self, streaming_result: object) -> FakeResult | None:
        raise NotImplementedError

    def streaming_cancel_query(self, streaming_result: object) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


def test_only_days_that_are_wholly_past_their_retention_go() -> None:
    """Logs are kept for a day: what was written at the end of the 8th is a day old at the end of the 9th."""
    parts = "".join(
        f"{table}\t2026-03-{day:02}\t10\n"
        for table in ("otel_logs", "otel_traces")
        for day in range(5, 11)
    )
    connection = FakeConnection(parts + "component_status\ttuple()\t10\n")

    dropped = drop_expired_days(Pool("admin", [connection], waiting=1), RETENTION, today=TODAY)

    assert dropped == [
        *(("otel_logs", f"2026-03-{day:02}") for day in (5, 6, 7)),
        ("otel_traces", "2026-03-05"),
    ]
    assert len(connection.dropped) == 4


def test_over_its_size_the_oldest_days_go_until_it_fits_and_today_stays() -> None:
    parts = "".join(f"otel_logs\t2026-03-{day:02}\t40\n" for day in (8, 9, 10))
    connection = FakeConnection(parts)
    pool = Pool("admin", [connection], waiting=1)

    assert drop_over_size(pool, 100, today=TODAY) == ["2026-03-08"]
    assert drop_over_size(pool, 10, today=TODAY) == ["2026-03-08", "2026-03-09"]
    assert drop_over_size(pool, 120, today=TODAY) == []


def test_a_hung_engine_ends_the_process() -> None:
    gate, hung = threading.Event(), threading.Event()
    pool = Pool("control", [FakeConnection(gate=gate)], waiting=1)
    watchdog = Watchdog(pool, every_s=0.01, hung_after_s=0.05, on_hung=hung.set)

    watchdog.start()

    assert hung.wait(60)
    gate.set()


def test_an_answering_engine_is_left_alone() -> None:
    hung = threading.Event()
    pool = Pool("control", [FakeConnection("1\n")], waiting=1)
    watchdog = Watchdog(pool, every_s=0.001, hung_after_s=5, on_hung=hung.set)
    watchdog.start()

    assert not hung.wait(0.2)
    watchdog.stop()


def test_the_status_names_the_config_generation(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = build_config(tmp_path_factory.mktemp("store"), 1)

    status = build_status(config, Counter({"queries": 3}), disk_bytes=5, started_ns=7)

    assert (status.kind, status.config_generation, status.counters["queries"]) == ("store", 1, "3")


@pytest.mark.parametrize("hours", [0.1, 0.9, 5, 30, 400])
def test_windows_from_newest_to_oldest_cover_everything_once(hours: float) -> None:
    now = 1_700_000_000_000_000_000
    window = clamp_to(now, hours)

    pieces = list(split_newest_first(window))

    assert pieces[0].to_ns == window.to_ns
    assert pieces[-1].from_ns == window.from_ns
    for newer, older in itertools.pairwise(pieces):
        assert older.to_ns == newer.from_ns
    widened = list(widen_newest_first(window, now))
    assert widened[-1] == window
    assert all(piece.to_ns == window.to_ns for piece in widened)


def clamp_to(now: int, hours: float) -> Window:
    return clamp(Window(from_ns=now - int(hours * 3_600_000_000_000), to_ns=now))


def test_a_window_is_clamped_to_times_that_the_engine_knows() -> None:
    window = clamp(Window(from_ns=-5, to_ns=1 << 70))

    assert (window.from_ns, window.to_ns) == (0, MAX_NS)
