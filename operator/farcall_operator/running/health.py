"""`/metrics`, `/healthz` and `/readyz` on a small HTTP server. Reads the state of the others and changes nothing.

Live (/healthz): the loop answers, no watch is stale, the queue moves. Ready (/readyz): the API server was reached; a
standby is as ready as the leader, so that a rollout of two replicas goes on.
"""

from dataclasses import dataclass

from aiohttp import web

from farcall_operator.cluster.world import World
from farcall_operator.running import metrics
from farcall_operator.running.streams import Streams
from farcall_operator.running.workqueue import Workqueue


@dataclass(slots=True, kw_only=True)
class Health:
    """What the process fills in as it gets on; a standby has no queue."""

    counters: metrics.Counters
    reached: bool = False
    leading: bool = False
    world: World | None = None
    streams: Streams | None = None
    queue: Workqueue | None = None

    def find_faults(self) -> list[str]:
        faults = []
        if self.streams is not None:
            faults += [f"the watch of {kind} is stale" for kind in self.streams.find_stale()]
        if self.queue is not None and self.queue.state().is_stuck:
            faults.append("the queue is stuck")
        return faults

    def render(self) -> str:
        lines = metrics.render_counters(self.counters)
        lines += metrics.render_family(
            "farcall_operator_leader", "gauge", "1 on the operator that holds the lease.",
            [({}, int(self.leading))],
        )  # fmt: skip
        if self.queue is not None:
            lines += _render_queue(self.queue)
        if self.streams is not None:
            lines += _render_streams(self.streams)
        if self.world is not None and self.leading:  # two that told it would be counted twice
            lines += metrics.render_conditions(self.world.configs().values())
        return "\n".join(lines) + "\n"


def _render_queue(queue: Workqueue) -> list[str]:
    state = queue.state()
    gauges = (
        ("queue_depth", "TracingConfigs that wait for a worker.", state.depth),
        ("queue_running", "TracingConfigs being reconciled.", state.running),
        (
            "queue_oldest_seconds",
            "How long the first of those that wait has waited.",
            state.oldest_s,
        ),
        ("queue_longest_running_seconds", "How long the slowest has run.", state.longest_s),
    )
    return [
        line
        for name, text, value in gauges
        for line in metrics.render_family(f"farcall_operator_{name}", "gauge", text, [({}, value)])
    ]


def _render_streams(streams: Streams) -> list[str]:
    every = sorted(streams.all(), key=lambda stream: stream.watched.kind)
    lines = metrics.render_family(
        "farcall_operator_watch_age_seconds",
        "gauge",
        "Since the watch of a kind gave its last sign of life; a bookmark comes each minute.",
        [({"kind": s.watched.kind}, streams.age_s(s)) for s in every],
    )
    lines += metrics.render_family(
        "farcall_operator_watch_failures_total",
        "counter",
        "Lists and watches of a kind that were refused or not answered.",
        [({"kind": s.watched.kind}, s.failures) for s in every],
    )
    return lines + metrics.render_family(
        "farcall_operator_watch_lists_total",
        "counter",
        "Lists of a kind that were begun: one at start, one whenever a watch was too far behind.",
        [({"kind": s.watched.kind}, s.lists) for s in every],
    )


def build_application(health: Health) -> web.Application:
    async def answer_metrics(_request: web.Request) -> web.Response:
        body = health.render().encode()
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def answer_live(_request: web.Request) -> web.Response:
        faults = health.find_faults()
        return web.Response(text="\n".join(faults or ["ok"]) + "\n", status=503 if faults else 200)

    async def answer_ready(_request: web.Request) -> web.Response:
        if not health.reached:
            return web.Response(text="the API server was not reached yet\n", status=503)
        return web.Response(text="leader\n" if health.leading else "standby\n")

    application = web.Application(client_max_size=1_024)
    application.add_routes(
        [
            web.get("/metrics", answer_metrics),
            web.get("/healthz", answer_live),
            web.get("/readyz", answer_ready),
        ]
    )
    return application


async def start_server(health: Health, host: str | None, port: int) -> tuple[web.AppRunner, int]:
    """Listening; the port is the real one when 0 was asked for. Raises OSError."""
    runner = web.AppRunner(
        build_application(health), access_log=None, handle_signals=False, shutdown_timeout=1.0
    )
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner, int(runner.addresses[0][1])
