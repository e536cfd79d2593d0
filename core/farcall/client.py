"""A client of the HTTP API in farcall.api, on the standard library alone: what `farcall spans` and the demo ask with.

Answers become the dataclasses of farcall.api. An answer may hold more fields than this version knows; it may not lack
any. Retries are the caller's business.

    ApiError                the base
      ApiUnreachableError   no answer at all
      ApiProblemError       the server said no, with a problem (RFC 9457)
      ApiShapeError         the answer is not what farcall.api says
"""

import http.client
import json
import ssl
import types
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

from farcall.api import (
    MAX_LIMIT,
    Evidence,
    LogHistogram,
    LogPage,
    LogQuery,
    Problem,
    Span,
    SpanPage,
    SpanQuery,
    Status,
    Trace,
    TracePage,
    Window,
)
from farcall.effective import read_effective
from farcall.rundir import RunDir
from farcall.secretfiles import API_TOKEN, read_secret

TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 256 * 1024 * 1024  # a trace of 50,000 spans is some tens of megabytes
MAX_DETAIL = 512  # characters of an error that is no problem document
T = TypeVar("T")


class ApiError(Exception):
    """Base of what the client raises; the message may be shown to the user."""


class ApiUnreachableError(ApiError):
    """No connection, or it broke before the answer was complete."""


class ApiShapeError(ApiError):
    """The answer is not the shape that farcall.api gives it."""


