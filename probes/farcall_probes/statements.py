"""Prepared statements by connection: an execution names its statement only by what it was called when it was prepared."""

from collections import OrderedDict
from typing import NamedTuple

from farcall_probes.sql import SqlText
from farcall_probes.wire import mysql
from farcall_probes.wire.mysql import MysqlRequest
from farcall_probes.wire.outcomes import text
from farcall_probes.wire.postgresql import PostgresRequest

MAX_STATEMENTS = 8192  # the least recently used go; a driver prepares a few per connection
PREPARE, EXECUTE = "PREPARE", "EXECUTE"


class Call(NamedTuple):
    operation: str | None
    text: str | None
    executions: int


class Prepared:
    """(connection, what the statement is called there) → its text."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, bytes | int], bytes] = OrderedDict()

    def remember(self, connection: int, name: bytes | int, statement: bytes) -> None:
        key = (connection, name)
        self._known[key] = statement
        self._known.move_to_end(key)
        if len(self._known) > MAX_STATEMENTS:
            self._known.popitem(last=False)

    def find(self, connection: int, name: bytes | int) -> bytes | None:
        statement = self._known.get((connection, name))
        if statement is not None:
            self._known.move_to_end((connection, name))
        return statement


class PostgresStatements:
    def __init__(self, *, masking: bool) -> None:
        self._sql = SqlText("postgresql", masking=masking)
        self._prepared = Prepared()

    def find(self, connection: int, request: PostgresRequest) -> Call:
        """What the round trip does. A statement that was prepared before the agent came is known by its name alone."""
        for name, statement in request.parsed:
            self._prepared.remember(connection, name, statement)
        raw = request.statement
        if raw is None and request.executed is not None:
            raw = self._prepared.find(connection, request.executed)
            if raw is None:
                return Call(EXECUTE, _by_name(request.executed), request.executions)
        if raw is None:
            return Call(EXECUTE if request.executions else None, None, request.executions)
        shown, operation = self._sql.render(raw)
        prepares_only = request.executions == 0 and request.parsed
        return Call(PREPARE if prepares_only else operation, shown, request.executions)


def _by_name(name: bytes) -> str | None:
    return f"{EXECUTE} {text(name, 128)}" if name else None


class MysqlStatements:
    def __init__(self, *, masking: bool) -> None:
        self._sql = SqlText("mysql", masking=masking)
        self._prepared = Prepared()

    def find(self, connection: int, request: MysqlRequest, response: bytes) -> Call:
        """The answer to PREPARE says what the statement is called from then on."""
        if request.command == "USE":
            return Call("USE", f"USE {text(request.text or b'', 128)}", 1)
        if request.command == EXECUTE:
            return self._execute(connection, request.statement)
        shown, operation = self._sql.render(request.text or b"")
        if request.command != PREPARE:
            return Call(operation, shown, 1)
        number = mysql.find_prepared(response)
        if number is not None:
            self._prepared.remember(connection, number, request.text or b"")
        return Call(PREPARE, shown, 0)

    def _execute(self, connection: int, number: int | None) -> Call:
        raw = self._prepared.find(connection, number) if number is not None else None
        if raw is None:
            return Call(EXECUTE, None, 1)
        shown, operation = self._sql.render(raw)
        return Call(operation, shown, 1)
