"""What the operator's benchmark and its soak have in common: a control plane, an operator on it, and where figures go."""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import psutil

from farcall.envelope import render_agents
from farcall_operator.agents import URL_OVERRIDE
from support_apiserver import ControlPlane, read_audit, running_control_plane
from support_apiserver_access import Api
from support_apiserver_configs import build_config
from support_apiserver_load import NODES, WORKLOADS, Background, play_workloads
from support_apiserver_nodes import add_node
from support_apiserver_operator import USER, OperatorProcess, install

RESULTS = Path(__file__).parent / "results" / "operator.json"
WRITES = ("create", "update", "patch", "delete")
Figures = dict[str, float]
BEGAN = time.monotonic()


def say(text: str) -> None:
    """What it is at: the whole takes a quarter of an hour."""
    elapsed_s = int(time.monotonic() - BEGAN)
    print(f"{elapsed_s // 60:3}:{elapsed_s % 60:02}  {text}", flush=True)


@dataclass
class Bench:
    plane: ControlPlane
    api: Api
    operator: OperatorProcess
    background: Background

    def rss_mb(self) -> float:
        return round(psutil.Process(self.operator.pid).memory_info().rss / 2**20, 1)

    def cpu_s(self) -> float:
        times = psutil.Process(self.operator.pid).cpu_times()
        return float(times.user + times.system)

    def count_writes(self) -> int:
        """But the Lease's, which is written for as long as somebody leads."""
        return sum(
            event["verb"] in WRITES and (event.get("objectRef") or {}).get("resource") != "leases"  # type: ignore[attr-defined]
            for event in read_audit(self.plane.audit_log, USER)
        )

    def settle(self, pause_s: float) -> None:
        say("waiting until nothing is written any more")
        before = -1
        while before != (before := self.count_writes()):
            time.sleep(pause_s)


class _Exporter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = render_agents(())
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """A line for each of thousands of requests tells nobody anything."""


@contextmanager
def exporters_answering() -> Iterator[None]:
    """No pods run, but the operator asks each exporter for its agents: here one answers for all, as soon as it is asked."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Exporter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ[URL_OVERRIDE] = f"http://127.0.0.1:{server.server_port}"
        try:
            yield
        finally:
            os.environ.pop(URL_OVERRIDE, None)
            server.shutdown()


@contextmanager
def started(controllers: tuple[str, ...] = ()) -> Iterator[Bench]:
    with (
        exporters_answering(),
        tempfile.TemporaryDirectory(prefix="farcall-bench-") as folder,
        running_control_plane(Path(folder), controllers=controllers) as plane,
        plane.api() as api,
    ):
        for number in range(NODES):
            add_node(api, f"node-{number}", f"10.244.{number}.0/24")
        install(plane)
        say("the API server runs")
        background = Background(plane)
        operator = OperatorProcess(plane)
        try:
            for kind in WORKLOADS:
                background.run(play_workloads(kind))
            yield Bench(plane, api, operator.start(), background)
        finally:
            background.stop()
            if operator.is_running():
                operator.stop()


def edit(api: Api, name: str, days: int) -> None:
    api.apply(build_config(name, retention={"traces": f"{days}d"}), manager="kubectl")


def write_results(figures: Figures) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**known, **figures}, indent=2) + "\n", encoding="utf-8")
