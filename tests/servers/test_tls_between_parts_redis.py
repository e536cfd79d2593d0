"""The DNS cache by TLS: a real Redis with the operator's lines, the agent's writer and the exporter's reader."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis

from farcall import secretfiles, tlsfiles
from farcall.cacheacl import AGENT, EXPORTER
from farcall.cachereader import CacheReader, connect_redis
from farcall.dnscache import Answer, CacheQuestion, CacheUnavailableError, CacheWriter
from farcall.redislink import RedisLink
from farcall.secretfiles import read_secret
from farcall_operator.local.credentials import write_secrets
from farcall_probes.dnswriter import DnsWriter
from support_local import wait_until
from support_tls import HOST, Files, TlsRedis, make_files, write_files

pytestmark = pytest.mark.servers
FILES = make_files()


@pytest.fixture(scope="module")
def cache() -> Iterator[TlsRedis]:
    with TemporaryDirectory(prefix="fc-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "secrets").mkdir()
        write_secrets(folder / "secrets", folder / "kept")
        write_files(folder / "secrets", FILES)
        cache = TlsRedis(folder, folder / "secrets")
        try:
            yield cache.start()
        finally:
            cache.kill()


def connect(cache: TlsRedis, ca_file: Path, user: str = AGENT.name) -> "redis.Redis":
    name = AGENT.password_file if user == AGENT.name else EXPORTER.password_file
    password = read_secret(cache.secrets_dir, name)
    return connect_redis(cache.url, username=user, password=password, ca_file=ca_file)


def open_link(cache: TlsRedis, ca_file: Path) -> RedisLink:
    password = read_secret(cache.secrets_dir, AGENT.password_file)
    return RedisLink(cache.url, username=AGENT.name, password=password, ca_file=ca_file)


def answer(ip: str) -> Answer:
    return Answer(
        client_key="c1", ip=ip, name="db.example.com", answered_at=time.time(), trusted=True
    )


def ask(reader: CacheReader, ip: str) -> list[str]:
    question = CacheQuestion(client_key="c1", ip=ip, local="10.0.0.1:1", peer=f"{ip}:5432")
    (entry,) = reader.read([question])
    return [named.name for named in entry.client_names]


def test_the_agent_writes_and_the_exporter_reads(cache: TlsRedis) -> None:
    writer = DnsWriter(lambda: CacheWriter(open_link(cache, cache.ca_file)), ttl_s=3600)
    writer.start()
    try:
        writer.put([answer("203.0.113.1")])
        reader = CacheReader(connect(cache, cache.ca_file, EXPORTER.name))
        wait_until(lambda: ask(reader, "203.0.113.1") == ["db.example.com"], what="it is read")
        assert writer.counters().get("cache_tls_failures", 0) == 0
    finally:
        writer.stop(1.0)


def test_plain_text_is_refused(cache: TlsRedis) -> None:
    password = read_secret(cache.secrets_dir, AGENT.password_file)
    plain = connect_redis(f"redis://{HOST}:{cache.port}", username=AGENT.name, password=password)
    with pytest.raises(CacheUnavailableError):
        CacheReader(plain).read([CacheQuestion(client_key="c", ip="10.0.0.1", local="", peer="")])


def test_without_an_authority_nobody_is_trusted(cache: TlsRedis) -> None:
    with pytest.raises(CacheUnavailableError, match="needs a certificate authority"):
        connect_redis(cache.url, username=None, password=None)


def test_the_authorities_of_the_system_are_not_trusted(
    cache: TlsRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL's own setting names ours as one of the system's; the pinned file has another."""
    monkeypatch.setenv("SSL_CERT_FILE", str(cache.ca_file))
    write_files(tmp_path, make_files())
    with pytest.raises(CacheUnavailableError) as raised:
        CacheWriter(open_link(cache, tmp_path / tlsfiles.CA)).has_lost_memory()

    assert raised.value.tls is not None
    assert raised.value.tls.cause == "ca"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (make_files(), "is not of our certificate authority"),
        ({tlsfiles.CA: ""}, "cannot be used"),
        ({}, "is missing"),
    ],
    ids=["another", "empty", "missing"],
)
def test_a_wrong_authority_keeps_the_answers_until_it_is_mended(
    cache: TlsRedis, tmp_path: Path, capfd: pytest.CaptureFixture[str], wrong: Files, said: str
) -> None:
    write_files(tmp_path, wrong)
    ip = f"203.0.113.{10 + len(said)}"
    writer = DnsWriter(lambda: CacheWriter(open_link(cache, tmp_path / tlsfiles.CA)), ttl_s=3600)
    writer.start()
    try:
        writer.put([answer(ip)])
        wait_until(lambda: writer.counters().get("cache_tls_failures"), what="it is counted")
        assert writer.gauges()["cache_available"] == 0
        told = capfd.readouterr()
        assert said in told.out + told.err

        write_files(tmp_path, FILES)
        reader = CacheReader(connect(cache, cache.ca_file, EXPORTER.name))
        wait_until(lambda: ask(reader, ip) == ["db.example.com"], what="the answer arrives")
        assert writer.counters().get("cache_answers_dropped", 0) == 0
    finally:
        writer.stop(1.0)


@pytest.mark.parametrize("cause", ["expired", "name"])
def test_a_server_with_an_unusable_certificate_is_refused_and_told(
    tmp_path_factory: pytest.TempPathFactory, cause: str
) -> None:
    folder = tmp_path_factory.mktemp("r")
    (folder / "secrets").mkdir()
    write_secrets(folder / "secrets", folder / "kept")
    bad = (
        make_files(age=timedelta(days=400)) if cause == "expired" else make_files(name="other.svc")
    )
    write_files(folder / "secrets", bad)
    cache = TlsRedis(folder, folder / "secrets")
    try:
        with pytest.raises(AssertionError, match="did not start"):
            cache.start(within_s=1)
        with pytest.raises(CacheUnavailableError) as raised:
            CacheWriter(open_link(cache, cache.ca_file)).has_lost_memory()
        assert raised.value.tls is not None
        assert raised.value.tls.cause == cause
    finally:
        cache.kill()


def test_no_secret_is_in_the_log(cache: TlsRedis) -> None:
    log = (cache.folder / "redis.log").read_text(errors="replace")

    assert "PRIVATE KEY" not in log
    for name in secretfiles.ALL:
        assert read_secret(cache.secrets_dir, name) not in log
