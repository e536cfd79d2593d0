"""Query parameters as text → what the store's port takes. Pure; raises BadParameterError with the parameter's name."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from farcall.api import MAX_LIMIT, MAX_QUERY_LENGTH, Window
from farcall_console.problems import BadParameterError

MAX_IDS = 200  # a trace of more linked traces than this is shown by its first ones
MAX_CURSOR_LENGTH = 1_024
MAX_NS = 2**63 - 1  # what a 64-bit timestamp holds: the year 2262
NS = 1_000_000_000

_NANOSECONDS = re.compile(r"\d{1,19}")
# RFC 3339 5.6; the fraction apart, because datetime keeps microseconds only.
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})"
)
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time_ns(field: str, text: str) -> int:
    """RFC 3339 or Unix nanoseconds."""
    if _NANOSECONDS.fullmatch(text):
        value = int(text)
    else:
        value = _parse_rfc3339_ns(field, text)
    if not 0 <= value <= MAX_NS:
        raise BadParameterError(field, f"{text!r} lies outside 1970 to 2262")
    return value


def _parse_rfc3339_ns(field: str, text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise BadParameterError(
            field, f"{text[:64]!r} is neither RFC 3339 (2026-01-31T12:00:00Z) nor Unix nanoseconds"
        )
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as e:
        raise BadParameterError(field, f"{text!r} is no date: {e}") from e
    whole_s = (moment - _EPOCH) // timedelta(seconds=1)
    return whole_s * NS + int((fraction or "").ljust(9, "0"))


def parse_window(
    from_text: str | None, to_text: str | None, *, now_ns: Callable[[], int] = time.time_ns
) -> Window | None:
    """None when neither end is given: everything that is kept."""
    if not from_text and not to_text:
        return None
    from_ns = parse_time_ns("from", from_text) if from_text else 0
    to_ns = parse_time_ns("to", to_text) if to_text else now_ns()
    if from_ns >= to_ns:
        raise BadParameterError("from", "`from` must lie before `to`")
    return Window(from_ns=from_ns, to_ns=to_ns)


def parse_query(text: str) -> str:
    if len(text) > MAX_QUERY_LENGTH:
        raise BadParameterError("q", f"a query has at most {MAX_QUERY_LENGTH} characters")
    return text.strip()


def parse_limit(limit: int, most: int = MAX_LIMIT) -> int:
    if not 1 <= limit <= most:
        raise BadParameterError("limit", f"`limit` is a number from 1 to {most:,}")
    return limit


def parse_cursor(cursor: str | None) -> str | None:
    if cursor is not None and len(cursor) > MAX_CURSOR_LENGTH:
        raise BadParameterError("cursor", "this is no cursor of ours; start again without one")
    return cursor or None


def parse_trace_id(field: str, text: str) -> str:
    lowered = text.lower()
    if _TRACE_ID.fullmatch(lowered) is None:
        raise BadParameterError(field, "a trace ID is 32 hexadecimal digits")
    return lowered


def parse_span_id(field: str, text: str) -> str:
    lowered = text.lower()
    if _SPAN_ID.fullmatch(lowered) is None:
        raise BadParameterError(field, "a span ID is 16 hexadecimal digits")
    return lowered


def parse_ids(
    field: str, texts: list[str] | None, parse: Callable[[str, str], str]
) -> tuple[str, ...]:
    """Given by repetition (`trace=a&trace=b`) or with commas; without doubles, in the order given."""
    given = [part for text in texts or [] for part in text.split(",") if part]
    if len(given) > MAX_IDS:
        raise BadParameterError(field, f"at most {MAX_IDS} IDs at a time")
    return tuple(dict.fromkeys(parse(field, text) for text in given))
