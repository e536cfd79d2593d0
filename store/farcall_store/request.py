"""One HTTP request of ClickHouse's interface, read: who asks, the statement, its parameters, its rows.

No engine and no answer here. Everything is bounded before it is kept; rows of an insert go straight into an
anonymous file in memory (memfd) that the engine reads by its number, so they are held once.
"""

import base64
import binascii
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from farcall.secretfiles import is_same_secret
from farcall_store.gate import (
    MAX_INSERT_HEAD,
    NOT_IMPLEMENTED,
    Insert,
    RefusedStatementError,
    Statement,
    classify,
    looks_like_insert,
    read_format,
)
from farcall_store.roles import FIXED_SETTINGS, Role

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_URL = 64 << 10
MAX_BODY = 1 << 20  # of statements and forms
MAX_ROWS_BODY = 256 << 20  # of inserts; a batch of 10,000 spans is about 10 MB
MAX_PARAMETERS = 512

AUTHENTICATION_FAILED = 516
TOO_LARGE = 307  # TOO_MANY_BYTES
BAD_REQUEST = 36  # BAD_ARGUMENTS

_QUERY_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
# How the answer travels; nothing here changes what it says, so they may be sent and are not needed.
_TRANSPORT = frozenset(
    {
        "wait_end_of_query",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close",
        "enable_http_compression",
        "client_protocol_version",
        "buffer_size",
    }
)
_COMPRESSIONS = {"gzip": "gzip", "lz4": "lz4", "zstd": "zstd"}


class RequestError(Exception):
    """The request is answered with this status, code and sentence, and nothing else happens."""

    def __init__(self, message: str, *, status: int = 400, code: int = BAD_REQUEST) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


class DisconnectedError(Exception):
    """The client went away before the request was complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of an insert. `close` must be called; the memory goes then."""

    descriptor: int
    size: int
    compression: str  # "" or the engine's name for it

    def close(self) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    role: Role
    statement: Statement
    fmt: str
    query_id: str
    waits_for_end: bool  # the client wants a clean error rather than an early first byte
    params: dict[str, str] = field(default_factory=dict)
    rows: Rows | None = None


async def read_request(scope: Scope, receive: Receive, passwords: dict[Role, str]) -> Request:
    """Raises RequestError, DisconnectedError."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    role = _authenticate(headers, passwords)
    if len(scope["query_string"]) > MAX_URL:
        raise RequestError("the URL is too long; send the statement and its parameters in a form")
    arguments = _read_arguments(scope["query_string"].decode("latin-1"))
    try:
        return await _read_statement(role, headers, arguments, receive)
    except RefusedStatementError as e:
        raise RequestError(str(e), status=501, code=NOT_IMPLEMENTED) from e


def _authenticate(headers: dict[str, str], passwords: dict[Role, str]) -> Role:
    user, password = headers.get("x-clickhouse-user", ""), headers.get("x-clickhouse-key", "")
    kind, _, encoded = headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = ""
    role = next((role for role in Role if role == user), None)
    expected = passwords[role] if role is not None else None
    # Compared also when there is no such user: the answer takes as long.
    same = is_same_secret(password, expected if expected is not None else "no such user")
    if role is None or not same:
        raise RequestError("wrong user or password", status=403, code=AUTHENTICATION_FAILED)
    return role


def _read_arguments(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict"
        )
    except ValueError as e:
        raise RequestError(f"the URL cannot be read: {e}") from e
    return dict(pairs)


async def _read_statement(
    role: Role, headers: dict[str, str], arguments: dict[str, str], receive: Receive
) -> Request:
    kind = headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        arguments |= _read_form(kind, await _read_body(receive))
        return _build(role, headers, arguments, rows=None)
    text = arguments.get("query", "")
    if looks_like_insert(text):
        rows = await _read_rows(receive, headers, b"")
        return _build_or_close(role, headers, arguments, rows)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedStatementError("the statement of a compressed body stands in the URL")
    first, more = await _read_first(receive, MAX_INSERT_HEAD)
    if not text and looks_like_insert(first[:256].decode("latin-1")):
        return await _read_embedded_insert(role, headers, arguments, receive, first, more)
    if len(first) > MAX_BODY:
        raise RequestError("the statement is too long", status=413, code=TOO_LARGE)
    body = first + (await _read_body(receive, len(first)) if more else b"")
    arguments["query"] = "\n".join(part for part in (text, _decode(body)) if part)
    return _build(role, headers, arguments, rows=None)


async def _read_embedded_insert(
    role: Role,
    headers: dict[str, str],
    arguments: dict[str, str],
    receive: Receive,
    first: bytes,
    more: bool,
) -> Request:
    """The statement stands before its rows, as clickhouse-connect sends them."""
    head = first[:MAX_INSERT_HEAD].decode("latin-1")  # one character a byte
    insert = classify(head, role).insert
    assert insert is not None
    arguments["query"] = head[: insert.data_start]
    rows = await _read_rows(receive if more else _no_more, headers, first[insert.data_start :])
    return _build_or_close(role, headers, arguments, rows)


def _build_or_close(
    role: Role, headers: dict[str, str], arguments: dict[str, str], rows: Rows
) -> Request:
    try:
        return _build(role, headers, arguments, rows)
    except BaseException:
        rows.close()
        raise


def _build(
    role: Role, headers: dict[str, str], arguments: dict[str, str], rows: Rows | None
) -> Request:
    statement = classify(arguments.pop("query", ""), role)
    if statement.insert is not None and rows is None:
        raise RefusedStatementError("an insert has its rows in the body")
    default = arguments.pop("default_format", "") or headers.get("x-clickhouse-format", "")
    query_id = arguments.pop("query_id", "")
    if query_id and _QUERY_ID.fullmatch(query_id) is None:
        raise RequestError("a query_id is at most 100 of A-Z a-z 0-9 _ -")
    return Request(
        role=role,
        statement=statement,
        fmt=statement.fmt or read_format(default or "TabSeparated"),
        query_id=query_id,
        waits_for_end=arguments.get("wait_end_of_query") == "1",
        params=_read_params(arguments),
        rows=rows,
    )


def _read_params(arguments: dict[str, str]) -> dict[str, str]:
    """`param_*`, verbatim: clients have already escaped them the way the engine reads them."""
    params: dict[str, str] = {}
    for name, value in arguments.items():
        if name.startswith("param_"):
            params[name.removeprefix("param_")] = value
        elif name == "database":
            if value not in ("farcall", "default", "system"):
                raise RequestError(f"there is no database {value[:40]!r}", code=81, status=404)
        elif name not in _TRANSPORT and FIXED_SETTINGS.get(name) != value:
            raise RefusedStatementError(
                f"the argument {name[:60]!r} is outside what is spoken here"
            )
    return params


def _decode(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as e:
        raise RequestError("the statement is not UTF-8") from e


async def _no_more() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _read_chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise DisconnectedError
    return message.get("body", b""), message.get("more_body", False)


async def _read_first(receive: Receive, enough: int) -> tuple[bytes, bool]:
    """The body's first bytes, and whether there are more."""
    body, more = b"", True
    while more and len(body) < enough:
        chunk, more = await _read_chunk(receive)
        body += chunk
    return body, more


