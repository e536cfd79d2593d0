"""Streams that have ended → the records and columns of their exchanges."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt

from farcall_probes import events, streamsaid
from farcall_probes.capture import Records
from farcall_probes.coded import Coded
from farcall_probes.columns import Numbers
from farcall_probes.readcolumns import NO_RESPONSE, TRACE_FLAGS, Columns
from farcall_probes.records import join
from farcall_probes.stencils import as_column
from farcall_probes.streamsaid import Said, number
from farcall_probes.wire import hpackfields, tracecontext, traceparents
from farcall_probes.wire.hpackfields import Fields, Value
from farcall_probes.wire.http1 import MAX_WORD, drop_user
from farcall_probes.wire.outcomes import MAX_TEXT, text

MAX_STATUS = 999
# Between the join keys of two streams inside TLS: a frame of the size that everybody may send, 16,384 bytes (RFC 9113, 4.2),
# reaches into no other's. Keys come again after 131,072 requests of one connection.
STREAM_STEP = 1 << 15
MAX_ASKED = 1024  # requests that say the same, as they are remembered; 0.5 kB each
MAX_ASKED_PATH = 256  # characters of one that is remembered
_NO_FIELDS: Fields = [None] * hpackfields.FIELDS
_ASKED = itemgetter(
    hpackfields.METHOD,
    hpackfields.PATH,
    hpackfields.AUTHORITY,
    hpackfields.HOST,
    hpackfields.USER_AGENT,
    hpackfields.CONTENT_TYPE,
)
_STATE = itemgetter(hpackfields.TRACESTATE)
_NOTHING: list[Value] = [None] * (hpackfields.UBER + 1 - hpackfields.B3)
_MAX_ASKED_US = 2**32 - 1
MAX_RPC_STATUS = 16  # UNAUTHENTICATED; what is beyond is nobody's


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanges:
    """Complete exchanges: records as events.EXCHANGE, and what was read of them, row by row. Queries are unmasked."""

    block: Records
    columns: Columns


class Stream:
    """A request in flight. Mutable, and made once a request: a dataclass' constructor would take keywords."""

    __slots__ = (
        "answer",
        "answer_bytes",
        "answered_ns",
        "asked",
        "at",
        "fields",
        "flags",
        "head",
        "is_cut",
        "is_grpc",
        "is_open",
        "number",
        "trailers",
        "ts_ns",
    )

    def __init__(self, number: int, at: int, flags: int, ts_ns: int, fields: Fields) -> None:
        self.number = number
        self.at = at  # the record of its HEADERS in this drain, as long as `head` is empty; else 0
        self.head = b""  # events.EXCHANGE of it
        self.flags = flags
        self.ts_ns = ts_ns
        self.fields = fields
        self.is_cut = False
        self.is_open = True
        self.is_grpc: bool | None = None  # not known yet
        self.answered_ns = 0  # 0: not yet
        self.answer_bytes = 0
        self.answer = self.trailers = _NO_FIELDS
        self.asked: tuple[int, int] | None = None  # what its own record does not tell, see `ask`

    def ask(self, size: int, end_ns: int) -> None:
        """So many bytes more of the request, and when it ended; 0: not with those."""
        before = self.asked or (0, 0)
        self.asked = (before[0] + size, end_ns or before[1])


class _Asked(NamedTuple):
    """What a request's constant headers say, as a row has it."""

    method: str | None
    path: str | None
    query: str | None
    host: str | None
    agent: str | None
    kind: str | None


class Ended(NamedTuple):
    """Exchanges that have ended, column by column."""

    block: Records  # events.EXCHANGE of each request's HEADERS; the rows' own
    numbers: npt.NDArray[np.uint32]  # of their streams
    flags: npt.NDArray[np.uint32]
    answered_ns: npt.NDArray[np.uint64]
    ended_ns: npt.NDArray[np.uint64]
    answer_bytes: npt.NDArray[np.uint64]
    is_grpc: npt.NDArray[np.bool_]
    asked: Said  # may leave out the traces
    traces: traceparents.Found  # of requests
    answers: Said
    trailers: Said  # what answers ended with
    errors: list[str | None]


