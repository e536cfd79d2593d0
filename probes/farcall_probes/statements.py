"""Prepared statements by connection: an execution names its statement only by what it was called when it was prepared."""

from collections import OrderedDict
from typing import NamedTuple

from farcall_probes.sql import SqlText, find_table
from farcall_probes.wire import mysql
from farcall_probes.wire.cassandra import CassandraRequest, CassandraResponse
from farcall_probes.wire.mysql import MysqlRequest
from farcall_probes.wire.outcomes import text
from farcall_probes.wire.postgresql import PostgresRequest

MAX_KEYSPACES = 8192  # connections that said USE
MAX_STATEMENTS = 8192  # the least recently used go; a driver prepares a few per connection
PREPARE, EXECUTE = "PREPARE", "EXECUTE"


class Call(NamedTuple):
    operation: str | None
    text: str | None
    executions: int
    namespace: str | None = None
    collection: str | None = None


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


# Cassandra's own number of a prepared statement is the MD5 of keyspace and text: the same on each node and connection. Drivers
# prepare on one connection and execute on all of them. Shorter ones are another server's, and may mean something else elsewhere.
_DIGEST_BYTES = 16
_EVERYWHERE = 0


class CassandraStatements:
    """Statements by number, and the keyspace that a connection has chosen with USE. Both bounded."""

    def __init__(self, *, masking: bool) -> None:
        self._sql = SqlText("cassandra", masking=masking)
        self._prepared = Prepared()
        self._keyspaces: OrderedDict[int, str] = OrderedDict()

    def find(
        self, connection: int, request: CassandraRequest, response: CassandraResponse | None
    ) -> Call:
        """What the request does. A statement that was prepared before the agent came has no text."""
        raw = request.statement
        if raw is not None and request.is_statement_cut:
            raw = raw[: _find_word_end(raw)]
        if response is not None:
            self._learn(connection, raw, response)
        if raw is None and request.prepared is not None:
            raw = self._prepared.find(self._where(connection, request.prepared), request.prepared)
        if raw is None:
            return Call(request.operation, None, request.executions)
        shown, operation = self._sql.render(raw)
        namespace, collection = find_table(shown)
        own = request.operation if request.operation in ("PREPARE", "BATCH") else operation
        return Call(
            own,
            shown,
            request.executions,
            namespace or self._keyspaces.get(connection),
            collection,
        )

    def _learn(self, connection: int, statement: bytes | None, response: CassandraResponse) -> None:
        if response.prepared is not None and statement is not None:
            where = self._where(connection, response.prepared)
            self._prepared.remember(where, response.prepared, statement)
        if response.keyspace is not None:
            self._keyspaces[connection] = response.keyspace
            self._keyspaces.move_to_end(connection)
            if len(self._keyspaces) > MAX_KEYSPACES:
                self._keyspaces.popitem(last=False)

    @staticmethod
    def _where(connection: int, number: bytes) -> int:
        return _EVERYWHERE if len(number) == _DIGEST_BYTES else connection


def _find_word_end(cut: bytes) -> int:
    """Where the last whole word ends: what the cut left of the next may be half of a UUID, which looks like a name."""
    end = len(cut)
    while end and (cut[end - 1 : end].isalnum() or cut[end - 1] in b"-_."):
        end -= 1
    return end
