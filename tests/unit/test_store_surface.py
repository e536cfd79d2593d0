"""The HTTP interface over fakes: busy queues, bounds, slow and vanished clients, errors in the middle."""

import asyncio
import base64
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from farcall.storeport import StoreRefusedError, StoreUnavailableError
from farcall_store.client import translate
from farcall_store.engine import Connection, EngineBusyError, Pool
from farcall_store.request import MAX_BODY
from farcall_store.roles import Role
from farcall_store.surface import Pools, Surface

pytestmark = pytest.mark.unit

PASSWORDS = {role: f"{role}-password-of-32-characters-at-least" for role in Role}


class FakeResult:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def bytes(self) -> bytes:
        return self._body

    def rows_read(self) -> int:
        return len(self._body)


class FakeConnection:
    """Answers with `bodies`; a body that is an exception is raised. Waits for `gate` first."""

    def __init__(
        self, bodies: list[bytes | Exception], gate: threading.Event | None = None
    ) -> None:
        self._bodies = bodies
        self._gate = gate
        self.statements: list[str] = []
        self.cancelled = False

    def _next(self) -> FakeResult:
        body = self._bodies.pop(0) if self._bodies else b""
        if isinstance(body, Exception):
            raise body
        return FakeResult(body)

    def query(
        self, query_str: str, format: str, *, params: Mapping[str, str] | None = None
    ) -> FakeResult:
        if query_str == "SELECT 1":  # the pool cleanses a handle after an error
            return FakeResult(b"1\n")
        self.statements.append(query_str)
        if self._gate is not None:
            assert self._gate.wait(60)
        return self._next()

    def send_query(
        self, query_str: str, format: str, *, params: Mapping[str, str] | None = None
    ) -> object:
        self.statements.append(query_str)
        return object()

    def streaming_fetch_result(self, streaming_result: object) -> FakeResult | None:
        return self._next()

    def streaming_cancel_query(self, streaming_result: object) -> None:
        self.cancelled = True

    def close(self) -> None:
        pass


def build_surface(reader: Connection, *, waiting: int = 4, free_bytes: int = 1 << 40) -> Surface:
    def pool(name: str, connection: Connection) -> Pool:
        return Pool(name, [connection], waiting=waiting)

    other = FakeConnection([])
    pools = Pools(
        writer=pool("writer", other),
        reader=pool("reader", reader),
        admin=pool("admin", other),
        control=pool("control", other),
    )
    return Surface(pools, PASSWORDS, read_free_bytes=lambda: free_bytes)


