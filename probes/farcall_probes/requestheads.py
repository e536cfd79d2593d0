"""The HTTP/1 request heads of one drain → columns. A head of a known shape costs a look-up, a comparison and a row.

Any other head is RequestParser's, and so is one that names its trace in another way than by a valid traceparent: what is read
is the same. Identifiers are packed for all heads at once.
"""

from binascii import unhexlify
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farcall_probes.wire import tracecontext
from farcall_probes.wire.http1 import HttpRequest, RequestParser
from farcall_probes.wire.outcomes import Truncated
from farcall_probes.wire.tracecontext import parse_traceparent

_HEAD_END = b"\r\n\r\n"
_LINE_END = b"\r\n"
Ids = list[bytes | None]

# ` 00-<32>-<16>-<2>`, as nearly every header has it behind its colon.
_VALUE = 56
_DASHES = [3, 36, 53]
_DIGITS = ((1, 3), (4, 36), (37, 53), (54, 56))


class Heads(NamedTuple):
    """Columns as long as `rows`, the indices of the heads that are requests."""

    rows: list[int]
    cut: list[int]  # of `rows`, those whose head is not whole
    method: Sequence[str]
    path: Sequence[str]
    query: Sequence[str | None]  # unmasked
    host: Sequence[str | None]
    user_agent: Sequence[str | None]
    content_type: Sequence[str | None]
    trace_id: Ids
    parent_span_id: Ids
    requests: dict[int, int]  # place → how many requests, where there are more than one
    formats: dict[int, int]  # place → tracecontext's, where it is not W3C
    states: dict[int, str]  # place → tracestate


class HeadReader:
    def __init__(self, parser: RequestParser) -> None:
        self._parser = parser

    def read(self, captured: Sequence[bytes]) -> Heads:
        """The captured bytes are all there will ever be: what does not end is cut."""
        parser = self._parser
        lines, learn_line, find_shape = parser.lines, parser.learn_line, parser.shapes.find
        rows: list[int] = []
        found: list[_Row] = []
        traces: list[bytes | None] = []
        requests: dict[int, int] = {}
        others: dict[int, HttpRequest] = {}
        cut: list[int] = []
        # Heads of this drain that have a shape: both ends of a call have the same, and so may many calls.
        known: dict[bytes, tuple[_Row, bytes | None]] = {}
        for row, data in enumerate(captured):  # the hot loop: once per exchange
            same = known.get(data)
            if same is not None:
                rows.append(row)
                found.append(same[0])
                traces.append(same[1])
                continue
            end = data.find(_HEAD_END)
            if end >= 0:
                line_end = data.find(_LINE_END)
                raw = data[:line_end]
                line = lines.get(raw) or learn_line(raw)
                if line is None:
                    continue
                block = data[line_end : end + 2]
                shape = find_shape(block)
                if shape is not None and not shape.contexts:
                    place = shape.traceparent
                    trace = block[place] if place is not None else None
                    words = line + shape.words
                    if len(data) == end + 4:
                        known[data] = words, trace
                    elif more := parser.count_behind(data, line_end, end):
                        requests[len(rows)] = 1 + more
                    rows.append(row)
                    found.append(words)
                    traces.append(trace)
                    continue
            request = parser.parse(data, cut=True)
            if isinstance(request, Truncated):
                cut.append(row)
                request = request.partial
            if isinstance(request, HttpRequest):
                others[len(rows)] = request
                rows.append(row)
                found.append(_shorten(request))
                traces.append(None)
        trace_id, span_id, invalid = parse_traceparents(traces)
        for at in invalid:
            request = parser.parse(captured[rows[at]], cut=True)
            assert isinstance(request, HttpRequest)
            others[at] = request
        return _build(rows, cut, found, trace_id, span_id, requests, others)


# method, path, query, authority, host, user agent, content type
_Row = tuple[str, str, str | None, str | None, str | None, str | None, str | None]


def _shorten(request: HttpRequest) -> _Row:
    method, path, query, host, agent, kind = request[:6]
    return method, path, query, None, host, agent, kind


def _build(
    rows: list[int],
    cut: list[int],
    found: list[_Row],
    trace_id: Ids,
    span_id: Ids,
    requests: dict[int, int],
    others: dict[int, HttpRequest],
) -> Heads:
    formats: dict[int, int] = {}
    states: dict[int, str] = {}
    for at, request in others.items():
        found[at] = _shorten(request)
        trace_id[at], span_id[at] = request.trace_id, request.parent_span_id
        if request.requests > 1:
            requests[at] = request.requests
        if request.trace_format != tracecontext.W3C:
            formats[at] = request.trace_format
        if request.trace_state is not None:
            states[at] = request.trace_state
    columns = list(zip(*found, strict=True)) or [()] * 7
    method, path, query, authority, host, agent, kind = columns
    if any(authority):
        host = tuple(a or h for a, h in zip(authority, host, strict=True))
    return Heads(
        rows, cut, method, path, query, host, agent, kind,
        trace_id, span_id, requests, formats, states,
    )  # fmt: skip


def parse_traceparents(values: Sequence[bytes | None]) -> tuple[Ids, Ids, list[int]]:
    """Trace IDs and span IDs, and the places of values that are not valid. None: no value."""
    traces: Ids = [None] * len(values)
    spans: Ids = [None] * len(values)
    places = [at for at, value in enumerate(values) if value is not None]
    given = [values[at] or b"" for at in places]
    alike = _parse_alike(given) if given else None
    if alike is not None and len(given) == len(values):
        return *alike, []
    found = zip(*alike, strict=True) if alike is not None else map(parse_traceparent, given)
    for at, (trace, span) in zip(places, found, strict=True):
        traces[at], spans[at] = trace, span
    return traces, spans, [at for at in places if traces[at] is None]


def _parse_alike(values: list[bytes]) -> tuple[Ids, Ids] | None:
    """Of values that are all valid, and written as nearly all are; None where one is not."""
    joined = b"".join(values)
    if len(joined) != _VALUE * len(values) or set(map(len, values)) != {_VALUE}:
        return None
    raw = np.frombuffer(joined, dtype=np.uint8).reshape(-1, _VALUE)
    if (raw[:, 0] != ord(" ")).any() or (raw[:, _DASHES] != ord("-")).any():
        return None
    digits = np.concatenate([raw[:, begin:end] for begin, end in _DIGITS], axis=1).tobytes()
    if digits != digits.lower():
        return None
    try:
        packed = np.frombuffer(unhexlify(digits), dtype=np.uint8).reshape(len(values), -1)
    except ValueError:
        return None
    trace, span = packed[:, 1:17], packed[:, 17:25]
    if packed[:, 0].any() or not (trace.any(axis=1) & span.any(axis=1)).all():
        return None
    return _items(trace), _items(span)


def _items(packed: npt.NDArray[np.uint8]) -> Ids:
    items: Ids = np.ascontiguousarray(packed).view(f"V{packed.shape[1]}")[:, 0].tolist()
    return items
