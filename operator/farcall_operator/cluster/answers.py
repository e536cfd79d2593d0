"""What the API server answers, as the port's words: errors with their causes, warnings, objects. Pure.

An API server quotes what it refuses. Of a Secret only field and reason are passed on, never the sentence around them.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from multidict import CIMultiDictProxy

from farcall_operator.cluster.port import Cause, ClusterError, Manifest, Ref

MAX_MESSAGE = 1_024  # a CEL failure quotes whole objects
MAX_CAUSES = 32
MAX_WARNINGS = 16
REASONS: Mapping[int, str] = {  # when the answer is none of the API server's own (a proxy's page)
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
# RFC 7234, 5.5: code, agent, quoted text with backslash escapes.
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


def cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "…"


def parse_object(status: int, raw: bytes) -> Manifest:
    try:
        value = json.loads(raw)
    except ValueError as e:
        raise ClusterError(status, "BadAnswer", "the API server's answer is not JSON") from e
    if not isinstance(value, dict):
        raise ClusterError(status, "BadAnswer", "the API server's answer is no object")
    return value


def parse_error(
    status: int, headers: CIMultiDictProxy[str], raw: bytes, about: Ref | None
) -> ClusterError:
    body = _parse_status(raw)
    details = body.get("details")
    details = details if isinstance(details, dict) else {}
    reason = str(body.get("reason") or REASONS.get(status, "Unknown"))
    message = str(body.get("message") or f"the API server answered {status}")
    causes = tuple(_parse_cause(c) for c in _dicts(details.get("causes"))[:MAX_CAUSES])
    if about is not None and about.kind == "Secret":
        causes = tuple(cause._replace(message="") for cause in causes)
        fields = ", ".join(cause.field for cause in causes)
        message = f"{reason} for Secret {about.namespace}/{about.name}" + (
            f" in {fields}" if fields else ""
        )
    return ClusterError(
        status,
        reason,
        cut(message),
        causes=causes,
        retry_after_s=_parse_retry_after(headers, details),
    )


def _parse_status(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) and body.get("kind") == "Status" else {}


def _parse_cause(cause: Mapping[str, Any]) -> Cause:
    return Cause(
        reason=str(cause.get("reason", "")),
        field=cut(str(cause.get("field", ""))),
        message=cut(str(cause.get("message", ""))),
    )


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _parse_retry_after(headers: CIMultiDictProxy[str], details: Mapping[str, Any]) -> float | None:
    for value in (headers.get("Retry-After"), details.get("retryAfterSeconds")):
        try:
            seconds = float(value) if value is not None else None
        except (TypeError, ValueError):
            continue  # an HTTP date: no API server sends one
        if seconds is not None and 0 <= seconds < float("inf"):
            return seconds
    return None


def parse_warnings(headers: CIMultiDictProxy[str]) -> tuple[str, ...]:
    """Each once, in their order."""
    found = [
        cut(_ESCAPED.sub(r"\1", text))
        for header in headers.getall("Warning", [])
        for text in _WARNING.findall(header)
    ]
    return tuple(dict.fromkeys(found))[:MAX_WARNINGS]
