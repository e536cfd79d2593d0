"""Errors as RFC 9457 problems: the one place where an exception becomes an answer of the API.

What a library says is cut before it is shown; a fault of ours is logged with its traceback and shown without it.
"""

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from farcall import journal
from farcall.api import Problem
from farcall.storeport import QuerySyntaxError, StoreError, StoreUnavailableError

MAX_DETAIL = 512  # characters: enough for a sentence, too few for a dump of the store's memory
PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = 2

log = journal.get_log("console")


class ProblemError(Exception):
    """An answer that is a problem; raised where the request is read."""

    def __init__(self, status: HTTPStatus, detail: str, *, field: str | None = None) -> None:
        self.problem = build_problem(status, detail, field=field)
        super().__init__(detail)


class BadParameterError(ProblemError):
    def __init__(self, field: str, detail: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, detail, field=field)


class NotFoundError(ProblemError):
    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.NOT_FOUND, detail)


class TooSlowError(ProblemError):
    """The store did not answer within the request's time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            HTTPStatus.GATEWAY_TIMEOUT,
            f"no answer within {limit_s:g} s; narrow the time range or the query",
        )


class TooBusyError(ProblemError):
    def __init__(self) -> None:
        super().__init__(
            HTTPStatus.SERVICE_UNAVAILABLE, "too many queries are running; try again in a moment"
        )


def build_problem(
    status: int, detail: str, *, field: str | None = None, position: int | None = None
) -> Problem:
    return Problem(
        title=_title(status),
        status=int(status),
        detail=detail[:MAX_DETAIL],
        field=field,
        position=position,
    )


def describe(error: Exception) -> Problem:
    """Which problem an exception is."""
    match error:
        case ProblemError():
            return error.problem
        case QuerySyntaxError():
            return build_problem(400, str(error), field="q", position=error.position)
        case StoreUnavailableError():
            return build_problem(503, f"the store does not answer: {error}")
        case StoreError():
            return build_problem(503, f"the store refused: {error}")
        case HTTPException():
            return build_problem(error.status_code, error.detail, field=_field_of(error))
        case _:
            return build_problem(500, "a fault of the console; its log says more")


def respond(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """The exception handler of the API."""
    problem = describe(error)
    note(request, error, problem)
    body = {key: value for key, value in asdict(problem).items() if value is not None}
    return Response(
        body, status_code=problem.status, media_type=PROBLEM_TYPE, headers=_headers(problem)
    )


def note(request: Request[Any, Any, Any], error: Exception, problem: Problem) -> None:
    """Logs what a human would act on: our faults and the store's, not the user's slips."""
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", path=request.url.path, exc_info=error)
    elif problem.status > HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("store unavailable", path=request.url.path, error=problem.detail)


def _headers(problem: Problem) -> dict[str, str]:
    if problem.status == HTTPStatus.UNAUTHORIZED:
        return {"www-authenticate": 'Bearer realm="farcall"'}
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"retry-after": str(RETRY_AFTER_S)}
    return {}


def _field_of(error: HTTPException) -> str | None:
    """The parameter that Litestar's validation names first, if any."""
    extra = error.extra
    first = extra[0] if isinstance(extra, list) and extra else None
    key = first.get("key") if isinstance(first, dict) else None
    return str(key) if key is not None else None


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
