"""`farcall open`, with a stand-in for kubectl that says what kubectl says: the link works, and nothing outlives the command."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from farcall.logintoken import check_login_token
from support_fake_apiserver import FakeApiserver, serve_api
from support_local import is_alive, read_pid, wait_until
from support_operator_commands import ADMIN, make_config, make_secret

pytestmark = pytest.mark.servers

# Writes down how it was called, and its own pid; then does as the case says.
KUBECTL = """#!{python}
import os, sys, time
folder = {folder!r}
open(folder + "/argv", "w").write("\\n".join(sys.argv[1:]))
open(folder + "/pid.part", "w").write(str(os.getpid()))
os.rename(folder + "/pid.part", folder + "/pid")
{body}
"""
FORWARD = """
print("Forwarding from 127.0.0.1:43211 -> 8430", flush=True)
for _ in range(2000):
    print("Handling connection for 43211", flush=True)
time.sleep(60)
"""
FAIL = 'sys.stderr.write("error: unable to forward port because pod is not running\\n"); raise SystemExit(1)'


@pytest.fixture
def server() -> Iterator[FakeApiserver]:
    with serve_api() as running:
        running.put(make_config(ready=True))
        running.put(make_secret())
        yield running


def install_kubectl(folder: Path, body: str) -> Path:
    (folder / "bin").mkdir()
    program = folder / "bin/kubectl"
    program.write_text(KUBECTL.format(python=sys.executable, folder=str(folder), body=body))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program.parent


def start(
    server: FakeApiserver, folder: Path, *arguments: str, path: str
) -> "subprocess.Popen[str]":
    kubeconfig = server.write_kubeconfig(folder / "kubeconfig")
    return subprocess.Popen(
        [sys.executable, "-m", "farcall.commands", "open", *arguments],
        env={**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_link_that_logs_in_until_it_is_stopped(
    number: signal.Signals, server: FakeApiserver, tmp_path: Path
) -> None:
    bin_dir = install_kubectl(tmp_path, FORWARD)
    with start(server, tmp_path, path=f"{bin_dir}:{os.environ['PATH']}") as process:
        assert process.stdout is not None
        link = urlsplit(process.stdout.readline().strip())
        child = read_pid(tmp_path / "pid")
        assert child is not None
        process.send_signal(number)
        _, told = process.communicate(timeout=30)

    assert (link.scheme, link.netloc, link.path) == ("http", "127.0.0.1:43211", "/login")
    check_login_token(ADMIN, parse_qs(link.query)["token"][0], now_s=time.time())
    assert process.returncode == 0, told
    assert ADMIN not in told
    wait_until(lambda: not is_alive(child), what="the end of kubectl")


def test_kubectl_is_told_where(server: FakeApiserver, tmp_path: Path) -> None:
    bin_dir = install_kubectl(tmp_path, FAIL)
    other = server.write_kubeconfig(tmp_path / "other")
    arguments = ("main", "--port", "18430", "--kubeconfig", str(other), "--context", "fake")
    with start(server, tmp_path, *arguments, path=f"{bin_dir}:{os.environ['PATH']}") as process:
        process.communicate(timeout=60)

    assert (tmp_path / "argv").read_text().split("\n") == [
        "--kubeconfig", str(other), "--context", "fake", "--namespace", "farcall", "port-forward",
        "--address", "127.0.0.1", "service/main-console", "18430:8430",
    ]  # fmt: skip


def test_kubectls_own_words_are_told_when_it_ends(server: FakeApiserver, tmp_path: Path) -> None:
    bin_dir = install_kubectl(tmp_path, FAIL)
    with start(server, tmp_path, path=f"{bin_dir}:{os.environ['PATH']}") as process:
        out, told = process.communicate(timeout=60)

    assert (process.returncode, out) == (1, "")
    assert told == (
        "farcall open: the way to the console has ended: "
        "error: unable to forward port because pod is not running\n"
    )


def test_without_kubectl_a_sentence_says_so(server: FakeApiserver, tmp_path: Path) -> None:
    with start(server, tmp_path, path=str(tmp_path)) as process:
        _, told = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "kubectl is not on the path" in told
    assert "Service main-console" in told


@pytest.mark.parametrize("data", [None, {}, {"admin-secret": "c2hvcnQ="}, {"admin-secret": "%%%"}])
def test_a_secret_that_is_not_there_or_of_no_use(
    data: dict[str, str] | None, server: FakeApiserver, tmp_path: Path
) -> None:
    server.remove("v1", "Secret", "main-secrets", "farcall")
    if data is not None:
        server.put({**make_secret(), "data": data})
    with start(server, tmp_path, path=os.environ["PATH"]) as process:
        _, told = process.communicate(timeout=60)

    assert process.returncode == 1
    assert told.count("\n") == 1
    assert ("no usable key" if data is not None else "no Secret main-secrets") in told


def test_several_are_asked_which(server: FakeApiserver, tmp_path: Path) -> None:
    server.put(make_config("side"))
    with start(server, tmp_path, path=os.environ["PATH"]) as process:
        _, told = process.communicate(timeout=60)

    assert process.returncode == 2
    assert told == "farcall open: say which: the cluster has main, side\n"
