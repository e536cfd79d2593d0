"""Redis' configuration for the DNS cache, as text. Pure; both backends write it.

Entries can be learnt again and carry their own expiry, so losing them costs warm-up only: nothing outlives the pod or
the run on Hobby, and Scale appends every second. Never both the snapshot and the append-only file: that doubles the disk's work.
"""

from dataclasses import dataclass

from farcall.tiers import RedisSizing


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """`listen` are the lines that say where Redis can be reached; they differ between the backends."""

    listen: tuple[str, ...]
    data_dir: str
    maxmemory_bytes: int
    append_only: bool


# The fork that rewrites the file shares pages until they are written to, and the file has a buffer: both are outside
# of maxmemory.
MAX_PERCENT_APPENDING = 60
MIN_MAXMEMORY = 1 << 20  # 0 would mean: without bound


def build_redis_settings(
    sizing: RedisSizing,
    *,
    memory_bytes: int,
    listen: tuple[str, ...],
    data_dir: str,
    append_only: bool,
) -> RedisSettings:
    most = MAX_PERCENT_APPENDING if append_only else 100
    percent = min(sizing.maxmemory_percent, most)
    return RedisSettings(
        listen=listen,
        data_dir=data_dir,
        maxmemory_bytes=max(memory_bytes * percent // 100, MIN_MAXMEMORY),
        append_only=append_only,
    )


def render_redis_conf(settings: RedisSettings, *, acl_lines: tuple[str, ...]) -> str:
    """`acl_lines` are `user` rules or an `aclfile` line; the default user is switched off either way."""
    lines = [
        *settings.listen,
        "daemonize no",
        'logfile ""',
        f"dir {quote(settings.data_dir)}",
        'save ""',
        f"appendonly {'yes' if settings.append_only else 'no'}",
        "appendfsync everysec",
        "auto-aof-rewrite-min-size 16mb",  # the default of 64mb is much beside a cache of 96 Mi
        "stop-writes-on-bgsave-error no",
        f"maxmemory {settings.maxmemory_bytes}",
        # Every key has an expiry (farcall.dnscache), so this always has something to give up; `noeviction` is the
        # default and would turn a full cache into write errors.
        "maxmemory-policy volatile-ttl",
        *acl_lines,
    ]
    return "\n".join(lines) + "\n"


def quote(text: str) -> str:
    """A value of redis.conf in double quotes. Raises ValueError for what no path of ours may hold."""
    if any(ord(c) < 0x20 for c in text):
        raise ValueError(f"{text!r} holds a control character")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
