"""The little that both listeners need of HTTP: bodies with a limit, tokens, and problems as JSON (RFC 9457)."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from farcall.secretfiles import SecretError, is_same_secret, read_secret

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_WITHIN_S = 30.0  # a slow sender must not hold its buffer for ever
MAX_DETAIL = 512
PROBLEM_TYPE = "application/problem+json"
TITLES = {
    400: "Bad batch",
    401: "Unauthorized",
    404: "No such path",
    405: "Method not allowed",
    408: "Too slow",
    413: "Too large",
    415: "Unsupported media type",
    422: "Cannot be taken",
    500: "Internal error",
    503: "Not now",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    detail: str = ""  # a refusal's sentence, for who answers in another protocol


@dataclass
class RefusedError(Exception):
    """Ends a request with a status and a sentence."""

    status: int
    detail: str
    headers: tuple[tuple[str, str], ...] = field(default=())


def problem(status: int, detail: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    value = {
        "type": "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail[:MAX_DETAIL],
    }
    return Answer(
        status=status,
        body=json.dumps(value).encode(),
        content_type=PROBLEM_TYPE,
        headers=headers,
    )


def not_now(detail: str, *, retry_after_s: int) -> Answer:
    return problem(503, detail, (("retry-after", str(retry_after_s)),))


def read_headers(scope: Scope) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises RefusedError when it is too large, too slow or breaks off."""
    length = read_headers(scope).get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise RefusedError(
            413, f"the body has {length[:20]} bytes; at most {limit} are taken", _CLOSE
        )
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(400, "the body breaks off")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise RefusedError(
                        413,
                        f"the body has more than {limit} bytes, the most that are taken",
                        _CLOSE,
                    )
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError as e:
        raise RefusedError(408, f"the body took longer than {BODY_WITHIN_S:.0f} s", _CLOSE) from e


_CLOSE = (("connection", "close"),)  # the rest of the body is not read


async def send_answer(send: Send, answer: Answer) -> None:
    headers = [
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
        *answer.headers,
    ]
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers],
        }
    )
    await send({"type": "http.response.body", "body": answer.body})


class TokenCheck:
    """Compares a bearer token with a secret file, which may be replaced while we run."""

    READ_AGAIN_S = 5.0

    def __init__(self, secrets_dir: str, name: str) -> None:
        self._dir = secrets_dir
        self._name = name
        self._secret = read_secret(secrets_dir, name)
        self._read_at = time.monotonic()

    def is_right(self, scope: Scope) -> bool:
        scheme, _, given = read_headers(scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        return is_same_secret(given, self._current())

    def _current(self) -> str:
        now = time.monotonic()
        if now - self._read_at > self.READ_AGAIN_S:
            self._read_at = now
            try:
                self._secret = read_secret(self._dir, self._name)
            except SecretError:
                pass  # between two versions of the file the old one holds
        return self._secret
