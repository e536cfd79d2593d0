"""What the store does on its own: retention, the size cap, its own status, and the watchdog of a hung engine.

Each piece is a function of the pools and the config; the loops only call them and count what fails.
"""

import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from farcall import journal
from farcall.api import ComponentStatus
from farcall.effective import (
    EffectiveConfig,
    EffectiveConfigError,
    EffectiveWatcher,
    RetentionConfig,
)
from farcall_store.engine import EngineBusyError, EngineError, Pool, run
from farcall_store.schema import RETAINED, retention_s

log = journal.get_log("store")

POLL_S = 1.0  # the config file; a live change is applied within this
SIZE_EVERY_S = 30.0
STATUS_EVERY_S = 10.0
PULSE_EVERY_S = 5.0
HUNG_AFTER_S = (
    30.0  # an engine under memory pressure was seen silent for 40 s and did not come back by itself
)
EXIT_HUNG = 70


def apply_retention(admin: Pool, retention: RetentionConfig) -> list[str]:
    """Makes every table's TTL what the config says; the names of those that were changed. Raises EngineError."""
    changed = []
    for table, column in RETAINED.items():
        wanted = f"toIntervalSecond({retention_s(table, retention)})"
        text = admin.run(
            "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = {t:String}",
            {"t": table},
        ).decode()
        found = re.search(r"TTL .*?(toIntervalSecond\(\d+\))", text)
        if found is None or found.group(1) != wanted:
            admin.run(
                f"ALTER TABLE {table} MODIFY TTL toDateTime({column}) + {wanted}", timeout_s=300
            )
            changed.append(table)
    return changed


def read_days(admin: Pool) -> dict[tuple[str, str], int]:
    """Bytes on disk of each (table, day)."""
    text = admin.run(
        "SELECT table, partition, sum(bytes_on_disk) FROM system.parts "
        "WHERE active AND database = currentDatabase() GROUP BY table, partition"
    ).decode()
    rows = [line.split("\t") for line in text.splitlines()]
    return {(table, day): int(size) for table, day, size in rows}


def drop_expired_days(
    admin: Pool, retention: RetentionConfig, *, today: date
) -> list[tuple[str, str]]:
    """Days whose every row is past its retention go now; the engine's own merges would take hours to notice."""
    dropped = []
    for table, day in read_days(admin):
        if table not in RETAINED or not _is_day(day):
            continue
        ended = date.fromisoformat(day) + timedelta(days=1)
        if ended + timedelta(seconds=retention_s(table, retention)) < today:
            _drop(admin, table, day)
            dropped.append((table, day))
    return dropped


def drop_over_size(admin: Pool, max_bytes: int, *, today: date) -> list[str]:
    """The oldest days of all tables go, one by one, until the rest fits; today stays whatever its size."""
    days = read_days(admin)
    total = sum(days.values())
    dropped = []
    for oldest in sorted({day for _, day in days if _is_day(day)}):
        if total <= max_bytes or oldest >= today.isoformat():
            break
        for table, day in [key for key in days if key[1] == oldest and key[0] in RETAINED]:
            _drop(admin, table, day)
            total -= days[table, day]
        dropped.append(oldest)
    return dropped


def _is_day(partition: str) -> bool:
    return re.fullmatch(r"\d{4}-\d{2}-\d{2}", partition) is not None


def _drop(admin: Pool, table: str, day: str) -> None:
    admin.run(f"ALTER TABLE {table} DROP PARTITION '{day}'", timeout_s=300)


class Upkeep:
    """The loop on its own thread. `stop` ends it."""

    def __init__(
        self,
        admin: Pool,
        watcher: EffectiveWatcher,
        counters: Counter[str],
        *,
        started_ns: int,
    ) -> None:
        self._admin = admin
        self._watcher = watcher
        self._counters = counters
        self._started_ns = started_ns
        self._retention = watcher.current.retention
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="upkeep", daemon=True)
        self._due: dict[str, float] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stop.set()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while not self._stop.is_set():
            for step in (self._follow_config, self._keep_size, self._write_status):
                try:
                    step()
                except (EngineError, EngineBusyError, TimeoutError) as e:
                    self._counters["upkeep_failed"] += 1
                    log.warning("upkeep failed", step=step.__name__.strip("_"), error=str(e))
            self._stop.wait(POLL_S)

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True

    def _follow_config(self) -> None:
        try:
            self._watcher.poll()
        except EffectiveConfigError as e:
            self._counters["config_refused"] += 1
            log.warning("config not applied", error=str(e))
        wanted = self._watcher.current.retention
        if wanted != self._retention:
            changed = apply_retention(self._admin, wanted)
            self._retention = wanted  # only after it worked: a failure is tried again
            self._due["size"] = 0.0
            log.info("retention applied", tables=len(changed))

    def _keep_size(self) -> None:
        if not self._is_due("size", SIZE_EVERY_S):
            return
        today = datetime.now(UTC).date()
        expired = drop_expired_days(self._admin, self._retention, today=today)
        over = drop_over_size(self._admin, self._retention.max_size_bytes, today=today)
        self._counters["expired_days_dropped"] += len(expired)
        self._counters["oversize_days_dropped"] += len(over)
        if over:
            log.warning(
                "days dropped before their time: the store is larger than maxSize", days=over
            )

    def _write_status(self) -> None:
        if not self._is_due("status", STATUS_EVERY_S):
            return
        disk = sum(read_days(self._admin).values())
        status = build_status(
            self._watcher.current, self._counters, disk_bytes=disk, started_ns=self._started_ns
        )
        self._admin.run(
            "INSERT INTO component_status (Seen, Kind, Name, Status) "
            "SELECT fromUnixTimestamp64Nano({seen:Int64}), 'store', {name:String}, {status:String}",
            {
                "seen": status.seen_ns,
                "name": escape_param(status.name),
                "status": escape_param(json.dumps(asdict(status))),
            },
        )


def escape_param(text: str) -> str:
    """A string parameter the way the engine reads it (TSV); clients do this by themselves."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def build_status(
    config: EffectiveConfig, counters: Counter[str], *, disk_bytes: int, started_ns: int
) -> ComponentStatus:
    return ComponentStatus(
        kind="store",
        name=config.name,
        version=version("farcall"),
        seen_ns=str(time.time_ns()),
        started_ns=str(started_ns),
        config_generation=config.generation,
        config_revision=config.revision,
        alive=True,
        capabilities=(),
        counters={name: str(value) for name, value in sorted(counters.items())},
        gauges={"disk_bytes": float(disk_bytes), "rss_bytes": float(read_rss_bytes())},
    )


def read_rss_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Watchdog:
    """Ends the process when the engine does not answer: whoever supervises it starts another, which takes a second."""

    def __init__(
        self,
        control: Pool,
        *,
        every_s: float = PULSE_EVERY_S,
        hung_after_s: float = HUNG_AFTER_S,
        on_hung: Callable[[], None] = lambda: os._exit(EXIT_HUNG),
    ) -> None:
        self._control = control
        self._every_s = every_s
        self._hung_after_s = hung_after_s
        self._on_hung = on_hung
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.wait(self._every_s):
            if not self._is_answering() and not self._stop.is_set():
                log.error("the engine does not answer: giving up", waited_s=self._hung_after_s)
                self._on_hung()
                return

    def _is_answering(self) -> bool:
        try:
            pulse: Future[bytes] = self._control.submit(
                lambda connection: run(connection, "SELECT 1")
            )
            pulse.result(self._hung_after_s)
        except EngineError:
            return True  # an answer, whatever it says
        except (TimeoutError, EngineBusyError):
            return False
        return True
