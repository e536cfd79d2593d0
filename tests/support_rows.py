"""Tables as rows of plain values, and whether a store that holds some would recognise others."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from farcall.rows import TableName

Row = dict[str, Any]
KEYS = ("Timestamp", "SpanId", "IsServerSpan", "ClientKey", "Question", "ConnectionId")


def holds_any(stored: Sequence[Row], name: TableName, table: pa.Table) -> bool:
    """Of the tables whose rows the store recognises."""

    def read(rows: Sequence[Row]) -> set[tuple[Any, ...]]:
        return {tuple(row.get(key) for key in KEYS) for row in rows}

    recognised = name in ("spans", "dns_answers", "connections")
    return recognised and bool(read(to_rows(table)) & read(stored))


def to_rows(table: pa.Table) -> list[Row]:
    """Rows with times as ints and maps as dicts."""
    rows: list[Row] = []
    columns = {}
    for column in table.schema:
        values = table.column(column.name)
        if pa.types.is_timestamp(column.type):
            values = values.cast(pa.int64())
        if pa.types.is_list(column.type) and pa.types.is_timestamp(column.type.value_type):
            values = values.cast(pa.list_(pa.int64()))
        listed = values.to_pylist()
        if pa.types.is_map(column.type):
            listed = [dict(pairs) for pairs in listed]
        columns[column.name] = listed
    for index in range(table.num_rows):
        rows.append({name: values[index] for name, values in columns.items()})
    return rows