async def _read_body(receive: Receive, already: int = 0) -> bytes:
    parts, size, more = [], already, True
    while more:
        chunk, more = await _read_chunk(receive)
        size += len(chunk)
        if size > MAX_BODY:
            raise RequestError("the statement is too long", status=413, code=TOO_LARGE)
        parts.append(chunk)
    return b"".join(parts)


async def _read_rows(receive: Receive, headers: dict[str, str], first: bytes) -> Rows:
    coding = headers.get("content-encoding", "identity").lower()
    if coding != "identity" and coding not in _COMPRESSIONS:
        raise RefusedStatementError(f"bodies compressed as {coding[:20]!r} are not read here")
    descriptor = os.memfd_create("rows", os.MFD_CLOEXEC)
    try:
        size = _append(descriptor, first, 0)
        more = True
        while more:
            chunk, more = await _read_chunk(receive)
            size = _append(descriptor, chunk, size)
    except BaseException:
        os.close(descriptor)
        raise
    return Rows(descriptor=descriptor, size=size, compression=_COMPRESSIONS.get(coding, ""))


def _append(descriptor: int, chunk: bytes, size: int) -> int:
    if size + len(chunk) > MAX_ROWS_BODY:
        raise RequestError("too many rows in one insert", status=413, code=TOO_LARGE)
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
    return size + len(chunk)


_BOUNDARY = re.compile(r'boundary="?([A-Za-z0-9\'()+_,./:=?-]{1,200})"?')
_NAME = re.compile(rb'name="([A-Za-z0-9_]{1,200})"')


def _read_form(kind: str, body: bytes) -> dict[str, str]:
    """RFC 7578, plain fields alone: a part with a file name is external data, which is not spoken here."""
    match = _BOUNDARY.search(kind)
    if match is None:
        raise RequestError("the form has no boundary")
    fields: dict[str, str] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + match.group(1).encode())[1:]:
        head, separator, value = part.partition(b"\r\n\r\n")
        if not separator:
            continue  # the closing boundary
        name = _NAME.search(head)
        if name is None or b"filename=" in head:
            raise RefusedStatementError("forms have plain fields here, and no files")
        fields[name.group(1).decode()] = _decode(value)
    if len(fields) > MAX_PARAMETERS:
        raise RequestError("too many fields")
    return fields


def render_insert(insert: Insert, rows: Rows) -> str:
    """The statement that makes the engine read the rows itself, decompressing them."""
    compression = f" COMPRESSION '{rows.compression}'" if rows.compression else ""
    settings = f" SETTINGS insert_deduplication_token='{insert.token}'" if insert.token else ""
    return (
        f"INSERT INTO {insert.into} FROM INFILE '/proc/self/fd/{rows.descriptor}'{compression}"
        f"{settings} FORMAT {insert.fmt}"
    )