class StreamRows:
    """Rows gathered by one drain, and made at its end: column by column, because most of them say the same in each row."""

    def __init__(self) -> None:
        # Each with its flags, when it ended, and why without an answer.
        self._ended: list[tuple[Stream, int, int, str | None]] = []
        # By row: of connections, learned behind the request.
        self._identities: dict[int, bytes] = {}
        self._calls: Ended | None = None
        self._asked: dict[tuple[Value, ...], _Asked] = {}
        self.contexts_invalid = 0

    def add(self, stream: Stream, end_ns: int, error: str | None, identity: bytes) -> None:
        stream.is_open = False
        flags = stream.flags & ~events.FLAG_CUT
        if identity and not flags & events.FLAG_IDENTITY:
            flags |= events.FLAG_IDENTITY
            self._identities[len(self._ended)] = identity
        if error is None and not stream.answered_ns:
            flags |= events.FLAG_NO_RESPONSE
            error = NO_RESPONSE
        # Headers that a late joiner cannot know are said by LATE; any others that are unknown are cut.
        if stream.is_cut or (stream.fields[hpackfields.UNKNOWN] and not flags & events.FLAG_LATE):
            flags |= events.FLAG_CUT
        self._ended.append((stream, flags, end_ns, error))

    def add_calls(self, calls: Ended) -> None:
        """Those that a drain had whole, once before it is taken."""
        self._calls = calls

    def take(self, heads: npt.NDArray[np.void] | None) -> Exchanges | None:
        """`heads`: of this drain's records, where streams may have theirs."""
        calls, self._calls = self._calls, None
        if self._ended:
            others = self._gather(heads)
            calls = _join(calls, others) if calls is not None else others
        return self._build(calls) if calls is not None else None

    def _gather(self, heads: npt.NDArray[np.void] | None) -> Ended:
        ended, self._ended = self._ended, []
        streams, flags, ends, errors = zip(*ended, strict=True)
        block = self._take_heads(streams, heads)
        _add_asked(block, streams)
        answered = [s.answered_ns or end for s, end in zip(streams, ends, strict=True)]
        return Ended(
            block=block,
            numbers=np.array([stream.number for stream in streams], dtype=np.uint32),
            flags=np.array(flags, dtype=np.uint32),
            answered_ns=np.array(answered, dtype=np.uint64),
            ended_ns=np.array(ends, dtype=np.uint64),
            answer_bytes=np.array([stream.answer_bytes for stream in streams], dtype=np.uint64),
            is_grpc=np.array([bool(stream.is_grpc) for stream in streams]),
            asked=number([stream.fields for stream in streams]),
            traces=traceparents.read_all([s.fields[hpackfields.TRACEPARENT] for s in streams]),
            answers=number([stream.answer for stream in streams]),
            trailers=number([stream.trailers for stream in streams]),
            errors=list(errors),
        )

    def _build(self, calls: Ended) -> Exchanges:
        trace_ids, span_ids, states, formats = self._read_contexts(calls.traces, calls.asked)
        said = zip(*map(self._find_asked, calls.asked.fields), strict=True)
        texts = [Coded(names, calls.asked.which) for names in said]
        method, path, query, host, agent, kind = texts
        block = calls.block
        block["proto"] = np.where(calls.is_grpc, events.PROTO_GRPC, events.PROTO_HTTP2)
        block["seq"] = number_streams(calls.numbers)
        block["flags"] = calls.flags | formats
        block["req_bytes"] += block["ts_resp_ns"]  # the DATA that came with its HEADERS
        block["ts_resp_ns"] = calls.answered_ns
        block["resp_bytes"] = calls.answer_bytes
        block["segment"] = events.SEGMENT_NONE
        _number_sealed(block)
        statuses = np.array([_read_http_status(said) for said in calls.answers.fields], np.int32)
        columns = Columns(
            rows=np.arange(len(block)),
            flags=block["flags"].copy(),
            operation=method,
            target=path,
            query=query,
            host=host,
            status=statuses[calls.answers.which],
            error=calls.errors,
            batch_size=[None] * len(block),
            user_agent=agent,
            content_type=kind,
            trace_id=trace_ids,
            parent_span_id=span_ids,
            trace_state=states,
            rpc_status=calls.trailers.write(_read_rpc_status),
            message=calls.trailers.write(_read_message),
            ended_ns=calls.ended_ns,
        )
        return Exchanges(block=block, columns=columns)

    def _take_heads(self, streams: Sequence[Stream], heads: npt.NDArray[np.void] | None) -> Records:
        carried = [stream.head for stream in streams if stream.head]
        if heads is None or len(carried) == len(streams):
            block = np.frombuffer(bytearray().join(carried), dtype=events.EXCHANGE)
        else:
            found = heads[[stream.at for stream in streams]]
            if carried:
                kept = [row for row, stream in enumerate(streams) if stream.head]
                found[kept] = np.frombuffer(b"".join(carried), dtype=found.dtype)
            block = found.view(events.EXCHANGE)
        for row, identity in self._identities.items():
            set_identity(block, row, identity)
        self._identities.clear()
        return block

    def _find_asked(self, fields: Fields) -> _Asked:
        said = _ASKED(fields)
        asked = self._asked.get(said)
        if asked is None:
            asked = _read_asked(*said)
            if len(self._asked) >= MAX_ASKED:
                self._asked.clear()
            if len(asked.path or "") + len(asked.query or "") <= MAX_ASKED_PATH:
                self._asked[said] = asked
        return asked

    def _read_contexts(
        self, found: traceparents.Found, asked: Said
    ) -> tuple[Numbers, Numbers, Coded | None, npt.NDArray[np.uint32]]:
        """Of each its trace and span, its tracestate, and the flag that says in which format they were."""
        ids, is_named = found.ids, found.is_named
        formats = np.zeros(len(ids), dtype=np.uint32)
        missing: Sequence[npt.NDArray[np.bool_] | None] | npt.NDArray[np.bool_] = (None, None)
        if not is_named.all():
            rows = np.flatnonzero(~is_named)
            which = asked.which[rows]
            others = [_read_other_context(fields) for fields in asked.fields]
            known = [(trace or bytes(16)) + (span or bytes(8)) for (trace, span), _, _ in others]
            ids[rows] = np.frombuffer(b"".join(known), np.uint8).reshape(-1, ids.shape[1])[which]
            formats[rows] = np.array([TRACE_FLAGS[form] for _, form, _ in others])[which]
            is_bad = np.array([is_bad for _, _, is_bad in others])[which] | found.is_invalid[rows]
            self.contexts_invalid += int(np.count_nonzero(is_bad))
            is_none = np.array([[one is None for one in pair] for pair, _, _ in others])
            missing = np.zeros((2, len(ids)), dtype=np.bool_)
            missing[:, rows] = is_none[which].T
        trace_ids, span_ids = as_column(ids[:, :16]), as_column(ids[:, 16:])
        states = self._read_states(asked, is_named)
        return Numbers(trace_ids, missing[0]), Numbers(span_ids, missing[1]), states, formats

    def _read_states(self, asked: Said, is_named: npt.NDArray[np.bool_]) -> Coded | None:
        """Of those whose traceparent names a trace."""
        if not any(map(_STATE, asked.fields)):
            return None
        read = [_read_state(_STATE(fields)) for fields in asked.fields]
        is_bad = np.array([is_bad for _, is_bad in read])[asked.which]
        self.contexts_invalid += int(np.count_nonzero(is_bad & is_named))
        states = [state for state, _ in read]
        return Coded([*states, None], np.where(is_named, asked.which, len(states)))


