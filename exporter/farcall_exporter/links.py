"""The trace that a request said it belongs to, as links: the eBPF span keeps its own IDs and points to the OTel span.

W3C Trace Context 3.2.2: an ID of zeros is invalid, and then the header counts for nothing.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from farcall.exchange import ExchangeFlag
from farcall.rows import LINKS, SPANS
from farcall_exporter.columns import Coded, Codes, Mask, choose, texts_array
from farcall_exporter.exchanges import Exchanges

METHODS = ("traceparent", "b3", "jaeger")
_EMPTY_LISTS = ("Events.Timestamp", "Events.Name", "Events.Attributes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Of a whole batch; null where a request named no valid trace."""

    trace_id: Coded  # hex
    span_id: Coded

    @property
    def present(self) -> Mask:
        return self.trace_id.present

    def columns(self, rows: Codes) -> dict[str, pa.Array]:
        """The list columns of the spans table for `rows`."""
        present = self.present[rows]
        offsets = np.zeros(len(rows) + 1, np.int32)
        np.cumsum(present, out=offsets[1:])
        linked = rows[present]
        lists = {
            "Links.TraceId": pa.ListArray.from_arrays(
                pa.array(offsets), self.trace_id.take(linked).to_strings()
            ),
            "Links.SpanId": pa.ListArray.from_arrays(
                pa.array(offsets), self.span_id.take(linked).to_strings()
            ),
        }
        for name in _EMPTY_LISTS:
            kind = SPANS.field(name).type
            lists[name] = pa.ListArray.from_arrays(
                pa.array(np.zeros(len(rows) + 1, np.int32)),
                pa.array([], kind.value_type),
                type=kind,
            )
        return lists

    def table(self, x: Exchanges, rows: Codes, trace_id: pa.Array, span_id: pa.Array) -> pa.Table:
        """Rows of the links table for those of `rows` that carried one; the IDs are as long as `rows`."""
        chosen = np.flatnonzero(self.present[rows])
        linked = rows[chosen]
        columns = [
            pa.array(x.start[linked]).cast(LINKS.field("Timestamp").type),
            trace_id.take(pa.array(chosen)),
            span_id.take(pa.array(chosen)),
            self.trace_id.take(linked).to_strings(),
            self.span_id.take(linked).to_strings(),
            choose(METHODS, _read_methods(x)[linked]).to_words(),
        ]
        return pa.Table.from_arrays(columns, schema=LINKS)


def _read_methods(x: Exchanges) -> Codes:
    is_b3, is_jaeger = x.ends.has(ExchangeFlag.TRACE_B3), x.ends.has(ExchangeFlag.TRACE_JAEGER)
    return np.where(is_jaeger, 2, np.where(is_b3, 1, 0))


def read_links(x: Exchanges) -> Links:
    trace_id, span_id = _hexed(x.trace_id), _hexed(x.parent_span_id)
    both = trace_id.present & span_id.present
    return Links(trace_id=trace_id.only(both), span_id=span_id.only(both))


def _hexed(coded: Coded) -> Coded:
    """IDs as hex; those of zeros become null."""
    raw: list[bytes] = coded.values.to_pylist()
    is_valid = np.array([any(value) for value in raw] + [False], np.bool_)
    codes = np.where(is_valid[coded.codes], coded.codes, -1)
    return Coded(texts_array([value.hex() for value in raw]), codes)
