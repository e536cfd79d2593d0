"""A real `farcall store` on a free port, in a folder of its own, for tests of any room."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver import httputil

from farcall import secretfiles
from farcall.api import Window
from farcall.effective import (
    CaptureConfig,
    DnsConfig,
    EffectiveConfig,
    Endpoints,
    ExporterConfig,
    RetentionConfig,
    write_effective,
)
from farcall.rows import TABLES, TableName
from support_ports import find_free_port

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND

START_WITHIN_S = 60
DAY_S = 86_400


def build_config(
    folder: Path, port: int, retention: RetentionConfig | None = None
) -> EffectiveConfig:
    return EffectiveConfig(
        name="test",
        generation=1,
        mode="local",
        tier="Hobby",
        node="test",
        cluster_cidrs=["127.0.0.0/8"],
        cluster_cidrs_source="given",
        dns=DnsConfig(ttl_s=3600, hold_while_connected=False, resolvers=[]),
        retention=retention
        or RetentionConfig(traces_s=30 * DAY_S, logs_s=30 * DAY_S, max_size_bytes=8 << 30),
        capture=CaptureConfig(
            protocols=[],
            host_processes=True,
            headers=[],
            masking=True,
            namespaces_include=[],
            namespaces_exclude=[],
            own_cgroups=[],
        ),
        exporter=ExporterConfig(),
        endpoints=Endpoints(
            exporter_ingest="http://127.0.0.1:1",
            exporter_otlp_http="http://127.0.0.1:2",
            redis="unix:///nowhere",
            store=f"http://127.0.0.1:{port}",
            console="http://127.0.0.1:3",
        ),
        secrets_dir=str(folder / "secrets"),
        state_dir=str(folder / "state"),
    )


@dataclass
class StoreProcess:
    """Not started yet; `start` waits until it serves."""

    folder: Path
    retention: RetentionConfig | None = None
    port: int = field(default_factory=find_free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        secrets_dir = self.folder / "secrets"
        secrets_dir.mkdir(parents=True, exist_ok=True)
        for name in secretfiles.ALL:
            (secrets_dir / name).write_text(secrets.token_urlsafe(32), encoding="ascii")
        self.write_config(build_config(self.folder, self.port, self.retention))

    def write_config(self, config: EffectiveConfig) -> None:
        self.config = config
        write_effective(config, self.folder / "effective.json")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def password(self, user: str) -> str:
        return (self.folder / "secrets" / f"store-{user}-password").read_text(encoding="ascii")

    def spawn(self) -> subprocess.Popen[bytes]:
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "farcall.commands",
            "store",
            "--config",
            str(self.folder / "effective.json"),
            "--ready-file",
            str(ready),
        ]
        with (self.folder / "store.log").open("ab") as log:
            return subprocess.Popen(command, stderr=log, stdout=log)

    def start(self) -> "StoreProcess":
        self.process = self.spawn()
        deadline = time.monotonic() + START_WITHIN_S
        while not (self.folder / "ready").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the store did not start: {self.read_log()}")
            time.sleep(0.02)
        return self

    def stop(self) -> int:
        """By SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(60)
            self.process = None

    def read_log(self) -> str:
        return (self.folder / "store.log").read_text(encoding="utf-8", errors="replace")


@contextmanager
def running_store(folder: Path, retention: RetentionConfig | None = None) -> Iterator[StoreProcess]:
    store = StoreProcess(folder, retention)
    try:
        yield store.start()
    finally:
        store.kill()


def connect(store: StoreProcess, user: str, **options: Any) -> Any:
    """The real client as this user; options are those of clickhouse_connect.get_client."""
    return clickhouse_connect.get_client(
        host="127.0.0.1",
        port=store.port,
        username=user,
        password=options.pop("password", None) or store.password(user),
        database="farcall",
        autogenerate_session_id=options.pop("autogenerate_session_id", False),
        compress=options.pop("compress", False),
        query_retries=0,
        send_receive_timeout=30,
        pool_mgr=httputil.get_pool_manager(),
        **options,
    )


# ---- rows ---------------------------------------------------------------------------------------------------------


def _default_of(kind: pa.DataType) -> object:
    if pa.types.is_map(kind) or pa.types.is_list(kind):
        return []
    if pa.types.is_boolean(kind):
        return False
    if pa.types.is_integer(kind):
        return 0
    return ""


def build_table(name: TableName, rows: list[dict[str, object]]) -> pa.Table:
    """Rows with what is left out filled in: "", 0, empty. Maps may be dicts, times are integers (ns)."""
    schema = TABLES[name]
    columns = []
    for field_ in schema:
        default = None if field_.nullable else _default_of(field_.type)
        values = [row.get(field_.name, default) for row in rows]
        values = [list(value.items()) if isinstance(value, dict) else value for value in values]
        columns.append(pa.array(values, type=field_.type))
    unknown = {key for row in rows for key in row} - set(schema.names)
    assert not unknown, f"no such columns: {unknown}"
    return pa.Table.from_arrays(columns, schema=schema)


def span(at_ns: int, trace: str, span_id: str, **columns: object) -> dict[str, object]:
    return {
        "Timestamp": at_ns,
        "TraceId": trace,
        "SpanId": span_id,
        "SpanName": "GET /",
        "SpanKind": "Client",
        "ServiceName": "shop",
        "Duration": 1_000_000,
        "StatusCode": "Unset",
        "Source": "ebpf",
        **columns,
    }


def log_line(at_ns: int, body: str, **columns: object) -> dict[str, object]:
    return {
        "Timestamp": at_ns,
        "ObservedTimestamp": at_ns,
        "Body": body,
        "ServiceName": "shop",
        "SeverityText": "INFO",
        "SeverityNumber": 9,
        **columns,
    }


def trace_id(number: int) -> str:
    return f"{number:032x}"


def span_id(number: int) -> str:
    return f"{number:016x}"


def around(at: int, hours: int = 1) -> Window:
    return Window(from_ns=at - SECOND, to_ns=at + hours * HOUR)


def wait_until(condition: Callable[[], bool], what: str, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
