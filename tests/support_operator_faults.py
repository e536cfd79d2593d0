"""`farcall operator` as a process of its own beside the scripted API server: what it says, counts and answers."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support_fake_apiserver import FakeApiserver
from support_local import wait_until
from support_operator_commands import NAMESPACE, make_config
from support_ports import find_free_port

# The same process, with a clock that does not let a test wait for minutes: constants, nothing else.
FASTER = """
import sys
from farcall_operator.running import streams
streams.STALE_AFTER_S = {stale_after_s}
from farcall_operator.running.process import main
raise SystemExit(main(sys.argv[1:]))
"""
NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node-1"},
    "spec": {"podCIDRs": ["10.244.0.0/24"]},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "192.168.0.3"}],
        "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux"},
    },
}


@dataclass
class Operator:
    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """(status, text); (0, "") when nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:  # fmt: skip
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all samples that have these labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            match = re.fullmatch(r"(farcall_\w+?)(?:\{(.*)\})? (\S+)", line)
            if match is None or match[1] != f"farcall_{name}":
                continue
            found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
            if labels.items() <= found.items():
                total += float(match[3])
        return total

    def answers(self, code: int, **labels: str) -> float:
        return self.metric("operator_api_requests_total", code=str(code), **labels)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def is_running(self) -> bool:
        return self.process.poll() is None


@contextmanager
def run_operator(
    server: FakeApiserver,
    folder: Path,
    *,
    token_file: Path | None = None,
    stale_after_s: float | None = None,
    ends_with: int = 0,
) -> Iterator[Operator]:
    """Until the block ends; then it must stop by itself when asked, with code `ends_with`."""
    kubeconfig = server.write_kubeconfig(folder / "kubeconfig", token_file=token_file)
    port, log = find_free_port(), folder / "operator.log"
    program = [sys.executable, "-m", "farcall.commands", "operator"]
    if stale_after_s is not None:
        program = [sys.executable, "-c", FASTER.format(stale_after_s=stale_after_s)]
    arguments = ["--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE, "--listen", f"127.0.0.1:{port}"]  # fmt: skip
    with log.open("wb") as sink:
        process = subprocess.Popen([*program, *arguments], stdout=sink, stderr=sink, env=os.environ)
    try:
        yield Operator(process, port, log)
        process.terminate()
        code = process.wait(60)
        assert code == ends_with, log.read_text(encoding="utf-8")[-4_000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def put_config(server: FakeApiserver, name: str = "main", **spec: Any) -> None:
    config = make_config(name, **{"clusterCIDRs": ["10.0.0.0/8"], **spec})
    del config["status"]
    server.put(config)


def find_child(server: FakeApiserver, kind: str, name: str) -> dict[str, Any] | None:
    version = {"ConfigMap": "v1", "Service": "v1", "Secret": "v1"}.get(kind, "apps/v1")
    return server.find(version, kind, name, NAMESPACE)


def has_children(server: FakeApiserver, name: str = "main") -> bool:
    parts = (("ConfigMap", "config"), ("DaemonSet", "probe"), ("StatefulSet", "redis"), ("Deployment", "exporter"))  # fmt: skip
    return all(find_child(server, kind, f"{name}-{part}") for kind, part in parts)


def read_status(server: FakeApiserver, name: str = "main") -> dict[str, Any]:
    config = server.find("farcall.dev/v1alpha1", "TracingConfig", name) or {}
    return config.get("status") or {}


def wait_for(condition: Callable[[], object], what: str, operator: Operator) -> None:
    """Tells what the operator said when it does not come."""
    try:
        wait_until(lambda: not operator.is_running() or condition(), what=what, within_s=60)
    except AssertionError as e:
        raise AssertionError(f"{e}\n{operator.said()[-4_000:]}") from e
    assert operator.is_running(), operator.said()[-4_000:]
