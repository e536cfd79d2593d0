"""ClickHouse's HTTP interface, the private subset of it that our own clients speak, as a plain ASGI application.

It routes a request to the pool of its role and sends the answer. A client that goes away has its query killed; a
full queue is answered 503, which clients retry for reads. It knows nothing of farcall's tables.
"""

import asyncio
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from farcall import journal
from farcall_store.engine import Connection, EngineBusyError, EngineError, Pool, run
from farcall_store.gate import STREAMED_FORMATS
from farcall_store.request import (
    MAX_ROWS_BODY,
    TOO_LARGE,
    DisconnectedError,
    Message,
    Receive,
    Request,
    RequestError,
    Scope,
    Send,
    read_request,
    render_insert,
)
from farcall_store.roles import Role

log = journal.get_log("store")

NOT_ENOUGH_SPACE = 243
UNKNOWN_EXCEPTION = 1002
TOO_BUSY = 202  # TOO_MANY_SIMULTANEOUS_QUERIES
MIN_FREE_BYTES = 64 << 20  # below this no insert starts: merges of what is stored need room too
CHUNKS_AHEAD = 4  # blocks of a streamed answer that wait for a slow client
SLOW_CLIENT_S = 30.0
MAX_ROWS_IN_FLIGHT = 512 << 20  # bytes of all inserts being read or waiting
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    writer: Pool
    reader: Pool
    admin: Pool
    control: Pool  # kills, and the watchdog's pulse: never behind a client's statement


class Answer:
    """A statement's chunks on their way from a handle's thread to the event loop."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(CHUNKS_AHEAD)
        self.abandoned = threading.Event()
        self.ended = asyncio.Event()  # the handle has let go of the statement

    def put(self, chunk: bytes) -> None:
        """Called on the handle's thread; waits while the client is behind. Raises EngineError when it is too slow."""
        if not self._room.acquire(timeout=SLOW_CLIENT_S):
            raise EngineError("the client does not read its answer", code=209)
        self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)

    def end(self, _done: object = None) -> None:
        self._loop.call_soon_threadsafe(self._chunks.put_nowait, None)
        self._loop.call_soon_threadsafe(self.ended.set)

    async def take(self) -> bytes | None:
        """The next chunk, None at the end."""
        chunk = await self._chunks.get()
        self._room.release()
        return chunk

    def abandon(self) -> None:
        self.abandoned.set()
        self._room.release(CHUNKS_AHEAD)


