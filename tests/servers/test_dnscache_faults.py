"""Each thing that can be the matter with Redis has its own word, said by both sides, and both recover by themselves."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis

from farcall import secretfiles
from farcall.cacheacl import AGENT, EXPORTER, render_acl_rule
from farcall.cachefaults import SENTENCES, CacheFault
from farcall.cachereader import CacheReader, connect_redis
from farcall.dnscache import Answer, CacheQuestion
from farcall.envelope import DNS_CACHE
from farcall.secretfiles import read_secret
from farcall_exporter.counters import Counters
from farcall_exporter.lookups import RETRY_AFTER_S, Lookups
from farcall_probes.dnswriter import DnsWriter
from support_exporter_process import RedisProcess
from support_stopped import stopped

pytestmark = pytest.mark.servers

CLIENT, NAME = "c:1", "db.example.com"
WITHIN_S = 60.0


# A user who may break it, which the product's Redis has not.
ADMIN = ("user admin on nopass ~* &* +@all", "maxmemory-policy volatile-ttl")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    secrets_dir = tmp_path / "secrets"
    secrets_dir.mkdir()
    for name in secretfiles.ALL:
        (secrets_dir / name).write_text("s" * 40)
    running = RedisProcess(tmp_path, secrets_dir, more=ADMIN)
    try:
        yield running.start()
    finally:
        running.kill()


def administering(server: RedisProcess) -> "redis.Redis":
    return redis.Redis(unix_socket_path=str(server.socket), username="admin")


@contextmanager
def hanging(server: RedisProcess) -> Iterator[None]:
    assert server.process is not None
    with stopped(server.process.pid):
        yield


@contextmanager
def gone(server: RedisProcess) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextmanager
def read_only(server: RedisProcess) -> Iterator[None]:
    """A failover took its role."""
    with administering(server) as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        admin.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def without_replicas(server: RedisProcess) -> Iterator[None]:
    with administering(server) as admin:
        admin.config_set("min-replicas-to-write", 1)
        yield
        admin.config_set("min-replicas-to-write", 0)


@contextmanager
def full(server: RedisProcess) -> Iterator[None]:
    with administering(server) as admin:
        admin.config_set("maxmemory", 1)
        yield
        admin.config_set("maxmemory", 0)


@contextmanager
def wrong_password(server: RedisProcess) -> Iterator[None]:
    """Changed in one place; connections that were open before are cut."""
    with administering(server) as admin:
        for user in (AGENT, EXPORTER):
            set_user(admin, render_acl_rule(user, "another"))
            admin.execute_command("CLIENT", "KILL", "USER", user.name)
        yield
        for user in (AGENT, EXPORTER):
            password = read_secret(server.secrets_dir, user.password_file)
            set_user(admin, render_acl_rule(user, password))


@contextmanager
def without_rights(server: RedisProcess) -> Iterator[None]:
    with administering(server) as admin:
        for user in (AGENT, EXPORTER):
            admin.execute_command("ACL", "SETUSER", user.name, "-@all", "+info")
        yield
        for user in (AGENT, EXPORTER):
            password = read_secret(server.secrets_dir, user.password_file)
            set_user(admin, render_acl_rule(user, password))


def set_user(admin: "redis.Redis", rule: str) -> None:
    admin.execute_command("ACL", "SETUSER", *rule.split()[1:])


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("broken", "fault", "is_readable"),
    [
        (gone, CacheFault.GONE, False),
        (hanging, CacheFault.SLOW, False),
        (read_only, CacheFault.READ_ONLY, True),
        (without_replicas, CacheFault.READ_ONLY, True),
        (full, CacheFault.FULL, True),
        (wrong_password, CacheFault.REFUSED, False),
        (without_rights, CacheFault.REFUSED, False),
    ],
)
def test_it_is_said_by_both_sides_and_ends_by_itself(
    server: RedisProcess,
    broken: Callable[[RedisProcess], AbstractContextManager[None]],
    fault: CacheFault,
    is_readable: bool,
) -> None:
    writer = DnsWriter(server.writer, ttl_s=3600, check_every_s=0.1)
    writer.start()
    password = read_secret(server.secrets_dir, EXPORTER.password_file)
    reader = CacheReader(connect_redis(server.url, username=EXPORTER.name, password=password))
    counters = Counters()
    asked = Lookups(reader, counters, clock=time.monotonic)
    numbers = iter(range(1, 250))

    def tell() -> str:
        ip = f"203.0.113.{next(numbers)}"
        writer.put(
            [Answer(client_key=CLIENT, ip=ip, name=NAME, answered_at=time.time(), trusted=False)]
        )
        return ip

    def ask(ip: str) -> list[str]:
        question = CacheQuestion(client_key=CLIENT, ip=ip, local="a:1", peer=f"{ip}:2")
        [view] = asked.read([question])
        return [n.name for n in view.entry.client_names] if view.entry else []

    def ask_until_known(ip: str) -> bool:
        time.sleep(RETRY_AFTER_S / 10)
        return ask(ip) == [NAME] and not asked.trouble

    try:
        first = tell()
        wait(lambda: ask_until_known(first))
        assert writer.capability().on

        with broken(server):
            during = tell()
            wait(lambda: not writer.capability().on)
            said = writer.capability()
            assert (said.name, said.why.startswith(SENTENCES[fault])) == (DNS_CACHE, True), said
            assert writer.gauges()["cache_available"] == 0
            ask(f"203.0.113.{next(numbers)}")
            assert asked.trouble.startswith("" if is_readable else SENTENCES[fault])
            assert bool(asked.trouble) != is_readable

        wait(lambda: ask_until_known(during))
        wait(lambda: writer.capability().on)
        assert writer.counters().get("cache_answers_dropped", 0) == 0
    finally:
        writer.stop(1.0)
