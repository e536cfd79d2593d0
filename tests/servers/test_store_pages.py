"""Pages of spans, traces and lines over a real store: complete, in order, without doubles; and the histogram."""

import pytest

from farcall.api import LogQuery, SpanQuery, Window
from farcall.storeport import Reader, StoreRefusedError, Writer
from support_store import (
    SECOND,
    around,
    build_table,
    log_line,
    span,
    span_id,
    trace_id,
)

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("spread", [0, 1, 7 * 60 * SECOND])
def test_pages_of_spans_are_complete_and_in_order(
    writer: Writer, reader: Reader, at: int, spread: int
) -> None:
    """Also when every span has the same time."""
    rows = [span(at + n * spread, trace_id(n // 2 + 1), span_id(at + n)) for n in range(23)]
    writer.write({"spans": build_table("spans", rows)}, token=f"{at}")
    window, seen, cursor = Window(from_ns=at - 1, to_ns=at + 22 * spread + 1), [], None

    while True:
        page = reader.list_spans(SpanQuery(window=window, limit=5, cursor=cursor))
        seen += [(int(one.start_ns), one.trace_id, one.span_id) for one in page.items]
        cursor = page.next
        if cursor is None:
            break

    assert len(seen) == 23
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 23


def test_pages_of_traces_are_complete_and_without_doubles(
    writer: Writer, reader: Reader, at: int
) -> None:
    """Traces overlap in time: the older spans of a listed trace must not list it again."""
    rows = [span(at + n, trace_id(at + n % 11), span_id(at + n)) for n in range(44)]
    writer.write({"spans": build_table("spans", rows)}, token=f"{at}")
    seen, cursor = [], None

    while True:
        page = reader.list_traces(SpanQuery(window=around(at), limit=3, cursor=cursor))
        seen += [summary.trace_id for summary in page.items]
        cursor = page.next
        if cursor is None:
            break

    assert seen == [trace_id(at + n) for n in reversed(range(11))]
    assert all(summary.spans == 4 for summary in page.items)


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("spread", [0, 9 * 60 * SECOND])
def test_pages_of_logs_are_complete_both_ways(
    writer: Writer, reader: Reader, at: int, ascending: bool, spread: int
) -> None:
    """Also equal lines of the same nanosecond are as many as were written."""
    lines = [log_line(at + n * spread, "the same") for n in range(17)]
    writer.write({"logs": build_table("logs", lines)}, token=f"{at}")
    window, seen, cursor = Window(from_ns=at, to_ns=at + 16 * spread + 1), [], None

    while True:
        page = reader.list_logs(
            LogQuery(window=window, limit=4, cursor=cursor, ascending=ascending)
        )
        seen += [(int(line.time_ns), line.id) for line in page.items]
        cursor = page.next
        if cursor is None:
            break

    times = [moment for moment, _ in seen]
    assert len(set(seen)) == 17
    assert times == sorted(times, reverse=not ascending)


@pytest.mark.parametrize(
    "cursor", ["x", "e30", "WzFd", "WyJhIiwgMV0", "é", "W10", "WzEsIDIsIDNd", "[" * 50]
)
def test_a_foreign_cursor_is_refused(reader: Reader, cursor: str) -> None:
    for call in (
        lambda: reader.list_spans(SpanQuery(cursor=cursor)),
        lambda: reader.list_traces(SpanQuery(cursor=cursor)),
        lambda: reader.list_logs(LogQuery(cursor=cursor)),
    ):
        with pytest.raises(StoreRefusedError):
            call()


def test_a_histogram_counts_by_severity_in_equal_steps(
    writer: Writer, reader: Reader, at: int
) -> None:
    lines = [
        log_line(
            at + n * SECOND,
            "x",
            SeverityNumber=[9, 17, 0][n % 3],
            SeverityText=["", "", "warn"][n % 3],
        )
        for n in range(30)
    ]
    writer.write({"logs": build_table("logs", lines)}, token=f"{at}")

    histogram = reader.count_logs(
        LogQuery(window=Window(from_ns=at, to_ns=at + 30 * SECOND)), buckets=3
    )

    assert histogram.step_ns == str(10 * SECOND)
    assert [bucket.start_ns for bucket in histogram.buckets] == [
        str(at + n * 10 * SECOND) for n in range(3)
    ]
    totals: dict[str, int] = {}
    for bucket in histogram.buckets:
        assert sum(bucket.counts.values()) == 10
        for name, number in bucket.counts.items():
            totals[name] = totals.get(name, 0) + number
    assert totals == {"INFO": 10, "ERROR": 10, "WARN": 10}


def test_an_empty_store_answers_an_empty_histogram(reader: Reader) -> None:
    histogram = reader.count_logs(LogQuery(q="nobodywrotethis"))

    assert (histogram.total, histogram.outside) == (0, 0)
