"""Streams that have ended → the records and columns of their exchanges."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import numpy as np

from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.readcolumns import NO_RESPONSE, TRACE_FLAGS, Columns
from farcall_probes.wire import hpack, tracecontext
from farcall_probes.wire.hpack import Fields, Value
from farcall_probes.wire.http1 import MAX_WORD, drop_user
from farcall_probes.wire.outcomes import MAX_TEXT, text

MAX_STATUS = 999
_NOTHING: list[Value] = [None] * (hpack.UBER + 1 - hpack.B3)
MAX_RPC_STATUS = 16  # UNAUTHENTICATED; what is beyond is nobody's


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanges:
    """Complete exchanges: records as events.EXCHANGE, and what was read of them, row by row. Queries are unmasked."""

    block: Records
    columns: Columns


class Stream:
    """A request in flight. Mutable, and made once a request: a dataclass' constructor would take keywords."""

    __slots__ = (
        "answer_bytes",
        "answered_ns",
        "fields",
        "flags",
        "head",
        "is_cut",
        "is_grpc",
        "number",
        "rpc_message",
        "rpc_status",
        "status",
        "ts_ns",
    )

    def __init__(self, number: int, head: bytes, flags: int, ts_ns: int, fields: Fields) -> None:
        self.number = number
        self.head = head  # events.EXCHANGE of the request's HEADERS
        self.flags = flags
        self.ts_ns = ts_ns
        self.fields = fields
        self.is_cut = False
        self.is_grpc: bool | None = None  # not known yet
        self.answered_ns = 0  # 0: not yet
        self.answer_bytes = 0
        self.status: Value = None
        self.rpc_status: Value = None
        self.rpc_message: Value = None


def _read_other_context(fields: Fields) -> tuple[tracecontext.Ids, int, bool]:
    said = fields[hpack.B3 : hpack.UBER + 1]
    if said == _NOTHING:  # nearly always
        return tracecontext.NOBODY, tracecontext.W3C, False
    b3, trace, span, uber = (value.encode() if isinstance(value, str) else None for value in said)
    if b3 is trace is span is uber is None:
        return tracecontext.NOBODY, tracecontext.W3C, False
    return tracecontext.choose(b3=b3, b3_trace=trace, b3_span=span, jaeger=uber)


class StreamRows:
    """Rows gathered by one drain."""

    def __init__(self) -> None:
        self._heads: list[bytes] = []
        self._rows: list[tuple[Any, ...]] = []
        self.contexts_invalid = 0

    def add(self, stream: Stream, end_ns: int, error: str | None) -> None:
        fields = stream.fields
        flags = stream.flags & ~events.FLAG_CUT
        if error is None and not stream.answered_ns:
            flags |= events.FLAG_NO_RESPONSE
            error = NO_RESPONSE
        # Headers that a late joiner cannot know are said by LATE; any others that are unknown are cut.
        if stream.is_cut or (fields[hpack.UNKNOWN] and not flags & events.FLAG_LATE):
            flags |= events.FLAG_CUT
        path, mark, query = _text(fields[hpack.PATH]).partition("?")
        host = _text(fields[hpack.AUTHORITY] or fields[hpack.HOST])
        if "@" in host:
            host = drop_user(host)
        trace = cast("tracecontext.Ids | None", fields[hpack.TRACEPARENT])
        if trace is None or trace[0] is None:
            trace, others, is_invalid = _read_other_context(fields)
            flags |= TRACE_FLAGS[others]
            self.contexts_invalid += is_invalid or fields[hpack.TRACEPARENT] is not None
            state = None
        else:
            state = self._read_state(fields[hpack.TRACESTATE])
        self._heads.append(stream.head)
        self._rows.append(
            (
                events.PROTO_GRPC if stream.is_grpc else events.PROTO_HTTP2,
                number_stream(stream.number),
                flags,
                end_ns,
                stream.answer_bytes,
                int(_read_status(stream.status, MAX_STATUS) or 0),
                fields[hpack.METHOD] or None,
                path[:MAX_TEXT] or None,
                query[:MAX_TEXT] if mark else None,
                host or None,
                error,
                fields[hpack.USER_AGENT] or None,
                fields[hpack.CONTENT_TYPE] or None,
                *trace,
                state,
                _read_status(stream.rpc_status, MAX_RPC_STATUS),
                _read_message(stream.rpc_message),
            )
        )

    def _read_state(self, said: hpack.Value) -> str | None:
        if not isinstance(said, str) or not said:
            return None
        state = tracecontext.parse_tracestate(said.encode())
        self.contexts_invalid += state is None and bool(said.strip(" \t,"))
        return state

    def take(self) -> Exchanges | None:
        if not self._rows:
            return None
        heads, rows = self._heads, self._rows
        self._heads, self._rows = [], []
        (proto, seq, flags, end, size, status, method, path, query, host, error) = _columns(
            rows, 0, 11
        )
        agent, kind, trace, span, state, rpc_status, message = _columns(rows, 11, 18)
        block = np.frombuffer(bytearray().join(heads), dtype=events.EXCHANGE)
        block["proto"] = proto
        block["seq"] = seq
        block["flags"] = flags
        block["ts_resp_ns"] = end
        block["resp_bytes"] = size
        block["segment"] = events.SEGMENT_NONE
        nothing = [None] * len(rows)
        columns = Columns(
            rows=np.arange(len(rows)),
            flags=block["flags"].copy(),
            operation=method,
            target=path,
            query=query,
            host=host,
            status=np.array(status, dtype=np.int32),
            error=error,
            batch_size=nothing,
            user_agent=agent,
            content_type=kind,
            trace_id=trace,
            parent_span_id=span,
            trace_state=state,
            rpc_status=rpc_status,
            message=message,
        )
        return Exchanges(block=block, columns=columns)


def _columns(rows: Sequence[tuple[Any, ...]], begin: int, end: int) -> list[Any]:
    return list(zip(*(row[begin:end] for row in rows), strict=True))


def select(exchanges: Exchanges, rows: np.ndarray[Any, np.dtype[np.intp]]) -> Exchanges:
    """Some of them."""
    columns = exchanges.columns
    kept = rows.tolist()
    taken: dict[str, Any] = {}
    for name in columns.__slots__:
        value = getattr(columns, name)
        if isinstance(value, np.ndarray):
            taken[name] = value[rows]
        elif value is not None:
            taken[name] = [value[row] for row in kept]
    taken["rows"] = np.arange(len(kept))
    return Exchanges(block=exchanges.block[rows], columns=replace(columns, **taken))


def number_stream(stream: int) -> int:
    """The exchange's number on its connection, from 0: clients' streams are odd and count up by two."""
    return stream >> 1 & 0x7FFFFFFF


def _text(value: Value) -> str:
    return value if type(value) is str else ""


def _read_message(value: Value) -> str | None:
    """gRPC's Status-Message: percent-encoded UTF-8."""
    if type(value) is not str or not value:
        return None
    return text(unquote_to_bytes(value), MAX_WORD) if "%" in value else value


def _read_status(value: Value, most: int) -> str | None:
    """A number in a header of digits; None for what is none."""
    if type(value) is not str or not value.isascii() or not value.isdigit():
        return None
    return value if int(value) <= most else None
