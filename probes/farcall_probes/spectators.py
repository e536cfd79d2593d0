"""Who looks at a running agent from beside: Prometheus, and `farcall tail`. Where one cannot be served, the agent traces all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from farcall import journal
from farcall.envelope import AgentStatus
from farcall_probes.arrowstream import Batch
from farcall_probes.metrics import MetricsServer, render_metrics
from farcall_probes.stream import ExchangeStream

T = TypeVar("T", MetricsServer, ExchangeStream)


class Spectators:
    def __init__(
        self,
        *,
        metrics_url: str | None,  # None: nowhere
        tail_socket: Path | None,  # None: nowhere
        make_status: Callable[[], AgentStatus],
    ) -> None:
        self._log = journal.get_log("agent")
        self._metrics = self._open(
            metrics_url, lambda url: MetricsServer(url, lambda: render_metrics(make_status()))
        )
        self._stream = self._open(tail_socket, ExchangeStream)

    def _open(self, where: object, make: Callable[..., T]) -> T | None:
        if where is None:
            return None
        try:
            return make(where)
        except OSError as e:
            self._log.error("cannot listen", where=str(where), why=e.strerror or str(e))
            return None

    def start(self) -> None:
        for server in (self._metrics, self._stream):
            if server is not None:
                server.start()

    def show(self, exchanges: Batch) -> None:
        if self._stream is not None:
            self._stream.show(exchanges)

    def counters(self) -> dict[str, int]:
        return {"tail_rows_dropped": self._stream.dropped if self._stream is not None else 0}

    def stop(self) -> None:
        for server in (self._metrics, self._stream):
            if server is not None:
                server.stop()
