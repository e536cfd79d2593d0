"""Records of one protocol → columns of text. The hot loop: every line here runs once per exchange.

The captured bytes are all there will ever be, so parsers are called with cut=True: what does not end is Truncated, and the
row is flagged CUT. A record that is no message of its protocol is dropped and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from farcall.exchange import ExchangeFlag
from farcall_probes import events
from farcall_probes.capture import Records
from farcall_probes.heads import Heads
from farcall_probes.masking import CommandText, mask_query
from farcall_probes.statements import Call, Statements
from farcall_probes.wire import postgresql, redis
from farcall_probes.wire.http1 import HttpRequest, RequestParser
from farcall_probes.wire.outcomes import Outcome, Truncated

NO_RESPONSE = "no_response"
_STATUS_BEGIN = np.frombuffer(b"HTTP/1.", dtype=np.uint8)
Text = Sequence[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """As long as `rows`, the indices of the records that they were read from."""

    rows: npt.NDArray[np.intp]
    flags: npt.NDArray[np.uint32]
    operation: Text
    target: Text
    query: Text
    host: Text
    status: npt.NDArray[np.int32]  # 0: none
    error: Text
    batch_size: Sequence[int | None]
    user_agent: Text
    content_type: Text
    trace_id: Sequence[bytes | None]
    parent_span_id: Sequence[bytes | None]


class Reader:
    def __init__(self, *, masking: bool, headers: Sequence[str], heads: Heads) -> None:
        self._masking = masking
        self._requests = RequestParser(headers)
        self._commands = CommandText(masking=masking)
        self._heads = heads
        self._queries: dict[str, str] = {}
        self.http_dropped = 0
        self._statements = Statements(masking=masking)
        self.redis_dropped = 0
        self.postgres_dropped = 0
        self.heads_missing = 0

    def read(self, code: int, block: Records) -> Columns:
        """`code`: events.PROTO_*, the same for the whole block."""
        if code == events.PROTO_HTTP1:
            return self.read_http(block)
        return self.read_redis(block) if code == events.PROTO_REDIS else self.read_postgres(block)

    def read_http(self, block: Records) -> Columns:
        """HTTP/1 exchanges, of either stride."""
        parse = self._requests.parse
        rows: list[int] = []
        found = []
        cut = np.zeros(len(block), dtype=np.uint32)
        for row, data in enumerate(self._requests_of(block)):
            request = parse(data, cut=True)
            if type(request) is not HttpRequest:  # nearly all are: one cheap test for them
                if not isinstance(request, Truncated):
                    continue
                cut[row] = ExchangeFlag.CUT
                request = request.partial
            rows.append(row)
            found.append(request)
        self.http_dropped += len(block) - len(rows)
        kept = np.array(rows, dtype=np.intp)
        columns = list(zip(*found, strict=True)) or [()] * 10
        method, path, query, host, agent, kind, trace, span, _, requests = columns
        flags = block["flags"][kept] & ~np.uint32(ExchangeFlag.CUT) | cut[kept]
        return Columns(
            rows=kept,
            flags=_pipelined(flags, requests),
            operation=method,
            target=path,
            query=[self._query(q) if q else q for q in query],
            host=host,
            status=read_status(block)[kept],
            error=_no_response(flags),
            batch_size=[n if n > 1 else None for n in requests],
            user_agent=agent,
            content_type=kind,
            trace_id=trace,
            parent_span_id=span,
        )

    def read_redis(self, block: Records) -> Columns:
        rows: list[int] = []
        names: list[str] = []
        texts: list[str] = []
        sizes: list[int] = []
        cut = np.zeros(len(block), dtype=np.uint32)
        parse, render = redis.parse_commands, self._commands.render
        for row, data in enumerate(_captured(block, "req", "req_cap")):
            command = parse(data, cut=True)
            if type(command) is not redis.RedisCommand:
                if not isinstance(command, Truncated):
                    continue
                cut[row] = ExchangeFlag.CUT
                command = command.partial
            rows.append(row)
            names.append(command.name)
            texts.append(render(command))
            sizes.append(command.commands)
        self.redis_dropped += len(block) - len(rows)
        kept = np.array(rows, dtype=np.intp)
        flags = block["flags"][kept] & ~np.uint32(ExchangeFlag.CUT) | cut[kept]
        return _database_columns(
            kept,
            _pipelined(flags, sizes),
            operation=names,
            target=texts,
            error=_redis_errors(block[kept] if len(rows) < len(block) else block, flags),
            sizes=sizes,
        )

    def read_postgres(self, block: Records) -> Columns:
        rows: list[int] = []
        calls: list[Call] = []
        cut = np.zeros(len(block), dtype=np.uint32)
        find = self._statements.find
        connections = block["conn_id"].tolist()
        for row, data in enumerate(_captured(block, "req", "req_cap")):
            request = postgresql.parse_request(data, cut=True)
            if isinstance(request, Truncated):
                cut[row] = ExchangeFlag.CUT
                request = request.partial
            if isinstance(request, Outcome):
                continue
            rows.append(row)
            calls.append(find(connections[row], request))
        self.postgres_dropped += len(block) - len(rows)
        kept = np.array(rows, dtype=np.intp)
        flags = block["flags"][kept] & ~np.uint32(ExchangeFlag.CUT) | cut[kept]
        sizes = [call.executions for call in calls]
        return _database_columns(
            kept,
            _pipelined(flags, sizes),
            operation=[call.operation for call in calls],
            target=[call.text for call in calls],
            error=_postgres_errors(block[kept] if len(rows) < len(block) else block, flags),
            sizes=sizes,
        )

    def _requests_of(self, block: Records) -> list[bytes]:
        """The captured requests, each replaced by its long head where it came in a record of its own."""
        captured = _captured(block, "req", "req_cap")
        for row in np.flatnonzero(block["flags"] & events.FLAG_HEAD).tolist():
            head = self._heads.take(
                int(block["conn_id"][row]), int(block["seq"][row]), int(block["role"][row])
            )
            if head is None:
                self.heads_missing += 1
            else:
                captured[row] = head
        return captured

    def _query(self, query: str) -> str:
        if not self._masking:
            return query
        masked = self._queries.get(query)
        if masked is None:
            masked = mask_query(query)
            if len(self._queries) >= 2048:
                self._queries.clear()
            self._queries[query] = masked
        return masked


def read_status(block: Records) -> npt.NDArray[np.int32]:
    """HTTP status codes of a whole block at once; 0 where the response does not begin with a status line."""
    offset = block.dtype.fields["resp"][1] if block.dtype.fields else 0
    raw = np.ascontiguousarray(block).view(np.uint8).reshape(len(block), block.dtype.itemsize)
    line = raw[:, offset : offset + 12]
    digits = line[:, 9:12].astype(np.int32) - 48
    valid = (
        (line[:, :7] == _STATUS_BEGIN).all(axis=1)
        & (line[:, 8] == 32)
        & ((digits >= 0) & (digits <= 9)).all(axis=1)
        & (digits[:, 0] >= 1)
        & (block["resp_cap"] >= 12)
    )
    codes = digits @ np.array([100, 10, 1], dtype=np.int32)
    return np.where(valid, codes, 0).astype(np.int32)


def _captured(block: Records, field: str, length: str) -> list[bytes]:
    return [
        data[:cap] for data, cap in zip(block[field].tolist(), block[length].tolist(), strict=True)
    ]


def _pipelined(flags: npt.NDArray[np.uint32], sizes: Sequence[int]) -> npt.NDArray[np.uint32]:
    many = np.array(sizes, dtype=np.int64) > 1
    return flags | np.where(many, np.uint32(ExchangeFlag.PIPELINED), np.uint32(0))


def _no_response(flags: npt.NDArray[np.uint32]) -> Text:
    silent = (flags & ExchangeFlag.NO_RESPONSE) != 0
    return [NO_RESPONSE if s else None for s in silent.tolist()]


def _database_columns(
    rows: npt.NDArray[np.intp],
    flags: npt.NDArray[np.uint32],
    *,
    operation: Text,
    target: Text,
    error: Text,
    sizes: Sequence[int],
) -> Columns:
    """What a database's exchange has none of is null."""
    nothing = [None] * len(rows)
    return Columns(
        rows=rows,
        flags=flags,
        operation=operation,
        target=target,
        query=nothing,
        host=nothing,
        status=np.zeros(len(rows), dtype=np.int32),
        error=error,
        batch_size=[n if n > 1 else None for n in sizes],
        user_agent=nothing,
        content_type=nothing,
        trace_id=nothing,
        parent_span_id=nothing,
    )


def _postgres_errors(block: Records, flags: npt.NDArray[np.uint32]) -> Text:
    """SQLSTATE of the first ErrorResponse among the captured messages."""
    errors = list(_no_response(flags))
    for row, data in enumerate(_captured(block, "resp", "resp_cap")):
        if b"E" in data:
            code = postgresql.find_error(data)
            if code is not None:
                errors[row] = code
    return errors


def _redis_errors(block: Records, flags: npt.NDArray[np.uint32]) -> Text:
    """Only replies that begin as an error are parsed: one byte decides for the rest."""
    errors = list(_no_response(flags))
    offset = block.dtype.fields["resp"][1] if block.dtype.fields else 0
    raw = np.ascontiguousarray(block).view(np.uint8).reshape(len(block), block.dtype.itemsize)
    first = raw[:, offset]
    failed = ((first == ord("-")) | (first == ord("!"))) & (block["resp_cap"] > 0)
    for row in np.flatnonzero(failed).tolist():
        data = block["resp"][row].tobytes()[: int(block["resp_cap"][row])]
        reply = redis.parse_reply(data, cut=True)
        if isinstance(reply, Truncated):
            reply = reply.partial
        if not isinstance(reply, Outcome):
            errors[row] = reply.error
    return errors