def _read_state(said: Value) -> tuple[str | None, bool]:
    """A tracestate, and whether it is none although there is something."""
    if type(said) is not str:
        return None, False
    state = tracecontext.parse_tracestate(said.encode())
    return state, state is None and bool(said.strip(" \t,"))


def _join(one: Ended, other: Ended) -> Ended:
    """Rows of both."""
    joined: list[Any] = [join([one.block, other.block])]
    columns: list[tuple[Any, Any]] = list(zip(one[1:], other[1:], strict=True))
    for a, b in columns:
        if isinstance(a, Said):
            joined.append(streamsaid.join(a, b))
        elif isinstance(a, traceparents.Found):
            joined.append(traceparents.join([a, b]))
        else:
            joined.append(a + b if isinstance(a, list) else np.concatenate((a, b)))
    return Ended(*joined)


def set_identity(block: Records, row: int, identity: bytes) -> None:
    block["isn_client"][row], block["isn_server"][row] = np.frombuffer(identity, dtype="<u4")


def _read_asked(
    method: Value, target: Value, authority: Value, host: Value, agent: Value, kind: Value
) -> _Asked:
    path, mark, query = _text(target).partition("?")
    name = _text(authority or host)
    if "@" in name:
        name = drop_user(name)
    return _Asked(
        method=_text(method) or None,
        path=path[:MAX_TEXT] or None,
        query=query[:MAX_TEXT] if mark else None,
        host=name or None,
        agent=_text(agent) or None,
        kind=_text(kind) or None,
    )


