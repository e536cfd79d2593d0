"""A real Kubernetes control plane as local processes: etcd, API server, controller manager, scheduler. No kubelet.

All on free loopback ports, in one folder, stopped by pid. What an API server decides (schemas, CEL, server-side apply,
garbage collection, rollouts, rights) is decided here by the real one; pods are played by support_apiserver_nodes.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml

from support_apiserver_access import ADMIN_TOKEN, MANAGER_TOKEN, Api, Pki, write_kubeconfig
from support_ports import find_free_port

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "tests/cluster/build-kube.sh"
CRD = ROOT / "crds/tracingconfigs.yaml"
START_WITHIN_S = 120  # seconds suffice on an idle machine; two shared cores are rarely idle
STOP_WITHIN_S = 30
SERVICE_RANGE = "10.96.0.0/16"
# Only these: a controller more is a second more until all run, and nothing here needs it. No node lifecycle: nobody
# sends the nodes' heartbeats.
CONTROLLERS = (
    "daemonset-controller",
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "endpointslice-controller",
    "disruption-controller",
    "persistentvolume-binder-controller",
    "persistentvolumeclaim-protection-controller",
    "pod-garbage-collector-controller",
)
# What deletes the children of what was deleted, and nothing else.
COLLECTORS = ("garbage-collector-controller", "persistentvolumeclaim-protection-controller")
# What service accounts ask is the record that the rights are compared with.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:masters"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


def find_binaries() -> Path | None:
    """The folder that `make kube` filled, None before that."""
    found = subprocess.run([BUILD, "--check"], capture_output=True, text=True)
    return Path(found.stdout.strip()) if found.returncode == 0 else None


@dataclass
class ControlPlane:
    """`start` returns when the API server is ready and controllers run. `folder` holds state, keys and logs."""

    folder: Path
    binaries: Path
    controllers: tuple[str, ...] = CONTROLLERS  # none: no scheduler either
    port: int = field(default_factory=find_free_port)
    etcd_ports: tuple[int, int] = field(
        default_factory=lambda: (find_free_port(), find_free_port())
    )
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pki = Pki(self.folder / "pki")
        self.url = f"https://127.0.0.1:{self.port}"
        self.audit_log = self.folder / "audit.log"
        self.admin_kubeconfig = self.folder / "admin.kubeconfig"

    def start(self) -> "ControlPlane":
        self.pki.make()
        self._write_tokens()
        write_kubeconfig(self.admin_kubeconfig, self.url, self.pki.ca, ADMIN_TOKEN)
        write_kubeconfig(self.folder / "manager.kubeconfig", self.url, self.pki.ca, MANAGER_TOKEN)
        (self.folder / "audit-policy.yaml").write_text(yaml.safe_dump(AUDIT_POLICY))
        self._run_etcd()
        self.run_apiserver()
        # Before the garbage collector looks which kinds there are, which it does again only every 30 s.
        self.install_crd()
        if self.controllers:
            self._run_managers()
        return self

    def stop(self) -> None:
        for name in reversed(list(self.processes)):
            self.stop_process(name)

    def stop_process(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_WITHIN_S)

    def kill_process(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait(STOP_WITHIN_S)

    def api(self) -> Api:
        """As the cluster's administrator."""
        return Api(self.url, self.pki.ca, ADMIN_TOKEN)

    def install_crd(self) -> None:
        with self.api() as api:
            api.apply(yaml.safe_load(CRD.read_text()), manager="installer")
            wait_until(lambda: is_established(api), "the CRD is established")

    def kubectl(self, *arguments: str, stdin: str = "", kubeconfig: Path | None = None) -> str:
        """Its output; raises CalledProcessError, with what it said, when it fails."""
        done = self.try_kubectl(*arguments, stdin=stdin, kubeconfig=kubeconfig)
        if done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def try_kubectl(
        self, *arguments: str, stdin: str = "", kubeconfig: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        config = str(kubeconfig or self.admin_kubeconfig)
        environment = {**os.environ, "KUBECONFIG": config, "HOME": str(self.folder)}
        command = [str(self.binaries / "kubectl"), *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=environment, timeout=120
        )

    def logs(self, lines: int = 15) -> str:
        """The ends of all programs' logs, for a failure that is not the test's."""
        parts = []
        for path in sorted(self.folder.glob("*.log")):
            if path != self.audit_log:
                tail = path.read_text(errors="replace").splitlines()[-lines:]
                parts.append("\n".join([f"--- {path.name}", *tail]))
        return "\n".join(parts)

    def _write_tokens(self) -> None:
        rows = (
            f'{ADMIN_TOKEN},admin,1,"system:masters"',
            f'{MANAGER_TOKEN},controllers,2,"system:masters"',
        )
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n")

    def _run(self, program: str, *flags: str) -> None:
        with (self.folder / f"{program}.log").open("ab") as log:
            self.processes[program] = subprocess.Popen(
                # Dies with us, however we die: nobody else would ever stop it.
                ["setpriv", "--pdeathsig", "KILL", str(self.binaries / program), *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop these in order
            )

    def _run_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in self.etcd_ports)
        self._run(
            "etcd",
            "--name=test",
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
            "--log-level=error",
        )

    def run_apiserver(self) -> None:
        pki = self.pki
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_ports[0]}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--endpoint-reconciler-type=none",  # loopback is no address for an endpoint
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=RBAC",
            "--anonymous-auth=true",
            "--allow-privileged=true",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            f"--tls-cert-file={pki.serving_cert}",
            f"--tls-private-key-file={pki.serving_key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki.account_key}",
            f"--service-account-signing-key-file={pki.account_key}",
            f"--audit-policy-file={self.folder / 'audit-policy.yaml'}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking",  # what was answered is in the file
            "--shutdown-delay-duration=0s",
        )
        wait_until(self._is_ready, "the API server is ready", alive=self._check_alive)

    def _run_managers(self) -> None:
        config = f"--kubeconfig={self.folder / 'manager.kubeconfig'}"
        common = (config, "--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000")
        manager_port, scheduler_port = find_free_port(), find_free_port()
        self._run(
            "kube-controller-manager",
            *common,
            f"--secure-port={manager_port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.folder}",
            f"--controllers={','.join(self.controllers)}",
            f"--service-account-private-key-file={self.pki.account_key}",
            f"--root-ca-file={self.pki.ca}",
            "--resource-quota-sync-period=2s",
            "--pvclaimbinder-sync-period=2s",
        )
        self._run(
            "kube-scheduler",
            *common,
            f"--secure-port={scheduler_port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.folder}",
        )
        for port in (manager_port, scheduler_port):
            wait_until(lambda port=port: is_healthy(port), "controllers run", self._check_alive)  # type: ignore[misc]

    def _is_ready(self) -> bool:
        with self.api() as api:
            try:
                return api.http.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

    def _check_alive(self) -> None:
        dead = [name for name, process in self.processes.items() if process.poll() is not None]
        assert not dead, f"{', '.join(dead)} ended\n{self.logs()}"


