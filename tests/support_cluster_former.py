"""An operator of an earlier commit, as a process beside the cluster, with the account and the rights of its own installation."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from support_apiserver_access import write_kubeconfig
from support_apiserver_operator import AS_IN_ITS_IMAGE
from support_cluster import KUBECONFIG, NAMESPACE, ROOT, Cluster, wait_until
from support_ports import find_free_port

COMMITS_AGO = 30  # about a day's work
ROOMS = ("core", "probes", "exporter", "store", "operator", "templates", "console")
IDENTITY = "former-operator"
DEPLOYMENT = "deployment/farcall-operator"


@contextmanager
def former_tree(folder: Path) -> Iterator[Path]:
    """The sources as they were; the oldest there are when the clone is not deep enough."""
    known = git("rev-list", "--first-parent", f"--max-count={COMMITS_AGO}", "HEAD").split()
    tree = folder / "former"
    git("worktree", "add", "--detach", str(tree), known[-1])
    try:
        yield tree
    finally:
        git("worktree", "remove", "--force", str(tree))


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def install(cluster: Cluster, tree: Path, *, without: tuple[str, ...] = ()) -> None:
    """The whole manifest of that tree, as an upgrade applies it."""
    text = (tree / "deploy/install.yaml").read_text(encoding="utf-8")
    objects = [d for d in yaml.safe_load_all(text) if d and d["kind"] not in without]
    cluster.apply(*objects, force=True)


@contextmanager
def former_operator(cluster: Cluster, tree: Path, folder: Path) -> Iterator[None]:
    """It leads, and the operator in the cluster is away."""
    cluster.kubectl("-n", NAMESPACE, "scale", DEPLOYMENT, "--replicas", "0")
    install(cluster, tree, without=("Deployment",))
    kubeconfig = folder / "operator.kubeconfig"
    _write_kubeconfig(cluster, kubeconfig, folder)
    command = [
        "setpriv", "--pdeathsig", "KILL", str(_install_packages(tree, folder)), "-c", AS_IN_ITS_IMAGE, "operator",
        "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE, "--listen", f"127.0.0.1:{find_free_port()}",
    ]  # fmt: skip
    rooms = os.pathsep.join(str(tree / room) for room in ROOMS)
    environment = {**os.environ, "POD_NAME": IDENTITY, "HOME": str(folder), "PYTHONPATH": rooms}
    with (folder / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    try:
        wait_until(lambda: _is_leading(cluster, process, folder), "the former operator leads")
        yield
    finally:
        process.terminate()
        process.wait(60)


def _is_leading(cluster: Cluster, process: "subprocess.Popen[bytes]", folder: Path) -> bool:
    if process.poll() is not None:
        pytest.fail(
            f"it has ended: {(folder / 'operator.log').read_text(errors='replace')[-2000:]}"
        )
    return IDENTITY in read_holder(cluster)


def _install_packages(tree: Path, folder: Path) -> Path:
    """An interpreter with what that commit's lock pins for the operator, and its farcall, as its image had it."""
    picked = folder / "requirements.txt"
    pick = [sys.executable, str(tree / "deploy/pick_requirements.py"), "operator"]
    picked.write_bytes(subprocess.run(pick, check=True, capture_output=True).stdout)
    python = folder / "packages/bin/python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "packages")], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--require-hashes", "-r", str(picked)], check=True, timeout=300)
    subprocess.run([*install, "--no-deps", str(tree)], check=True, timeout=300)
    return python


def read_holder(cluster: Cluster) -> str:
    found: str = cluster.get("lease", "farcall-operator")["spec"].get("holderIdentity") or ""
    return found


def _write_kubeconfig(cluster: Cluster, path: Path, folder: Path) -> None:
    (entry,) = yaml.safe_load(KUBECONFIG.read_text(encoding="utf-8"))["clusters"]
    authority = folder / "ca.crt"
    authority.write_bytes(base64.b64decode(entry["cluster"]["certificate-authority-data"]))
    token = cluster.kubectl(
        "-n", NAMESPACE, "create", "token", "farcall-operator", "--duration", "1h"
    )
    write_kubeconfig(path, entry["cluster"]["server"], authority, token.strip(), NAMESPACE)
