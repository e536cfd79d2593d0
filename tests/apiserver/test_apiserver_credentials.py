"""The operator's Secrets in a real API server, with the rights of deploy/install.yaml: made once, mended, renewed, collected."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farcall import secretfiles, tlsfiles
from farcall.tracingconfig import check_tracingconfig
from farcall_operator import certificates
from farcall_operator.cluster.client import connect
from farcall_operator.cluster.port import Cluster, Manifest, Ref
from farcall_operator.context import Credentials
from farcall_operator.credentials import ensure_credentials
from farcall_operator.kubernetes import build_owner_references
from support_apiserver_access import Object
from support_apiserver_configs import Configs
from support_apiserver_operator import NAMESPACE, OperatorProcess

pytestmark = pytest.mark.apiserver
PARTS = ("secrets", "ca", "exporter-tls", "redis-tls")


def read_values(configs: Configs, secret: str) -> dict[str, str]:
    data = configs.child("Secret", secret)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def make_secret(configs: Configs, name: str, values: dict[str, str]) -> None:
    configs.api.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": values,
        }
    )


def look(
    configs: Configs, config: Object, *, after: timedelta = timedelta(), cluster: Any = None
) -> Credentials:
    """One look as the operator's own account, at another time; beside the operator, as after a lost lease."""
    valid = check_tracingconfig(config, source="test")

    async def run() -> Credentials:
        async with connect(configs.operator.kubeconfig) as real:
            return await ensure_credentials(
                cluster(real) if cluster else real,
                valid,
                NAMESPACE,
                build_owner_references(valid),
                datetime.now(UTC) + after,
            )

    return asyncio.run(run())


def test_secrets_are_made_once_and_go_with_the_resource(configs: Configs, name: str) -> None:
    configs.apply(name)
    configs.wait_ready(name)
    first = {part: configs.child("Secret", f"{name}-{part}") for part in PARTS}
    configs.apply(name, dns={"holdWhileConnected": True})
    configs.wait_ready(name)

    for part in PARTS:
        again = configs.child("Secret", f"{name}-{part}")
        assert again["metadata"]["resourceVersion"] == first[part]["metadata"]["resourceVersion"]
    assert set(read_values(configs, f"{name}-secrets")) == set(secretfiles.ALL)
    assert first["exporter-tls"]["type"] == "kubernetes.io/tls"

    configs.delete(name)
    for part in PARTS:
        configs.wait(
            lambda part=part: configs.find_child("Secret", f"{name}-{part}") is None,
            name,
            f"{part} is collected",
        )


def test_a_key_that_is_taken_away_is_made_anew_and_rolls_who_sees_it(
    configs: Configs, name: str
) -> None:
    configs.apply(name)
    configs.wait_settled(name)
    before = read_values(configs, f"{name}-secrets")
    hashes = read_hashes(configs, name)
    key = secretfiles.REDIS_AGENT_PASSWORD
    configs.api.merge(configs.path("Secret", f"{name}-secrets"), {"data": {key: None}})
    configs.apply(name, dns={"holdWhileConnected": True})  # Secrets are not watched
    configs.wait(
        lambda: key in configs.child("Secret", f"{name}-secrets")["data"], name, "the key is back"
    )
    # The edit was ready before the Secrets were looked at.
    configs.wait(
        lambda: all(
            read_hashes(configs, name)[kind] != hashes[kind]
            for kind in ("DaemonSet", "StatefulSet")
        ),
        name,
        "those who see it have its new hash",
    )
    configs.wait_ready(name)
    after = read_values(configs, f"{name}-secrets")

    assert {k: v for k, v in after.items() if k != key} == {
        k: v for k, v in before.items() if k != key
    }
    assert after[key] != before[key]
    now = read_hashes(configs, name)
    assert {kind for kind in hashes if hashes[kind] != now[kind]} == {"DaemonSet", "StatefulSet"}


def test_a_password_that_its_owner_changed_is_noticed_at_the_next_resync(
    configs: Configs, name: str, operator: OperatorProcess
) -> None:
    """No event tells of it: Secrets are not watched, and nothing else happens."""
    theirs = f"{name}-theirs"
    values = {"redis-agent-password": "a" * 40, "redis-exporter-password": "e" * 40}
    make_secret(configs, theirs, values)
    operator.stop()
    operator.flags = ("--resync-s", "5")
    try:
        operator.start()
        configs.apply(name, dnsCache={"existingSecret": theirs})
        configs.wait_settled(name)
        before = read_hashes(configs, name)
        changed = {"stringData": {"redis-agent-password": "b" * 40}}
        configs.api.merge(configs.path("Secret", theirs), changed)

        configs.wait(lambda: read_hashes(configs, name) != before, name, "it is noticed")
        configs.wait_settled(name)
        after = read_hashes(configs, name)
        kinds = {kind for kind in after if after[kind] != before[kind]}
        assert kinds == {"DaemonSet", "StatefulSet"}, "the exporter does not see the agents'"
    finally:
        configs.api.delete(configs.path("Secret", theirs))
        operator.stop()
        operator.flags = ()
        operator.start()


