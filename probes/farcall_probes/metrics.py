"""The agent's status as Prometheus' text, and the small server that answers `GET /metrics` with it.

Numbers and names of farcall alone, nothing of any call: the endpoint asks nobody who they are. One request at a time, each
bounded in bytes and time, in a thread of its own: whoever is slow keeps others from asking, and nothing else.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from farcall.envelope import AgentStatus

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "farcall_agent"
MAX_REQUEST_BYTES = 8192
ANSWER_WITHIN_S = 2.0
_WAITING = 8  # connections that wait to be answered


def render_metrics(status: AgentStatus) -> bytes:
    return ("\n".join(_render(status)) + "\n").encode()


def _render(status: AgentStatus) -> Iterator[str]:
    labels = {"node": status.node, "version": status.version, "kernel": status.kernel}
    yield from _family("info", "gauge", "What runs; always 1.")
    yield f"{PREFIX}_info{{{_labels(labels)}}} 1"
    yield from _family("start_time_seconds", "gauge", "When the agent started, in Unix seconds.")
    yield f"{PREFIX}_start_time_seconds {status.started_ns / 1e9}"
    yield from _family("config_generation", "gauge", "Generation of the config that it runs.")
    yield f"{PREFIX}_config_generation {status.config_generation}"
    yield from _family(
        "capability", "gauge", "1 where it works, 0 where `farcall doctor` says why not."
    )
    for capability in status.capabilities:
        yield f"{PREFIX}_capability{{{_labels({'name': capability.name})}}} {int(capability.on)}"
    for name, value in status.counters.items():
        yield from _family(f"{name}_total", "counter", f"{name} in docs/counters.md.")
        yield f"{PREFIX}_{name}_total {value}"
    for name, number in status.gauges.items():
        if name == "cpu_seconds":  # only grows
            yield from _family("cpu_seconds_total", "counter", "CPU time of the agent's process.")
            yield f"{PREFIX}_cpu_seconds_total {number}"
        else:
            yield from _family(name, "gauge", f"{name} of the status page.")
            yield f"{PREFIX}_{name} {number}"


def _family(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {PREFIX}_{name} {text}", f"# TYPE {PREFIX}_{name} {kind}"


def _labels(labels: dict[str, str]) -> str:
    escaped = {
        k: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for k, v in labels.items()
    }
    return ",".join(f'{k}="{v}"' for k, v in escaped.items())


class MetricsServer:
    """Serves until the process ends. Raises OSError where it cannot listen."""

    def __init__(self, url: str, render: Callable[[], bytes]) -> None:
        self._render = render
        self._listener = _listen(url)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(ANSWER_WITHIN_S)
                connection.sendall(self._answer(_read_request(connection)))

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        target = rest.partition(b" ")[0].partition(b"?")[0]
        if target != PATH.encode():
            return _build_answer("404 Not Found", f"look at {PATH}\n".encode())
        if method not in (b"GET", b"HEAD"):
            return _build_answer("405 Method Not Allowed", b"GET alone\n")
        answer = _build_answer("200 OK", self._render())
        return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == b"HEAD" else answer


def _listen(url: str) -> socket.socket:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if host == "0.0.0.0" and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # IPv6 may be switched off
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=_WAITING, dualstack_ipv6=True
            )
    return socket.create_server((host, port), family=family, backlog=_WAITING)


def _read_request(connection: socket.socket) -> bytes:
    """Its head, as far as it comes in time: a byte at a time buys nobody more of it."""
    data, until = b"", time.monotonic() + ANSWER_WITHIN_S
    while b"\r\n\r\n" not in data and len(data) < MAX_REQUEST_BYTES:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        piece = connection.recv(MAX_REQUEST_BYTES - len(data))
        if not piece:
            break
        data += piece
    return data


def _build_answer(status: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
