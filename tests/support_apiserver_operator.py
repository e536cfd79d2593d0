"""`farcall operator` as real processes against the control plane under test, with its own account and rights.

The rights are those of deploy/install.yaml, nothing else: whatever the operator asks beyond them is refused.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml

from support_apiserver import ROOT, STOP_WITHIN_S, ControlPlane, wait_until
from support_apiserver_access import Api, Object, write_kubeconfig
from support_ports import find_free_port

INSTALL = ROOT / "deploy/install.yaml"
NAMESPACE = "farcall"
ACCOUNT = "farcall-operator"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
# The Deployment is what these processes stand for, and the control plane has the CRD already.
NOT_INSTALLED = {"Deployment", "CustomResourceDefinition"}


def read_installation() -> list[Object]:
    return [d for d in yaml.safe_load_all(INSTALL.read_text(encoding="utf-8")) if d]


def install(plane: ControlPlane) -> None:
    """The namespace, the account and its rights, as `kubectl apply -f deploy/install.yaml` makes them."""
    with plane.api() as api:
        for manifest in read_installation():
            if manifest["kind"] not in NOT_INSTALLED:
                api.apply(manifest, manager="installer")


def write_account_kubeconfig(plane: ControlPlane, path: Path, *, life_s: int = 86_400) -> None:
    """With a token that the API server made for the operator's account."""
    with plane.api() as api:
        answer = api.http.post(
            f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token",
            json={"spec": {"expirationSeconds": life_s}},
        ).raise_for_status()
    token = answer.json()["status"]["token"]
    write_kubeconfig(path, plane.url, plane.pki.ca, token, NAMESPACE)


# kopf imports the `kubernetes` client where it finds it, and 19 MB with it. The operator's image does not have it.
AS_IN_ITS_IMAGE = """
import runpy, sys
sys.modules["kubernetes"] = None
runpy.run_module("farcall.commands", run_name="__main__", alter_sys=True)
"""


@dataclass
class OperatorProcess:
    """Not started yet; `start` waits until it serves. `name` is its identity in the Lease."""

    plane: ControlPlane
    name: str = "operator-a"
    flags: tuple[str, ...] = ()
    port: int = field(default_factory=find_free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.log = self.plane.folder / f"{self.name}.log"
        self.kubeconfig = self.plane.folder / "operator.kubeconfig"
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, *, wait: bool = True) -> "OperatorProcess":
        if not self.kubeconfig.exists():
            write_account_kubeconfig(self.plane, self.kubeconfig)
        command = [
            "setpriv", "--pdeathsig", "KILL",  # nobody else would ever stop it
            sys.executable, "-c", AS_IN_ITS_IMAGE, "operator",
            "--kubeconfig", str(self.kubeconfig), "--namespace", NAMESPACE,
            "--listen", f"127.0.0.1:{self.port}", *self.flags,
        ]  # fmt: skip
        environment = {**os.environ, "POD_NAME": self.name, "HOME": str(self.plane.folder)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        if wait:
            wait_until(self.is_ready, f"{self.name} is ready", self.check_alive)
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics", timeout=10).raise_for_status().text

    def stop(self) -> int:
        """As the kubelet stops it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop\n{self.tail()}") from None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_WITHIN_S)

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def list_faults(self) -> list[str]:
        """Reconciliations that ended in an error of ours, with its traceback; the next one may have made up for it."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if "reconcile failed" in line and '"exception"' in line]

    def check_alive(self) -> None:
        assert self.is_running(), f"{self.name} ended\n{self.tail()}"


def lease_holder(api: Api) -> str:
    leases = api.list(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases")
    holders = [lease["spec"].get("holderIdentity") or "" for lease in leases]
    return next((holder for holder in holders if holder), "")


def wait_for_leader(api: Api, process: OperatorProcess, *, alive: Callable[[], None]) -> None:
    wait_until(lambda: process.name in lease_holder(api), f"{process.name} leads", alive)
