"""The kind cluster that `make cluster` made: kubectl, farcall's API through a port-forward, servers outside the cluster.

Everything is done as a user would do it. What a test leaves in Docker it removes itself; the cluster stays.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from farcall.api import Span, SpanQuery, Window
from farcall.client import ApiClient, ApiError, Server

ROOT = Path(__file__).resolve().parent.parent
STATE = Path("/run/farcall-cluster") / os.environ.get("FARCALL_CLUSTER", "farcall")
KUBECONFIG = STATE / "kubeconfig"
DOCKER = os.environ.get("DOCKER_HOST", "unix:///run/farcall-docker/docker.sock")
WORKLOAD = "farcall-test/workload:1"
INSTRUMENTED = "farcall-test/instrumented:1"  # Python with the OpenTelemetry SDK
NAMESPACE = "farcall"
NS_PER_S = 1_000_000_000
PATIENCE_S = 180  # two shared cores
CALL_WITHIN_S = 120
FORWARD_WITHIN_S = 30
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")

Object = dict[str, Any]
T = TypeVar("T")


def wait_until(
    look: Callable[[], T | None], what: str, *, within_s: float = PATIENCE_S, every_s: float = 1.0
) -> T:
    """The first answer that is true. `look` may raise AssertionError, which is told when time is up."""
    deadline = time.monotonic() + within_s
    last = ""
    while True:
        try:
            if found := look():
                return found
        except (AssertionError, ApiError, OSError) as e:
            last = str(e)
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s: {what}. {last}")
        time.sleep(every_s)


@dataclass
class Cluster:
    kubectl_path: Path
    since_ns: int = field(default_factory=time.time_ns)

    # ---- kubectl -------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.try_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_kubectl(
        self, *arguments: str, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(self.kubectl_path), "--kubeconfig", str(KUBECONFIG), *arguments],
            input=stdin, capture_output=True, text=True, timeout=CALL_WITHIN_S, check=False,
        )  # fmt: skip

    def apply(self, *objects: Object, force: bool = False) -> str:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return self.kubectl(
            "apply", "--server-side", f"--force-conflicts={str(force).lower()}", "-f", "-",
            stdin=text,
        )  # fmt: skip

    def get(self, *arguments: str, namespace: str = NAMESPACE) -> Object:
        found: Object = json.loads(self.kubectl("-n", namespace, "get", *arguments, "-o", "json"))
        return found

    def items(self, *arguments: str, namespace: str = NAMESPACE) -> list[Object]:
        found: list[Object] = self.get(*arguments, namespace=namespace)["items"]
        return found

    def exists(self, *arguments: str, namespace: str = NAMESPACE) -> bool:
        return self.try_kubectl("-n", namespace, "get", *arguments).returncode == 0

    # ---- farcall -------------------------------------------------------------------------------------------------

    def kstatus(self, name: str) -> str:
        """As the kstatus library judges an object with conditions."""
        config = self.get("tracingconfig", name)
        status = config.get("status", {})
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        if status.get("observedGeneration") != config["metadata"]["generation"]:
            return "InProgress"
        if conditions.get("Stalled") == "True":
            return "Failed"
        if conditions.get("Reconciling") == "True" or conditions.get("Ready") != "True":
            return "InProgress"
        return "Current"

    def wait_current(self, name: str) -> Object:
        def look() -> Object | None:
            verdict = self.kstatus(name)
            assert verdict == "Current", f"it is {verdict}: {self.conditions(name)}"
            return self.get("tracingconfig", name)

        return wait_until(look, f"the TracingConfig {name} is Current")

    def conditions(self, name: str) -> dict[str, Object]:
        found = self.get("tracingconfig", name).get("status", {}).get("conditions", [])
        return {condition["type"]: condition for condition in found}

    def read_token(self, name: str) -> str:
        secret = self.get("secret", f"{name}-secrets")
        return base64.b64decode(secret["data"]["api-token"]).decode()

    @contextmanager
    def open_api(self, name: str) -> Iterator[ApiClient]:
        with self.forward(f"service/{name}-console", 8430) as port:
            yield ApiClient(Server(url=f"http://127.0.0.1:{port}", token=self.read_token(name)))

    def list_spans(self, query: str, *, name: str = "main", since_ns: int = 0) -> tuple[Span, ...]:
        """Newest first, 1,000 at most."""
        window = Window(from_ns=since_ns or self.since_ns, to_ns=time.time_ns() + NS_PER_S)
        with self.open_api(name) as api:
            return api.list_spans(SpanQuery(q=query, window=window, limit=1000)).items

    @contextmanager
    def forward(self, target: str, port: int, namespace: str = NAMESPACE) -> Iterator[int]:
        """A port of this machine that leads there."""
        command = [str(self.kubectl_path), "--kubeconfig", str(KUBECONFIG), "-n", namespace]
        command += ["port-forward", "--address", "127.0.0.1", target, f":{port}"]
        # A file, because kubectl writes a line per connection and waits for a reader when a pipe is full.
        with tempfile.TemporaryFile("w+") as said:
            with subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as process:
                try:
                    deadline = time.monotonic() + FORWARD_WITHIN_S
                    while (found := find_forwarded(said, process)) is None:
                        assert time.monotonic() < deadline, f"no way to {target}"
                        time.sleep(0.05)
                    yield found
                finally:
                    process.terminate()

    # ---- nodes and the world outside -----------------------------------------------------------------------------

    def nodes(self) -> list[str]:
        """The control plane first."""
        found = self.items("nodes")
        role = "node-role.kubernetes.io/control-plane"
        return [
            n["metadata"]["name"]
            for n in sorted(found, key=lambda n: role not in n["metadata"]["labels"])
        ]

    def node_address(self, name: str) -> str:
        addresses = self.get("node", name)["status"]["addresses"]
        return next(str(a["address"]) for a in addresses if a["type"] == "InternalIP")

    def save_artefacts(self, folder: Path) -> None:
        """Logs, events and statuses: what one would ask for first."""
        folder.mkdir(parents=True, exist_ok=True)
        for what, arguments in {
            "tracingconfigs.yaml": ("get", "tracingconfigs", "-o", "yaml"),
            "events.txt": ("get", "events", "-A", "--sort-by=.lastTimestamp"),
            "pods.txt": ("get", "pods", "-A", "-o", "wide"),
            "pods.yaml": ("-n", NAMESPACE, "get", "pods", "-o", "yaml"),
            "children.yaml": ("-n", NAMESPACE, "get", "ds,sts,deploy,svc,cm,pvc,netpol", "-o", "yaml"),
            "nodes.txt": ("describe", "nodes"),
        }.items():  # fmt: skip
            done = self.try_kubectl(*arguments)
            (folder / what).write_text(done.stdout + done.stderr)
        pods = self.try_kubectl("-n", NAMESPACE, "get", "pods", "-o", "name").stdout.split()
        for pod in pods:
            for previous in ("false", "true"):
                done = self.try_kubectl(
                    *("-n", NAMESPACE, "logs", pod, "--all-containers", "--prefix"),
                    *("--tail", "2000", f"--previous={previous}"),
                )
                if done.returncode == 0:
                    suffix = ".previous" if previous == "true" else ""
                    (folder / f"{pod.replace('/', '-')}{suffix}.log").write_text(done.stdout)


def find_forwarded(said: IO[str], process: "subprocess.Popen[bytes]") -> int | None:
    said.seek(0)
    text = said.read()
    if match := _FORWARDING.search(text):
        return int(match[1])
    assert process.poll() is None, f"kubectl has ended: {text}"
    return None


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["docker", "--host", DOCKER, *arguments],
        capture_output=True, text=True, timeout=CALL_WITHIN_S, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


@contextmanager
def run_outside(
    name: str,
    *command: str,
    image: str = WORKLOAD,
    network: str = "kind",
    files: tuple[Path, ...] = (ROOT / "tests/cluster/workload.py",),
) -> Iterator[str]:
    """A server that is no part of the cluster, on the network of its nodes. Its address. `files` are in /app."""
    docker("rm", "--force", name, check=False)
    volumes = [f"--volume={path}:/app/{path.name}:ro" for path in files]
    docker(
        *("run", "--detach", "--name", name, "--network", network, "--user", "999:999"),
        *(*volumes, image, *command),
    )
    try:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        yield docker("inspect", "--format", form, name)
    finally:
        docker("rm", "--force", name, check=False)


def find_kubectl() -> Path:
    built = subprocess.run(
        [ROOT / "tests/cluster/build-kube.sh", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if built.returncode == 0:
        return Path(built.stdout.strip()) / "kubectl"
    found = shutil.which("kubectl")
    assert found is not None, "no kubectl: run `make kube`"
    return Path(found)