def read_hashes(configs: Configs, name: str) -> dict[str, str]:
    found = {}
    for kind, part in (
        ("DaemonSet", "probe"),
        ("StatefulSet", "redis"),
        ("Deployment", "exporter"),
    ):
        template = configs.child(kind, f"{name}-{part}")["spec"]["template"]
        found[kind] = template["metadata"]["annotations"]["farcall.dev/secrets-hash"]
    return found


def test_certificates_are_renewed_in_the_api_server(configs: Configs, name: str) -> None:
    configs.apply(name)
    config = configs.wait_ready(name)
    configs.operator.stop()  # it lives in the present
    before = {p: read_values(configs, f"{name}-{p}") for p in ("exporter-tls", "redis-tls")}
    assert look(configs, config, after=timedelta(days=59)).writes == 0
    assert look(configs, config, after=timedelta(days=61)).writes == 2

    for part, old in before.items():
        new = read_values(configs, f"{name}-{part}")
        assert new[tlsfiles.CA] == old[tlsfiles.CA]
        assert new[tlsfiles.CERTIFICATE] != old[tlsfiles.CERTIFICATE]
        issued = certificates.read_issuer(new[tlsfiles.CERTIFICATE], new[tlsfiles.PRIVATE_KEY])
        (authority,) = certificates.read_certificates(new[tlsfiles.CA])
        assert certificates.is_issued_by(issued.certificate, authority)


class Meddler:
    """Somebody writes to the Secret between the read and the patch, once."""

    def __init__(self, cluster: Cluster, meddle: Any) -> None:
        self._cluster = cluster
        self._meddle = [meddle]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    async def merge(self, ref: Ref, patch: Manifest) -> Manifest:
        if self._meddle:
            self._meddle.pop()()
        return await self._cluster.merge(ref, patch)


def test_a_patch_of_what_was_read_before_another_wrote_is_refused_and_read_again(
    configs: Configs, name: str
) -> None:
    configs.apply(name)
    config = configs.wait_ready(name)
    configs.operator.stop()
    path, key = configs.path("Secret", f"{name}-secrets"), secretfiles.API_TOKEN
    configs.api.merge(path, {"data": {key: None}})
    theirs = "o" * 40

    def be_faster() -> None:
        configs.api.merge(path, {"data": {key: base64.b64encode(theirs.encode()).decode()}})

    look(configs, config, cluster=lambda real: Meddler(real, be_faster))

    assert read_values(configs, f"{name}-secrets")[key] == theirs


def test_a_foreign_secret_is_told_and_left_until_it_is_gone(configs: Configs, name: str) -> None:
    make_secret(configs, f"{name}-secrets", {"theirs": "value"})
    configs.apply(name)
    said = configs.wait_condition(name, "Stalled", "Credentials")

    assert f"the Secret {name}-secrets" in said
    assert read_values(configs, f"{name}-secrets") == {"theirs": "value"}
    configs.api.delete(configs.path("Secret", f"{name}-secrets"))
    configs.wait_ready(name)


def test_a_missing_password_secret_is_told_and_taken_when_it_comes(
    configs: Configs, name: str
) -> None:
    configs.apply(name, dnsCache={"existingSecret": f"{name}-theirs"})
    said = configs.wait_condition(name, "Stalled", "Credentials")
    assert f"spec.dnsCache.existingSecret: there is no Secret {name}-theirs" in said

    values = {"redis-agent-password": "a" * 40, "redis-exporter-password": "e" * 40}
    make_secret(configs, f"{name}-theirs", values)
    try:
        configs.wait_ready(name)
    finally:
        configs.api.delete(configs.path("Secret", f"{name}-theirs"))


def test_no_secret_is_in_the_status_the_events_or_the_operators_log(
    configs: Configs, name: str
) -> None:
    configs.apply(name)
    configs.wait_ready(name)
    children = {k: c for k, c in configs.children(name).items() if k[0] != "Secret"}
    events = configs.api.list("/api/v1/namespaces/default/events")
    shown = f"{configs.get(name)} {children} {events} {configs.operator.log.read_text()}"

    for part in PARTS:
        for key, value in read_values(configs, f"{name}-{part}").items():
            if key.endswith(".crt") or key == "since":
                continue
            assert value not in shown, (part, key)
            assert base64.b64encode(value.encode()).decode() not in shown, (part, key)
