"""A kubeconfig whose user comes from a credential plugin, as clouds have them: run as kubectl runs it, its token kept quiet."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farcall import commands
from farcall_operator.cluster.access import AccessError, load_access
from farcall_operator.cluster.plugin import EARLIER_S, PluginToken, parse_time
from support_fake_apiserver import FakeApiserver, serve_api
from support_operator_commands import make_config

pytestmark = pytest.mark.servers

VERSION = "client.authentication.k8s.io/v1"
TOKEN = "from-the-plugin"
# Writes down what it was told, then prints its last argument.
PLUGIN = """#!{python}
import os, pathlib, sys
told = pathlib.Path({folder!r}) / "told"
told.write_text(told.read_text() + "." if told.exists() else ".")
pathlib.Path({folder!r}, "env").write_text(os.environ["KUBERNETES_EXEC_INFO"] + os.environ.get("EXTRA", ""))
print(sys.argv[-1])
raise SystemExit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def server() -> Iterator[FakeApiserver]:
    with serve_api(tokens={TOKEN}) as running:
        running.put(make_config(ready=True))
        yield running


def credential(**status: str) -> str:
    return json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status})


def write(server: FakeApiserver, folder: Path, prints: str, **more: Any) -> Path:
    program = folder / "plugin"
    program.write_text(PLUGIN.format(python=sys.executable, folder=str(folder)))
    program.chmod(0o755)
    path = server.write_kubeconfig(folder / "kubeconfig")
    config = json.loads(path.read_text())
    entry = {"apiVersion": VERSION, "command": "./plugin", "args": ["token", prints], **more}
    config["users"][0]["user"] = {"exec": entry}
    path.write_text(json.dumps(config))
    return path


def test_its_token_opens_the_cluster(
    server: FakeApiserver, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(server, tmp_path, credential(token=TOKEN), provideClusterInfo=True, env=[{"name": "EXTRA", "value": "!"}])  # fmt: skip

    assert commands.main(["status", "--kubeconfig", str(path)]) == 0
    info, _, extra = (tmp_path / "env").read_text().rpartition("}")
    told = json.loads(info + "}")
    assert extra == "!"
    assert (told["kind"], told["apiVersion"]) == ("ExecCredential", VERSION)
    assert told["spec"]["cluster"]["server"] == server.url
    assert (tmp_path / "told").read_text() == "."  # once, for several requests
    out, err = capfd.readouterr()
    assert TOKEN not in out + err


@pytest.mark.parametrize(
    ("prints", "more", "sentence"),
    [
        ("no json, but secret", {}, "the plugin plugin printed no ExecCredential"),
        ("[]", {}, "printed no ExecCredential"),
        (json.dumps({"kind": "Other", "status": {"token": "secret"}}), {}, "printed no ExecCredential"),
        (credential(), {}, "gave no token"),
        (credential(clientCertificateData="secret"), {}, "gives a client certificate"),
        (credential(token="secret"), {"env": [{"name": "CODE", "value": "3"}]}, "failed with code 3"),
        ("", {"command": "no-such-plugin", "installHint": "get it at x"}, "'no-such-plugin' is not on the path: get it at x"),
        ("", {"command": "./none"}, "the plugin none cannot be run: No such file"),
        ("", {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "apiVersion must be one of"),
    ],
)  # fmt: skip
def test_what_it_does_wrong_is_one_sentence_without_what_it_printed(
    prints: str,
    more: dict[str, Any],
    sentence: str,
    server: FakeApiserver,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = write(server, tmp_path, prints, **more)

    assert commands.main(["status", "--kubeconfig", str(path)]) == 2
    told = capfd.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert "secret" not in told


def test_it_is_asked_again_before_its_token_expires_and_when_it_was_refused() -> None:
    given = iter(["one", "two", "three"])
    now = 1_000.0
    token = PluginToken(
        lambda: {"token": next(given), "expirationTimestamp": "1970-01-01T00:20:00Z"},
        now=lambda: now,
    )

    assert token.current() == token.current() == "one"
    now = 1_200 - EARLIER_S
    assert token.current() == "two"
    now = 1_000
    assert token.refresh()
    assert token.current() == "three"


def test_one_that_fails_later_leaves_the_token_as_it_was() -> None:
    answers: list[dict[str, Any]] = [{"token": "one"}]

    def run() -> dict[str, Any]:
        if not answers:
            raise AccessError("away")
        return answers.pop()

    token = PluginToken(run)

    assert token.current() == "one"
    assert not token.refresh()
    assert token.current() == "one"
    with pytest.raises(AccessError):
        PluginToken(run).current()


@pytest.mark.parametrize(
    ("text", "seconds"), [("1970-01-01T00:00:10Z", 10.0), (None, None), ("soon", None)]
)
def test_times_are_read_as_the_plugin_writes_them(text: str | None, seconds: float | None) -> None:
    assert parse_time(text) == seconds


def test_the_access_never_shows_it(server: FakeApiserver, tmp_path: Path) -> None:
    access = load_access(write(server, tmp_path, credential(token=TOKEN)))

    assert TOKEN not in repr(access)
    assert access.token.current() == TOKEN
