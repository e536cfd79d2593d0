"""Prepared statements by connection: an execution names its statement only by what it was called when it was prepared."""

from collections import OrderedDict
from typing import NamedTuple

from farcall_probes.sql import SqlText
from farcall_probes.wire.outcomes import text
from farcall_probes.wire.postgresql import PostgresRequest

MAX_STATEMENTS = 8192  # the least recently used go; a driver prepares a few per connection


class Call(NamedTuple):
    operation: str | None
    text: str | None
    executions: int


class Statements:
    def __init__(self, *, masking: bool) -> None:
        self._sql = SqlText(masking=masking)
        self._known: OrderedDict[tuple[int, bytes], bytes] = OrderedDict()

    def find(self, connection: int, request: PostgresRequest) -> Call:
        """What the round trip does. A statement that was prepared before the agent came is known by its name alone."""
        for name, statement in request.parsed:
            self._remember(connection, name, statement)
        raw = request.statement
        if raw is None and request.executed is not None:
            raw = self._known.get((connection, request.executed))
            if raw is None:
                return Call("EXECUTE", self._unknown(request.executed), request.executions)
            self._known.move_to_end((connection, request.executed))
        if raw is None:
            return Call("EXECUTE" if request.executions else None, None, request.executions)
        shown, operation = self._sql.render(raw)
        prepares_only = request.executions == 0 and request.parsed
        return Call("PREPARE" if prepares_only else operation, shown, request.executions)

    def _remember(self, connection: int, name: bytes, statement: bytes) -> None:
        key = (connection, name)
        self._known[key] = statement
        self._known.move_to_end(key)
        if len(self._known) > MAX_STATEMENTS:
            self._known.popitem(last=False)

    @staticmethod
    def _unknown(name: bytes) -> str | None:
        return f"EXECUTE {text(name, 128)}" if name else None
