"""How the operator finds its cluster: kubeconfigs, service accounts, tokens that rotate, and what is refused."""

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from farcall_operator.cluster.access import (
    READ_TOKEN_EVERY_S,
    AccessError,
    Token,
    load_access,
    read_kubeconfig,
)

pytestmark = pytest.mark.unit
SECRET = "t0p-s3cret"


def write(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    path = folder / "config"
    document = {
        "current-context": "one",
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "tracing"}},
            {"name": "two", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    folder = tmp_path_factory.mktemp("pki")
    cert, key = folder / "c.crt", folder / "c.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-subj", "/CN=t", "-days", "2", "-out", str(cert), "-keyout", str(key)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def test_a_kubeconfig_names_server_namespace_and_token(tmp_path: Path):
    access = load_access(write(tmp_path, {"token": SECRET}))

    assert access.server == "https://192.0.2.1:6443"
    assert access.namespace == "tracing"
    assert access.token.current() == SECRET
    assert access.tls is not None
    assert access.tls.verify_mode == ssl.CERT_REQUIRED


def test_another_context_may_be_chosen(tmp_path: Path):
    assert load_access(write(tmp_path, {}), context="two").namespace == "default"


def test_certificates_come_from_files_beside_the_kubeconfig_or_inline(
    tmp_path: Path, pair: tuple[Path, Path]
):
    import base64

    cert, key = pair
    for path in pair:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    by_file = {"client-certificate": cert.name, "client-key": key.name}
    inline = {
        f"{name}-data": base64.b64encode(path.read_bytes()).decode()
        for name, path in (("client-certificate", cert), ("client-key", key))
    }
    for user in (by_file, inline):
        access = read_kubeconfig(write(tmp_path, user, **{"certificate-authority": cert.name}))
        assert access.tls is not None
        assert [ca["subject"] for ca in access.tls.get_ca_certs()] == [((("commonName", "t"),),)]


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ({"exec": {"command": "aws", "env": [{"value": SECRET}]}}, "plugin"),
        ({"auth-provider": {"name": "gcp"}}, "plugin"),
        ({"username": "u", "password": SECRET}, "basic authentication"),
        ({"client-certificate-data": "bm90IGEgY2VydA==", "client-key-data": "eA=="}, "certificate"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence_without_secrets(
    tmp_path: Path, user: dict[str, Any], says: str
):
    with pytest.raises(AccessError) as caught:
        load_access(write(tmp_path, user))

    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{a: [", "current-context: gone", "contexts: 3"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "config"
    path.write_text(text)

    with pytest.raises(AccessError, match="config"):
        load_access(path)


def test_the_order_is_argument_then_variable_then_home_then_pod(
    tmp_path: Path, pair: tuple[Path, Path]
):
    home = tmp_path / "home/.kube"
    home.mkdir(parents=True)
    write(home, {})
    named = write(tmp_path, {"token": "named"})
    account = build_account(tmp_path, pair[0])
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with_home = {**pod, "HOME": str(tmp_path / "home")}

    assert load_access(named, environ=with_home).source == str(named)
    found = load_access(environ={**with_home, "KUBECONFIG": f"{tmp_path}/gone:{named}"})
    assert found.source == str(named)
    assert load_access(environ=with_home).source == str(home / "config")
    in_pod = load_access(environ=pod, account_folder=account)
    assert in_pod.server == "https://10.96.0.1:443"
    assert in_pod.namespace == "farcall"
    with pytest.raises(AccessError, match="--kubeconfig"):
        load_access(environ={})


def build_account(folder: Path, ca: Path) -> Path:
    account = folder / "account"
    account.mkdir()
    (account / "token").write_text(f"{SECRET}\n")
    (account / "ca.crt").write_bytes(ca.read_bytes())
    (account / "namespace").write_text("farcall")
    return account


def test_a_pod_without_a_token_says_what_it_lacks(tmp_path: Path):
    with pytest.raises(AccessError, match="automountServiceAccountToken"):
        load_access(environ={"KUBERNETES_SERVICE_HOST": "::1"}, account_folder=tmp_path)


def test_a_token_in_a_file_is_read_again_after_a_minute_and_kept_when_the_file_is_gone(
    tmp_path: Path,
):
    now = [0.0]
    path = tmp_path / "token"
    path.write_text("first\n")
    token = Token(path=path, clock=lambda: now[0])

    assert token.current() == "first"
    path.write_text("second\n")
    assert token.current() == "first"
    now[0] += READ_TOKEN_EVERY_S
    assert token.current() == "second"
    path.unlink()
    now[0] += READ_TOKEN_EVERY_S
    assert token.current() == "second"


def test_a_refused_token_is_read_again_at_once(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text("first")
    token = Token(path=path)
    token.current()

    assert not token.refresh()
    path.write_text("second")
    assert token.refresh()
    assert token.current() == "second"
