"""What the demo can see of farcall: the API, the run directory, the Redis cache. Asks, and judges nothing."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import redis

from farcall.api import LogLine, LogPage, LogQuery, Span, SpanPage, SpanQuery, Status, Trace, Window
from farcall.cacheacl import EXPORTER
from farcall.cachereader import connect_redis
from farcall.client import ApiClient, find_server
from farcall.dnscache import PREFIX
from farcall.effective import EffectiveConfig, read_effective, write_effective
from farcall.rundir import RunDir
from farcall.secretfiles import read_secret

NS_PER_S = 1_000_000_000
SPANS_AT_ONCE = 500
ASK_WITHIN_S = 5.0  # the demo must end within 10 s of being told to, also when nobody answers


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKey:
    """One key of the DNS cache, with the name it holds and when that was answered."""

    key: str
    name: str
    answered_at: float
    expires_at: float


class Questions(Protocol):
    """The part of farcall.client.ApiClient that the demo asks through."""

    def list_spans(self, query: SpanQuery) -> SpanPage: ...

    def list_logs(self, query: LogQuery) -> LogPage: ...

    def read_trace(self, trace_id: str) -> Trace: ...

    def read_status(self) -> Status: ...


@dataclass(slots=True)
class View:
    """`since_ns` is where looking begins: spans of before belong to an earlier scenario."""

    run_dir: RunDir
    client: Questions
    since_ns: int = field(default_factory=time.time_ns)

    def list_spans(self, query: str) -> tuple[Span, ...]:
        """Newest first."""
        window = Window(from_ns=self.since_ns, to_ns=time.time_ns() + NS_PER_S)
        return self.client.list_spans(SpanQuery(q=query, window=window, limit=SPANS_AT_ONCE)).items

    def list_logs_of(self, trace_id: str) -> tuple[LogLine, ...]:
        return self.client.list_logs(LogQuery(trace_ids=(trace_id,), ascending=True)).items

    def read_trace(self, trace_id: str) -> Trace:
        return self.client.read_trace(trace_id)

    def read_status(self) -> Status:
        return self.client.read_status()

    def read_config(self) -> EffectiveConfig:
        return read_effective(self.run_dir.effective)

    def override_ttl(self, seconds: int | None) -> None:
        """Changes the one live field that exists for this, in the file that every component watches."""
        config = self.read_config()
        dns = config.dns.model_copy(update={"ttl_override_s": seconds})
        write_effective(config.model_copy(update={"dns": dns}), self.run_dir.effective)

    def list_cache_keys(self, address: str) -> list[CacheKey]:
        """The per-client keys of `address`, as any Redis client can read them. Raises redis.RedisError."""
        config = self.read_config()
        password = read_secret(config.secrets_dir, EXPORTER.password_file)
        with connect_redis(
            config.endpoints.redis, username=EXPORTER.name, password=password
        ) as client:
            keys = sorted(client.scan_iter(match=f"{PREFIX}a:*:{address}", count=1000))
            return [found for key in keys for found in read_cache_key(client, key)]

    def kill_agent(self) -> int:
        """kill -9, as an out-of-memory kill would. The process ID that was."""
        pid = read_pid(self.run_dir.pid_file("agent"))
        os.kill(pid, signal.SIGKILL)
        return pid

    def is_agent_back(self, *, killed: int, killed_at_ns: int) -> bool:
        """Another process, which said that it is ready after the kill."""
        try:
            pid = read_pid(self.run_dir.pid_file("agent"))
            ready_ns = self.run_dir.ready_file("agent").stat().st_mtime_ns
        except (OSError, ValueError):
            return False
        return pid != killed and ready_ns > killed_at_ns


def open_view(run_dir: RunDir) -> View:
    return View(run_dir=run_dir, client=ApiClient(find_server(run_dir), timeout_s=ASK_WITHIN_S))


def read_pid(path: Path) -> int:
    """Raises OSError or ValueError."""
    return int(path.read_text(encoding="ascii"))


def read_cache_key(client: "redis.Redis", key: str) -> list[CacheKey]:
    expires_at = client.pexpiretime(key) / 1_000
    return [
        CacheKey(
            key=key,
            name=str(name),
            answered_at=float(client.zscore(key, str(name)) or 0),
            expires_at=float(expires_at),
        )
        for name in client.zrange(key, 0, -1)
    ]
