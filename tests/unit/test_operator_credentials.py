"""The operator's own Secrets: made once, completed, never overwritten, never taken from somebody else."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from farcall import secretfiles, tlsfiles
from farcall_operator.cluster.port import ClusterError
from farcall_operator.context import Context
from farcall_operator.kubernetes import build_manifests
from farcall_operator.layout import REDIS_FILES as USERS_FILES
from farcall_operator.manifests import render_manifests
from support_credentials import (
    DAY,
    NAMESPACE,
    NOW,
    OURS,
    OWNER,
    SecretsOnly,
    ensure,
    make_config,
)

pytestmark = pytest.mark.unit
T = TypeVar("T")
ALL = ["main-ca", "main-exporter-tls", "main-redis-tls", "main-secrets"]


def run(work: Awaitable[T]) -> T:
    async def wait() -> T:
        return await work

    return asyncio.run(wait())


def test_all_secrets_are_made_at_first() -> None:
    cluster = SecretsOnly()
    made = run(ensure(cluster))

    assert sorted(cluster.secrets) == ALL
    assert (made.problems, made.writes) == ((), 4)
    values = cluster.values("main-secrets")
    assert set(values) == set(secretfiles.ALL)
    assert all(len(value) >= 43 for value in values.values())
    assert len(set(values.values())) == len(values)
    assert made.ingest_token == values[secretfiles.INGEST_TOKEN]
    assert set(made.hashes) == {"probe", "redis", "exporter"}
    for name in ALL:
        metadata = cluster.secrets[name]["metadata"]
        assert metadata["ownerReferences"] == [OWNER]
        assert OURS.items() <= metadata["labels"].items()
    for name in ("main-exporter-tls", "main-redis-tls"):
        assert cluster.secrets[name]["type"] == "kubernetes.io/tls"
        assert set(cluster.values(name)) == set(tlsfiles.ALL)
        assert cluster.values(name)[tlsfiles.CA] == made.ca_pem


def test_nothing_is_written_when_all_is_there() -> None:
    cluster = SecretsOnly()
    first = run(ensure(cluster))
    cluster.requests.clear()
    second = run(ensure(cluster, NOW + DAY))

    assert {verb for verb, _ in cluster.requests} == {"get"}
    assert second.writes == 0
    assert (second.hashes, second.ca_pem) == (first.hashes, first.ca_pem)
    assert second.renew_at == first.renew_at
    assert second.renew_at is not None
    assert NOW + 59 * DAY < second.renew_at < NOW + 61 * DAY


@pytest.mark.parametrize("key", secretfiles.ALL)
def test_a_missing_key_is_filled_in_and_the_others_stay(key: str) -> None:
    cluster = SecretsOnly()
    run(ensure(cluster))
    before = cluster.values("main-secrets")
    del cluster.secrets["main-secrets"]["data"][key]
    run(ensure(cluster))
    after = cluster.values("main-secrets")

    assert {k: v for k, v in after.items() if k != key} == {
        k: v for k, v in before.items() if k != key
    }
    assert after[key] not in ("", before[key])


def test_only_the_workloads_that_see_a_value_are_rolled_for_it() -> None:
    cluster = SecretsOnly()
    before = run(ensure(cluster)).hashes
    del cluster.secrets["main-secrets"]["data"][secretfiles.REDIS_AGENT_PASSWORD]
    after = run(ensure(cluster)).hashes

    assert {name for name in before if before[name] != after[name]} == {"probe", "redis"}


def test_a_value_that_is_too_short_is_told_and_left_alone() -> None:
    cluster = SecretsOnly()
    run(ensure(cluster))
    values = {**cluster.values("main-secrets"), secretfiles.API_TOKEN: "short-and-secret"}
    cluster.put("main-secrets", values, OURS)
    told = run(ensure(cluster))

    assert cluster.values("main-secrets") == values
    assert told.problems == (
        "the Secret main-secrets, key api-token: holds fewer than 32 characters",
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("labels", [{}, {**OURS, "farcall.dev/tracingconfig": "other"}])
def test_a_foreign_secret_is_told_and_untouched(name: str, labels: dict[str, str]) -> None:
    cluster = SecretsOnly()
    cluster.put(name, {"theirs": "value"}, labels)
    made = run(ensure(cluster))

    assert cluster.values(name) == {"theirs": "value"}
    assert all(asked == "get" for asked, about in cluster.requests if about == name)
    (problem,) = made.problems
    assert f"the Secret {name} in the namespace {NAMESPACE} is not of this TracingConfig" in problem
    assert "theirs" not in problem


def test_two_that_make_a_secret_at_once_agree_on_one() -> None:
    cluster = SecretsOnly()
    other: list[dict[str, str]] = []

    def be_faster() -> None:
        values = {key: f"{key}-of-the-other-one".ljust(40, "x") for key in secretfiles.ALL}
        cluster.put("main-secrets", values, OURS)
        other.append(values)

    cluster.before_write.append(be_faster)
    made = run(ensure(cluster))

    assert cluster.values("main-secrets") == other[0]
    assert made.ingest_token == other[0][secretfiles.INGEST_TOKEN]


def test_a_patch_that_comes_too_late_reads_again() -> None:
    cluster = SecretsOnly()
    run(ensure(cluster))
    del cluster.secrets["main-secrets"]["data"][secretfiles.API_TOKEN]
    kept = {**cluster.values("main-secrets"), secretfiles.API_TOKEN: "f" * 40}
    cluster.before_write.append(lambda: cluster.put("main-secrets", kept, OURS))
    run(ensure(cluster))

    assert cluster.values("main-secrets") == kept


def test_who_never_gets_a_turn_says_so() -> None:
    cluster = SecretsOnly()
    run(ensure(cluster))
    values = cluster.values("main-secrets")
    del values[secretfiles.API_TOKEN]
    cluster.put("main-secrets", values, OURS)
    cluster.before_write += [lambda: cluster.put("main-secrets", values, OURS)] * 3
    with pytest.raises(ClusterError) as raised:
        run(ensure(cluster))

    assert raised.value.status == 409


def test_secrets_of_a_predecessor_get_the_new_owner_and_keep_their_values() -> None:
    cluster = SecretsOnly()
    first = run(ensure(cluster))
    again = run(ensure(cluster, owner={**OWNER, "uid": "u2"}))

    assert again.hashes == first.hashes
    assert again.writes == 4
    for name in ALL:
        (owner,) = cluster.secrets[name]["metadata"]["ownerReferences"]
        assert owner["uid"] == "u2"


def test_without_tls_there_is_no_certificate() -> None:
    cluster = SecretsOnly()
    made = run(ensure(cluster, tls={"mode": "disabled"}))

    assert sorted(cluster.secrets) == ["main-secrets"]
    assert (made.ca_pem, made.renew_at, made.problems) == ("", None, ())


def test_no_secret_is_in_a_rendered_manifest() -> None:
    cluster = SecretsOnly()
    cluster.put("our-redis", {name: f"{name}-of-the-user".ljust(40, "x") for name in USERS_FILES})
    spec = {"dnsCache": {"existingSecret": "our-redis"}}
    made = run(ensure(cluster, **spec))
    context = Context(namespace=NAMESPACE, credentials=made)
    text = render_manifests(build_manifests(make_config(**spec), context))

    assert all(value in text for value in made.hashes.values())  # it is what rolls the pods
    assert "Secret" not in {m["kind"] for m in build_manifests(make_config(**spec), context)}
    for name in cluster.secrets:
        for key, value in cluster.values(name).items():
            assert value not in text, (name, key)
            assert cluster.secrets[name]["data"][key] not in text, (name, key)


def test_no_secret_is_in_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = SecretsOnly()
    made = run(ensure(cluster))
    cluster.secrets["main-ca"]["data"]["ca.key"] = "AAAA"
    damaged = run(ensure(cluster))
    shown = f"{made!r} {damaged!r} {capsys.readouterr()}"

    for name in ALL:
        for key, value in cluster.values(name).items():
            if not key.endswith(".crt") and key != "since":
                assert value not in shown, (name, key)
    assert "PRIVATE KEY" not in shown