def is_established(api: Api) -> bool:
    found = api.get(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tracingconfigs.farcall.dev"
    )
    conditions = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions") or ()}
    # Established comes first; the path is served a moment later.
    served = api.http.get("/apis/farcall.dev/v1alpha1/tracingconfigs").status_code == 200
    return conditions.get("Established") == "True" and served


def is_healthy(port: int) -> bool:
    try:
        # Its certificate is its own; this says nothing but that it answers.
        return httpx.get(f"https://127.0.0.1:{port}/healthz", verify=False).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(
    holds: Callable[[], bool],
    what: str,
    alive: Callable[[], None] = lambda: None,
    *,
    within_s: float = START_WITHIN_S,
    describe: Callable[[], object] = lambda: "",
) -> None:
    deadline = time.monotonic() + within_s
    pause_s = 0.02
    while not holds():
        alive()
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what} {describe()}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.3)


@contextmanager
def running_control_plane(
    folder: Path, *, has_controllers: bool = True, controllers: tuple[str, ...] = CONTROLLERS
) -> Iterator[ControlPlane]:
    binaries = find_binaries()
    assert binaries is not None, "the Kubernetes binary is not built: `make kube` does it"
    plane = ControlPlane(folder, binaries, controllers if has_controllers else ())
    try:
        yield plane.start()
    finally:
        plane.stop()


def read_audit(path: Path, user: str) -> list[dict[str, object]]:
    """The requests of that user, each once: a watch is written when it begins and when it ends."""
    events: dict[str, dict[str, object]] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            event = json.loads(line)
            if event["user"]["username"] == user:
                events[event["auditID"]] = event
    return list(events.values())