class Body:
    """`receive` that knows whether the whole body came: what is left must be read before an error is answered,
    or the client sees a broken connection in place of the answer."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_complete = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._is_complete = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        left = MAX_ROWS_IN_FLIGHT
        while not self._is_complete and left > 0:
            left -= len((await self()).get("body", b""))


class Surface:
    def __init__(
        self,
        pools: Pools,
        passwords: dict[Role, str],
        *,
        read_free_bytes: Callable[[], int],
        after_failed_insert: Callable[[], None] = lambda: None,
    ) -> None:
        self._pools = pools
        self._passwords = passwords
        self._read_free_bytes = read_free_bytes
        self._after_failed_insert = after_failed_insert
        self._rows_in_flight = 0
        self.counters: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/ping":
            await _send_whole(send, 200, b"Ok.\n", [])
        elif scope["path"] == "/" and scope["method"] in ("GET", "POST"):
            await self._answer(scope, receive, send)
        else:
            await _send_whole(send, 404, b"There is nothing here.\n", [])

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, length = Body(receive), _read_length(scope)
        self._rows_in_flight += length
        try:
            await self._read_and_execute(scope, length, body, send)
        except DisconnectedError:
            self.counters["disconnected"] += 1
        except RequestError as e:
            self.counters["refused"] += 1
            await body.drain()
            await _send_error(send, e.status, e.code, str(e))
        except EngineBusyError as e:
            self.counters["busy"] += 1
            await body.drain()
            await _send_error(send, 503, TOO_BUSY, str(e))
        except EngineError as e:
            self.counters["failed"] += 1
            await _send_error(send, 500, e.code, str(e))
        except (
            Exception
        ) as e:  # a bug of ours, or no memory for the rows: told, not a broken connection
            self.counters["failed"] += 1
            log.exception("request failed")
            await body.drain()
            await _send_error(send, 500, UNKNOWN_EXCEPTION, f"{type(e).__name__}: {e}")
        finally:
            self._rows_in_flight -= length

    async def _read_and_execute(self, scope: Scope, length: int, body: Body, send: Send) -> None:
        if length > MAX_ROWS_BODY:
            raise RequestError("too many rows in one insert", status=413, code=TOO_LARGE)
        if self._rows_in_flight > MAX_ROWS_IN_FLIGHT:
            raise EngineBusyError("too many rows are on their way in")
        request = await read_request(scope, body, self._passwords)
        try:
            await self._execute(request, body, send)
        finally:
            if request.rows is not None:
                request.rows.close()

    async def _execute(self, request: Request, receive: Receive, send: Send) -> None:
        answer = Answer(request.query_id + "." + secrets.token_hex(8))
        pool, work = self._plan(request, answer)
        done = pool.submit(work)
        done.add_done_callback(answer.end)
        # Not a TaskGroup: it would wrap the engine's errors in a group.
        watch = asyncio.get_running_loop().create_task(self._watch(receive, answer, done))
        try:
            await self._send_answer(request, answer, done, send)
        finally:
            watch.cancel()
            await answer.ended.wait()  # the rows' memory may not go before

    def _plan(self, request: Request, answer: Answer) -> tuple[Pool, Callable[[Connection], None]]:
        statement = request.statement
        if statement.insert is not None and request.rows is not None:
            self._check_space(request.rows.size)
            self.counters["inserts"] += 1
            self.counters["insert_bytes"] += request.rows.size
            sql = render_insert(statement.insert, request.rows)
            pool = self._pools.admin if request.role is Role.ADMIN else self._pools.writer
            return pool, lambda connection: self._run_insert(connection, sql, request, answer)
        self.counters["queries"] += 1
        pool = self._pools.admin if request.role is Role.ADMIN else self._pools.reader
        # KILL finds the query by this comment: the engine gives every query an ID of its own.
        sql = f"/* farcall {answer.tag} */ {statement.sql}"
        if statement.is_select and request.fmt in STREAMED_FORMATS and not request.waits_for_end:
            return pool, lambda connection: _run_stream(connection, sql, request, answer)
        return pool, lambda connection: _run_whole(connection, sql, request, answer)

    def _run_insert(
        self, connection: Connection, sql: str, request: Request, answer: Answer
    ) -> None:
        try:
            _run_whole(connection, sql, request, answer)
        except EngineError:
            self._after_failed_insert()  # before the client hears of it, and tries again
            raise

    def _check_space(self, size: int) -> None:
        free = self._read_free_bytes()
        if free < MIN_FREE_BYTES + size:
            raise EngineError(
                f"Code: {NOT_ENOUGH_SPACE}. The store's disk is full: {free >> 20} MiB are left",
                code=NOT_ENOUGH_SPACE,
            )

    async def _watch(self, receive: Receive, answer: Answer, done: "Future[None]") -> None:
        """Kills the query of a client that went away."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if done.done():
            return
        self.counters["disconnected"] += 1
        answer.abandon()
        if not done.cancel():
            self._kill(answer.tag)

    def _kill(self, tag: str) -> None:
        # Not SYNC: that waits for the handle to fetch the end of a result, which it may never do.
        sql = f"KILL QUERY WHERE startsWith(query, '/* farcall {tag} */')"
        try:
            self._pools.control.submit(lambda connection: run(connection, sql))
        except EngineBusyError:
            log.warning("query not killed: the control handle is busy")

    async def _send_answer(
        self, request: Request, answer: Answer, done: "Future[None]", send: Send
    ) -> None:
        chunk = await answer.take()
        if chunk is None:
            if done.cancelled():
                return  # the client is gone
            done.result()  # raises what went wrong before the first byte
        tag = secrets.token_hex(8)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"x-clickhouse-query-id", request.query_id.encode()),
                    (b"x-clickhouse-format", request.fmt.encode()),
                    (b"x-clickhouse-timezone", b"UTC"),
                    (b"x-clickhouse-exception-tag", tag.encode()),
                    (b"content-type", b"application/octet-stream"),
                ],
            }
        )
        while chunk is not None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await answer.take()
        trailer = b""
        if not done.cancelled() and (error := done.exception()) is not None:
            self.counters["failed"] += 1
            trailer = _render_late_error(str(error), tag)
        await send({"type": "http.response.body", "body": trailer, "more_body": False})


def _read_length(scope: Scope) -> int:
    text = dict(scope["headers"]).get(b"content-length", b"0")
    return int(text) if text.isdigit() and len(text) < 16 else 0


def _run_whole(connection: Connection, sql: str, request: Request, answer: Answer) -> None:
    body = run(connection, sql, request.fmt, request.params)
    if body:
        answer.put(body)


def _run_stream(connection: Connection, sql: str, request: Request, answer: Answer) -> None:
    try:
        stream = connection.send_query(sql, request.fmt, params=request.params)
        while (chunk := connection.streaming_fetch_result(stream)) and chunk.rows_read():
            if answer.abandoned.is_set():
                connection.streaming_cancel_query(stream)
                return
            try:
                answer.put(chunk.bytes())
            except EngineError:
                connection.streaming_cancel_query(stream)
                raise
    except RuntimeError as e:
        raise EngineError(str(e)) from e


def _render_late_error(message: str, tag: str) -> bytes:
    """How ClickHouse tells of an error after the answer has begun."""
    text = message.encode() + b"\n"
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (
        tag.encode(),
        text,
        len(text),
        tag.encode(),
    )


async def _send_error(send: Send, status: int, code: int, message: str) -> None:
    text = message if message.startswith("Code: ") else f"Code: {code}. {message}"
    await _send_whole(
        send, status, text.encode() + b"\n", [(b"x-clickhouse-exception-code", b"%d" % code)]
    )


async def _send_whole(send: Send, status: int, body: bytes, headers: Headers) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                *headers,
                (b"content-type", b"text/plain; charset=UTF-8"),
                (b"content-length", b"%d" % len(body)),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})
