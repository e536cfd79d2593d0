"""The HTTP API's paths, as farcall.api lists them. Each handler reads its parameters, asks the store, and returns.

Nothing here knows SQL, pages or cookies.
"""

import time
from functools import partial
from importlib.metadata import version as installed_version
from typing import Annotated, Any

from litestar import Controller, Request, Response, Router, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from farcall.api import (
    DEFAULT_LIMIT,
    DEFAULT_TRACE_SPANS,
    MAX_TRACE_SPANS,
    Evidence,
    LogHistogram,
    LogPage,
    LogQuery,
    Span,
    SpanPage,
    SpanQuery,
    Status,
    Trace,
    TracePage,
)
from farcall.storeport import Reader, StoreError
from farcall_console import evidence, parameters, status
from farcall_console.configuration import LiveConfig
from farcall_console.problems import BadParameterError, NotFoundError, TooSlowError, respond
from farcall_console.reads import Reads
from farcall_console.rendering import COMPRESSES_ITSELF, render_json

FromReads = NamedDependency[Reads]
FromConfig = NamedDependency[LiveConfig]
TraceId = FromPath[str]
SpanId = FromPath[str]
Search = Annotated[str, QueryParameter(name="q", description="The search language.")]
From = Annotated[
    str | None, QueryParameter(name="from", description="RFC 3339 or Unix nanoseconds, inclusive.")
]
To = Annotated[
    str | None, QueryParameter(name="to", description="RFC 3339 or Unix nanoseconds, exclusive.")
]
Limit = Annotated[int, QueryParameter(name="limit", description="1 to 1,000.")]
TraceLimit = Annotated[
    int, QueryParameter(name="limit", description="Spans, the first by start; up to 100,000.")
]
Cursor = Annotated[
    str | None, QueryParameter(name="cursor", description="`next` of the page before.")
]
TraceIds = Annotated[
    list[str] | None,
    QueryParameter(
        name="trace", description="Effective trace IDs, repeated; lines of any of them."
    ),
]
SpanIds = Annotated[
    list[str] | None,
    QueryParameter(name="span", description="Effective span IDs, repeated; lines of any of them."),
]
Order = Annotated[str, QueryParameter(name="order", description="desc (newest first) or asc.")]


def parse_span_query(
    q: str, from_: str | None, to: str | None, limit: int, cursor: str | None
) -> SpanQuery:
    return SpanQuery(
        q=parameters.parse_query(q),
        window=parameters.parse_window(from_, to),
        limit=parameters.parse_limit(limit),
        cursor=parameters.parse_cursor(cursor),
    )


