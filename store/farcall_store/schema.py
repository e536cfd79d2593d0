"""Tables of the store: names, the migrations that make them, and retention. It runs statements, and opens nothing.

Forward only: a step is recorded after its last statement, every statement may run twice (IF NOT EXISTS), so a
kill in the middle is mended by the next start.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources

from farcall.effective import RetentionConfig
from farcall.rows import TableName
from farcall_store.claims import WINDOW
from farcall_store.engine import DATABASE

TABLE_NAMES: dict[TableName, str] = {
    "spans": "otel_traces",
    "logs": "otel_logs",
    "links": "trace_links",
    "joins": "span_joins",
    "late_names": "late_names",
    "sights": "sights",
    "dns_answers": "dns_answers",
    "connections": "connections",
}

# Which retention a table follows, and the column that it counts from. What explains a span lives as long as the span.
_BY_TRACES = ("otel_traces", "trace_links", "span_joins", "late_names", "sights", "dns_answers", "connections")  # fmt: skip
RETAINED: dict[str, str] = {
    **dict.fromkeys((*_BY_TRACES, "otel_logs"), "Timestamp"),
    "otel_traces_trace_id_ts": "Start",
}

_DEDUPLICATION = f"non_replicated_deduplication_window = {WINDOW}"
Execute = Callable[[str, Mapping[str, str]], bytes]


class SchemaError(Exception):
    """The folder's schema is not one that this version can use; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def retention_s(table: str, retention: RetentionConfig) -> int:
    return retention.logs_s if table == "otel_logs" else retention.traces_s


def read_migrations() -> list[Migration]:
    found = []
    for file in resources.files("farcall_store.migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_([a-z0-9_]+)\.sql", file.name)
        if match:
            text = file.read_text(encoding="utf-8")
            found.append(Migration(number=int(match.group(1)), name=match.group(2), text=text))
    return sorted(found, key=lambda migration: migration.number)


def render_values(retention: RetentionConfig) -> dict[str, str]:
    """What the embedded engine's tables are made with. A cluster would have Replicated engines here."""
    traces = f"toIntervalSecond({retention.traces_s})"
    return {
        "engine": "MergeTree",
        "replacing": "ReplacingMergeTree",
        "replacing_by_seen": "ReplacingMergeTree(Seen)",
        "replacing_by_number": "ReplacingMergeTree(Number)",
        "replacing_by_version": "ReplacingMergeTree(Version)",
        "on_cluster": "",
        "traces_ttl": traces,
        "evidence_ttl": traces,
        "logs_ttl": f"toIntervalSecond({retention.logs_s})",
        "settings": f"index_granularity = 8192, ttl_only_drop_parts = 1, {_DEDUPLICATION}",
        "plain_settings": _DEDUPLICATION,
    }


def render_statements(migration: Migration, values: Mapping[str, str]) -> list[str]:
    """The step's statements with `{name}` filled in. Raises KeyError for a name that nobody fills."""
    text = re.sub(r"\{([a-z_]+)\}", lambda match: values[match.group(1)], migration.text)
    return [
        statement.strip() for statement in re.split(r";\s*\n|;\s*\Z", text) if statement.strip()
    ]


def migrate(execute: Execute, retention: RetentionConfig) -> int:
    """Brings the database to the newest schema and says how many steps that took. Raises SchemaError."""
    execute(
        f"CREATE TABLE IF NOT EXISTS {DATABASE}.schema_migrations (Number UInt32, Name String, Checksum String, "
        "Applied DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = MergeTree ORDER BY Number",
        {},
    )
    migrations = read_migrations()
    applied = _read_applied(execute)
    _check_applied(migrations, applied)
    pending = [migration for migration in migrations if migration.number not in applied]
    values = render_values(retention)
    for migration in pending:
        for statement in render_statements(migration, values):
            execute(statement, {})
        execute(
            f"INSERT INTO {DATABASE}.schema_migrations (Number, Name, Checksum) "
            "SELECT {number:UInt32}, {name:String}, {checksum:String}",
            {
                "number": str(migration.number),
                "name": migration.name,
                "checksum": migration.checksum,
            },
        )
    return len(pending)


def _read_applied(execute: Execute) -> dict[int, str]:
    text = execute(f"SELECT Number, Checksum FROM {DATABASE}.schema_migrations", {}).decode()
    rows = [line.split("\t") for line in text.splitlines()]
    return {int(number): checksum for number, checksum in rows}


def _check_applied(migrations: list[Migration], applied: Mapping[int, str]) -> None:
    known = {migration.number: migration for migration in migrations}
    for number, checksum in sorted(applied.items()):
        if number not in known:
            raise SchemaError(
                f"the data folder has schema step {number}, which this version does not know; run the newer version"
            )
        if known[number].checksum != checksum:
            raise SchemaError(
                f"schema step {number} ({known[number].name}) was applied in another wording; this data folder belongs to another build"
            )
