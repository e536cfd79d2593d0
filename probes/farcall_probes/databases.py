"""Exchanges with databases and caches → columns. One loop for all but Redis (rediscommands.py).

The captured bytes are all there will ever be, so parsers are called with cut=True.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from farcall.exchange import ExchangeFlag
from farcall_probes import events, records, rediscommands
from farcall_probes.capture import Records
from farcall_probes.coded import Coded
from farcall_probes.giveway import in_pieces
from farcall_probes.readcolumns import Columns, Text, captured, mark_pipelined, name_ends
from farcall_probes.rediscommands import RedisCommands
from farcall_probes.statements import Call, MysqlStatements, PostgresStatements
from farcall_probes.wire import clienthello, memcached, mysql, postgresql
from farcall_probes.wire.outcomes import Outcome, Truncated

_COUNTED = (
    events.PROTO_POSTGRES,
    events.PROTO_MEMCACHED,
)  # beside Redis: the kernel side counts what is asked at once
MAX_OFFER = 255  # characters of a TLS client's list of protocols

# (connection, request, response) → the call and whether its request was cut; None when it is no message of the protocol
Read = Callable[[int, bytes, bytes], tuple[Call, bool] | None]
FindError = Callable[[bytes], str | None]
T = TypeVar("T")


class DatabaseReader:
    def __init__(self, *, masking: bool) -> None:
        self._redis = RedisCommands(masking=masking)
        self._postgres = PostgresStatements(masking=masking)
        self._mysql = MysqlStatements(masking=masking)
        self._readers: dict[int, tuple[str, Read, FindError]] = {
            events.PROTO_POSTGRES: ("postgresql", self._read_postgres, postgresql.find_error),
            events.PROTO_MYSQL: ("mysql", self._read_mysql, mysql.find_error),
            events.PROTO_MEMCACHED: ("memcached", self._read_memcached, memcached.find_error),
        }
        names = ("redis", *(name for name, _, _ in self._readers.values()))
        self.dropped: Counter[str] = Counter(dict.fromkeys(names, 0))

    def read(self, code: int, block: Records) -> Columns:
        """`code`: events.PROTO_*, the same for the whole block."""
        if code == events.PROTO_REDIS:
            return count_commands(self.read_redis(block), block)
        if code == events.PROTO_TCP:
            return read_tcp(block)
        name, read, find_error = self._readers[code]
        rows: list[int] = []
        calls: list[Call] = []
        errors: list[str | None] = []
        cut = np.zeros(len(block), dtype=np.uint32)
        responses = captured(block, "resp", "resp_cap")
        connections = block["conn_id"].tolist()
        for row, data in enumerate(in_pieces(captured(block, "req", "req_cap"))):
            found = read(connections[row], data, responses[row])
            if found is None:
                continue
            rows.append(row)
            calls.append(found[0])
            errors.append(find_error(responses[row]))
            cut[row] = ExchangeFlag.CUT if found[1] else 0
        self.dropped[name] += len(block) - len(rows)
        kept = np.array(rows, dtype=np.intp)
        flags = block["flags"][kept] & ~np.uint32(ExchangeFlag.CUT) | cut[kept]
        sizes = [call.executions for call in calls]
        silent = name_ends(records.pick(block, kept))
        columns = _build_columns(
            kept,
            mark_pipelined(flags, sizes),
            operation=[call.operation for call in calls],
            target=[call.text for call in calls],
            error=[none or error for none, error in zip(silent, errors, strict=True)],
            sizes=sizes,
        )
        return count_commands(columns, block) if code in _COUNTED else columns

    def _read_postgres(
        self, connection: int, data: bytes, _response: bytes
    ) -> tuple[Call, bool] | None:
        found = unwrap(postgresql.parse_request(data, cut=True))
        if found is None:
            return None
        request, is_cut = found
        return self._postgres.find(connection, request), is_cut

    def _read_mysql(
        self, connection: int, data: bytes, response: bytes
    ) -> tuple[Call, bool] | None:
        found = unwrap(mysql.parse_request(data, cut=True))
        if found is None:
            return None
        request, is_cut = found
        return self._mysql.find(connection, request, response), is_cut

    def _read_memcached(
        self, _connection: int, data: bytes, _response: bytes
    ) -> tuple[Call, bool] | None:
        found = unwrap(memcached.parse_request(data, cut=True))
        if found is None:
            return None
        request, is_cut = found
        return Call(request.name, memcached.mask_request(request), request.commands), is_cut

    def read_redis(self, block: Records) -> Columns:
        said, which, cut = self._redis.read(block)
        kept = np.flatnonzero(which >= 0)
        if len(kept) < len(block):
            self.dropped["redis"] += len(block) - len(kept)
            block, which, cut = records.pick(block, kept), which[kept], cut[kept]
        names, texts, sizes = list(zip(*said, strict=True)) or [()] * 3
        counts = np.array(sizes, dtype=np.int64)[which]
        flags = block["flags"] & ~np.uint32(ExchangeFlag.CUT)
        flags[cut] |= np.uint32(ExchangeFlag.CUT)
        flags[counts > 1] |= np.uint32(ExchangeFlag.PIPELINED)
        return _build_columns(
            kept,
            flags,
            operation=Coded(names, which),
            target=Coded(texts, which),
            error=rediscommands.find_errors(block),
            sizes=counts,
        )


def unwrap(outcome: T | Truncated[T] | Outcome) -> tuple[T, bool] | None:
    """What was there, and whether it was cut; None when it is no message."""
    if isinstance(outcome, Truncated):
        return outcome.partial, True
    return None if isinstance(outcome, Outcome) else (outcome, False)


def count_commands(columns: Columns, block: Records) -> Columns:
    """Of pipelines that are longer than their records the kernel side counts the commands."""
    counted = block["commands"][columns.rows]
    rows = np.flatnonzero(counted > 1).tolist()
    if not rows:
        return columns
    sizes = list(columns.batch_size)
    for row, commands in zip(rows, counted[rows].tolist(), strict=True):
        sizes[row] = max(sizes[row] or 0, commands)
    flags = columns.flags | np.where(counted > 1, np.uint32(ExchangeFlag.PIPELINED), np.uint32(0))
    return replace(columns, batch_size=sizes, flags=flags)


def read_tcp(block: Records) -> Columns:
    """Connections of protocols that nobody here reads: what a TLS ClientHello asks for is all that their bytes say."""
    names: list[str | None] = []
    offers: list[str | None] = []
    for data in captured(block, "req", "req_cap"):
        found = unwrap(clienthello.parse_client_hello(data, cut=True))
        names.append(found[0].server_name if found is not None else None)
        offers.append((",".join(found[0].alpn)[:MAX_OFFER] if found is not None else "") or None)
    nothing = [None] * len(block)
    unconnected = (block["flags"] & events.FLAG_UNCONNECTED) != 0
    columns = _build_columns(
        np.arange(len(block)),
        block["flags"].copy(),
        operation=["connect" if u else None for u in unconnected.tolist()],
        target=nothing,
        error=name_ends(block),
        sizes=[1] * len(block),
    )
    return replace(columns, host=names, alpn=offers)


def _build_columns(
    rows: npt.NDArray[np.intp],
    flags: npt.NDArray[np.uint32],
    *,
    operation: Text,
    target: Text,
    error: Text,
    sizes: Sequence[int] | npt.NDArray[np.int64],
) -> Columns:
    """What a database's exchange has none of is null."""
    nothing = [None] * len(rows)
    counts = np.asarray(sizes, dtype=np.int64)
    is_any = bool((counts > 1).any())
    return Columns(
        rows=rows,
        flags=flags,
        operation=operation,
        target=target,
        query=nothing,
        host=nothing,
        status=np.zeros(len(rows), dtype=np.int32),
        error=error,
        batch_size=[n if n > 1 else None for n in counts.tolist()] if is_any else nothing,
        user_agent=nothing,
        content_type=nothing,
        trace_id=nothing,
        parent_span_id=nothing,
    )