class Spans(Controller):
    path = "/"
    tags = ("spans",)

    @get("/traces", summary="Traces with a matching span, newest first")
    async def list_traces(
        self,
        reads: FromReads,
        q: Search = "",
        from_: From = None,
        to: To = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> TracePage:
        query = parse_span_query(q, from_, to, limit, cursor)
        return await reads.call(lambda reader: reader.list_traces(query))

    @get(
        "/traces/{trace_id:str}",
        summary="A trace by its own, or by a linked, ID",
        opt={COMPRESSES_ITSELF: True},
    )
    async def read_trace(
        self,
        reads: FromReads,
        request: Request[Any, Any, Any],
        trace_id: TraceId,
        limit: TraceLimit = DEFAULT_TRACE_SPANS,
    ) -> Response[Trace]:
        wanted = parameters.parse_trace_id("trace_id", trace_id)
        spans = parameters.parse_limit(limit, MAX_TRACE_SPANS)
        accept_encoding = request.headers.get("accept-encoding", "")

        def read(reader: Reader) -> Response[Trace]:
            trace = reader.read_trace(wanted, limit=spans)
            if trace is None:
                raise NotFoundError(
                    "no span of this trace is stored: it is unknown, or has expired"
                )
            return render_json(trace, accept_encoding=accept_encoding)

        return await reads.call(read)

    @get("/spans", summary="Matching spans, newest first")
    async def list_spans(
        self,
        reads: FromReads,
        q: Search = "",
        from_: From = None,
        to: To = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> SpanPage:
        query = parse_span_query(q, from_, to, limit, cursor)
        return await reads.call(lambda reader: reader.list_spans(query))

    @get("/traces/{trace_id:str}/spans/{span_id:str}", summary="One span")
    async def read_span(self, reads: FromReads, trace_id: TraceId, span_id: SpanId) -> Span:
        return await reads.call(partial(_find_span, trace_id, span_id))

    @get("/traces/{trace_id:str}/spans/{span_id:str}/evidence", summary="Why it has its name")
    async def read_evidence(
        self, reads: FromReads, live_config: FromConfig, trace_id: TraceId, span_id: SpanId
    ) -> Evidence:
        def read(reader: Reader) -> Evidence:
            span = _find_span(trace_id, span_id, reader)
            connection = _find_connection(span, reader)
            deadline = evidence.deadline_of(live_config.read(), span, connection)
            address = evidence.address_called(span)
            answers = (
                reader.read_answers(
                    address=address,
                    client_key=evidence.client_asked_about(span, connection),
                    window=evidence.answer_window(span, deadline),
                )
                if address
                else []
            )
            return evidence.build_evidence(span, connection, answers, deadline)

        return await reads.call(read)


def _find_span(trace_id: str, span_id: str, reader: Reader) -> Span:
    span = reader.read_span(
        parameters.parse_trace_id("trace_id", trace_id),
        parameters.parse_span_id("span_id", span_id),
    )
    if span is None:
        raise NotFoundError("this span is not stored: it is unknown, or has expired")
    return span


def _find_connection(span: Span, reader: Reader) -> dict[str, str]:
    connection_id = span.attributes.get(evidence.CONNECTION_ID, "")
    return (reader.read_connection(connection_id) or {}) if connection_id else {}


class Logs(Controller):
    path = "/logs"
    tags = ("logs",)

    @get("/", summary="Matching log lines, newest first unless asked")
    async def list_logs(
        self,
        reads: FromReads,
        q: Search = "",
        trace: TraceIds = None,
        span: SpanIds = None,
        from_: From = None,
        to: To = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
        order: Order = "desc",
    ) -> LogPage:
        if order not in ("asc", "desc"):
            raise BadParameterError("order", "`order` is asc or desc")
        query = LogQuery(
            q=parameters.parse_query(q),
            trace_ids=parameters.parse_ids("trace", trace, parameters.parse_trace_id),
            span_ids=parameters.parse_ids("span", span, parameters.parse_span_id),
            window=parameters.parse_window(from_, to),
            limit=parameters.parse_limit(limit),
            cursor=parameters.parse_cursor(cursor),
            ascending=order == "asc",
        )
        return await reads.call(lambda reader: reader.list_logs(query))

    @get("/histogram", summary="How many lines, when, and how many more outside the range")
    async def count_logs(
        self,
        reads: FromReads,
        q: Search = "",
        trace: TraceIds = None,
        span: SpanIds = None,
        from_: From = None,
        to: To = None,
    ) -> LogHistogram:
        query = LogQuery(
            q=parameters.parse_query(q),
            trace_ids=parameters.parse_ids("trace", trace, parameters.parse_trace_id),
            span_ids=parameters.parse_ids("span", span, parameters.parse_span_id),
            window=parameters.parse_window(from_, to),
        )
        return await reads.call(lambda reader: reader.count_logs(query))


@get("/status", summary="Who speaks, what is off, what was lost", tags=["status"])
async def read_status(reads: FromReads, live_config: FromConfig) -> Status:
    """Answers also when the store does not: that is when this page is opened."""
    faults = []
    try:
        components = await reads.call(lambda reader: reader.read_statuses())
    except (StoreError, TooSlowError) as e:
        components = []
        faults.append(f"The store does not answer, so nothing is known of the others: {e}")
    config = live_config.read()
    if live_config.fault is not None:
        faults.append(live_config.fault)
    return status.build_status(
        config,
        components,
        version=installed_version("farcall"),
        now_ns=time.time_ns(),
        config_changed_ns=live_config.changed_ns,
        faults=faults,
    )


def build_router() -> Router:
    return Router(
        path="/api/v1",
        route_handlers=[Spans, Logs, read_status],
        exception_handlers={Exception: respond},
    )
