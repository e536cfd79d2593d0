"""The DNS cache's users against a real Redis with the configuration that local mode writes."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from farcall.cacheacl import AGENT, EXPORTER, NO_DEFAULT_USER, USERS, render_acl_rule
from farcall.cachereader import CacheReader, connect_redis
from farcall.dnscache import (
    Answer,
    Binding,
    CacheQuestion,
    CacheUnavailableError,
    CacheWriter,
    client_key_of_address,
)
from farcall.quantities import parse_bytes
from farcall.redislink import RedisLink
from farcall.secretfiles import read_secret
from farcall.tiers import TIERS
from farcall_operator.local.checks import find_program
from farcall_operator.local.credentials import write_secrets
from farcall_operator.local.surroundings import is_redis_ready
from farcall_operator.redisconf import build_redis_settings, quote, render_redis_conf
from support_local import wait_until

pytestmark = pytest.mark.servers
TTL_S = 3_600


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="fc-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "secrets").mkdir()
        write_secrets(folder / "secrets", folder / "kept")
        settings = build_redis_settings(
            TIERS["Hobby"].redis,
            memory_bytes=parse_bytes(TIERS["Hobby"].redis.memory),
            listen=("port 0", f"unixsocket {quote(name + '/redis.sock')}"),
            data_dir=name,
            append_only=False,
        )
        rules = [
            render_acl_rule(user, read_secret(folder / "secrets", user.password_file))
            for user in USERS
        ]
        conf = folder / "redis.conf"
        conf.write_text(render_redis_conf(settings, acl_lines=(NO_DEFAULT_USER, *rules)))
        program = find_program("redis-server") or "redis-server"
        server = subprocess.Popen([program, str(conf)], stdout=subprocess.DEVNULL)
        try:
            wait_until(
                lambda: is_redis_ready(folder / "redis.sock", folder / "secrets"),
                what="Redis answered PING",
            )
            yield folder
        finally:
            server.terminate()
            server.wait()


def url_of(folder: Path) -> str:
    return f"unix://{folder}/redis.sock"


def test_the_agent_writes_all_it_knows_and_the_exporter_reads_it(folder: Path) -> None:
    now = time.time()
    answer = Answer(
        client_key="c1", ip="203.0.113.7", name="cache.example.com", answered_at=now, trusted=True
    )
    binding = Binding(
        client_key="c1",
        local="10.0.0.1:4000",
        peer="203.0.113.7:6379",
        name="cache.example.com",
        answered_at=now,
    )
    password = read_secret(folder / "secrets", AGENT.password_file)
    writer = CacheWriter(RedisLink(url_of(folder), username=AGENT.name, password=password))
    writer.write([answer], [binding], ttl_s=TTL_S, now=now)
    assert not writer.has_lost_memory()

    question = CacheQuestion(
        client_key="c1", ip="203.0.113.7", local="10.0.0.1:4000", peer="203.0.113.7:6379"
    )
    password = read_secret(folder / "secrets", EXPORTER.password_file)
    with connect_redis(url_of(folder), username=EXPORTER.name, password=password) as client:
        (entry,) = CacheReader(client).read([question])
        key = client_key_of_address("c1", "203.0.113.7")
        assert list(client.scan_iter(match="fc1:a:*")) == [key]
        assert client.ttl(key) in (TTL_S - 1, TTL_S)
        assert client.info("stats")["evicted_keys"] == 0

    names = [found[0].name for found in (entry.client_names, entry.cluster_names, entry.tombstones)]
    assert names == ["cache.example.com"] * 3
    assert entry.binding is not None
    assert entry.binding.name == "cache.example.com"


def test_the_exporter_may_not_write(folder: Path) -> None:
    password = read_secret(folder / "secrets", EXPORTER.password_file)
    answer = Answer(client_key="c2", ip="203.0.113.8", name="x", answered_at=1.0, trusted=False)
    link = RedisLink(url_of(folder), username=EXPORTER.name, password=password)
    with pytest.raises(CacheUnavailableError, match="NOPERM"):
        CacheWriter(link).write([answer], [], ttl_s=TTL_S, now=2.0)


@pytest.mark.parametrize("command", [("SET", "other", "1"), ("FLUSHALL",), ("CONFIG", "GET", "*")])
def test_the_agent_may_do_nothing_else(folder: Path, command: tuple[str, ...]) -> None:
    password = read_secret(folder / "secrets", AGENT.password_file)
    with connect_redis(url_of(folder), username=AGENT.name, password=password) as client:
        with pytest.raises(Exception, match="permissions"):
            client.execute_command(*command)


def test_nobody_without_a_password_may_even_ask(folder: Path) -> None:
    with connect_redis(url_of(folder), username=None, password=None) as client:
        with pytest.raises(Exception, match="Authentication required"):
            client.ping()


def test_a_wrong_password_is_not_ready(folder: Path, tmp_path: Path) -> None:
    write_secrets(tmp_path, tmp_path / "kept")

    assert not is_redis_ready(folder / "redis.sock", tmp_path)
    assert not is_redis_ready(folder / "none.sock", folder / "secrets")
