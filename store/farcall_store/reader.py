"""What the console reads through: farcall's shapes out of the store. Implements `farcall.storeport.Reader`."""

import json
import time

from farcall.api import (
    ComponentStatus,
    DnsEvidence,
    LogHistogram,
    LogPage,
    LogQuery,
    Span,
    SpanPage,
    SpanQuery,
    Trace,
    TracePage,
    Window,
)
from farcall.storeport import QuerySyntaxError
from farcall_store import logs, spans
from farcall_store.client import CANNOT_COMPILE_REGEXP, Client, RefusedByCodeError
from farcall_store.paging import BOUND, bind, clamp, clamp_limit
from farcall_store.search import find_regexes
from farcall_store.statuses import parse_status

MAX_TRACE_SPANS = 100_000


class StoreReader:
    def __init__(self, url: str, *, password: str, user: str = "reader") -> None:
        self._client = Client(url, user=user, password=password)

    def list_traces(self, query: SpanQuery) -> TracePage:
        self._check_regexes(query.q)
        return spans.list_traces(self._client, query)

    def read_trace(self, trace_id: str, *, limit: int = 50_000) -> Trace | None:
        limit = max(1, min(limit, MAX_TRACE_SPANS))
        return spans.read_trace(self._client, trace_id, limit=limit)

    def list_spans(self, query: SpanQuery) -> SpanPage:
        self._check_regexes(query.q)
        return spans.list_spans(self._client, query)

    def read_span(self, trace_id: str, span_id: str) -> Span | None:
        return spans.read_span(self._client, trace_id, span_id)

    def list_logs(self, query: LogQuery) -> LogPage:
        self._check_regexes(query.q)
        return logs.list_logs(self._client, query)

    def count_logs(self, query: LogQuery, *, buckets: int = 60) -> LogHistogram:
        self._check_regexes(query.q)
        return logs.count_logs(self._client, query, buckets=buckets)

    def read_answers(
        self, *, address: str, client_key: str | None, window: Window, limit: int = 50
    ) -> list[DnsEvidence]:
        own = "" if client_key is None else " AND ClientKey = {client:String}"
        rows = self._client.query(
            "SELECT toUnixTimestamp64Nano(Timestamp) AS ns, ClientKey AS client, ServiceName AS service, "
            "Resolver AS resolver, Question AS question, Address AS address, CanonicalName AS canonical "
            f"FROM dns_answers WHERE {BOUND} AND Address = {{address:String}}{own} "
            "ORDER BY Timestamp DESC, client, question LIMIT {rows:UInt32}",
            {
                **bind(clamp(window)),
                "address": address,
                "client": client_key or "",
                "rows": clamp_limit(limit),
            },
        )
        return [
            DnsEvidence(
                time_ns=str(row["ns"]),
                client=row["client"],
                service=row["service"],
                resolver=row["resolver"],
                question=row["question"],
                address=row["address"],
                canonical_name=row["canonical"],
                used=False,
            )
            for row in rows
        ]

    def read_connection(self, connection_id: str) -> dict[str, str] | None:
        """Times in Unix nanoseconds, "" where there is none; `Rivals` as JSON."""
        rows = self._client.query(
            "SELECT * REPLACE (toUnixTimestamp64Nano(Timestamp) AS Timestamp, toUnixTimestamp64Nano(Opened) AS Opened, "
            "toUnixTimestamp64Nano(BoundAnswered) AS BoundAnswered, toUnixTimestamp64Nano(AnsweredAt) AS AnsweredAt) "
            "FROM connections WHERE ConnectionId = {id:String} ORDER BY connections.Timestamp DESC LIMIT 1",
            {"id": connection_id},
        )
        return {name: _render_value(value) for name, value in rows[0].items()} if rows else None

    def read_statuses(self) -> list[ComponentStatus]:
        rows = self._client.query(
            "SELECT Kind AS kind, Name AS name, argMax(Status, Seen) AS status FROM component_status "
            "GROUP BY Kind, Name ORDER BY Kind, Name"
        )
        now_ns = time.time_ns()
        return [parse_status(row["status"], now_ns) for row in rows]

    def close(self) -> None:
        self._client.close()

    def _check_regexes(self, text: str) -> None:
        """Whether a regex is one, the engine alone knows. Raises QuerySyntaxError at the first that is none."""
        for regex in find_regexes(text):
            try:
                self._client.query("SELECT match('', {p:String}) AS m", {"p": regex.pattern})
            except RefusedByCodeError as e:
                if e.code != CANNOT_COMPILE_REGEXP:
                    raise
                raise QuerySyntaxError(
                    "this is not a regex that RE2 understands", position=regex.position
                ) from e


def _render_value(value: object) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list | tuple) else str(value)