async def ask(
    surface: Surface,
    statement: str,
    *,
    role: Role = Role.READER,
    arguments: bytes = b"",
    disconnect: asyncio.Event | None = None,
) -> tuple[int, dict[bytes, bytes], bytes]:
    secret = base64.b64encode(f"{role}:{PASSWORDS[role]}".encode())
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": arguments,
        "headers": [(b"authorization", b"Basic " + secret)],
    }
    requests: list[dict[str, Any]] = [
        {"type": "http.request", "body": statement.encode(), "more_body": False}
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop(0)
        await (disconnect or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await surface(scope, receive, send)
    if not sent:
        return 0, {}, b""
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


async def poll(condition: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to be")


def test_a_full_queue_is_answered_503() -> None:
    gate = threading.Event()
    surface = build_surface(FakeConnection([b"1"] * 8, gate), waiting=1)

    async def scenario() -> list[int]:
        tasks = [asyncio.ensure_future(ask(surface, "SELECT 1")) for _ in range(6)]
        await poll(lambda: surface.counters["busy"] >= 4)
        gate.set()
        return [status for status, _, _ in await asyncio.gather(*tasks)]

    statuses = asyncio.run(scenario())

    assert sorted(set(statuses)) == [200, 503]
    assert statuses.count(503) >= 4


def test_a_statement_over_the_limit_is_answered_413() -> None:
    surface = build_surface(FakeConnection([]))

    status, headers, _ = asyncio.run(ask(surface, "SELECT '" + "x" * MAX_BODY + "'"))

    assert status == 413
    assert headers[b"x-clickhouse-exception-code"] == b"307"


def test_an_error_after_the_first_block_is_told_at_the_end_of_the_answer() -> None:
    connection = FakeConnection([b"block", RuntimeError("Code: 241. too much (MEMORY_LIMIT)")])

    status, headers, body = asyncio.run(ask(build_surface(connection), "SELECT 1 FORMAT Native"))

    tag = headers[b"x-clickhouse-exception-tag"]
    assert status == 200
    assert body.startswith(b"block\r\n__exception__\r\n" + tag)
    assert b"Code: 241" in body


def test_an_error_before_the_first_block_has_its_code() -> None:
    connection = FakeConnection([RuntimeError("Code: 60. there is no such table (UNKNOWN_TABLE)")])

    status, headers, _ = asyncio.run(ask(build_surface(connection), "SELECT 1"))

    assert (status, headers[b"x-clickhouse-exception-code"]) == (500, b"60")


def test_only_a_failed_insert_is_looked_into_and_before_the_client_hears_of_it() -> None:
    told: list[str] = []
    writer = FakeConnection([b"", RuntimeError("Code: 1001. in rename: Input/output error")])
    surface = build_surface(FakeConnection([RuntimeError("Code: 60. no such table")]))
    surface._pools = replace(surface._pools, writer=Pool("writer", [writer], waiting=4))
    surface._after_failed_insert = lambda: told.append("looked")
    insert = "INSERT INTO otel_logs FORMAT JSONEachRow\n{}"

    async def scenario() -> None:
        for statement, role in (
            ("SELECT 1", Role.READER),
            (insert, Role.WRITER),
            (insert, Role.WRITER),
        ):
            status, _, _ = await ask(surface, statement, role=role)
            told.append(str(status))

    asyncio.run(scenario())

    assert told == ["500", "200", "looked", "500"]


def test_a_query_whose_client_went_away_is_killed() -> None:
    gate = threading.Event()
    reader = FakeConnection([b"1"], gate)
    surface = build_surface(reader)
    control = FakeConnection([])
    surface._pools = Pools(
        writer=surface._pools.writer,
        reader=surface._pools.reader,
        admin=surface._pools.admin,
        control=Pool("control", [control], waiting=4),
    )

    async def scenario() -> None:
        gone = asyncio.Event()
        task = asyncio.ensure_future(
            ask(surface, "SELECT 1", arguments=b"query_id=mine", disconnect=gone)
        )
        await poll(lambda: bool(reader.statements))
        gone.set()
        await poll(lambda: bool(control.statements))
        gate.set()
        await task

    asyncio.run(scenario())

    assert "KILL QUERY WHERE startsWith(query, '/* farcall mine." in control.statements[0]


@pytest.mark.parametrize("query_id", ["a b", "x*/ DROP TABLE y /*", "é", "a" * 101])
def test_a_query_id_that_could_leave_its_comment_is_refused(query_id: str) -> None:
    from urllib.parse import quote

    connection = FakeConnection([])
    arguments = f"query_id={quote(query_id)}".encode()

    status, _, _ = asyncio.run(ask(build_surface(connection), "SELECT 1", arguments=arguments))

    assert status == 400
    assert connection.statements == []


@pytest.mark.parametrize(
    "arguments", [b"session_id=1", b"max_execution_time=0", b"readonly=0", b"compress=1", b"role=x"]
)
def test_settings_and_sessions_are_refused_by_code_48(arguments: bytes) -> None:
    status, headers, _ = asyncio.run(
        ask(build_surface(FakeConnection([])), "SELECT 1", arguments=arguments)
    )

    assert (status, headers[b"x-clickhouse-exception-code"]) == (501, b"48")


def test_a_stopped_pool_takes_no_more_work() -> None:
    pool = Pool("reader", [FakeConnection([])], waiting=1)
    pool.close(5)

    with pytest.raises(EngineBusyError):
        pool.run("SELECT 1")


def test_a_full_disk_refuses_an_insert_before_it_starts() -> None:
    surface = build_surface(FakeConnection([]), free_bytes=1 << 20)
    statement = "INSERT INTO otel_logs FORMAT JSONEachRow\n{}"

    status, headers, body = asyncio.run(ask(surface, statement, role=Role.WRITER))

    assert (status, headers[b"x-clickhouse-exception-code"]) == (500, b"243")
    assert b"disk is full" in body


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DatabaseError("Code: 243. full", code=243), StoreUnavailableError),
        (DatabaseError("Code: 60. no table", code=60), StoreRefusedError),
        (DatabaseError("Code: 159. too slow", code=159), StoreRefusedError),
        (DatabaseError("Code: 202. busy", code=202), StoreUnavailableError),
        (DatabaseError("Code: 394. cancelled", code=394), StoreUnavailableError),
        (OperationalError("connection refused"), StoreUnavailableError),
        (ConnectionResetError("reset"), StoreUnavailableError),
    ],
)
def test_the_librarys_errors_become_the_ports(error: Exception, kind: type[Exception]) -> None:
    assert type(translate(error)).__mro__[:3].count(kind) == 1


def test_a_message_is_the_servers_words_alone() -> None:
    told = "Received ClickHouse exception, code: 243, server response: Code: 243. full (for url http://127.0.0.1:8640)"

    assert str(translate(DatabaseError(told, code=243))) == "Code: 243. full"
