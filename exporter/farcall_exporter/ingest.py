"""The agents' listener: batches and statuses in, the list of agents out, as farcall.envelope says. Authentication comes before the first byte of a body."""

import asyncio
import json

from farcall.api import ComponentStatus
from farcall.envelope import (
    AGENTS_PATH,
    BATCH_CONTENT_TYPE,
    BATCH_PATH,
    MAX_BATCH_BYTES,
    MAX_STATUS_BYTES,
    STATUS_PATH,
    AgentStatus,
    parse_agent_status,
    render_agents,
)
from farcall_exporter.asgi import (
    Answer,
    Receive,
    RefusedError,
    Scope,
    Send,
    TokenCheck,
    not_now,
    problem,
    read_body,
    read_headers,
    send_answer,
)
from farcall_exporter.pipeline import OK, BusyError, Job, Pipeline

_HEALTH_PATH = "/healthz"


class IngestApp:
    def __init__(self, pipeline: Pipeline, token: TokenCheck) -> None:
        self._pipeline = pipeline
        self._token = token
        self._counters = pipeline.context.counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except RefusedError as e:
            self._counters.add("batches_refused", 1)
            answer = problem(e.status, e.detail, e.headers)
        await send_answer(send, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        if scope["path"] == _HEALTH_PATH:
            return OK
        handlers = {
            BATCH_PATH: ("POST", self._take_batch),
            STATUS_PATH: ("POST", self._take_status),
            AGENTS_PATH: ("GET", self._list_agents),
        }
        method, handle = handlers.get(scope["path"], ("", None))
        if handle is None:
            return problem(404, f"agents post to {BATCH_PATH} and {STATUS_PATH}")
        if scope["method"] != method:
            return problem(405, f"only {method}", (("allow", method),))
        if not self._token.is_right(scope):
            self._counters.add("unauthorized", 1)
            return problem(
                401,
                "the bearer token is not the ingest token",
                (("www-authenticate", "Bearer"), ("connection", "close")),
            )
        return await handle(scope, receive)

    async def _take_batch(self, scope: Scope, receive: Receive) -> Answer:
        headers = read_headers(scope)
        if headers.get("content-type", "").partition(";")[0].strip() != BATCH_CONTENT_TYPE:
            raise RefusedError(415, f"a batch has the content type {BATCH_CONTENT_TYPE}")
        if headers.get("content-encoding", "identity") != "identity":
            raise RefusedError(415, "a batch has no content encoding: Arrow compresses its buffers")
        body = await read_body(scope, receive, MAX_BATCH_BYTES)
        return await submit(
            self._pipeline, lambda: self._pipeline.build_batch(body), len(body), "batches_busy"
        )

    async def _take_status(self, scope: Scope, receive: Receive) -> Answer:
        body = await read_body(scope, receive, MAX_STATUS_BYTES)
        try:
            status = parse_agent_status(json.loads(body))
        except (ValueError, RecursionError) as e:
            raise RefusedError(400, f"not an agent's status: {e}") from e
        return await submit(self._pipeline, self._write_status(status), len(body), "batches_busy")

    def _write_status(self, status: AgentStatus) -> Job:
        def write() -> Answer:
            context = self._pipeline.context
            context.agents.hear(
                status.boot_id, context.clock(), node=status.node, reported_ns=status.reported_ns
            )
            context.agent_list.hear(status)
            self._pipeline.write_status(agent_component(status))
            return OK

        return write

    async def _list_agents(self, _scope: Scope, _receive: Receive) -> Answer:
        def read() -> Answer:
            sights = self._pipeline.context.agent_list.read(self._pipeline.writer)
            trouble = self._pipeline.store_trouble
            return Answer(status=200, body=render_agents(sights, store_trouble=trouble))

        return await submit(self._pipeline, read, 0, "batches_busy")


async def submit(pipeline: Pipeline, job: Job, size: int, busy: str) -> Answer:
    try:
        future = pipeline.submit(job, size)
    except BusyError:
        pipeline.context.counters.add(busy, 1)
        return not_now("the exporter's queue is full", retry_after_s=1)
    return await asyncio.wrap_future(future)


def agent_component(status: AgentStatus) -> ComponentStatus:
    return ComponentStatus(
        kind="agent",
        name=status.node,
        version=status.version,
        seen_ns=str(status.time_ns),
        started_ns=str(status.started_ns),
        config_generation=status.config_generation,
        config_revision=status.config_revision,
        alive=True,
        capabilities=tuple(
            {"name": c.name, "on": "true" if c.on else "false", "why": c.why, "cost": c.cost}
            for c in status.capabilities
        ),
        counters={name: str(value) for name, value in status.counters.items()},
        gauges={
            **{name: float(value) for name, value in status.gauges.items()},
            "dns_ttl_s": float(status.dns_ttl_s),
            "dns_ttl_overridden": float(status.dns_ttl_overridden),
        },
    )