class ApiProblemError(ApiError):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        at = f" ({problem.field})" if problem.field else ""
        super().__init__(f"{problem.title}{at}: {problem.detail or f'status {problem.status}'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the API is, and the token that opens it."""

    url: str
    token: str


def find_server(run_dir: RunDir) -> Server:
    """The API of a local instance. Raises EffectiveConfigError or SecretError."""
    config = read_effective(run_dir.effective)
    return Server(url=config.endpoints.console, token=read_secret(config.secrets_dir, API_TOKEN))


def read_token_file(path: Path) -> str:
    """Raises SecretError."""
    return read_secret(path.parent, path.name)


class ApiClient:
    """One request per call, over a connection of its own. Raises ApiError."""

    def __init__(self, server: Server, *, timeout_s: float = TIMEOUT_S) -> None:
        self._server = server
        self._timeout_s = timeout_s

    def list_spans(self, query: SpanQuery) -> SpanPage:
        return self._get(SpanPage, "/api/v1/spans", _span_parameters(query))

    def list_traces(self, query: SpanQuery) -> TracePage:
        return self._get(TracePage, "/api/v1/traces", _span_parameters(query))

    def list_logs(self, query: LogQuery) -> LogPage:
        return self._get(LogPage, "/api/v1/logs", _log_parameters(query))

    def count_logs(self, query: LogQuery) -> LogHistogram:
        return self._get(LogHistogram, "/api/v1/logs/histogram", _log_parameters(query))

    def read_trace(self, trace_id: str) -> Trace:
        return self._get(Trace, f"/api/v1/traces/{quote(trace_id, safe='')}")

    def read_span(self, trace_id: str, span_id: str) -> Span:
        return self._get(Span, _span_path(trace_id, span_id))

    def read_evidence(self, trace_id: str, span_id: str) -> Evidence:
        return self._get(Evidence, f"{_span_path(trace_id, span_id)}/evidence")

    def read_status(self) -> Status:
        return self._get(Status, "/api/v1/status")

    def _get(self, shape: type[T], path: str, parameters: list[tuple[str, str]] | None = None) -> T:
        status, raw = self._exchange(f"{path}?{urlencode(parameters)}" if parameters else path)
        try:
            value = json.loads(raw)
        except ValueError as e:
            if status != 200:
                raise ApiProblemError(_problem_without_body(status, raw)) from e
            raise ApiShapeError(f"the server at {self._server.url} did not answer in JSON") from e
        if status != 200:
            raise ApiProblemError(_parse_problem(status, value, raw))
        return parse_shape(shape, value)

    def _exchange(self, target: str) -> tuple[int, bytes]:
        url = urlsplit(self._server.url)
        connection = _open_connection(url.scheme, url.netloc, self._timeout_s)
        headers = {
            "Authorization": f"Bearer {self._server.token}",
            "Accept": "application/json",
            "User-Agent": "farcall",
        }
        try:
            connection.request("GET", url.path.rstrip("/") + target, headers=headers)
            answer = connection.getresponse()
            raw = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as e:
            why = getattr(e, "strerror", None) or str(e) or type(e).__name__
            raise ApiUnreachableError(f"no answer from {self._server.url}: {why}") from e
        finally:
            connection.close()
        if len(raw) > MAX_ANSWER_BYTES:
            raise ApiShapeError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        return answer.status, raw


def _open_connection(scheme: str, netloc: str, timeout_s: float) -> http.client.HTTPConnection:
    try:
        if scheme == "http":
            return http.client.HTTPConnection(netloc, timeout=timeout_s)
        if scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(netloc, timeout=timeout_s, context=context)
    except http.client.InvalidURL as e:
        raise ApiUnreachableError(f"{scheme}://{netloc} is no address: {e}") from e
    raise ApiUnreachableError(
        f"the server's address must begin with http:// or https://, not {scheme!r}"
    )


def _span_path(trace_id: str, span_id: str) -> str:
    return f"/api/v1/traces/{quote(trace_id, safe='')}/spans/{quote(span_id, safe='')}"


def _span_parameters(query: SpanQuery) -> list[tuple[str, str]]:
    return _page_parameters(query.q, query.window, query.limit, query.cursor)


def _log_parameters(query: LogQuery) -> list[tuple[str, str]]:
    return [
        *_page_parameters(query.q, query.window, query.limit, query.cursor),
        *(("trace", trace_id) for trace_id in query.trace_ids),
        *(("span", span_id) for span_id in query.span_ids),
        *([("order", "asc")] if query.ascending else []),
    ]


def _page_parameters(
    q: str, window: Window | None, limit: int, cursor: str | None
) -> list[tuple[str, str]]:
    parameters = [("limit", str(min(limit, MAX_LIMIT)))]
    if q:
        parameters.append(("q", q))
    if window is not None:
        parameters += [("from", str(window.from_ns)), ("to", str(window.to_ns))]
    if cursor is not None:
        parameters.append(("cursor", cursor))
    return parameters


def _parse_problem(status: int, value: object, raw: bytes) -> Problem:
    if not isinstance(value, dict):
        return _problem_without_body(status, raw)
    at, position = value.get("field"), value.get("position")
    return Problem(
        title=str(value.get("title") or http.client.responses.get(status, "error")),
        status=status,
        detail=str(value.get("detail") or ""),
        type=str(value.get("type") or "about:blank"),
        field=str(at) if at is not None else None,
        position=position if isinstance(position, int) else None,
    )


def _problem_without_body(status: int, raw: bytes) -> Problem:
    text = raw[:MAX_DETAIL].decode("utf-8", "replace").strip()
    return Problem(
        title=http.client.responses.get(status, f"status {status}"), status=status, detail=text
    )


def parse_shape(shape: type[T], value: object, *, at: str = "the answer") -> T:
    """`value`, as json.loads gives it, as an instance of the dataclass `shape`. Raises ApiShapeError."""
    return cast(T, _parse(shape, value, at))


def _parse(kind: Any, value: Any, at: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _parse_union(typing.get_args(kind), value, at)
    if origin is tuple and isinstance(value, list):
        item = typing.get_args(kind)[0]
        return tuple(_parse(item, v, f"{at}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, dict):
        item = typing.get_args(kind)[1]
        return {k: _parse(item, v, f"{at}.{k}") for k, v in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return _parse_dataclass(cast(type, kind), value, at)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (str, int, float, bool) and type(value) is kind:
        return value
    raise ApiShapeError(f"{at} is not of the expected type {getattr(kind, '__name__', kind)}")


def _parse_union(kinds: tuple[Any, ...], value: Any, at: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    (kind,) = [k for k in kinds if k is not type(None)]
    return _parse(kind, value, at)


def _parse_dataclass(kind: type, value: dict[str, Any], at: str) -> Any:
    hints = typing.get_type_hints(kind)
    known = {}
    for field in fields(kind):
        if field.name in value:
            known[field.name] = _parse(hints[field.name], value[field.name], f"{at}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ApiShapeError(f"{at} lacks {field.name}")
    return kind(**known)
