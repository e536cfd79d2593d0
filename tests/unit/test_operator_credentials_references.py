"""Secrets that the user names: every missing or unusable one is a sentence, and what they hold rolls who sees it."""

import asyncio
from datetime import datetime
from typing import Any

import pytest

from farcall import tlsfiles
from farcall_operator import certificates
from farcall_operator.context import Credentials
from support_credentials import DAY, NOW, SecretsOnly, ensure

pytestmark = pytest.mark.unit

REDIS = {"redis-agent-password": "a" * 40, "redis-exporter-password": "e" * 40}
CACHE = {"existingSecret": "our-redis"}
SECRET = {"mode": "secret", "secretRef": "our-tls"}
HOSTS = ("main-exporter.tracing.svc", "*.tracing.svc")


def look(cluster: SecretsOnly, now: datetime = NOW, **spec: Any) -> Credentials:
    return asyncio.run(ensure(cluster, now, **spec))


def make_files(names: tuple[str, ...] = HOSTS, now: datetime = NOW) -> dict[str, str]:
    authority = certificates.make_authority("theirs", now)
    serving = certificates.issue_certificate(authority.current, names, now)
    return {
        tlsfiles.CA: authority.bundle,
        tlsfiles.CERTIFICATE: serving.certificate_pem,
        tlsfiles.PRIVATE_KEY: serving.key_pem,
    }


def test_passwords_of_the_users_are_seen_by_all_that_talk_to_redis() -> None:
    cluster = SecretsOnly()
    cluster.put("our-redis", REDIS)
    before = look(cluster, dnsCache=CACHE)
    cluster.put("our-redis", {**REDIS, "redis-agent-password": "b" * 40})
    after = look(cluster, dnsCache=CACHE)

    assert before.problems == after.problems == ()
    assert {n for n in before.hashes if before.hashes[n] != after.hashes[n]} == {"probe", "redis"}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (None, "there is no Secret our-redis in the namespace tracing"),
        ({}, "the Secret our-redis lacks the keys redis-agent-password, redis-exporter-password"),
        (
            {**REDIS, "redis-agent-password": "x y" * 20},
            "the Secret our-redis, key redis-agent-password: holds spaces or control characters",
        ),
        (
            {**REDIS, "redis-exporter-password": "hunter2"},
            "the Secret our-redis, key redis-exporter-password: holds fewer than 32 characters",
        ),
        (
            {**REDIS, "redis-exporter-password": "e" * 40 + " \n"},
            "the Secret our-redis, key redis-exporter-password: begins or ends with a space",
        ),
    ],
)
def test_unusable_passwords_are_told(values: dict[str, str] | None, problem: str) -> None:
    cluster = SecretsOnly()
    if values is not None:
        cluster.put("our-redis", values)
    told = look(cluster, dnsCache=CACHE)

    assert told.problems == (f"spec.dnsCache.existingSecret: {problem}",)
    assert "hunter2" not in repr(told)


def test_every_named_secret_is_looked_for() -> None:
    told = look(
        SecretsOnly(),
        images={"pullSecrets": ["registry"]},
        tls={"mode": "secret", "secretRef": "certs"},
        exporter={
            "clickhouse": {"url": "https://ch:8443", "secretRef": "ch"},
            "otlp": {
                "endpoint": "https://otlp:4318",
                "headersSecretRef": "headers",
                "tls": {"caSecretRef": {"name": "otlp-ca", "key": "ca.crt"}},
            },
        },
    )

    assert sorted(told.problems) == sorted(
        f"{field}: there is no Secret {name} in the namespace tracing"
        for field, name in (
            ("spec.images.pullSecrets[0]", "registry"),
            ("spec.tls.secretRef", "certs"),
            ("spec.exporter.clickhouse.secretRef", "ch"),
            ("spec.exporter.otlp.headersSecretRef", "headers"),
            ("spec.exporter.otlp.tls.caSecretRef", "otlp-ca"),
        )
    )


def test_what_the_exporter_alone_sees_rolls_the_exporter_alone() -> None:
    cluster = SecretsOnly()
    spec = {"exporter": {"clickhouse": {"url": "https://ch:8443", "secretRef": "ch"}}}
    cluster.put("ch", {"username": "farcall", "password": "one"})
    before = look(cluster, **spec)
    cluster.put("ch", {"username": "farcall", "password": "two"})
    after = look(cluster, **spec)

    assert before.problems == ()
    assert {n for n in before.hashes if before.hashes[n] != after.hashes[n]} == {"exporter"}


def test_what_the_exporter_reads_each_time_rolls_nobody() -> None:
    cluster = SecretsOnly()
    spec = {"exporter": {"otlp": {"endpoint": "https://otlp:4318", "headersSecretRef": "headers"}}}
    cluster.put("headers", {"x-api-key": "one"})
    before = look(cluster, **spec)
    cluster.put("headers", {"x-api-key": "two"})

    assert before.problems == ()
    assert look(cluster, **spec).hashes == before.hashes


def test_given_certificates_are_used_as_they_are() -> None:
    cluster = SecretsOnly()
    files = make_files()
    cluster.put("our-tls", files)
    made = look(cluster, tls=SECRET)

    assert made.problems == ()
    assert made.ca_pem == files[tlsfiles.CA]
    assert sorted(cluster.secrets) == ["main-secrets", "our-tls"]
    assert made.renew_at == NOW + 90 * DAY


def test_given_certificates_roll_redis_alone() -> None:
    cluster = SecretsOnly()
    cluster.put("our-tls", make_files())
    before = look(cluster, tls=SECRET)
    cluster.put("our-tls", make_files())
    after = look(cluster, tls=SECRET)

    assert {n for n in before.hashes if before.hashes[n] != after.hashes[n]} == {"redis"}


OTHER = make_files()


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ({tlsfiles.CA: "x"}, "ca.crt holds no certificate in PEM"),
        ({tlsfiles.CERTIFICATE: "x"}, "tls.crt holds no certificate in PEM"),
        ({tlsfiles.PRIVATE_KEY: "x"}, "tls.key is not the key of tls.crt"),
        ({tlsfiles.PRIVATE_KEY: OTHER[tlsfiles.PRIVATE_KEY]}, "tls.key is not the key of tls.crt"),
        ({tlsfiles.CA: OTHER[tlsfiles.CA]}, "tls.crt is not signed by an authority in ca.crt"),
        (make_files(("main-redis.tracing.svc",)), "tls.crt is not for main-exporter.tracing.svc"),
        (make_files(now=NOW - 100 * DAY), "tls.crt expired at 2026-02-19T12:00:00Z"),
    ],
)
def test_unusable_certificates_are_told_before_anybody_refuses_them(
    change: dict[str, str], flaw: str
) -> None:
    cluster = SecretsOnly()
    cluster.put("our-tls", {**make_files(), **change})
    told = look(cluster, tls=SECRET)

    assert told.problems == (f"spec.tls.secretRef: the Secret our-tls: {flaw}",)


def test_a_reserved_character_of_another_encoding_does_not_break_the_look() -> None:
    cluster = SecretsOnly()
    cluster.put("our-redis", REDIS)
    cluster.secrets["our-redis"]["data"]["redis-agent-password"] = "//79" * 20  # no UTF-8
    told = look(cluster, dnsCache=CACHE)

    assert len(told.problems) == 1
    assert "redis-agent-password: holds spaces or control characters" in told.problems[0]