def _read_other_context(fields: Fields) -> tuple[tracecontext.Ids, int, bool]:
    said = fields[hpackfields.B3 : hpackfields.UBER + 1]
    if said == _NOTHING:  # nearly always
        return tracecontext.NOBODY, tracecontext.W3C, False
    b3, trace, span, uber = (value.encode() if isinstance(value, str) else None for value in said)
    if b3 is trace is span is uber is None:
        return tracecontext.NOBODY, tracecontext.W3C, False
    return tracecontext.choose(b3=b3, b3_trace=trace, b3_span=span, jaeger=uber)


def _add_asked(block: Records, streams: Sequence[Stream]) -> None:
    """What was told of requests behind their HEADERS."""
    told = [(row, *stream.asked) for row, stream in enumerate(streams) if stream.asked]
    if not told:
        return
    rows, sizes, ends = (np.array(column, dtype=np.int64) for column in zip(*told, strict=True))
    block["req_bytes"][rows] += sizes.astype(np.uint64)
    lasted_us = (ends - block["ts_req_ns"][rows].astype(np.int64)) // 1000
    block["asked_us"][rows] = np.clip(lasted_us, 0, _MAX_ASKED_US)


def _number_sealed(block: Records) -> None:
    """Inside TLS the stream is the request's place, at both ends. A process may take many records from its socket at once, and
    where each of them began is not known then: all but the first would have one place, and meet no client's."""
    sealed = (block["flags"] & events.FLAG_TLS) != 0
    places = block["seq"].astype(np.uint64) * np.uint64(STREAM_STEP)
    block["request_seq"][sealed] = places[sealed].astype(np.uint32)


def select(exchanges: Exchanges, rows: np.ndarray[Any, np.dtype[np.intp]]) -> Exchanges:
    """Some of them."""
    columns = exchanges.columns
    kept = rows.tolist()
    taken: dict[str, Any] = {}
    for name in columns.__slots__:
        value = getattr(columns, name)
        if isinstance(value, np.ndarray):
            taken[name] = value[rows]
        elif isinstance(value, Coded):
            taken[name] = Coded(value.names, value.which[rows])
        elif isinstance(value, Numbers):
            taken[name] = value.take(rows)
        elif value is not None:
            taken[name] = [value[row] for row in kept]
    taken["rows"] = np.arange(len(kept))
    return Exchanges(block=exchanges.block[rows], columns=replace(columns, **taken))


def number_streams(streams: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Each exchange's number on its connection, from 0: clients' streams are odd and count up by two."""
    return np.asarray(streams >> 1 & 0x7FFFFFFF, dtype=np.uint32)


def _text(value: Value) -> str:
    return value if type(value) is str else ""


def _read_message(trailers: Fields) -> str | None:
    """gRPC's Status-Message: percent-encoded UTF-8."""
    value = trailers[hpackfields.GRPC_MESSAGE]
    if not value or type(value) is not str:
        return None
    return text(unquote_to_bytes(value), MAX_WORD) if "%" in value else value


def _read_http_status(answer: Fields) -> int:
    """0: none."""
    return int(_read_status(answer[hpackfields.STATUS], MAX_STATUS) or 0)


def _read_rpc_status(trailers: Fields) -> str | None:
    return _read_status(trailers[hpackfields.GRPC_STATUS], MAX_RPC_STATUS)


def _read_status(value: Value, most: int) -> str | None:
    """A number in a header of digits; None for what is none."""
    if type(value) is not str or not value.isascii() or not value.isdigit():
        return None
    return value if int(value) <= most else None
