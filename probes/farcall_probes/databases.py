"""Exchanges with databases and caches → columns. One loop for all but Redis, whose records come a hundred times as often.

The captured bytes are all there will ever be, so parsers are called with cut=True.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from farcall.exchange import ExchangeFlag
from farcall_probes import events, records
from farcall_probes.capture import Records
from farcall_probes.masking import CommandText
from farcall_probes.readcolumns import Columns, Text, captured, mark_pipelined, name_ends
from farcall_probes.statements import Call, MysqlStatements, PostgresStatements
from farcall_probes.wire import clienthello, memcached, mysql, postgresql, redis
from farcall_probes.wire.outcomes import Outcome, Truncated

MAX_FORMS = 2048
MAX_OFFER = 255  # characters of a TLS client's list of protocols

# (connection, request, response) → the call and whether its request was cut; None when it is no message of the protocol
Read = Callable[[int, bytes, bytes], tuple[Call, bool] | None]
FindError = Callable[[bytes], str | None]
_Said = tuple[str, str, int]  # command, text, how many commands
T = TypeVar("T")


class DatabaseReader:
    def __init__(self, *, masking: bool) -> None:
        self._commands = CommandText(masking=masking)
        self._forms: dict[redis.Form, _Said] = {}  # commands whose text their form tells
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
            return self.read_redis(block)
        if code == events.PROTO_TCP:
            return read_tcp(block)
        name, read, find_error = self._readers[code]
        rows: list[int] = []
        calls: list[Call] = []
        errors: list[str | None] = []
        cut = np.zeros(len(block), dtype=np.uint32)
        responses = captured(block, "resp", "resp_cap")
        connections = block["conn_id"].tolist()
        for row, data in enumerate(captured(block, "req", "req_cap")):
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
        return _build_columns(
            kept,
            mark_pipelined(flags, sizes),
            operation=[call.operation for call in calls],
            target=[call.text for call in calls],
            error=[none or error for none, error in zip(silent, errors, strict=True)],
            sizes=sizes,
        )

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

    def _read_redis(self, data: bytes, form: redis.Form | None) -> tuple[_Said, bool] | None:
        found = unwrap(redis.parse_commands(data, cut=True))
        if found is None:
            return None
        command, is_cut = found
        said = command.name, self._commands.render(command), command.commands
        if form is not None and self._commands.has_form(command):
            if len(self._forms) >= MAX_FORMS:
                self._forms.clear()
            self._forms[form] = said
        return said, is_cut

    def _read_memcached(
        self, _connection: int, data: bytes, _response: bytes
    ) -> tuple[Call, bool] | None:
        found = unwrap(memcached.parse_request(data, cut=True))
        if found is None:
            return None
        request, is_cut = found
        return Call(request.name, memcached.mask_request(request), request.commands), is_cut

    def read_redis(self, block: Records) -> Columns:
        rows: list[int] = []
        found: list[_Said] = []
        # Whole commands of this drain: both ends of a call say the same, and so do many calls.
        known: dict[bytes, _Said] = {}
        cut = np.zeros(len(block), dtype=np.uint32)
        find_form, forms = redis.find_form, self._forms
        for row, data in enumerate(captured(block, "req", "req_cap")):
            said = known.get(data)
            if said is None:
                form = find_form(data)
                said = forms.get(form) if form is not None else None
                is_cut = False
                if said is None:
                    read = self._read_redis(data, form)
                    if read is None:
                        continue
                    said, is_cut = read
                if is_cut:
                    cut[row] = ExchangeFlag.CUT
                else:
                    known[data] = said
            rows.append(row)
            found.append(said)
        names, texts, sizes = list(zip(*found, strict=True)) or [()] * 3
        self.dropped["redis"] += len(block) - len(rows)
        kept = np.array(rows, dtype=np.intp)
        flags = block["flags"][kept] & ~np.uint32(ExchangeFlag.CUT) | cut[kept]
        return _build_columns(
            kept,
            mark_pipelined(flags, sizes),
            operation=names,
            target=texts,
            error=_redis_errors(records.pick(block, kept) if len(rows) < len(block) else block),
            sizes=sizes,
        )


def unwrap(outcome: T | Truncated[T] | Outcome) -> tuple[T, bool] | None:
    """What was there, and whether it was cut; None when it is no message."""
    if isinstance(outcome, Truncated):
        return outcome.partial, True
    return None if isinstance(outcome, Outcome) else (outcome, False)


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


def _redis_errors(block: Records) -> Text:
    """Only replies that begin as an error are parsed: one byte decides for the rest."""
    errors = list(name_ends(block))
    offset = block.dtype.fields["resp"][1] if block.dtype.fields else 0
    raw = records.as_bytes(np.ascontiguousarray(block))
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
