"""The operator's process with a reconciler that only tells what it was asked: one file per process, a line per call.

Run as a program it is `farcall operator` with that reconciler: `python support_operator_process.py CALLS [options]`.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from farcall import journal
from farcall_operator.cluster.access import load_access
from farcall_operator.cluster.port import (
    MANAGED_BY,
    MANAGER,
    OWNER_LABEL,
    Cluster,
    Observed,
    Outcome,
)
from farcall_operator.running.options import parse_options
from farcall_operator.running.process import forward_logs, run_operator

WITHIN_S = 60  # two shared cores


def build_config(name: str, tier: str = "Hobby") -> dict[str, Any]:
    return {
        "apiVersion": "farcall.dev/v1alpha1",
        "kind": "TracingConfig",
        "metadata": {"name": name},
        "spec": {"tier": tier},
    }


def build_child(owner: str, name: str, namespace: str = "farcall") -> dict[str, Any]:
    labels = {MANAGED_BY: MANAGER, OWNER_LABEL: owner}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": {},
    }


class TellingReconciler:
    """Applies one ConfigMap per TracingConfig and writes down what it saw."""

    def __init__(self, cluster: Cluster, observed: Observed, namespace: str, calls: Path) -> None:
        self._cluster = cluster
        self._observed = observed
        self._namespace = namespace
        self._calls = calls

    async def reconcile(self, name: str) -> Outcome:
        config = self._observed.config(name)
        call = {
            "name": name,
            "tier": config["spec"]["tier"] if config else None,
            "children": sorted(ref.name for ref in self._observed.children(name)),
            "configs": len(self._observed.configs()),
            "nodes": sorted(self._observed.nodes()),
        }
        if config is not None:
            child = build_child(name, f"{name}-own", self._namespace)
            await self._cluster.apply({**child, "data": {"tier": config["spec"]["tier"]}})
        with self._calls.open("a") as file:
            file.write(json.dumps(call) + "\n")
        return Outcome()


@dataclass
class Running:
    """One operator process; `calls` are read from its file."""

    process: subprocess.Popen[bytes]
    file: Path
    log: Path
    port: int = 0

    def calls(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def events(self) -> list[str]:
        return [line.get("event", "") for line in self.entries()]

    def entries(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        for _ in range(WITHIN_S * 20):
            ended = self.process.poll() is not None
            if holds():
                return
            if ended:
                break
            time.sleep(0.05)
        raise AssertionError(f"{what}: it did not come to that\n{self.log.read_text()[-3000:]}")

    def wait_for_event(self, event: str) -> None:
        self.wait(lambda: event in self.events(), event)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)


@contextlib.contextmanager
def operating(folder: Path, kubeconfig: Path, name: str = "a", *options: str) -> Iterator[Running]:
    file, log = folder / f"{name}.calls", folder / f"{name}.log"
    command = [sys.executable, __file__, str(file), "--kubeconfig", str(kubeconfig),
               "--namespace", "farcall", "--listen", "127.0.0.1:0", *options]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, "POD_NAME": name}
        )
    running = Running(process, file, log)
    try:
        running.wait_for_event("listening")
        running.port = next(e["port"] for e in running.entries() if e["event"] == "listening")
        yield running
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(WITHIN_S)


def main() -> int:
    calls = Path(sys.argv[1])
    options = parse_options(sys.argv[2:])
    journal.configure("operator")
    forward_logs()
    access = load_access(options.kubeconfig)
    return asyncio.run(
        run_operator(options, access, lambda c, o, n, _: TellingReconciler(c, o, n, calls))
    )


if __name__ == "__main__":
    raise SystemExit(main())
