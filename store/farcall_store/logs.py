"""Reads of log lines: pages both ways, and the histogram above them."""

from typing import Any

from farcall.api import HistogramBucket, LogHistogram, LogLine, LogPage, LogQuery, Window
from farcall.storeport import StoreRefusedError, StoreUnavailableError
from farcall_store.client import Client
from farcall_store.paging import (
    BOUND,
    bind,
    clamp,
    clamp_limit,
    decode_cursor,
    encode_cursor,
    split_newest_first,
)
from farcall_store.search import compile_logs

_LEVEL_NAMES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
MAX_BUCKETS = 500

_COLUMNS = """
  toUnixTimestamp64Nano(Timestamp) AS ns, LineId AS line_id, SeverityText AS severity_text,
  SeverityNumber AS severity_number, ServiceName AS service, Body AS body, TraceId AS trace_id,
  SpanId AS span_id, LogAttributes AS attributes, ResourceAttributes AS resource
"""
_LEVEL = "if(SeverityNumber BETWEEN 1 AND 24, toString(intDiv(SeverityNumber - 1, 4)), upper(SeverityText))"


def _render_filter(query: LogQuery) -> tuple[str, dict[str, object]]:
    predicate = compile_logs(query.q)
    conditions, params = [predicate.sql], dict[str, object](predicate.params)
    if query.trace_ids:
        conditions.append("TraceId IN {trace_ids:Array(String)}")
        params["trace_ids"] = list(query.trace_ids)
    if query.span_ids:
        conditions.append("SpanId IN {span_ids:Array(String)}")
        params["span_ids"] = list(query.span_ids)
    return " AND ".join(conditions), params


def list_logs(client: Client, query: LogQuery) -> LogPage:
    """Newest first, or oldest first when the query says so."""
    condition, params = _render_filter(query)
    window, limit = clamp(query.window), clamp_limit(query.limit)
    order, beyond = ("ASC", ">") if query.ascending else ("DESC", "<")
    if query.cursor:
        ns, line_id = (int(part) for part in decode_cursor(query.cursor, (int, int)))
        condition += f" AND (toUnixTimestamp64Nano(Timestamp), LineId) {beyond} ({{after_ns:Int64}}, {{after_id:UInt64}})"
        params |= {"after_ns": min(ns, window.to_ns), "after_id": line_id}
        if query.ascending:
            window = clamp(Window(from_ns=max(window.from_ns, ns), to_ns=window.to_ns))
        else:
            window = clamp(Window(from_ns=window.from_ns, to_ns=min(window.to_ns, ns + 1)))
    rows: list[dict[str, Any]] = []
    is_narrow = query.ascending or query.trace_ids or query.span_ids  # the index finds them at once
    for piece in [window] if is_narrow else split_newest_first(window):
        rows += client.query(
            f"SELECT {_COLUMNS} FROM otel_logs WHERE {BOUND} AND {condition} "
            f"ORDER BY Timestamp {order}, LineId {order} LIMIT {{rows:UInt32}}",
            {**params, **bind(piece), "rows": limit + 1 - len(rows)},
        )
        if len(rows) > limit:
            break
    page = rows[:limit]
    following = None
    if len(rows) > limit:
        following = encode_cursor([page[-1]["ns"], page[-1]["line_id"]])
    return LogPage(items=tuple(_build_line(row) for row in page), next=following)


def _build_line(row: dict[str, Any]) -> LogLine:
    return LogLine(
        id=f"{row['ns']}-{row['line_id']}",
        time_ns=str(row["ns"]),
        severity=name_severity(row["severity_number"], row["severity_text"]),
        severity_number=row["severity_number"],
        service=row["service"],
        body=row["body"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        attributes=dict(row["attributes"]),
        resource=dict(row["resource"]),
    )


def name_severity(number: int, text: str) -> str:
    """One of the six names; a text of its own only when there is no number and it is one of them."""
    if 1 <= number <= 24:
        return _LEVEL_NAMES[(number - 1) // 4]
    upper = text.upper()
    return (
        upper if upper in _LEVEL_NAMES else {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(upper, "")
    )


def count_logs(client: Client, query: LogQuery, *, buckets: int) -> LogHistogram:
    condition, params = _render_filter(query)
    window = clamp(query.window)
    if query.window is None:
        window = _find_extent(client, condition, params)
    step = _choose_step(window, max(1, min(buckets, MAX_BUCKETS)))
    rows = client.query(
        "SELECT intDiv(toUnixTimestamp64Nano(Timestamp) - {from_ns:Int64}, {step:Int64}) AS bucket, "
        f"{_LEVEL} AS level, count() AS n FROM otel_logs WHERE {BOUND} AND {condition} GROUP BY bucket, level",
        {**params, **bind(window), "step": step},
    )
    total = sum(row["n"] for row in rows)
    outside = 0
    if query.window is not None and (query.q.strip() or query.trace_ids or query.span_ids):
        outside = _count_outside(client, condition, params, total)
    return LogHistogram(
        from_ns=str(window.from_ns),
        to_ns=str(window.to_ns),
        step_ns=str(step),
        buckets=_build_buckets(rows, window, step),
        total=total,
        outside=outside,
    )


def _find_extent(client: Client, condition: str, params: dict[str, object]) -> Window:
    row = client.query(
        "SELECT count() AS n, toUnixTimestamp64Nano(min(Timestamp)) AS first, toUnixTimestamp64Nano(max(Timestamp)) AS last "
        f"FROM otel_logs WHERE {condition}",
        params,
    )[0]
    if not row["n"]:
        return Window(from_ns=0, to_ns=1)
    return Window(from_ns=row["first"], to_ns=row["last"] + 1)


# Steps that people can read on an axis, in nanoseconds.
_NICE_STEPS = [
    factor * unit
    for unit, factors in (
        (1, (1, 10, 100)),
        (1_000, (1, 10, 100)),
        (1_000_000, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (1_000_000_000, (1, 2, 5, 10, 15, 30)),
        (60_000_000_000, (1, 2, 5, 10, 15, 30)),
        (3_600_000_000_000, (1, 2, 3, 6, 12, 24, 48, 168, 744, 8784)),
    )
    for factor in factors
]


def _choose_step(window: Window, buckets: int) -> int:
    length = max(1, window.to_ns - window.from_ns)
    for step in _NICE_STEPS:
        if step * buckets >= length:
            return step
    return -(-length // buckets)


def _build_buckets(
    rows: list[dict[str, Any]], window: Window, step: int
) -> tuple[HistogramBucket, ...]:
    counts: dict[int, dict[str, int]] = {}
    for row in rows:
        level = row["level"]
        name = (
            _LEVEL_NAMES[int(level)]
            if level.isdigit() and int(level) < 6
            else name_severity(0, level)
        )
        bucket = counts.setdefault(int(row["bucket"]), {})
        bucket[name] = bucket.get(name, 0) + row["n"]
    number = max(1, -(-(window.to_ns - window.from_ns) // step))
    return tuple(
        HistogramBucket(start_ns=str(window.from_ns + n * step), counts=counts.get(n, {}))
        for n in range(number)
    )


def _count_outside(client: Client, condition: str, params: dict[str, object], inside: int) -> int:
    """What the same question finds at any time, less what is shown. 0 when that is too much to ask."""
    try:
        row = client.query(f"SELECT count() AS n FROM otel_logs WHERE {condition}", params)[0]
    except (StoreRefusedError, StoreUnavailableError):
        return 0
    return max(0, int(row["n"]) - inside)
