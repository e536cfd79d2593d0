"""What the exporter says of itself every few seconds: its counters, and how full it is."""

import os
import resource
import socket

from farcall.api import ComponentStatus
from farcall.journal import get_log
from farcall.storeport import StoreError
from farcall_exporter.orphans import render_run
from farcall_exporter.pipeline import Pipeline

log = get_log("exporter")
SAY_EVERY_S = 5.0
WITHOUT_CACHE = "destinations that only the cache can name are unknown until it does"
WITHOUT_CLUSTER = "destinations inside the cluster are named by the request, by DNS or by the server's process; pods have no workload"


class SelfStatus:
    """`run` is the pipeline's task."""

    def __init__(self, pipeline: Pipeline, *, node: str) -> None:
        self._pipeline = pipeline
        self._name = node or socket.gethostname()
        self._started_ns = pipeline.context.wall_ns()
        pipeline.context.run = render_run(self._name, self._started_ns)
        self._say_at = 0.0

    def run(self, now: float) -> None:
        if now < self._say_at:
            return
        self._say_at = now + SAY_EVERY_S
        try:
            self._pipeline.write_status(self.read(now))
        except StoreError as e:
            self._pipeline.context.counters.add("status_failures", 1)
            log.warning("status not written", error=str(e))

    def _list_capabilities(self) -> tuple[dict[str, str], ...]:
        context = self._pipeline.context
        found = [_capability("dns cache", context.lookups.trouble, WITHOUT_CACHE)]
        if context.watch is not None:
            found.append(_capability("kubernetes names", context.watch.trouble(), WITHOUT_CLUSTER))
        return tuple(found)

    def read(self, now: float) -> ComponentStatus:
        context = self._pipeline.context
        rules = context.settings.rules
        return ComponentStatus(
            kind="exporter",
            name=self._name,
            version=context.version,
            seen_ns=str(context.wall_ns()),
            started_ns=str(self._started_ns),
            config_generation=context.settings.generation,
            config_revision=context.settings.revision,
            alive=True,
            capabilities=self._list_capabilities(),
            counters={name: str(value) for name, value in context.counters.read().items()},
            gauges={
                "queue_jobs": float(self._pipeline.queued),
                "sights_waiting": float(len(context.waiting.sights)),
                "clients_remembered": float(len(context.clients)),
                "unknown_remembered": float(len(context.late)),
                **{f"kubernetes_{kind}": float(n) for kind, n in context.catalog.counts.items()},
                "agents_alive": float(context.agents.count_alive(now)),
                "dns_ttl_s": float(rules.ttl_s),
                "cpu_seconds": sum(os.times()[:2]),
                "rss_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0,
            },
        )


def _capability(name: str, why: str, cost: str) -> dict[str, str]:
    """`why` it is off, empty when it is on."""
    return {"name": name, "on": "false" if why else "true", "why": why, "cost": cost if why else ""}
